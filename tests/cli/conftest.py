"""A simulated service on loopback, in a thread, and functions that run the command against it in this process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agora_analytics import Plan
from agora_analytics.cli.app import main
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, World
from agora_analytics.simulator.server import serve


class Served(NamedTuple):
    """A service and its URL."""

    service: Service
    url: str


class Result(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Return the values of the JSON Lines on standard output."""
        return [json.loads(line) for line in self.out.splitlines()]


def plan_without_limits() -> Plan:
    """Return the enterprise plan with limits that are never reached: commands of these tests share no ledger."""
    plan = Plan.of("enterprise")
    for table, limits in plan.limits.items():
        plan = plan.with_limits(table, **dict.fromkeys((f"per_{unit}" for unit in limits.rates), 100_000))
    return plan


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    loop, ready, over, urls = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), []
    service = Service(World(seed=3), plan_without_limits())

    async def work() -> None:
        async with serve(service) as url:
            urls.append(url)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    assert ready.wait(60)
    yield Served(service, urls[0])
    loop.call_soon_threadsafe(over.set)
    thread.join(60)
    loop.close()


FLEET = f"""
store_env = "FLEET_STORE"
name = "europe"

[accounts.acme]
plan = "enterprise"
customer_id_env = "AGORA_CUSTOMER_ID"
customer_secret_env = "AGORA_CUSTOMER_SECRET"
base_url = "SERVICE"

[[accounts.acme.watch]]
name = "web"
app_id = "{APP_ID}"
series = ["userCount:Native"]
back = "10m"
"""


@pytest.fixture
def described(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The description of a fleet with one watch of the service, and a store in memory of its own."""
    monkeypatch.setenv("FLEET_STORE", f"memory://{tmp_path.name}")
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.replace("SERVICE", served.url))
    return path


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Remove the settings of the machine's user, those of the environment and those in files."""
    for name in ("CUSTOMER_ID", "CUSTOMER_SECRET", "APP_ID", "PLAN", "BASE_URL"):
        monkeypatch.delenv(f"AGORA_{name}", raising=False)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # Each command has its own ledger, so that none waits for the requests of another.
    monkeypatch.setenv("AGORA_LEDGER", ":memory:")
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def environment(served: Served) -> Mapping[str, str]:
    """Return the environment variables with the settings for the service."""
    return {
        "AGORA_CUSTOMER_ID": CUSTOMER_ID,
        "AGORA_CUSTOMER_SECRET": CUSTOMER_SECRET,
        "AGORA_APP_ID": APP_ID,
        "AGORA_PLAN": "enterprise",
        "AGORA_BASE_URL": served.url,
    }


@pytest.fixture
def bare(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Return a function that runs the command without any settings."""

    def run(*arguments: str) -> Result:
        code = main(arguments)
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def run(
    bare: Callable[..., Result], environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Return a function that runs the command with the settings for the service in the environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return bare


@pytest.fixture
def call_id(run: Callable[..., Result]) -> str:
    """Return the largest call of at most 30 users in which some video froze, of those that ended half an hour ago.

    Larger ones take many requests, and with them seconds of the plan's rate. Of newer ones not all details are there.
    """
    calls = run("calls", "search", "--last", "4h", "--json").lines
    lasted = [call for call in calls if call["finished"] and 300 < call["destroyed_ts"] - call["created_ts"] < 18_000]
    over = [call for call in lasted if call["destroyed_ts"] < time.time() - 1_800]
    frozen = [call for call in over if call["call_video_freeze_rate"] and call["call_pcu"] <= 30]
    return str(max(frozen, key=lambda call: call["call_pcu"])["call_id"])
