"""The first example of README runs on an account whose newest call ended a second ago."""

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
        calls = [call async for call in client.calls.search(*client.calls.recent(HOUR))]
    newest = max(call.destroyed_ts for call in calls if call.finished)
    simulation = simulated(plan, at=newest + 1, world=BUSY)
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls: simulation.client()))
    example = blocks_of(README)[0]
    assert "client.calls.sessions(call, wait=True)" in example
    for written, replacement in (
        ("asyncio.run(main())", ""),  # a loop is running already
        ("hours=8", "minutes=15"),
        ("> 0.05", "> -1"),  # request the sessions of every call, the newest too
    ):
        assert written in example
        example = example.replace(written, replacement)
    names: dict = {}
    exec(compile(example, str(README), "exec"), names)  # noqa: S102 - our own README
    await names["main"]()
    assert len(capsys.readouterr().out.splitlines()) > 50
    assert not simulation.service.refusals
