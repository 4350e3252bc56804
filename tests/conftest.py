"""How the suite runs: with how many workers, which files first, and what no test may leave behind."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator

import pytest

LONG = (
    "test_places",
    "test_processes",
    "test_stream_policy",
    "test_others",
    "test_shared_databases",
    "test_follow_calls",
    "test_every_parameter",
    "test_export_accidents",
    "test_export",
    "test_shared_state",
    "test_lists_cut_off",
    "test_shared_by_processes",
    "test_begun_in_an_outage",
    "test_cli_warnings",
    "test_long_spans",
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
