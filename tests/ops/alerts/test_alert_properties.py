"""What holds for all rules and all windows."""

from __future__ import annotations

from itertools import pairwise

from helpers.alerting import START, STEP, events, window
from hypothesis import given, settings
from hypothesis import strategies as st

from agora_analytics import Checkpoint, Gap, Revision, Series, Span, Window
from agora_analytics.catalogue import Dimension, Product, QualityMetric
from agora_analytics.ops import alerts

few = settings(max_examples=60)
"""Each example is a whole stream."""

VALUE = st.sampled_from([0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.5, None])
GROUPED = st.dictionaries(st.sampled_from(["CN", "US", "DE", "FR"]), VALUE.filter(lambda value: value is not None))
GAP = st.integers(1, 8).map(lambda count: f"gap {count}")
WORDS = st.text(min_size=1, max_size=8).filter(lambda text: text.strip() and text.isprintable())

PLAIN = Series("videoFreezeRate", product="WebRTC")
BY_COUNTRY = Series("videoFreezeRate", product="WebRTC", dimension="country")


@st.composite
def rules(draw, series=None):
    """Rules of quality: of one series, or of any."""
    threshold = draw(st.sampled_from([0.05, 0.0, 1.0, 0.123456]))
    comparison = draw(st.sampled_from([">", ">=", "<", "<="]))
    recovery = draw(st.none() | st.just(threshold))
    if recovery is None and comparison in {">", ">="} and threshold:
        recovery = draw(st.none() | st.just(threshold * 0.6))
    return alerts.Rule(
        series=draw(any_series()) if series is None else series,
        comparison=comparison,
        threshold=threshold,
        windows=draw(st.integers(1, 4)),
        min_users=draw(st.sampled_from([0, 20])),
        recovery=recovery,
        recovery_windows=draw(st.none() | st.integers(1, 3)) if recovery is not None else None,
        silence=draw(st.sampled_from([0, 30, 100])),
        no_data=draw(st.sampled_from([None, 20, 70])),
        max_values=draw(st.sampled_from([20, 1, 2])),
    )


@st.composite
def any_series(draw):
    dimension = draw(st.none() | st.sampled_from(list(Dimension)))
    values = st.lists(WORDS.filter(lambda text: '"' not in text), max_size=2).map(tuple)
    return Series(
        draw(st.sampled_from(list(QualityMetric))).value,
        product=draw(st.sampled_from(list(Product))).value,
        cname=draw(st.none() | WORDS),
        dimension=None if dimension is None else dimension.value,
        dimension_values=() if dimension is None else draw(values),
    )


@st.composite
def streams(draw):
    """A rule, and events for it."""
    series = draw(st.sampled_from([PLAIN, BY_COUNTRY]))
    rule = draw(rules(series))
    values = draw(st.lists((VALUE if series is PLAIN else GROUPED) | GAP, max_size=30))
    groups = st.dictionaries(st.sampled_from(["CN", "US", "DE", "FR"]), st.sampled_from([19, 20]))
    count = st.sampled_from([19, 20, 20, 20, None]) if series is PLAIN else groups
    return rule, events(rule, values, [draw(count) for _ in values])


def alerts_of(rule, found) -> list[alerts.Alert]:
    evaluator = alerts.Evaluator([rule])
    return [alert for event in found for alert in evaluator.add(event)]


@few
@given(rules())
def test_the_text_of_a_rule_is_read_as_that_rule(rule):
    assert alerts.parse(str(rule)) == rule


@few
@given(streams())
def test_an_alert_fires_only_after_enough_windows_in_a_row_that_hold(stream):
    rule, found = stream
    windows = {event.ts: event for event in found if isinstance(event, Window)}
    for alert in alerts_of(rule, found):
        if alert.kind != "firing":
            continue
        for ts in range(alert.ts - (rule.windows - 1) * STEP, alert.ts + 1, STEP):
            assert rule.holds(windows[ts].by_group(rule.series)[alert.group])
            if rule.users is not None:
                assert windows[ts].by_group(rule.users)[alert.group] >= 20
        assert alert.windows >= rule.windows
        assert alert.since == alert.ts - (alert.windows - 1) * STEP


@few
@given(streams())
def test_an_alert_recovers_only_after_enough_windows_in_a_row_that_do_not_hold(stream):
    rule, found = stream
    windows = {event.ts: event for event in found if isinstance(event, Window)}
    needed = rule.recovery_windows or rule.windows
    for alert in alerts_of(rule, found):
        if alert.kind == "recovered" and alert.about == "value":
            for ts in range(alert.ts - (needed - 1) * STEP, alert.ts + 1, STEP):
                few = rule.users is not None and windows[ts].by_group(rule.users).get(alert.group, 20) < 20
                assert few or not rule.holds(windows[ts].by_group(rule.series)[alert.group])


@few
@given(streams())
def test_what_begins_ends_at_most_once_and_before_it_begins_again(stream):
    rule, found = stream
    by_state: dict = {}
    for alert in alerts_of(rule, found):
        about = "data" if alert.kind == "no_data" and alert.group is None else alert.about
        by_state.setdefault((alert.group, about), []).append(alert)
    for changes in by_state.values():
        assert changes[0].kind != "recovered"
        for before, after in pairwise(changes):
            assert (before.incident == before.key) != (after.incident == after.key)
            if after.kind == "recovered":
                assert after.incident == before.incident


@few
@given(streams())
def test_firing_alerts_of_a_value_are_as_far_apart_as_the_silence(stream):
    rule, found = stream
    last: dict = {}
    for alert in alerts_of(rule, found):
        if alert.kind == "firing":
            assert alert.ts - last.get(alert.group, 0) >= rule.silence
            last[alert.group] = alert.ts


@few
@given(streams(), st.data())
def test_a_restart_at_any_event_gives_the_same_alerts_with_the_same_keys(stream, data):
    """Also if events that were added before the restart come again."""
    rule, found = stream
    restart = data.draw(st.integers(0, len(found)))
    again = data.draw(st.integers(0, restart))
    evaluator = alerts.Evaluator([rule])
    before = [alert for event in found[:restart] for alert in evaluator.add(event)]
    saved = Checkpoint.decode(evaluator.checkpoint.encode())
    evaluator = alerts.Evaluator([rule], checkpoint=saved)
    after = [alert for event in found[again:] for alert in evaluator.add(event)]
    assert before + after == alerts_of(rule, found)


@few
@given(streams(), st.data())
def test_when_windows_become_final_does_not_matter(stream, data):
    """Windows come early with other values, are revised, and count once the mark has passed them."""
    rule, found = stream
    needed = alerts.watched([rule])
    evaluator, found_alerts, open_windows, mark = alerts.Evaluator([rule]), [], [], START
    end = max((event.span.end for event in found), default=START)
    found.append(Gap(span=Span(end, end + STEP)))
    for event in found:
        early = event
        if isinstance(event, Window):
            wrong = {series: 0.9 if series == PLAIN else {"CN": 0.9} for series in event.values}
            early = window(event.ts, wrong | dict.fromkeys(event.missing), final=False)
            open_windows.append(event)
        found_alerts += evaluator.add(early, dict.fromkeys(needed, mark))
        if isinstance(event, Gap) or data.draw(st.booleans()):
            for one in open_windows:
                for series, points in one.values.items():
                    late = Revision(ts=one.ts, series=series, before=(), after=points)
                    found_alerts += evaluator.add(late, dict.fromkeys(needed, mark))
            open_windows, mark = [], event.span.end
    found_alerts += evaluator.add(found[-1], dict.fromkeys(needed, mark))
    assert found_alerts == alerts_of(rule, found)


@few
@given(streams(), st.data())
def test_a_gap_in_parts_is_the_same_gap(stream, data):
    rule, found = stream
    parts = []
    for event in found:
        if isinstance(event, Gap) and event.span.duration > STEP:
            middle = event.span.start + STEP * data.draw(st.integers(1, event.span.duration // STEP - 1))
            parts += [Gap(span=Span(event.span.start, middle)), Gap(span=Span(middle, event.span.end))]
        else:
            parts.append(event)
    assert alerts_of(rule, parts) == alerts_of(rule, found)


@few
@given(st.lists(st.dictionaries(st.integers(0, 200).map(str), st.sampled_from([0.01, 0.06])), max_size=20))
def test_the_state_is_bounded_by_the_values_that_may_be_tracked(rows):
    rule = alerts.Rule(series=BY_COUNTRY, comparison=">", threshold=0.05, max_values=3)
    evaluator = alerts.Evaluator([rule])
    for event in events(rule, rows):
        evaluator.add(event)
        assert len(evaluator.checkpoint.open[str(rule)]["state"]["values"]) <= 3
