"""A wrong argument of the simulator raises where it is passed, and names argument, value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import attrs
import pytest

from agora_analytics.simulator import (
    CallChange,
    Clock,
    Fault,
    Faults,
    HostClock,
    OtherProgram,
    Service,
    Simulation,
    SimulatorTransport,
    Variants,
    World,
)
from agora_analytics.simulator.server import serve, serve_hosts

pytestmark = pytest.mark.real_time

RESET = Fault("reset")


def simulated(**options: object) -> Simulation:
    return Simulation(**options)  # type: ignore[arg-type]  # wrong on purpose


def assigned(name: str, value: object) -> Callable[[], None]:
    return lambda: setattr(Simulation(), name, value)


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: Faults.outage(5, 1), "end=1 must be after start=5"),
    (lambda: Fault("htm"), "kind='htm': allowed are status, html, "),
    (lambda: Fault(5), "kind=5: allowed is one of status, html, "),
    (lambda: Fault("status", status=1), "status=1: allowed are 100 to 599"),
    (lambda: Fault("slow", seconds=-1), "seconds=-1: allowed are numbers from 0"),
    (lambda: Fault("busy", retry_after="5"), "retry_after='5': allowed is an int"),
    (lambda: Fault("date", date_off=timedelta(days=1)), "date_off=datetime.timedelta(days=1): allowed is a number"),
    (lambda: Fault("refusal", message=None), "message=None: allowed is a str"),
    (lambda: Variants(turning="x"), "turning='x': allowed are right, never, alternating"),
    (lambda: Variants(beyond="zzz"), "beyond='zzz': allowed are empty, refused, repeated, ended"),
    (lambda: Variants(success_code=404), "success_code=404: allowed are 200, 0 and None"),
    (lambda: Variants(shuffled_rows="no"), "shuffled_rows='no': allowed is True or False"),
    (lambda: Variants(late_windows=10), "late_windows=10: allowed are numbers from 0 to 1"),
    (lambda: Variants(max_rows=-1), "max_rows=-1: allowed are 0 or more"),
    (lambda: Variants(changes=CallChange("c")), "changes=<CallChange>: allowed is a list of CallChange, not one"),
    (lambda: Variants(changes=["c"]), "changes[0]='c': allowed is a CallChange"),
    (lambda: Variants(others=["c"]), "others[0]='c': allowed is a OtherProgram"),
    (lambda: CallChange("c", deleted=1), "deleted=1: allowed is True or False"),
    (lambda: CallChange(5), "call_id=5: allowed is a str"),
    (lambda: CallChange("c", 1_795_521_600_000), "at=1795521600000: allowed are UTC seconds, not milliseconds"),
    (lambda: OtherProgram(counter="realtime", share=2), "share=2: allowed are numbers from 0 to 1"),
    (lambda: OtherProgram(counter="realtime", start="now"), "start='now': allowed is a number"),
    (lambda: World(seed="x"), "seed='x': allowed is an int"),
    (lambda: World(web_share=30), "web_share=30: allowed are numbers from 0 to 1"),
    (lambda: World(typical_minutes=0), "typical_minutes=0: allowed are numbers above 0"),
    (lambda: Faults.script(RESET), "steps=<Fault>: allowed is a list of Fault or None, not one"),
    (lambda: Faults.script(["html"]), "steps[0]='html': allowed is a Fault"),
    (lambda: Faults.script([RESET], host="a"), "host='a': allowed is an int"),
    (lambda: Faults.script([RESET], endpoint="lists"), "endpoint='lists': allowed are call_freeze"),
    (lambda: Faults.chance(20, [RESET]), "rate=20: allowed are numbers from 0 to 1"),
    (lambda: Faults.chance(0.2, []), "faults=(): allowed is a list of at least one Fault"),
    (lambda: Faults.chance(0.2, RESET), "faults=<Fault>: allowed is a list of Fault, not one"),
    (lambda: Faults.outage("a", 5), "start='a': allowed is a number"),
    (lambda: Faults.outage(0, 5, "html"), "fault='html': allowed is a Fault"),
    (lambda: Faults.outage(1_795_521_600_000, 2**50), "start=1795521600000: allowed are UTC seconds, not milliseconds"),
    (lambda: Faults.always(None), "fault=None: allowed is a Fault"),
    (lambda: Faults.of_call(None), "call_id=None: allowed is a str"),
    (lambda: Faults.always(RESET).only(5), "endpoint=5: allowed is one of call_freeze"),
    (lambda: Faults.always(RESET).only(metrics="a"), "parameter='metrics': allowed are aggregateGranularity, appid"),
    (lambda: Faults.always(RESET) + RESET, "faults=<Fault>: allowed is a Faults"),
    (lambda: Faults(RESET), "rules=<Fault>: allowed is a list of rules, not one"),
    (lambda: simulated(clock="x"), "clock='x': allowed is UTC seconds, or a function that returns them"),
    (lambda: simulated(clock=1_795_521_600_000), "clock=1795521600000: allowed are UTC seconds, not milliseconds"),
    (lambda: simulated(plan="gold"), "plan='gold'"),
    (lambda: simulated(plan=""), "plan=''"),
    (lambda: simulated(world="x"), "world='x': allowed is a World"),
    (lambda: simulated(faults=RESET), "faults=<Fault>: allowed is a Faults"),
    (lambda: simulated(variants="rough"), "variants='rough': allowed is a Variants"),
    (lambda: simulated(service="x"), "service='x': allowed is a Service"),
    (
        lambda: simulated(variants=Variants(others=[OtherProgram(counter="realtim")])),
        "counter='realtim': the plan has call_lists",
    ),
    (assigned("faults", RESET), "faults=<Fault>: allowed is a Faults"),
    (assigned("variants", None), "variants=None: allowed is a Variants"),
    (lambda: setattr(Service(), "plan", "gold"), "plan='gold'"),
    (lambda: setattr(Service(), "world", None), "world=None: allowed is a World"),
    (lambda: Service(customer_id=5), "customer_id=5: allowed is a str"),
    (lambda: Service(log_size=-1), "log_size=-1: allowed are 0 or more"),
    (lambda: Service().spend("realtim"), "counter='realtim': the plan has"),
    (lambda: Service().spend("realtime", "all"), "requests='all': allowed is an int"),
    (lambda: Service().spent("realtim", "day"), "counter='realtim': allowed are call_lists"),
    (lambda: Service().spent("realtime", "hour"), "unit='hour': allowed are second, minute, day"),
    (lambda: Clock("x"), "clock='x': allowed is UTC seconds, or a function that returns them"),
    (lambda: Clock().suspend("1h"), "seconds='1h': allowed is a number"),
    (lambda: HostClock(5), "clock=5: allowed is a function that returns UTC seconds"),
    (lambda: HostClock(Clock(), float("nan")), "wrong=nan: allowed are finite numbers"),
    (lambda: setattr(Simulation().host_clock, "wrong", "x"), "wrong='x': allowed is a number"),
    (lambda: SimulatorTransport("x"), "service='x': allowed is a Service"),
    (lambda: Simulation().transport(hosts=0), "hosts=0: allowed are 1 or more"),
    (lambda: Simulation().transport(latency=3), "latency=3: allowed is a list of two numbers of seconds"),
    (lambda: Simulation().transport(latency=(1,)), "latency=(1,): allowed are two numbers of seconds"),
    (lambda: Simulation().transport(timeout=0), "timeout=0: allowed are numbers above 0"),
    (lambda: SimulatorTransport(Service(), skews=["x"]), "skews[0]='x': allowed is a number"),
    (lambda: World().calls(1_795_521_600_000, 1_795_521_660_000), "start=1795521600000: allowed are UTC seconds, not"),
    (lambda: World().calls_during("a", 5), "start='a': allowed is whole UTC seconds"),
    (lambda: World().incidents(0, 0.5), "end=0.5: allowed is whole UTC seconds"),
    (lambda: World().call(5), "call_id=5: allowed is a str"),
    (lambda: World().users("native", 0), "product='native': allowed are "),
    (lambda: World().users("Native", 0, "colour"), "dimension='colour': allowed are "),
    (lambda: World().channels("x", 0), "product='x': allowed are "),
    (lambda: World().rate("freeze", None, 0), "metric='freeze': allowed are joinSuccessRate, "),
    (lambda: World().rate("audioFreezeRate", "x", 0), "product='x': allowed are "),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message.split(":")[0] for _, message in WRONG])
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(make, message):
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(message)}"):
        make()


@pytest.mark.parametrize("kind", [Fault, Variants, World, CallChange, OtherProgram])
def test_every_setting_is_validated(kind):
    needed = {Fault: {"kind": "reset"}, CallChange: {"call_id": "c"}, OtherProgram: {"counter": "realtime"}}.get(
        kind, {}
    )
    for field in attrs.fields(kind):
        if field.init:
            with pytest.raises((ValueError, TypeError), match=rf"^{field.name}\b.*: allowed"):
                kind(**{**needed, field.name: object()})


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (lambda: serve("x"), "service='x': allowed is a Service"),
        (lambda: serve(Service(), port=70_000), "port=70000: allowed are 0 to 65535"),
        (lambda: serve_hosts(Service(), 0), "count=0: allowed are 1 to "),
        (lambda: serve(Service(), host=5), "host=5: allowed is a str"),
    ],
)
async def test_a_wrong_argument_of_a_server_is_named_with_its_value(start, message):
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(message)}"):
        async with start():
            pass
