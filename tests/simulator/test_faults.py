from __future__ import annotations

import pytest
from helpers.service_harness import NOON, Harness

from agora_analytics import plans
from agora_analytics.protocols import Response
from agora_analytics.simulator import Fault, Faults
from agora_analytics.simulator.fault_schedule import Arrival
from agora_analytics.simulator.service.params import IncomingRequest

LISTS = {"start_ts": NOON - 9_000, "end_ts": NOON - 60}


def fault_kinds(faults: Faults, count: int, host: int = 0) -> list[str]:
    """Return the kind of the fault of each of `count` requests to a host, one a second, or `-` without a fault."""
    arrivals = [Arrival(number, number, host, NOON + number) for number in range(count)]
    return [fault.kind if (fault := faults.strike(arrival)) else "-" for arrival in arrivals]


def test_an_empty_schedule_has_no_faults():
    assert fault_kinds(Faults(), 3) == ["-"] * 3


def test_a_script_hits_exactly_its_requests():
    assert fault_kinds(Faults.script([None, Fault("reset"), Fault("html")]), 5) == ["-", "reset", "html", "-", "-"]


def test_a_script_for_a_host_counts_that_hosts_requests_only():
    faults = Faults.script([Fault("reset"), Fault("cut")], host=1)
    arrivals = [Arrival(0, 0, 0, NOON), Arrival(1, 0, 1, NOON), Arrival(2, 1, 0, NOON), Arrival(3, 1, 1, NOON)]
    assert [faults.strike(arrival) for arrival in arrivals] == [None, Fault("reset"), None, Fault("cut")]


def test_an_outage_hits_all_requests_of_its_time_and_host():
    assert fault_kinds(Faults.outage(NOON + 1, NOON + 3), 5) == ["-", "refused", "refused", "-", "-"]
    everything = Faults.outage(NOON, NOON + 9, Fault("status", status=503), host=1)
    assert fault_kinds(everything, 2) == ["-", "-"]
    assert fault_kinds(everything, 2, host=1) == ["status", "status"]


def test_random_faults_have_their_rate_and_are_reproducible():
    faults = Faults.chance(0.2, [Fault("reset"), Fault("slow")], seed=3)
    kinds = fault_kinds(faults, 1_000)
    assert kinds == fault_kinds(faults, 1_000)
    assert 150 < 1_000 - kinds.count("-") < 250
    assert {"reset", "slow"} < set(kinds)
    assert kinds != fault_kinds(Faults.chance(0.2, [Fault("reset"), Fault("slow")], seed=4), 1_000)
    assert fault_kinds(Faults.chance(1.0, host=1), 2) == ["-", "-"]
    assert fault_kinds(Faults.chance(1.0, host=1), 2, host=1) == ["reset", "reset"]


def test_schedules_add_up_and_the_first_wins():
    faults = Faults.script([None, Fault("cut")]) + Faults.outage(NOON, NOON + 3)
    assert fault_kinds(faults, 4) == ["refused", "cut", "refused", "-"]


@pytest.mark.parametrize(
    ("fault", "status", "header", "begins"),
    [
        (Fault("status", status=503), 503, ("Content-Type", "application/json"), b'{"message":'),
        (Fault("html"), 502, ("Content-Type", "text/html"), b"<html><head><title>502"),
        (Fault("html", status=200), 200, ("Content-Type", "text/html"), b"<html>"),
        (Fault("busy", retry_after=7), 429, ("Retry-After", "7"), b'{"message":'),
    ],
)
def test_a_gateway_answers_instead_of_the_service(fault: Fault, status: int, header: tuple[str, str], begins: bytes):
    response = fault.gateway_response()
    assert response
    assert (response.status, response.headers[header[0]]) == (status, header[1])
    assert response.body.startswith(begins)
    assert not fault.counted


def test_other_faults_keep_or_corrupt_the_answer():
    answer = Response(200, {}, b"{}")
    assert Fault("slow", seconds=3).corrupted(answer) == answer
    assert Fault("garbage").corrupted(answer).body != answer.body
    assert (Fault("slow", seconds=3).delay, Fault("cut", seconds=3).delay) == (3, 0)
    assert Fault("huge").gateway_response() is None


def arriving(endpoint: plans.Endpoint, query: str = "", body: bytes | None = None, host: int = 0) -> Arrival:
    return Arrival(0, 0, host, NOON, 0, IncomingRequest(endpoint.method, endpoint.path, query, body))


def test_a_schedule_may_be_for_one_endpoint_only():
    faults = Faults.always(Fault("reset")).only("call_sessions")
    assert faults.strike(arriving(plans.CALL_SESSIONS)) == Fault("reset")
    assert faults.strike(arriving(plans.CALL_LISTS)) is None
    assert faults.strike(Arrival(0, 0, 0, NOON)) is None
    assert faults == Faults.always(Fault("reset")).only(plans.CALL_SESSIONS)


def test_a_schedule_may_be_for_certain_parameters_only():
    faults = Faults.always(Fault("reset")).only(metric="userCount", startTs=5)
    assert faults.strike(arriving(plans.REALTIME_USAGE, "metric=userCount&startTs=5&appid=x"))
    assert faults.strike(arriving(plans.INSIGHT_USAGE_TOTAL, "appid=x", b'{"metric":"userCount","startTs":5}'))
    for query, body in (("metric=userCount&startTs=6", None), ("startTs=5", None), ("", b"[1]"), ("", b"{no")):
        assert faults.strike(arriving(plans.REALTIME_USAGE, query, body)) is None


def test_a_schedule_may_be_for_one_host_and_one_time_only():
    faults = Faults.outage(NOON, NOON + 10, Fault("cut")).only("call_lists", host=1)
    assert faults.strike(arriving(plans.CALL_LISTS, host=1)) == Fault("cut")
    assert faults.strike(arriving(plans.CALL_LISTS, host=0)) is None
    assert Faults.outage(NOON + 1, NOON + 10).only("call_lists").strike(arriving(plans.CALL_LISTS)) is None


def test_narrowing_one_schedule_leaves_the_others_that_are_added():
    faults = Faults.always(Fault("cut")).only("call_metrics") + Faults.always(Fault("reset"))
    assert faults.strike(arriving(plans.CALL_METRICS)) == Fault("cut")
    assert faults.strike(arriving(plans.CALL_LISTS)) == Fault("reset")


def test_a_script_may_count_the_requests_to_an_endpoint():
    harness = Harness()
    harness.service.faults = Faults.script([None, Fault("reset")], endpoint="call_lists")
    calls = [IncomingRequest(endpoint.method, endpoint.path, "") for endpoint in (plans.CALL_LISTS, plans.CALL_METRICS)]
    fault_kinds = [harness.service.receive(0, calls[number]) for number in (0, 1, 1, 0, 0)]
    assert fault_kinds == [None, None, None, Fault("reset"), None]


def test_impossible_schedules_are_errors():
    with pytest.raises(ValueError, match="endpoint='lists': allowed are call_freeze, call_lists"):
        Faults.always(Fault("reset")).only("lists")
    with pytest.raises(ValueError, match="endpoint='lists'"):
        Faults.script([], endpoint="lists")
    with pytest.raises(TypeError, match=r"host=0 and endpoint=.*to a host or to an endpoint"):
        Faults.script([], endpoint="call_lists", host=0)


def carried(harness: Harness, fault: Fault) -> Response:
    call = IncomingRequest("GET", plans.CALL_LISTS.path, harness.query(**LISTS), authorization=harness.authorization)
    response = harness.service.respond(fault, call)
    assert response
    return response


@pytest.mark.parametrize(("status", "http"), [(None, 200), (404, 404)])
def test_a_refusal_is_counted_and_has_the_given_code_and_message(status: int | None, http: int):
    harness = Harness("standard")
    fault = Fault("refusal", code=1001, message="no such call", **({"status": status} if status else {}))
    response = carried(harness, fault)
    assert response.status == http
    assert b'"code":1001,"message":"no such call","data":null' in response.body
    entry = harness.service.log[-1]
    assert (entry.status, entry.code, entry.refused, entry.endpoint) == (http, 1001, "fault", "call_lists")
    assert harness.service.spent("call_lists", "day") == harness.service.counts["call_lists"] == 1


def test_a_rate_limit_applies_before_a_refusal_fault():
    harness = Harness("standard")
    harness.service.spend("call_lists", 1)
    assert b"qps limit" in carried(harness, Fault("refusal")).body


def test_one_call_is_unknown_and_no_other():
    faults = Faults.of_call("A")
    refused = faults.strike(arriving(plans.CALL_SESSIONS, "call_id=A&appid=x"))
    assert refused == Fault("refusal", code=404, message="no such call")
    assert faults.strike(arriving(plans.CALL_SESSIONS, "call_id=B&appid=x")) is None
    gone = Faults.of_call("A", Fault("status", status=410))
    assert gone.strike(arriving(plans.CALL_METRICS, "call_id=A")) == Fault("status", status=410)


@pytest.mark.parametrize("kind", ["date", "status", "html", "busy", "garbage", "refusal", "slow"])
def test_any_answer_may_have_a_wrong_date(kind: str):
    harness = Harness()
    assert carried(harness, Fault(kind)).headers["Date"] == "Tue, 24 Nov 2026 12:00:00 GMT"  # type: ignore[arg-type]
    wrong = carried(harness, Fault(kind, date_off=40 * 86_400))  # type: ignore[arg-type]
    assert wrong.headers["Date"] == "Sun, 03 Jan 2027 12:00:00 GMT"


def test_a_wrong_date_leaves_the_answer_right():
    harness = Harness()
    plain, wrong = (carried(harness, Fault("date", date_off=off)) for off in (0, -3_600))
    assert (wrong.status, len(wrong.body)) == (200, len(plain.body))
    assert harness.service.spent("call_lists", "day") == 2


def test_a_gateway_may_have_any_message():
    response = Fault("status", status=429, message='qpm limit error, "qpm limit" = 3').gateway_response()
    assert response
    assert response.body == b'{"message": "qpm limit error, \\"qpm limit\\" = 3"}'
