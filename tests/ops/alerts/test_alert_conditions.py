"""Rules as tables: windows in, alerts out."""

from __future__ import annotations

import attrs
import pytest
from helpers.alerting import START, STEP, events, run, short, window

from agora_analytics import Gap, Revision, Series, Span
from agora_analytics.ops import alerts

FREEZES = "videoFreezeRate:WebRTC > 5%"
BY_COUNTRY = "videoFreezeRate:WebRTC by country > 5%"

TABLE = {
    "one window above": (FREEZES, [0.01, 0.06], [("firing", 1)]),
    "the threshold itself is not above": (FREEZES, [0.05, 0.05], []),
    "at least the threshold": ("videoFreezeRate >= 5%", [0.05], [("firing", 0)]),
    "below": ("userCount < 10", [12, 9], [("firing", 1)]),
    "at most": ("joinSuccessRate <= 90%", [0.91, 0.9], [("firing", 1)]),
    "two in a row": (f"{FREEZES} for 2", [0.06, 0.01, 0.06, 0.06, 0.06], [("firing", 3)]),
    "one in between": (f"{FREEZES} for 2", [0.06, 0.01] * 5, []),
    "it fires once": (FREEZES, [0.06] * 50, [("firing", 0)]),
    "recovery": (FREEZES, [0.06, 0.01], [("firing", 0), ("recovered", 1)]),
    "as many windows recover": (f"{FREEZES} for 2", [0.06] * 2 + [0.01] * 3, [("firing", 1), ("recovered", 3)]),
    "a high window interrupts the recovery": (
        f"{FREEZES} for 2",
        [0.06, 0.06, 0.01, 0.06, 0.01, 0.01],
        [("firing", 1), ("recovered", 5)],
    ),
    "hysteresis": (f"{FREEZES} recover 3%", [0.06, 0.04, 0.03, 0.04], [("firing", 0), ("recovered", 2)]),
    "a value between interrupts the recovery": (
        f"{FREEZES} recover 3% for 2",
        [0.06, 0.02, 0.04, 0.02, 0.02],
        [("firing", 0), ("recovered", 4)],
    ),
    "silence after an alert": (
        f"{FREEZES} silent 2m",
        [0.06, 0.01, 0.06, 0.01, 0.01, 0.01, 0.06],
        [("firing", 0), ("recovered", 1), ("firing", 6)],
    ),
    "what still holds after the silence fires then": (
        f"{FREEZES} silent 2m",
        [0.06, 0.01, *[0.06] * 6],
        [("firing", 0), ("recovered", 1), ("firing", 6)],
    ),
    "a gap interrupts a run": (f"{FREEZES} for 2", [0.06, "gap 1", 0.06], []),
    "a missing window interrupts a run": (f"{FREEZES} for 2", [0.06, None, 0.06, 0.06], [("firing", 3)]),
    "a gap interrupts a recovery": (
        f"{FREEZES} recover 5% for 2",
        [0.06, 0.01, "gap 3", 0.01, 0.01],
        [("firing", 0), ("recovered", 6)],
    ),
    "a gap does not end an alert": (FREEZES, [0.06, "gap 100", 0.06], [("firing", 0)]),
    "no data": (f"{FREEZES} no data 1m", [0.01, None, None, None, None], [("no_data", 3)]),
    "no data in a gap": (f"{FREEZES} no data 1m", [0.01, "gap 1000"], [("no_data", 3)]),
    "data again": (f"{FREEZES} no data 1m", [0.01, "gap 3", 0.01], [("no_data", 3), ("recovered", 4)]),
    "less than no data": (f"{FREEZES} no data 1m", [0.01, "gap 2", 0.01, None, None, 0.01], []),
    "what was before the first window is nobody's loss": (f"{FREEZES} no data 1m", ["gap 1000", 0.01], []),
    "no data from the start": (f"{FREEZES} no data 1m", [None, None, None, None], [("no_data", 2)]),
    "gaps before the first window are nobody's loss": (f"{FREEZES} no data 1m", ["gap 9", "gap 9", None], []),
    "no data while it fires": (
        f"{FREEZES} no data 1m",
        [0.06, None, None, None, 0.01],
        [("firing", 0), ("no_data", 3), ("recovered", 4), ("recovered", 4)],
    ),
}


@pytest.mark.parametrize(("rule", "values", "expected"), TABLE.values(), ids=TABLE)
def test_windows_give_alerts(rule, values, expected):
    assert short(run(rule, values)) == expected


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ([20] * 4, [("firing", 1)]),
        ([19, 20, 20, 20], [("firing", 2)]),
        ([20, 19, 20, 19], []),
        ([20, None, 20, 20], [("firing", 3)]),
    ],
)
def test_a_window_with_too_few_users_or_an_unknown_number_does_not_hold(users, expected):
    assert short(run(f"{FREEZES} for 2 with 20 users", [0.06] * 4, users)) == expected


def test_users_that_leave_end_an_alert_and_an_unknown_number_does_not():
    found = run(f"{FREEZES} with 20 users", [0.06, 0.06, 0.06], [20, None, 19])
    assert short(found) == [("firing", 0), ("recovered", 2)]
    assert [(one.of, one.reason) for one in found[1].unknown] == [("users", "no data")]
    assert "the number of users is unknown from 2026-11-24T12:00:20Z for 20 s" in found[1].text


def test_an_alert_says_the_gap_before_its_run_and_during_it():
    fired, recovered = run(f"{FREEZES} for 2", [0.01, "gap 3", 0.06, 0.06, None, 0.01, 0.01])
    gap = alerts.Unknown(span=Span(START + STEP, START + 4 * STEP), reason="outage")
    assert fired.unknown == (gap,)
    assert [one.reason for one in recovered.unknown] == ["outage", "no data"]
    assert "the value is unknown from 2026-11-24T12:00:20Z for 60 s: requests failed" in fired.text


def test_an_alert_says_nothing_of_gaps_that_do_not_matter_to_it():
    (fired,) = run(f"{FREEZES} for 2", ["gap 3", 0.01, None, 0.01, 0.06, 0.06])
    assert fired.unknown == ()


def test_each_value_of_a_dimension_has_its_own_state():
    values = [{"CN": 0.06, "US": 0.01}, {"CN": 0.01, "US": 0.06}, {"CN": 0.01, "US": 0.06}, {"US": 0.01}]
    assert short(run(f"{BY_COUNTRY} for 2", [*values, {"US": 0.01}])) == [("firing", 2, "US"), ("recovered", 4, "US")]


def test_values_that_hold_at_the_same_time_are_reported_worst_first_up_to_the_limit():
    values = {f"c{number}": 0.06 + number / 100 for number in range(5)}
    found = run(f"{BY_COUNTRY} max 3", [values])
    assert short(found) == [("firing", 0, "c4"), ("firing", 0, "c3"), ("firing", 0, "c2")]
    assert {one.untracked for one in found} == {2}
    assert "2 more values meet the rule and are not tracked" in found[0].text


def test_a_place_is_free_once_a_value_has_recovered():
    values = [{"a": 0.06, "b": 0.06}, {"a": 0.01, "b": 0.06}, {"a": 0.01, "b": 0.06}]
    assert short(run(f"{BY_COUNTRY} max 1", values)) == [
        ("firing", 0, "a"),
        ("recovered", 1, "a"),
        ("firing", 2, "b"),
    ]


def test_a_value_that_vanishes_neither_recovers_nor_is_tracked_for_ever():
    found = run(BY_COUNTRY, [{"CN": 0.06, "US": 0.01}, *[{"US": 0.01}] * 200, {"CN": 0.06, "US": 0.01}])
    assert short(found) == [("firing", 0, "CN"), ("no_data", 180, "CN"), ("firing", 201, "CN")]
    assert found[1].incident == found[0].key
    assert str(found[1]).startswith("no data: videoFreezeRate WebRTC country=CN has had no value since")


def test_users_are_those_of_the_same_value():
    rule = alerts.parse(f"{BY_COUNTRY} with 20 users")
    evaluator = alerts.Evaluator([rule])
    row = {rule.series: {"CN": 0.06, "US": 0.06}, rule.users: {"CN": 19, "US": 21}}
    (found,) = evaluator.add(window(START, row))
    assert (found.group, found.users) == ("US", 21)


def test_an_alert_and_its_recovery_share_an_incident_and_have_keys_of_their_own():
    found = run(FREEZES, [0.06, 0.01, 0.06, 0.01])
    assert len({one.key for one in found}) == 4
    assert [one.incident for one in found] == [found[0].key, found[0].key, found[2].key, found[2].key]


def test_keys_differ_between_projects_rules_and_values():
    keys = set()
    for source in ("a", "b"):
        for text in (BY_COUNTRY, f"{BY_COUNTRY} silent 1m"):
            rule = alerts.parse(text)
            evaluator = alerts.Evaluator([rule], source=source)
            keys |= {one.key for one in evaluator.add(window(START, {rule.series: {"CN": 0.06, "US": 0.06}}))}
    assert len(keys) == 8


# Final windows.


def test_a_window_waits_until_it_is_final_and_counts_as_revised():
    rule = alerts.parse(FREEZES)
    evaluator = alerts.Evaluator([rule])
    first = window(START, {rule.series: 0.5}, final=False)
    assert evaluator.add(first, {rule.series: START}) == []
    after = window(START, {rule.series: 0.01}).values[rule.series]
    assert evaluator.add(Revision(ts=START, series=rule.series, before=(), after=after)) == []
    second = window(START + STEP, {rule.series: 0.06}, final=False)
    assert evaluator.add(second, {rule.series: START + STEP}) == []
    third = window(START + 2 * STEP, {rule.series: 0.01}, final=False)
    assert short(evaluator.add(third, {rule.series: START + 2 * STEP})) == [("firing", 1)]


def test_a_revision_can_make_a_window_final():
    rule = alerts.parse(FREEZES)
    evaluator = alerts.Evaluator([rule])
    evaluator.add(window(START, {rule.series: None}, final=False))
    late = window(START, {rule.series: 0.06}).values[rule.series]
    found = evaluator.add(Revision(ts=START, series=rule.series, before=(), after=late, final=True))
    assert short(found) == [("firing", 0)]


def test_a_series_that_is_not_final_holds_back_its_own_rules_only():
    first, second = alerts.parse(FREEZES), alerts.parse("userCount < 5")
    evaluator = alerts.Evaluator([first, second])
    found = []
    for number in range(3):
        ts = START + number * STEP
        row = {first.series: 0.06, second.series: 3}
        found += evaluator.add(window(ts, row, final=False), {first.series: START, second.series: ts})
    assert [(one.kind, one.series) for one in found] == [("firing", "userCount Native")]


def test_a_window_that_was_not_delivered_interrupts_a_run_and_is_said():
    rule = alerts.parse(f"{FREEZES} for 2")
    evaluator = alerts.Evaluator([rule])
    rows = [window(START + number * STEP, {rule.series: 0.06}) for number in (0, 2, 3)]
    (fired,) = (one for row in rows for one in evaluator.add(row))
    assert short([fired]) == [("firing", 3)]
    assert [one.reason for one in fired.unknown] == ["not delivered"]


def test_events_that_come_again_change_nothing():
    rule = alerts.parse(f"{FREEZES} for 2 no data 1m")
    evaluator = alerts.Evaluator([rule])
    once = events(rule, [0.06, 0.06, "gap 5", 0.01, 0.01])
    first = [one for event in once for one in evaluator.add(event)]
    assert len(first) == 4
    assert [one for event in once for one in evaluator.add(event)] == []


def test_windows_that_never_become_final_are_unknown_in_the_end():
    rule = alerts.parse(f"{FREEZES} no data 1m")
    evaluator = alerts.Evaluator([rule])
    rows = (window(START + number * STEP, {rule.series: 0.9}, final=False) for number in range(1_003))
    assert short(one for row in rows for one in evaluator.add(row)) == [("no_data", 2)]
    assert len(evaluator.checkpoint.open["waiting"]["windows"]) == 1_000


def test_rules_of_one_watch_do_not_disturb_each_other():
    rules = [alerts.parse(f"{FREEZES} for {count}") for count in (1, 2, 3)]
    evaluator = alerts.Evaluator(rules)
    found = [one for event in events(rules[0], [0.06, 0.06, 0.01]) for one in evaluator.add(event)]
    assert [(one.kind, one.rule.rpartition(" ")[2]) for one in found] == [
        ("firing", "5%"),
        ("firing", "2"),
        ("recovered", "5%"),
    ]


def test_the_weight_of_a_series_does_not_matter():
    rule = alerts.parse(FREEZES)
    heavy = attrs.evolve(rule.series, weight=5.0)
    evaluator = alerts.Evaluator([rule])
    assert short(evaluator.add(window(START, {heavy: 0.06}))) == [("firing", 0)]


def test_a_series_of_users_has_a_state_for_each():
    series = Series("videoFreezeRate", product="Native", cname="room", uids=(1, 2))
    rule = alerts.Rule(series=series, comparison=">", threshold=0.05)
    assert alerts.parse(str(rule)) == rule


def test_silence_of_the_watch_is_an_alert_about_missing_data_with_the_same_key():
    rule = alerts.parse(f"{FREEZES} no data 1m")
    silent, notified = alerts.Evaluator([rule]), alerts.Evaluator([rule])
    for evaluator in (silent, notified):
        evaluator.add(events(rule, [0.01])[0])
    assert silent.silent(59.0, START + 100) == []
    found = silent.silent(60.0, START + 100)
    assert short(found) == [("no_data", 3)]
    assert found == notified.add(Gap(span=Span(START + STEP, START + 500)))
    assert silent.silent(100.0, START + 200) == []
    assert silent.add(Gap(span=Span(START + STEP, START + 500))) == []


def test_values_that_come_late_do_not_end_an_alert_about_missing_data_before_newer_ones_do():
    rule = alerts.parse(f"{FREEZES} no data 1m")
    evaluator = alerts.Evaluator([rule])
    rows = events(rule, [0.01] * 8)
    evaluator.add(rows[0])
    evaluator.silent(60.0, START + 100)
    assert short(one for row in rows for one in evaluator.add(row)) == [("recovered", 4)]


def test_a_watch_without_any_event_is_silent_from_its_start():
    evaluator = alerts.Evaluator([alerts.parse(f"{FREEZES} no data 1m")])
    (found,) = evaluator.silent(60.0, START + 100)
    assert (found.kind, found.since) == ("no_data", START + 40)


@pytest.mark.parametrize(
    ("rules", "says"), [([], "rules is empty"), ([alerts.parse(FREEZES)] * 2, "is there twice"), ([5], "a Rule")]
)
def test_wrong_rules_are_refused(rules, says):
    with pytest.raises((ValueError, TypeError), match=says):
        alerts.Evaluator(rules)
