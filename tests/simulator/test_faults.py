from __future__ import annotations

import pytest

from agora_analytics.protocols import Response
from agora_analytics.simulator import Fault, Faults
from agora_analytics.simulator.arrivals import Arrival

from .asking import NOON


def struck(faults: Faults, count: int, host: int = 0) -> list[str]:
    """Kinds of the faults of so many requests to one host, a second apart, `-` for none."""
    arrivals = [Arrival(number, number, host, NOON + number) for number in range(count)]
    return [fault.kind if (fault := faults.strike(arrival)) else "-" for arrival in arrivals]


def test_no_faults_is_no_faults():
    assert struck(Faults(), 3) == ["-"] * 3


def test_a_script_hits_exactly_its_requests():
    assert struck(Faults.script([None, Fault("reset"), Fault("html")]), 5) == ["-", "reset", "html", "-", "-"]


def test_a_script_for_a_host_counts_that_hosts_requests_only():
    faults = Faults.script([Fault("reset"), Fault("cut")], host=1)
    arrivals = [Arrival(0, 0, 0, NOON), Arrival(1, 0, 1, NOON), Arrival(2, 1, 0, NOON), Arrival(3, 1, 1, NOON)]
    assert [faults.strike(arrival) for arrival in arrivals] == [None, Fault("reset"), None, Fault("cut")]


def test_an_outage_hits_everything_in_its_time_and_host():
    assert struck(Faults.outage(NOON + 1, NOON + 3), 5) == ["-", "refused", "refused", "-", "-"]
    everything = Faults.outage(NOON, NOON + 9, Fault("status", status=503), host=1)
    assert struck(everything, 2) == ["-", "-"]
    assert struck(everything, 2, host=1) == ["status", "status"]


def test_chance_is_as_often_as_said_and_the_same_each_time():
    faults = Faults.chance(0.2, [Fault("reset"), Fault("slow")], seed=3)
    kinds = struck(faults, 1_000)
    assert kinds == struck(faults, 1_000)
    assert 150 < 1_000 - kinds.count("-") < 250
    assert {"reset", "slow"} < set(kinds)
    assert kinds != struck(Faults.chance(0.2, [Fault("reset"), Fault("slow")], seed=4), 1_000)
    assert struck(Faults.chance(1.0, host=1), 2) == ["-", "-"]
    assert struck(Faults.chance(1.0, host=1), 2, host=1) == ["reset", "reset"]


def test_schedules_add_up_and_the_first_wins():
    faults = Faults.script([None, Fault("cut")]) + Faults.outage(NOON, NOON + 3)
    assert struck(faults, 4) == ["refused", "cut", "refused", "-"]


@pytest.mark.parametrize(
    ("fault", "status", "header", "begins"),
    [
        (Fault("status", status=503), 503, ("Content-Type", "application/json"), b'{"message":'),
        (Fault("html"), 502, ("Content-Type", "text/html"), b"<html><head><title>502"),
        (Fault("html", status=200), 200, ("Content-Type", "text/html"), b"<html>"),
        (Fault("busy", retry_after=7), 429, ("Retry-After", "7"), b'{"message":'),
    ],
)
def test_a_gateway_answers_in_the_services_place(fault: Fault, status: int, header: tuple[str, str], begins: bytes):
    response = fault.instead()
    assert response
    assert (response.status, response.headers[header[0]]) == (status, header[1])
    assert response.body.startswith(begins)
    assert not fault.counted


def test_other_faults_leave_or_spoil_the_answer():
    answer = Response(200, {}, b"{}")
    assert Fault("slow", seconds=3).spoil(answer) == answer
    assert Fault("garbage").spoil(answer).body != answer.body
    assert (Fault("slow", seconds=3).delay, Fault("cut", seconds=3).delay) == (3, 0)
    assert Fault("huge").instead() is None
