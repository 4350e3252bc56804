"""The steps of the demo on virtual time, and on plans and projects with less to show."""

from __future__ import annotations

import asyncio
import json

import pytest

from agora_analytics import Plan
from agora_analytics.cli.commands.demo import Tour
from agora_analytics.cli.output import Screen
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World
from agora_analytics.spans import HOUR, WINDOW

NOON = 1_795_521_600
MIDNIGHT = 1_795_996_800


def run_tour(capsys, *, windows: int = 2, json_lines: bool = False, plan: str = "enterprise") -> str:
    async def tour() -> None:
        time = asyncio.get_running_loop().time
        simulation = Simulation(Service(World(seed=3), plan, clock=lambda: NOON + time()))
        async with simulation.client() as client:
            await Tour(client, Screen(json=json_lines)).show_realtime(windows)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(tour())
    return capsys.readouterr().out


@pytest.mark.parametrize(("plan", "series"), [("enterprise", 3), ("premium", 1)])
def test_new_windows_are_shown_in_order_with_as_many_series_as_the_plan_allows(capsys, plan, series):
    rows = [json.loads(line)["value"] for line in run_tour(capsys, json_lines=True, plan=plan).splitlines()]
    last_rows = rows[-2 * series :]
    assert len({row["series"] for row in rows}) == series
    assert all(row["value"] is not None for row in last_rows)
    first, second = sorted({row["ts"] for row in last_rows})
    assert second - first == WINDOW


def test_a_window_is_one_line_of_text(capsys):
    *_, first, second, end = run_tour(capsys).splitlines()
    assert end == ""
    for line in (first, second):
        assert all(f"{name} " in line for name in ("userCount Native", "audioFreezeRate Native", "userCount WebRTC"))


@pytest.mark.parametrize("hour", [pytest.param(0, id="a call with video"), pytest.param(18, id="one without")])
async def test_the_worst_call_has_something_to_show_in_each_step(capsys, hour):
    simulation = Simulation(world=World(seed=1), clock=MIDNIGHT + hour * HOUR)
    async with simulation.client() as client:
        await Tour(client, Screen()).show_calls()
    shown = capsys.readouterr().out
    assert ("users by audio_freeze_rate" in shown) == (hour == 18)
    assert "nothing found" not in shown


async def test_calls_too_long_for_one_request_are_counted_but_not_inspected(capsys):
    simulation = Simulation(Service(World(seed=3)))
    plan = Plan.of("enterprise").with_limits("call_details", longest=4)
    async with simulation.client(plan=plan) as client:
        await Tour(client, Screen()).show_calls()
    shown = capsys.readouterr().out.splitlines()
    assert "Searched the last 8 hours" in shown[0]
    assert shown[1:] == ["calls: nothing found"]
    assert simulation.service.counts["call_details"] == 0


def test_the_premium_plan_has_fewer_requests_than_the_demo_has_series():
    assert (Plan.of("premium").limits["realtime"].per_minute or 0) < 3 * 60 // WINDOW
