"""The types of the simulator; see `api.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_type

from agora_analytics.plans import CALL_LISTS
from agora_analytics.simulator import (
    CallChange,
    Clock,
    Fault,
    Faults,
    HostClock,
    OtherProgram,
    Service,
    Simulation,
    Variants,
    World,
)


def simulating(call_id: str) -> None:
    faults = Faults.of_call(call_id) + Faults.always(Fault("date", date_off=-3_600)).only(CALL_LISTS, cname="c", host=1)
    faults += Faults.script([None, Fault("refusal", code=1001, message="gone", status=404)], endpoint="call_sessions")
    assert_type(faults, Faults)
    others = (OtherProgram(counter="realtime", share=1 / 3, burst=3, start=0, end=1e10),)
    changes = [CallChange(call_id, 1.5, deleted=True), CallChange(call_id, endless=True), CallChange(call_id, moved=-9)]
    variants = Variants(shuffled_rows=True, vanishing_rows=0.1, date_ahead=-0.3, others=others, changes=changes)
    simulation = Simulation(world=World(), plan="premium", clock=1_700_000_000, faults=faults, variants=variants)
    simulation.variants = Variants(deleted_calls=0.1, endless_calls=0.1, moved_calls=0.1, moved_by=9, unknown_call=404)
    assert_type(simulation.clock, Clock)
    simulation.clock.suspend(60)
    assert_type(simulation.host_clock, HostClock)
    simulation.host_clock.wrong = -3_600
    simulation.service.clock = lambda: 0.0
    simulation.service.spend(CALL_LISTS, 480)
    assert_type(
        [simulation.service.changes(call) for call in simulation.world.calls(0, 1)], list[tuple[CallChange, ...]]
    )
    assert_type(Service(other_apps=["another"]).other_apps, Iterable[str])
    Simulation(Service(World(), "premium", clock=HostClock(Clock(), wrong=5)))
    Simulation(variants=Faults())  # type: ignore[arg-type]
    Fault("refuse")  # type: ignore[arg-type]
