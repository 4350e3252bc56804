"""Set-up of all tests: the event loop, the order of files, shared fixtures, and checks after each test."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from helpers.times import NOON
from hypothesis import settings

from agora_analytics.protocols import WallClock
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World

# The same examples everywhere: a failure on one machine is a failure on all.
settings.register_profile("same", derandomize=True, database=None, deadline=None, max_examples=150)
settings.load_profile("same")

LONG = (
    "test_formats_and_sinks",
    "test_export_processes",
    "test_stream_errors",
    "test_shared_plan",
    "test_database_copies",
    "test_follow_isolation",
    "test_every_parameter",
    "test_export_recovery",
    "test_export",
    "test_remote_state",
    "test_truncated_lists",
    "test_ledger_processes",
    "test_start_in_outage",
    "test_cli_warnings",
    "test_export_retention",
    "test_quota_clock",
    "test_export_refusals",
    "test_cli_json",
    "test_cli_commands",
    "test_watch",
    "test_follow",
    "test_cli_signals",
)
"""The files that take longest, the longest first; the others follow as they are found."""


PROCESSES = frozenset({"apart", "s3", "served"})
"""Fixtures that start a process or a server, and those of their parameters that do."""


def starts_processes(item: pytest.Item) -> bool:
    """Whether a test does, by its fixtures."""
    given = getattr(getattr(item, "callspec", None), "params", {}).values()
    used = {*getattr(item, "fixturenames", ()), *(one for one in given if isinstance(one, str))}
    return not used.isdisjoint(PROCESSES)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what starts processes; put the long files first where workers share the files out in this order."""
    for item in items:
        if starts_processes(item):
            item.add_marker(pytest.mark.process)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what stays for good: looking through it takes 7 % of the time."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests on virtual time, and those with the mark `real_time` on a loop of the system."""
    if item.get_closest_marker("real_time"):
        return {"real": asyncio.new_event_loop}
    return {"virtual": VirtualLoop}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: many tests wait for processes of their own."""
    return -(-3 * (os.cpu_count() or 1) // 2)


def pytest_configure() -> None:
    """Hear Ctrl-C: a shell has it ignored by what it runs in the background, and they by their children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def handlers_of_log() -> list[logging.Handler]:
    """Those of the library's log, but for pytest's own: it looks into a log that hands nothing on."""
    handlers = logging.getLogger("agora_analytics").handlers
    return [one for one in handlers if not type(one).__module__.startswith("_pytest")]


@pytest.fixture(autouse=True)
def _log_is_left_as_it_was() -> Iterator[None]:
    """No test leaves a handler on the library's log: commands would take it for their caller's, and tell nothing."""
    before = handlers_of_log()
    yield
    assert handlers_of_log() == before


@pytest.fixture
async def clock() -> WallClock:
    """The wall clock of the event loop: starts at noon, 24 November 2026, UTC."""
    loop = asyncio.get_running_loop()
    return lambda: NOON + loop.time()


@pytest.fixture
async def simulation(clock: WallClock) -> Simulation:
    """A simulated service on the Premium plan."""
    return Simulation(Service(World(seed=7), "premium", clock=clock))
