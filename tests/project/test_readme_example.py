"""The example that README begins with, as it stands there, on an account whose newest call ended a second ago."""

from __future__ import annotations

import pytest
from helpers.pages import README, blocks_of
from helpers.streaming import HOUR, simulated

from agora_analytics import AnalyticsClient
from agora_analytics.simulator import World

BUSY = World(seed=7, calls_per_hour=600, typical_minutes=2)


@pytest.mark.parametrize("plan", ["standard", "premium", "enterprise"])
async def test_the_first_example_runs_on_a_busy_account(plan, monkeypatch, capsys):
    async with simulated(plan, world=BUSY).client() as client:
        listed = [call async for call in client.calls.search(*client.calls.recent(HOUR))]
    newest = max(call.destroyed_ts for call in listed if call.finished)
    simulation = simulated(plan, at=newest + 1, world=BUSY)
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls: simulation.client()))
    example = blocks_of(README)[0]
    assert "client.calls.sessions(call, wait=True)" in example
    for as_written, here in (
        ("asyncio.run(main())", ""),  # a loop runs already
        ("hours=8", "minutes=15"),
        ("> 0.05", "> -1"),  # every call is drilled into, the newest too
    ):
        assert as_written in example
        example = example.replace(as_written, here)
    names: dict = {}
    exec(compile(example, str(README), "exec"), names)  # noqa: S102 - it is ours
    await names["main"]()
    assert len(capsys.readouterr().out.splitlines()) > 50
    assert not simulation.service.refusals
