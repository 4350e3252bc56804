"""Other programs that use up the same quota."""

from __future__ import annotations

import pytest
from helpers.service_harness import NOON, Harness

from agora_analytics import plans
from agora_analytics.simulator import OtherProgram, Variants

MIDNIGHT = NOON - NOON % 86_400


def outcome(harness: Harness) -> str:
    now = int(harness.clock.now)
    code = harness.get(plans.CALL_LISTS, start_ts=now - 9_000, end_ts=now - 90)["code"]
    return "ok" if code == 200 else harness.service.log[-1].refused


def test_spend_uses_up_quota_at_once():
    harness = Harness("standard")
    harness.service.spend("call_lists", 999)
    assert harness.service.spent("call_lists", "day") == 999
    assert outcome(harness) == "qps"
    harness.clock.now += 1
    assert outcome(harness) == "qpd"
    harness.clock.now += 86_400
    assert outcome(harness) == "ok"


def test_an_endpoint_stands_for_its_counter():
    harness = Harness("standard")
    harness.service.spend(plans.CALL_FREEZE)
    assert harness.service.spent("call_details", "day") == 1
    assert harness.service.spent("call_lists", "day") == 0


@pytest.mark.parametrize("counter", ["realtime", "lists", plans.REALTIME_USAGE])
def test_a_counter_that_the_plan_lacks_is_an_error(counter: plans.Endpoint | str):
    with pytest.raises(ValueError, match="the plan has call_lists, call_details"):
        Harness("standard").service.spend(counter)


@pytest.mark.parametrize("burst", [1, 3])
def test_another_program_uses_a_third_of_each_day_evenly(burst: int):
    harness = Harness("premium", others=[OtherProgram(counter="realtime", burst=burst)])
    spent = []
    for quarter in (0.25, 0.5, 0.75, 1):
        harness.clock.now = MIDNIGHT + 86_400 * quarter - 1
        spent.append(harness.service.spent("realtime", "day"))
    assert spent == pytest.approx([40, 80, 120, 160], abs=burst)
    harness.clock.now = MIDNIGHT + 86_400
    assert harness.service.spent("realtime", "day") <= burst
    assert harness.service.spent("call_lists", "day") == 0


def test_requests_of_others_count_in_the_minute_and_the_second_too():
    harness = Harness("premium", others=[OtherProgram(counter="realtime", burst=3)])
    minutes = []
    for minute in range(24 * 60):
        harness.clock.now = MIDNIGHT + minute * 60 + 59.9
        minutes.append(harness.service.spent("realtime", "minute"))
    assert set(minutes) == {0, 3}
    assert sum(minutes) == pytest.approx(160, abs=3)


def test_requests_of_others_leave_fewer_to_us():
    harness = Harness("standard", others=[OtherProgram(counter="call_lists", share=1.0)])
    outcomes = []
    for hour in range(24):
        for second in range(40):
            harness.clock.now = MIDNIGHT + hour * 3_600 + second * 60 + 0.999
            outcomes.append(outcome(harness))
    assert outcomes.count("qpd") > 300
    assert outcomes[:400].count("ok") > 380


def test_another_program_may_run_for_a_limited_time():
    harness = Harness(
        "premium", others=[OtherProgram(counter="realtime", share=1.0, start=MIDNIGHT + 3_600, end=MIDNIGHT + 7_200)]
    )
    spent = []
    for hour in (1, 2, 3):
        harness.clock.now = MIDNIGHT + hour * 3_600
        spent.append(harness.service.spent("realtime", "day"))
    assert spent == [0, pytest.approx(20, abs=1), pytest.approx(20, abs=1)]


def test_the_requests_of_parts_add_up_to_those_of_the_day():
    program = OtherProgram(counter="realtime")
    steps = [program.spent(480, MIDNIGHT + at, MIDNIGHT + at + 60) for at in range(0, 86_400, 60)]
    assert sum(steps) == program.spent(480, MIDNIGHT, MIDNIGHT + 86_400)
    assert program.spent(480, NOON, NOON) == 0


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.1}, {"burst": 0}])
def test_an_impossible_program_is_an_error(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="allowed are"):
        OtherProgram(counter="realtime", **wrong)  # type: ignore[arg-type]
    assert Variants().others == ()
