"""A simulated service on loopback, in a thread, and the command run in this process against it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from agora_analytics import Plan
from agora_analytics.cli.app import main
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, World
from agora_analytics.simulator.server import serve


class Served(NamedTuple):
    """A service and where it is."""

    service: Service
    url: str


class Ran(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output, read as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def patient() -> Plan:
    """The plan, as often as one likes: each command here counts for itself alone."""
    plan = Plan.of("enterprise")
    for table, limits in plan.limits.items():
        plan = plan.with_limits(table, **dict.fromkeys((f"per_{unit}" for unit in limits.rates), 100_000))
    return plan


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    loop, ready, over, urls = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), []
    service = Service(World(seed=3), patient())

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


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No settings of the machine's owner: not the environment's, not those in a file."""
    for name in ("CUSTOMER_ID", "CUSTOMER_SECRET", "APP_ID", "PLAN", "BASE_URL"):
        monkeypatch.delenv(f"AGORA_{name}", raising=False)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # Each command counts for itself: none waits for what another spent.
    monkeypatch.setenv("AGORA_LEDGER", ":memory:")
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def environment(served: Served) -> Mapping[str, str]:
    """The variables that reach the service."""
    return {
        "AGORA_CUSTOMER_ID": CUSTOMER_ID,
        "AGORA_CUSTOMER_SECRET": CUSTOMER_SECRET,
        "AGORA_APP_ID": APP_ID,
        "AGORA_PLAN": "enterprise",
        "AGORA_BASE_URL": served.url,
    }


@pytest.fixture
def bare(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command as it is, without settings."""

    def run(*arguments: str) -> Ran:
        code = main(arguments)
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture
def run(
    bare: Callable[..., Ran], environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Run the command with the service's settings in the environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return bare


@pytest.fixture
def call_id(run: Callable[..., Ran]) -> str:
    """A call of company, whose details can be asked, and in which somebody's video froze."""
    calls = run("calls", "search", "--last", "4h", "--json").lines
    over = [call for call in calls if call["finished"] and 300 < call["destroyed_ts"] - call["created_ts"] < 18_000]
    frozen = [call for call in over[5:] if call["call_video_freeze_rate"]]
    return str(max(frozen, key=lambda call: call["call_pcu"])["call_id"])
