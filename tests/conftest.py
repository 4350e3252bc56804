"""Setup of all tests: the event loop, the order of files, shared fixtures, and checks after each test."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import signal
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from helpers.browser import Tab, chromium, open_tab
from helpers.postgres_server import PgBouncer, PostgresServer
from helpers.redis_server import RedisServer
from helpers.times import NOON
from hypothesis import settings

from agora_analytics.protocols import WallClock
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World

# The same examples everywhere: a failure on one machine is a failure on all.
settings.register_profile("at depth", derandomize=True, database=None, deadline=None, max_examples=150)
settings.register_profile("brief", settings.get_profile("at depth"), max_examples=50)

SLOWEST = (
    "test_fleet_processes",
    "test_page_access",
    "test_store_processes",
    "test_export_processes",
    "test_cli_pages",
    "test_notebook",
    "test_page_troubles",
    "test_page",
    "test_sink_takeovers",
    "test_prometheus_rules",
    "test_formats_and_sinks",
    "test_page_hostile",
    "test_shared_checkpoints",
    "test_redis_outages",
    "test_fleet_clocks",
    "test_fleet_faults",
    "test_load_failures",
    "test_failover",
    "test_checkpoint_contract",
    "test_shared_ledger",
    "test_stream_errors",
    "test_shared_plan",
    "test_follow_isolation",
    "test_argument_types",
    "test_cli_help",
    "test_remote_state",
    "test_dlt_source",
    "test_export_rules",
    "test_cli_fleet_endings",
    "test_database_copies",
)
"""The slowest files, slowest first; the others follow in the order of collection."""


PROCESS_FIXTURES = frozenset({"subprocess_writer", "s3", "served", "redis", "postgres", "pgbouncer", "objects"})
"""Fixtures that start a process or a server, and parameters of fixtures that do."""


def starts_processes(item: pytest.Item) -> bool:
    """Whether one of the test's fixtures starts a process or a server."""
    params = getattr(getattr(item, "callspec", None), "params", {}).values()
    used = {*getattr(item, "fixturenames", ()), *(param for param in params if isinstance(param, str))}
    return not used.isdisjoint(PROCESS_FIXTURES)


def mark_slow_cases(items: list[pytest.Item]) -> None:
    """Mark the cases of a test with the mark `slow_except` as slow, but for those that it names."""
    found: defaultdict[str, list[bool]] = defaultdict(list)
    for item in items:
        if mark := item.get_closest_marker("slow_except"):
            is_quick = item.callspec.id in mark.args
            found[item.nodeid.partition("[")[0]].append(is_quick)
            if not is_quick:
                item.add_marker(pytest.mark.slow)
    # One case alone may have been selected by its ID.
    if stale := [test for test, quick in found.items() if len(quick) > 1 and not any(quick)]:
        raise pytest.UsageError(f"the mark slow_except names no case of {stale}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests that are slow or start processes; run slow files first where workers take the files in this order."""
    mark_slow_cases(items)
    for item in items:
        if starts_processes(item):
            item.add_marker(pytest.mark.process)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: SLOWEST.index(item.path.stem) if item.path.stem in SLOWEST else len(SLOWEST))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exclude the objects that exist by now from garbage collection: scanning them takes 7 % of the run time."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests on virtual time, and those marked `real_time` on a normal event loop."""
    if item.get_closest_marker("real_time"):
        return {"real": asyncio.new_event_loop}
    return {"virtual": VirtualLoop}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start three workers for two cores: many tests wait for processes that they started."""
    return -(-3 * (os.cpu_count() or 1) // 2)


MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of the user's own in it
ROOM = 2**31
"""Bytes that must be free in memory for the files of all tests; they need a tenth."""


def pytest_configure(config: pytest.Config) -> None:
    """Choose the number of examples; put files into memory; handle Ctrl-C, which background commands ignore.

    Exports, ledgers and checkpoints wait for the disk at each commit: that would take half of the time of their tests.
    """
    settings.load_profile("brief" if "not slow" in config.option.markexpr else "at depth")
    if MEMORY_DISK.is_dir() and os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def log_handlers() -> list[logging.Handler]:
    """Return the handlers of the library's logger, without pytest's: it adds one to loggers that do not propagate."""
    handlers = logging.getLogger("agora_analytics").handlers
    return [handler for handler in handlers if not type(handler).__module__.startswith("_pytest")]


@pytest.fixture(autouse=True)
def _no_log_handler_is_left() -> Iterator[None]:
    """Fail a test that leaves a handler on the library's logger: commands would leave all logging to it."""
    before = log_handlers()
    yield
    assert log_handlers() == before


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Fail a test that leaves a thread of the package running: a later test would find it, and be blamed for it."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("agora"):
            gc.collect()  # what was not closed ends with its last reference, and an error that was raised may hold one
            thread.join(10)
            assert not thread.is_alive(), f"the thread {thread.name!r} was left"


@pytest.fixture
async def clock() -> WallClock:
    """The wall clock of the event loop: it starts at noon, 24 November 2026, UTC."""
    loop = asyncio.get_running_loop()
    return lambda: NOON + loop.time()


@pytest.fixture
async def simulation(clock: WallClock) -> Simulation:
    """A simulated service on the Premium plan."""
    return Simulation(Service(World(seed=7), "premium", clock=clock))


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for all tests of a worker; each uses keys of its own."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests of a worker; each uses tables of its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before it."""
    with PgBouncer(postgres) as bouncer:
        yield bouncer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """A Chromium for all tests of a worker."""
    async with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Any) -> Callable[..., AbstractAsyncContextManager[Tab]]:
    """Return a function that opens a tab, such as `tab(color_scheme="dark")`."""
    return partial(open_tab, browser)
