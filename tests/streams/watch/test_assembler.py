"""Order, once-ness and gaps of windows, under any lateness, revision and failure."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from agora_analytics.models import Point
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams import Gap, Revision, Series, Window
from agora_analytics.streams.watch.assembler import WindowAssembler
from agora_analytics.streams.watch.schedule import PollSchedule, poll_intervals

ONE, TWO = Series("userCount", product="Native"), Series("videoFreezeRate", product="Native")
NETS = Series("userCount", product="Native", dimension="net")
GROUPS = ("WIFI", "4G", "LAN")
KEPT = 600
NOON = 1_795_521_600
DELAY = 40

polls = st.lists(
    st.tuples(st.integers(1, 12), st.booleans(), st.booleans()), min_size=1, max_size=60
)  # windows since the last, and whether each series' request is answered


@given(
    polls=polls,
    late=st.sets(st.tuples(st.integers(0, 200), st.integers(0, 1)), max_size=60),
    late_by=st.integers(0, 400),
    revised=st.sets(st.integers(0, 200), max_size=40),
    allowed_lateness=st.integers(0, 300),
    final_after=st.integers(0, 400),
    revisions=st.booleans(),
    only_final=st.booleans(),
)
def test_each_window_comes_once_in_order_with_its_last_value(  # noqa: C901 - one run, told as it goes
    polls, late, late_by, revised, allowed_lateness, final_after, revisions, only_final
):
    windows = WindowAssembler(
        (ONE, TWO),
        0,
        delay=DELAY,
        allowed_lateness=allowed_lateness,
        final_after=final_after,
        revisions=revisions,
        only_final=only_final,
    )
    now = DELAY + 1
    last_told: dict[tuple[int, int], object] = {}
    due = 0
    heard: dict[tuple[int, int], list[int]] = {}

    def shown(ts: int, place: int) -> int | None:
        """What the service shows of a window now."""
        age = now - ts - 20 - DELAY
        if (ts // 20, place) in late and age < late_by:
            return None
        return ts + place - (ts // 20 in revised and age < late_by)

    for step, first, second in polls:
        now += 20 * step
        oldest = max(0, -(-(now - KEPT) // 20) * 20)
        end = (now - DELAY - 1) // 20 * 20
        for place, answered in enumerate((first, second)):
            if answered and end > max(oldest, windows.oldest_open()):
                asked = Span(max(oldest, windows.oldest_open()), end)
                stamps = [ts for ts in range(asked.start, end, 20) if shown(ts, place) is not None]
                points = [Point.of(ts, shown(ts, place), metric=(ONE, TWO)[place].metric) for ts in stamps]
                windows.add([place], asked, points, now)
                for ts in range(asked.start, end, 20):
                    heard.setdefault((ts, place), []).append(now)
                    if shown(ts, place) is not None and ts >= due:
                        last_told[ts, place] = shown(ts, place)
        for event in windows.drain(oldest, None):
            if isinstance(event, Gap):
                assert event.span.start == due
                assert event.span.end <= oldest
                assert not any((ts, place) in last_told for ts in range(due, event.span.end, 20) for place in (0, 1))
                due = event.span.end
            elif isinstance(event, Window):
                assert event.ts == due
                due += 20
                for place, series in enumerate((ONE, TWO)):
                    assert event.value(series) == last_told.get((event.ts, place))
                    if series in event.missing and event.ts >= oldest:
                        assert max(heard[event.ts, place]) >= event.ts + 20 + DELAY + allowed_lateness * (
                            not only_final
                        )
            else:
                assert isinstance(event, Revision)
                assert revisions
                assert event.ts < due
                assert event.before != event.after
        assert due == windows.watermark
        assert len(windows._buffer) <= (KEPT + final_after + 12 * 20) // 20 + 40  # bounded, however long it runs


@given(
    steps_made=st.lists(
        st.tuples(st.integers(1, 8), st.booleans(), st.booleans(), st.none() | st.integers(0, 6), st.booleans()),
        max_size=30,
    ),  # windows since the last, whether each series is answered, and at which event it dies, if that was delivered
    late=st.sets(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=40),
    revised=st.sets(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=40),
    vanishing=st.sets(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=40),
    late_by=st.integers(0, 300),
    final_after=st.integers(0, 400),
    random=st.randoms(use_true_random=False),
)
def test_events_match_the_responses_in_any_order_and_across_restarts(  # noqa: C901, PLR0912, PLR0915 - one run
    steps_made, late, revised, vanishing, late_by, final_after, random
):
    now = DELAY + 1
    heard: dict[tuple[int, Series], dict] = {}
    told: dict[tuple[int, Series], dict] = {}
    due = 0

    def begun(kept: str | None = None) -> WindowAssembler:
        done = [Span(0, due)] if due else []
        windows = WindowAssembler((ONE, NETS), 0, delay=DELAY, allowed_lateness=60, final_after=final_after, done=done)
        windows.restore(json.loads(kept or "{}"))
        return windows

    def shown(ts: int, series: Series) -> dict:
        """The rows that the service has of a window now."""
        age, rows = now - ts - 20 - DELAY, {}
        for place, group in enumerate(GROUPS) if series is NETS else [(3, None)]:
            key = (ts // 20, place)
            if not ((key in late and age < late_by) or (key in vanishing and age >= late_by)):
                rows[group] = ts + place - (key in revised and age < late_by)
        return rows

    def rows_of(points) -> dict:
        return {point.dimension_value: point.value for point in points}

    windows = begun()
    for step, first, second, restarted, delivered in steps_made:
        now += 20 * step
        oldest, end = max(0, -(-(now - KEPT) // 20) * 20), (now - DELAY - 1) // 20 * 20
        asked = Span(max(oldest, windows.oldest_open()), max(end, windows.oldest_open() + 20, oldest + 20))
        going = {int(ts) for ts in windows.snapshot()}
        for place, series in enumerate((ONE, NETS)):
            if not (first, second)[place] or asked.end > end:
                continue
            points = []
            for ts in range(asked.start, asked.end, 20):
                rows = shown(ts, series)
                points += [
                    Point.of(ts, value, metric=series.metric, dimension=series.dimension, dimension_value=group)
                    for group, value in rows.items()
                ]
                if ts >= due or ts in going:
                    heard[ts, series] = {**heard.get((ts, series), {}), **rows}
            random.shuffle(points)
            windows.add([place], asked, points, now)
        events, current = windows.drain(oldest, None), None
        for number, event in enumerate(events):
            if number == restarted and not delivered:
                break
            current = event
            if isinstance(event, Revision):
                assert rows_of(event.before) == told.get((event.ts, event.series), {}) != rows_of(event.after)
                told[event.ts, event.series] = rows_of(event.after)
            else:
                assert event.span.start == due
                due = event.span.end
                for series, points in event.values.items() if isinstance(event, Window) else ():
                    told[event.ts, series] = rows_of(points)
            if number == restarted:
                break
            windows.mark_delivered(event)
        else:
            assert told == {key: rows for key, rows in heard.items() if key[0] < due and rows}
            for ts in {ts for ts, _ in told if ts >= oldest and now < ts + 20 + DELAY + final_after}:
                assert str(ts) in windows.snapshot()
        if restarted is not None:
            kept = json.dumps(windows.snapshot(current))
            windows = begun(kept)
            # What was heard of a window that was told, and not told, is heard again, or not.
            heard = {key: rows for key, rows in heard.items() if key[0] >= due} | told
            heard = {key: dict(rows) for key, rows in heard.items()}
            assert windows.snapshot() == json.loads(kept)


@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=1, max_size=20),
    requests=st.integers(0, 2_000),
    windows=st.integers(1, 4_320),
    least=st.integers(1, 9),
)
def test_polls_never_take_more_requests_than_are_left(weights, requests, windows, least):
    found = poll_intervals(weights, requests, windows, least)
    assert all(step >= least for step in found) or requests < len(weights)
    assert sum(windows / step for step in found) <= max(requests, 0) + 1e-6 or requests < len(weights)
    if requests < len(weights):
        assert min(found) > windows
    order = sorted(zip(weights, found, strict=True))
    assert [step for _, step in order] == sorted((step for _, step in order), reverse=True)


@given(st.lists(st.booleans(), min_size=50, max_size=400), st.integers(1, 12), st.integers(20, 480))
def test_a_day_of_failures_stays_within_the_daily_quota(answers, queries, limit):
    schedule = PollSchedule([1.0] * queries, 1)
    here, left = 0, limit
    results = iter(answers * 100)
    while here < 4_320:
        for place in schedule.due(here):
            left -= 1
            (schedule.record_success if next(results) else schedule.record_failure)(place, here)
        assert left >= 0
        due = schedule.next_due(here, max(left, 0), 4_320 - here)
        assert due > here
        here = due


def test_a_gap_of_years_is_one_event_computed_at_once():
    asked = []

    def why(ts):
        asked.append(ts)
        return "before_start"

    windows = WindowAssembler([ONE], 0, delay=DELAY, allowed_lateness=0, final_after=0)
    first = next(windows.drain(1_800_000_010, None, why))
    assert first == Gap(span=Span(0, 1_800_000_020), reason="before_start")
    assert len(asked) < 10_000


def test_a_long_gap_ends_before_the_known_windows():
    done = (Span(0, 20), Span(1_000_000_000, 1_000_000_020))
    windows = WindowAssembler([ONE], 0, delay=DELAY, allowed_lateness=0, final_after=0, done=done)
    windows.add([0], Span(500_000_000, 500_000_020), [Point.of(500_000_000, 1, metric=ONE.metric)], 500_000_100)
    events = windows.drain(1_500_000_000, None)
    spans = [(event.span.start, event.span.end) for event in events]
    assert spans == [
        (20, 500_000_000),
        (500_000_000, 500_000_020),
        (500_000_020, 1_000_000_000),
        (1_000_000_020, 1_500_000_000),
    ]


def test_a_final_window_is_in_no_checkpoint_without_a_pending_revision():
    windows = WindowAssembler([ONE], NOON, delay=DELAY, allowed_lateness=0, final_after=100)
    span = Span(NOON, NOON + 40)
    for value in (1, 2):
        points = [Point.of(ts, value, metric=ONE.metric) for ts in (NOON, NOON + 20)]
        windows.add([0], span, points, NOON + 80 + 1_000 * (value - 1))
        events = windows.drain(NOON, None)
        kept = [(event.ts, sorted(windows.snapshot(event))) for event in events]
        both = [str(NOON), str(NOON + 20)]  # the second is kept before it is delivered, too
        assert kept == ([(NOON, both), (NOON + 20, both)] if value == 1 else [(NOON, both[1:]), (NOON + 20, [])])
    assert windows.snapshot() == {}


def test_a_change_of_a_window_final_by_now_is_reported_after_a_restart():
    def begun(done: tuple[Span, ...] = ()) -> WindowAssembler:
        return WindowAssembler([ONE], NOON, delay=DELAY, allowed_lateness=0, final_after=100, done=done)

    windows, span = begun(), Span(NOON, NOON + 20)
    windows.add([0], span, [Point.of(NOON, 1, metric=ONE.metric)], NOON + 80)
    assert [event.ts for event in windows.drain(NOON, None)] == [NOON]
    windows.add([0], span, [Point.of(NOON, 2, metric=ONE.metric)], NOON + 1_000)
    kept = windows.snapshot()  # and dies before the revision is delivered
    again = begun((span,))
    again.restore(kept)
    assert list(again.drain(NOON, None)) == []  # before an answer
    assert (again.snapshot(), again.oldest_open()) == (kept, NOON)
    again.add([0], span, [Point.of(NOON, 2, metric=ONE.metric)], NOON + 1_100)
    (revision,) = again.drain(NOON, None)
    assert (revision.before[0].value, revision.after[0].value) == (1, 2)


def test_a_poll_dated_in_the_future_is_due_within_an_interval():
    schedule = PollSchedule([1.0, 1.0], 1)
    schedule.record_success(0, 10_000)
    schedule.record_failure(1, 10_000)
    assert schedule.next_due(100, 100, 1_000) <= 120
    assert schedule.due(120) == [0, 1]


def test_a_checkpoint_holds_what_was_delivered_however_often_it_is_taken():
    windows = WindowAssembler([ONE], NOON, delay=DELAY, allowed_lateness=0, final_after=1_000)
    for number, value in enumerate((1, 2, 3)):
        windows.add([0], Span(NOON, NOON + 20), [Point.of(NOON, value, metric=ONE.metric)], NOON + 60 + number)
        (event,) = windows.drain(NOON, None)
        for current in (None, event, None):
            windows.snapshot(current)
        windows.mark_delivered(event)
        assert windows.snapshot()[str(NOON)] == {"0": {"at": NOON + 60 + number, "rows": [[None, None, value]]}}


def test_a_duplicate_group_in_a_response_keeps_the_higher_value():
    windows = WindowAssembler([NETS], 0, delay=DELAY, allowed_lateness=0, final_after=600)

    def answer(*values: float, at: float) -> list:
        rows = [Point.of(0, value, metric=NETS.metric, dimension="net", dimension_value="WIFI") for value in values]
        windows.add([0], Span(0, WINDOW), rows, at)
        return list(windows.drain(0, None))

    (window,) = answer(3, 5, at=100)
    assert window.by_group(NETS) == {"WIFI": 5}
    assert answer(5, 3, at=160) == answer(3, 5, at=220) == []
    (revision,) = answer(3, 6, at=280)
    assert isinstance(revision, Revision)
