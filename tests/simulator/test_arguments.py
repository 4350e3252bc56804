"""What the simulator is told wrongly is an error at once: a fault that never strikes would make a test of it pass."""

from __future__ import annotations

import pytest

from agora_analytics.simulator import Clock, Fault, Faults, Quirks, Service, Simulation, Spender


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Fault("htm"), "kind='htm': allowed are status, html"),  # type: ignore[arg-type]
        (lambda: Fault("html", status=20), "status=20: allowed are 100 to 999"),
        (lambda: Fault("slow", seconds=-1), "seconds=-1: allowed"),
        (lambda: Fault("busy", retry_after=-1), "retry_after=-1: allowed"),
        (lambda: Quirks(turning="x"), "turning='x': allowed are right, never, alternating"),  # type: ignore[arg-type]
        (lambda: Quirks(beyond="zzz"), "beyond='zzz': allowed are empty, refused"),  # type: ignore[arg-type]
        (lambda: Quirks(date="never"), "date='never': allowed are exact"),  # type: ignore[arg-type]
        (lambda: Quirks(late_calls=2), "late_calls=2: allowed are numbers from 0 to 1"),
        (lambda: Quirks(most_rows=0), "most_rows=0: allowed are 1 or more"),
        (lambda: Faults.chance(1.5), "rate=1.5: allowed are numbers from 0 to 1"),
        (lambda: Faults.chance(0.5, []), "faults=.*at least one"),
        (lambda: Spender(counter="realtime", share=2), "share"),
    ],
)
def test_a_value_that_is_not_known_is_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Fault("html", date_off="1"), "date_off='1': allowed is a number"),  # type: ignore[arg-type]
        (lambda: Quirks(calls_overlap="no"), "calls_overlap='no': allowed is True or False"),  # type: ignore[arg-type]
        (lambda: Quirks(others=Spender(counter="realtime")), "others=.*a list of Spender"),  # type: ignore[arg-type]
        (lambda: Quirks(changes=["x"]), r"changes\[0\]='x': allowed is a CallChange"),  # type: ignore[list-item]
        (lambda: Faults.script(Fault("html")), "steps=.*a list of faults, not one"),  # type: ignore[arg-type]
        (lambda: Faults.script(["html"]), r"steps\[0\]='html': allowed is a Fault"),  # type: ignore[list-item]
        (lambda: Faults.chance(0.5, Fault("html")), "faults=.*a list of Fault"),  # type: ignore[arg-type]
        (lambda: Faults.always("html"), "fault='html': allowed is a Fault"),  # type: ignore[arg-type]
        (lambda: Clock("x"), "clock='x': allowed is a number"),  # type: ignore[arg-type]
        (lambda: Simulation(clock="x"), "clock='x': allowed is a number"),  # type: ignore[arg-type]
        (lambda: Simulation(faults=[Fault("html")]), "faults=.*: allowed is a Faults"),  # type: ignore[arg-type]
        (lambda: Simulation(variants={}), "variants={}: allowed is a Quirks"),  # type: ignore[arg-type]
        (lambda: Service(quirks={}), "quirks={}: allowed is a Quirks"),  # type: ignore[arg-type]
        (lambda: Simulation(world=7), "world=7: allowed is a World"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_another_kind_is_told(make, words):
    with pytest.raises(TypeError, match=words):
        make()


def test_what_is_known_is_taken():
    assert Quirks.rough().date == "lazy"
    assert Quirks(date_ahead=-0.3, total_off=-5, success_code=None).date_ahead == -0.3
    assert Faults.script([None, Fault("html", date_off=-3_600)]).rules
