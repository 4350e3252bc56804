"""Repeated messages are throttled, and a silent stream reports its state."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from agora_analytics.cli.output import Screen
from agora_analytics.cli.runner import run_command
from agora_analytics.cli.status_lines import heartbeat
from agora_analytics.cli.throttle import MessageThrottle
from agora_analytics.simulator import VirtualLoop
from agora_analytics.streams import Health


def messages(every: float, until: float) -> list[tuple[float, str]]:
    throttle = MessageThrottle()
    found = [(at, throttle.add("down", f"down at {at:.0f}", at)) for at in map(float, range(0, int(until), int(every)))]
    return [(at, line) for at, lines in found for line in lines]


def test_a_repeated_message_is_shown_once_and_then_counted():
    assert messages(10, 60) == [(0, "down at 0")]
    assert messages(10, 70)[1:] == [(60, "down at 60 (and 5 more like it in 1 m)")]


def test_the_interval_of_repeated_messages_doubles_up_to_an_hour():
    moments = [at for at, _ in messages(10, 4 * 3_600)]
    assert moments == [0, 60, 180, 420, 900, 1_860, 3_780, 7_380, 10_980]


def test_a_message_after_a_long_silence_is_shown_at_once():
    throttle = MessageThrottle()
    assert throttle.add("down", "a", 0) == ["a"]
    assert throttle.add("down", "b", 121) == ["b"]
    assert throttle.add("down", "c", 122) == []
    assert throttle.add("down", "d", 400) == ["c", "d"]


def test_kinds_are_throttled_separately_and_flush_shows_the_rest():
    throttle = MessageThrottle()
    assert throttle.add("down", "down", 0) == ["down"]
    assert throttle.add("up", "up", 1) == ["up"]
    assert throttle.add("down", "down again", 2) == []
    assert throttle.add("down", "still down", 3) == []
    assert throttle.flush() == ["still down (and 1 more like it in 3 s)"]


WARNS = """
import logging, sys
from agora_analytics.cli import runner

async def work():
    for number in range(4):
        logging.getLogger("agora_analytics.export").warning("attempt %d failed", number)

sys.exit(runner.run_command(work))
"""


@pytest.mark.process
def test_a_command_shows_a_warning_once_and_its_count_at_the_end():
    done = subprocess.run([sys.executable, "-c", WARNS], cwd=ROOT, capture_output=True, text=True, check=True)
    first, last = done.stderr.splitlines()
    assert first == "attempt 0 failed"
    assert last.startswith("attempt 3 failed (and 2 more like it in ")


class SilentStream:
    """A stream that has nothing but its health."""

    def __init__(self, health: Health) -> None:
        self.health = health


def stay_silent(health: Health, seconds: float, *, json: bool = False, usual: float = 0, events: int = 0) -> None:
    async def wait() -> None:
        async with heartbeat(SilentStream(health), Screen(json=json), usual) as beat:
            for _ in range(events + 1):
                await asyncio.sleep(seconds / (events + 1))
                beat()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(wait())


DOWN = Health(state="outage", since=1_795_521_600, failures=7, last_error="HTTP 503")


@pytest.mark.parametrize("json", [False, True])
def test_an_outage_is_reported_after_a_minute_and_at_doubling_intervals(capfd, json):
    stay_silent(DOWN, 59, json=json)
    assert capfd.readouterr().err == ""
    stay_silent(DOWN, 600, json=json)
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(" without")[0] for line in lines] == ["1 m", "3 m", "7 m"]
    assert lines[0].endswith("outage since 2026-11-24T12:00:00Z, 7 attempts failed")


def test_a_silent_healthy_stream_is_reported_without_json_only(capfd):
    stay_silent(Health(lag=70.0), 100)
    assert capfd.readouterr().err.endswith(" without an event: polling, read to 1 m 10 s ago\n")
    stay_silent(Health(lag=70.0), 100, json=True)
    stay_silent(Health(lag=70.0), 170, usual=180)
    stay_silent(Health(lag=70.0), 1_000, events=20)
    assert capfd.readouterr().err == ""


def test_an_error_inside_a_heartbeat_is_raised_unchanged():
    async def fail() -> None:
        async with heartbeat(SilentStream(Health()), Screen()):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(fail())


def test_a_terminal_that_cannot_redraw_gets_a_line_for_each_window(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    result = run("watch", "userCount", "--windows", "3", "--last", "5m")
    lines = result.out.splitlines()
    assert len(lines) == 3
    assert all("userCount Native" in line for line in lines)
    assert "\x1b" not in result.out


def test_repeated_warnings_of_one_account_hide_none_of_another(capfd, monkeypatch):
    # A command prints warnings only if no other handler takes them, as that of pytest does.
    monkeypatch.setattr(logging.getLogger("agora_analytics"), "propagate", False)

    async def work() -> None:
        for account in ("acme", "acme", "shop"):
            logging.getLogger("agora_analytics.fleet").warning("%s failed", account, extra={"throttle_kind": account})

    assert run_command(work) == 0
    assert capfd.readouterr().err.splitlines() == ["acme failed", "shop failed", "acme failed"]


def test_what_docket_repeats_while_its_store_is_away_is_counted_and_has_no_traceback(capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger("docket"), "propagate", False)

    async def work() -> None:
        for _ in range(9):
            logging.getLogger("docket.worker").warning("Redis is unavailable", exc_info=ConnectionError())

    assert run_command(work) == 0
    first, counted = capfd.readouterr().err.splitlines()
    assert first == "Redis is unavailable"
    assert counted.startswith("Redis is unavailable (and 7 more like it in ")
