"""Windows are delivered once, in order and with gaps, under any late data, revisions, failures and restarts."""

from __future__ import annotations

import json

from helpers.streaming import FREEZES, NETWORKS, NOON, USERS, values_by_group
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics.models import Point
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams import Gap, Revision, Series, Window
from agora_analytics.streams.watch.assembler import WindowAssembler
from agora_analytics.streams.watch.schedule import PollSchedule, poll_intervals

GROUPS = ("WIFI", "4G", "LAN")
RETENTION = 600
DELAY = 40

POLLS = st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.booleans()), min_size=1, max_size=60)
"""For each poll: windows since the last one, and whether each series gets an answer."""


@given(
    polls=POLLS,
    late=st.sets(st.tuples(st.integers(0, 200), st.integers(0, 1)), max_size=60),
    late_by=st.integers(0, 400),
    revised=st.sets(st.integers(0, 200), max_size=40),
    allowed_lateness=st.integers(0, 300),
    final_after=st.integers(0, 400),
    revisions=st.booleans(),
    only_final=st.booleans(),
)
def test_each_window_comes_once_in_order_with_its_last_value(  # noqa: C901 - one run, step by step
    polls, late, late_by, revised, allowed_lateness, final_after, revisions, only_final
):
    windows = WindowAssembler(
        (USERS, FREEZES),
        0,
        delay=DELAY,
        allowed_lateness=allowed_lateness,
        final_after=final_after,
        revisions=revisions,
        only_final=only_final,
    )
    now = DELAY + 1
    latest: dict[tuple[int, int], object] = {}
    due = 0
    polled_at: dict[tuple[int, int], list[int]] = {}

    def service_value(ts: int, index: int) -> int | None:
        """Return the value of a window that the service has now."""
        age = now - ts - 20 - DELAY
        if (ts // 20, index) in late and age < late_by:
            return None
        return ts + index - (ts // 20 in revised and age < late_by)

    for step, first, second in polls:
        now += 20 * step
        oldest = max(0, -(-(now - RETENTION) // 20) * 20)
        end = (now - DELAY - 1) // 20 * 20
        for index, answered in enumerate((first, second)):
            if answered and end > max(oldest, windows.oldest_open()):
                span = Span(max(oldest, windows.oldest_open()), end)
                times = [ts for ts in range(span.start, end, 20) if service_value(ts, index) is not None]
                points = [Point.of(ts, service_value(ts, index), metric=(USERS, FREEZES)[index].metric) for ts in times]
                windows.add([index], span, points, now)
                for ts in range(span.start, end, 20):
                    polled_at.setdefault((ts, index), []).append(now)
                    if service_value(ts, index) is not None and ts >= due:
                        latest[ts, index] = service_value(ts, index)
        for event in windows.drain(oldest, None):
            if isinstance(event, Gap):
                assert event.span.start == due
                assert event.span.end <= oldest
                assert not any((ts, index) in latest for ts in range(due, event.span.end, 20) for index in (0, 1))
                due = event.span.end
            elif isinstance(event, Window):
                assert event.ts == due
                due += 20
                for index, series in enumerate((USERS, FREEZES)):
                    assert event.value(series) == latest.get((event.ts, index))
                    if series in event.missing and event.ts >= oldest:
                        assert max(polled_at[event.ts, index]) >= event.ts + 20 + DELAY + allowed_lateness * (
                            not only_final
                        )
            else:
                assert isinstance(event, Revision)
                assert revisions
                assert event.ts < due
                assert event.before != event.after
        assert due == windows.watermark
        assert len(windows._buffer) <= (RETENTION + final_after + 12 * 20) // 20 + 40  # bounded, however long it runs


@given(
    polls=st.lists(
        st.tuples(st.integers(1, 8), st.booleans(), st.booleans(), st.none() | st.integers(0, 6), st.booleans()),
        max_size=30,
        # For each poll: windows since the last one, whether each series gets an answer, the event at which the process
        # crashes, if any, and whether that event was delivered.
    ),
    late=st.sets(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=40),
    revised=st.sets(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=40),
    vanishing=st.sets(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=40),
    late_by=st.integers(0, 300),
    final_after=st.integers(0, 400),
    random=st.randoms(use_true_random=False),
)
def test_events_match_the_responses_in_any_order_and_across_restarts(  # noqa: C901, PLR0912 - one run
    polls, late, revised, vanishing, late_by, final_after, random
):
    now = DELAY + 1
    answered: dict[tuple[int, Series], dict] = {}
    reported: dict[tuple[int, Series], dict] = {}
    due = 0

    def new_assembler(saved: str | None = None) -> WindowAssembler:
        done = [Span(0, due)] if due else []
        windows = WindowAssembler(
            (USERS, NETWORKS), 0, delay=DELAY, allowed_lateness=60, final_after=final_after, done=done
        )
        windows.restore(json.loads(saved or "{}"))
        return windows

    def service_rows(ts: int, series: Series) -> dict:
        """Return the rows of a window that the service has now."""
        age, rows = now - ts - 20 - DELAY, {}
        for index, group in enumerate(GROUPS) if series is NETWORKS else [(3, None)]:
            key = (ts // 20, index)
            if not ((key in late and age < late_by) or (key in vanishing and age >= late_by)):
                rows[group] = ts + index - (key in revised and age < late_by)
        return rows

    windows = new_assembler()
    for step, first, second, crash_at, delivered in polls:
        now += 20 * step
        oldest, end = max(0, -(-(now - RETENTION) // 20) * 20), (now - DELAY - 1) // 20 * 20
        span = Span(max(oldest, windows.oldest_open()), max(end, windows.oldest_open() + 20, oldest + 20))
        open_windows = {int(ts) for ts in windows.snapshot()}
        for index, series in enumerate((USERS, NETWORKS)):
            if not (first, second)[index] or span.end > end:
                continue
            points = []
            for ts in range(span.start, span.end, 20):
                rows = service_rows(ts, series)
                points += [
                    Point.of(ts, value, metric=series.metric, dimension=series.dimension, dimension_value=group)
                    for group, value in rows.items()
                ]
                if ts >= due or ts in open_windows:
                    answered[ts, series] = {**answered.get((ts, series), {}), **rows}
            random.shuffle(points)
            windows.add([index], span, points, now)
        events, current = windows.drain(oldest, None), None
        for number, event in enumerate(events):
            if number == crash_at and not delivered:
                break
            current = event
            if isinstance(event, Revision):
                assert (
                    values_by_group(event.before)
                    == reported.get((event.ts, event.series), {})
                    != values_by_group(event.after)
                )
                reported[event.ts, event.series] = values_by_group(event.after)
            else:
                assert event.span.start == due
                due = event.span.end
                for series, points in event.values.items() if isinstance(event, Window) else ():
                    reported[event.ts, series] = values_by_group(points)
            if number == crash_at:
                break
            windows.mark_delivered(event)
        else:
            assert reported == {key: rows for key, rows in answered.items() if key[0] < due and rows}
            for ts in {ts for ts, _ in reported if ts >= oldest and now < ts + 20 + DELAY + final_after}:
                assert str(ts) in windows.snapshot()
        if crash_at is not None:
            saved = json.dumps(windows.snapshot(current))
            windows = new_assembler(saved)
            # Answers about delivered windows that were not reported are lost; the next poll may repeat them.
            answered = {key: rows for key, rows in answered.items() if key[0] >= due} | reported
            answered = {key: dict(rows) for key, rows in answered.items()}
            assert windows.snapshot() == json.loads(saved)


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
    now, requests_left = 0, limit
    results = iter(answers * 100)
    while now < 4_320:
        for index in schedule.due(now):
            requests_left -= 1
            (schedule.record_success if next(results) else schedule.record_failure)(index, now)
        assert requests_left >= 0
        due = schedule.next_due(now, max(requests_left, 0), 4_320 - now)
        assert due > now
        now = due


def test_a_gap_of_years_is_one_event_computed_at_once():
    lookups = []

    def reason_at(ts):
        lookups.append(ts)
        return "before_start"

    windows = WindowAssembler([USERS], 0, delay=DELAY, allowed_lateness=0, final_after=0)
    first = next(windows.drain(1_800_000_010, None, reason_at))
    assert first == Gap(span=Span(0, 1_800_000_020), reason="before_start")
    assert len(lookups) < 10_000


def test_a_long_gap_ends_before_the_known_windows():
    done = (Span(0, 20), Span(1_000_000_000, 1_000_000_020))
    windows = WindowAssembler([USERS], 0, delay=DELAY, allowed_lateness=0, final_after=0, done=done)
    windows.add([0], Span(500_000_000, 500_000_020), [Point.of(500_000_000, 1, metric=USERS.metric)], 500_000_100)
    events = windows.drain(1_500_000_000, None)
    spans = [(event.span.start, event.span.end) for event in events]
    assert spans == [
        (20, 500_000_000),
        (500_000_000, 500_000_020),
        (500_000_020, 1_000_000_000),
        (1_000_000_020, 1_500_000_000),
    ]


def test_a_final_window_is_in_no_checkpoint_without_a_pending_revision():
    windows = WindowAssembler([USERS], NOON, delay=DELAY, allowed_lateness=0, final_after=100)
    span = Span(NOON, NOON + 40)
    for value in (1, 2):
        points = [Point.of(ts, value, metric=USERS.metric) for ts in (NOON, NOON + 20)]
        windows.add([0], span, points, NOON + 80 + 1_000 * (value - 1))
        events = windows.drain(NOON, None)
        saved = [(event.ts, sorted(windows.snapshot(event))) for event in events]
        both = [str(NOON), str(NOON + 20)]  # the second is saved before its delivery, too
        assert saved == ([(NOON, both), (NOON + 20, both)] if value == 1 else [(NOON, both[1:]), (NOON + 20, [])])
    assert windows.snapshot() == {}


def test_a_revision_pending_at_a_crash_is_reported_although_its_window_is_final():
    def new_assembler(done: tuple[Span, ...] = ()) -> WindowAssembler:
        return WindowAssembler([USERS], NOON, delay=DELAY, allowed_lateness=0, final_after=100, done=done)

    windows, span = new_assembler(), Span(NOON, NOON + 20)
    windows.add([0], span, [Point.of(NOON, 1, metric=USERS.metric)], NOON + 80)
    assert [event.ts for event in windows.drain(NOON, None)] == [NOON]
    windows.add([0], span, [Point.of(NOON, 2, metric=USERS.metric)], NOON + 1_000)
    saved = windows.snapshot()  # a crash before the revision is delivered
    restored = new_assembler((span,))
    restored.restore(saved)
    assert list(restored.drain(NOON, None)) == []  # before an answer
    assert (restored.snapshot(), restored.oldest_open()) == (saved, NOON)
    restored.add([0], span, [Point.of(NOON, 2, metric=USERS.metric)], NOON + 1_100)
    (revision,) = restored.drain(NOON, None)
    assert (revision.before[0].value, revision.after[0].value) == (1, 2)


def test_a_poll_dated_in_the_future_is_due_within_an_interval():
    schedule = PollSchedule([1.0, 1.0], 1)
    schedule.record_success(0, 10_000)
    schedule.record_failure(1, 10_000)
    assert schedule.next_due(100, 100, 1_000) <= 120
    assert schedule.due(120) == [0, 1]


def test_a_snapshot_holds_the_delivered_values_however_often_it_is_taken():
    windows = WindowAssembler([USERS], NOON, delay=DELAY, allowed_lateness=0, final_after=1_000)
    for number, value in enumerate((1, 2, 3)):
        windows.add([0], Span(NOON, NOON + 20), [Point.of(NOON, value, metric=USERS.metric)], NOON + 60 + number)
        (event,) = windows.drain(NOON, None)
        for current in (None, event, None):
            windows.snapshot(current)
        windows.mark_delivered(event)
        assert windows.snapshot()[str(NOON)] == {"0": {"at": NOON + 60 + number, "rows": [[None, None, value]]}}


def test_a_duplicate_group_in_a_response_keeps_the_higher_value():
    windows = WindowAssembler([NETWORKS], 0, delay=DELAY, allowed_lateness=0, final_after=600)

    def answer(*values: float, at: float) -> list:
        rows = [Point.of(0, value, metric=NETWORKS.metric, dimension="net", dimension_value="WIFI") for value in values]
        windows.add([0], Span(0, WINDOW), rows, at)
        return list(windows.drain(0, None))

    (window,) = answer(3, 5, at=100)
    assert window.by_group(NETWORKS) == {"WIFI": 5}
    assert answer(5, 3, at=160) == answer(3, 5, at=220) == []
    (revision,) = answer(3, 6, at=280)
    assert isinstance(revision, Revision)
