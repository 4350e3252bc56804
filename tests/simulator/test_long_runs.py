"""A simulated service that runs for weeks."""

from __future__ import annotations

import gc

import pytest
from helpers.service_harness import Harness

from agora_analytics import plans
from agora_analytics.simulator import OtherProgram, Service, SimulatedCall, SimulatedSession, Variants, World

HOUR = 3_600
WORLD = World(seed=7, calls_per_hour=10)
VARIANTS = Variants(
    shuffled_rows=True,
    vanishing_rows=0.1,
    calls_overlap=True,
    deleted_calls=0.1,
    endless_calls=0.01,
    moved_calls=0.1,
    others=[OtherProgram(counter="realtime")],
)


def request_half_a_day_later(harness: Harness) -> None:
    """Advance the clock by twelve hours, and request a list of calls and windows by a dimension."""
    harness.clock.now += 12 * HOUR
    now = int(harness.clock.now)
    params = {"metric": "userCount", "productType": "Native", "startTs": now - 90, "endTs": now - 30}
    assert harness.get(plans.CALL_LISTS, start_ts=now - 12 * HOUR, end_ts=now - 30, page_size=100)["call_lists"]
    assert harness.get(plans.REALTIME_USAGE, dimension="os", **params)["code"] == 200


def objects_in_memory() -> int:
    """Return the number of simulated calls and sessions in memory."""
    return sum(type(one) in {SimulatedCall, SimulatedSession} for one in gc.get_objects())


@pytest.mark.slow
def test_a_service_that_runs_for_weeks_holds_no_more_than_a_few_days():
    harness = Harness()
    harness.service = Service(WORLD, harness.service.plan, clock=harness.clock, variants=VARIANTS)
    counts = []
    for _ in range(3):
        for _ in range(14 * 2):
            request_half_a_day_later(harness)
        gc.collect()
        counts.append(objects_in_memory())
    assert counts[0] > 1_000
    assert counts[2] - counts[1] < 1_000, counts
