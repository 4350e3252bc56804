"""Shell completion, proxies, ports, closed pipes, and the secret."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from agora_analytics.cli import parsing
from agora_analytics.simulator import CUSTOMER_SECRET


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("calls ", {"search", "sessions", "metrics", "statistics", "freeze", "timeline"}),
        ("calls timeline --metric user", {"user_count"}),
        ("insights quality --metric net", {"networkDelay"}),
        ("realtime usage --product W", {"WebRTC"}),
        ("plans ", {"starter", "standard", "premium", "enterprise"}),
        ("calls search --plan pre", {"premium"}),
        ("simulate --plan st", {"starter", "standard"}),
        ("metrics re", {"realtime_usage"}),
        ("calls sessions --sort ", {"joined", "stayed", "audio", "video", "worst"}),
        ("insights usage-total --dimension co", {"country"}),
        ("watch networkDelay", {"networkDelay:Native", "networkDelay:WebRTC"}),
        ("export --datasets calls,se", {"calls,sessions"}),
        ("export --statistics video_freeze_rate:o", {"video_freeze_rate:os"}),
        ("realtime quality-top --extra-metrics u", {"userCount"}),
    ],
)
def test_commands_and_names_are_completed(bare, monkeypatch, typed, offered):
    words = f"agora-analytics {typed}"
    monkeypatch.setenv("_AGORA_ANALYTICS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    result = bare()
    assert result.code == 0
    assert offered <= set(result.out.split())
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["watch", "us"], ["userCount:Native", "userCount:WebRTC"]),
        (["watch", "userCount", ":"], ["Native", "WebRTC"]),
        (["watch", "userCount", ":", "W"], ["WebRTC"]),
        (["watch", "userCount", ":", "Native", "channelCount", ":", "N"], ["Native"]),
        (["watch", "userCount:W"], ["userCount:WebRTC"]),  # if COMP_WORDBREAKS has no colon
        (["export", "data", "--statistics", "audio_freeze_rate", ":", "co"], ["country"]),
        (["export", "--statistics", "audio_freeze_rate", ":", "os,video_freeze_rate", ":", "o"], ["os"]),
        (["export", "--statistics", "audio_freeze_rate", ":", "os,vi", "after the cursor"], None),
        (["export", "--series", "userCount", ":", "N"], ["Native"]),
        (["export", "--insights", "userCount", "::", "1h,channelC"], ["1h,channelCount"]),
        (["plans", ":", "pre"], []),
    ],
    ids=str,
)
def test_values_with_colons_are_completed_in_bash(bare, monkeypatch, words, offered):
    """Bash splits such a value at its colons, and replaces only the part after the last one."""
    current = len(words)
    if offered is None:
        current, offered = current - 1, [f"os,video_freeze_rate:{one}" for one in parsing.names_of("dimension")]
    monkeypatch.setenv("_AGORA_ANALYTICS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(["agora-analytics", *words]))
    monkeypatch.setenv("COMP_CWORD", str(current))
    assert bare().out.split() == offered


def test_after_a_colon_and_a_space_a_new_word_is_completed(bare, monkeypatch):
    monkeypatch.setenv("_AGORA_ANALYTICS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "agora-analytics\nwatch\nuserCount\n:\n")
    monkeypatch.setenv("COMP_CWORD", "4")
    assert bare().out.splitlines() == parsing.series_names()


@pytest.mark.parametrize("before", [None, "internal.example"])
def test_the_demo_bypasses_the_proxy_and_restores_the_environment(bare, monkeypatch, before):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        if before:
            monkeypatch.setenv(name, before)
    assert bare("demo", "--windows", "0", "--json").code == 0
    assert (os.environ.get("no_proxy"), os.environ.get("NO_PROXY")) == (before, before)


def test_a_port_in_use_is_reported_in_one_line(bare):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = bare("simulate", "--port", port)
    assert (result.code, result.out) == (1, "")
    assert len(result.err.splitlines()) == 1
    assert port in result.err


def start_piped(environment, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "agora_analytics.cli", *arguments],
        env=os.environ | dict(environment) | {"PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow_except("arguments0", "arguments3")
@pytest.mark.parametrize(
    "arguments", [("metrics",), ("plans", "--json"), ("--help",), ("simulate", "--port", "0", "--json")]
)
@pytest.mark.process
def test_a_broken_pipe_ends_the_command_silently(environment, arguments):
    reading, writing = os.pipe()
    os.close(reading)  # before the command starts, or the pipe's buffer would accept a short output
    with start_piped(environment, *arguments, stdout=writing) as process:
        os.close(writing)
        stderr = process.stderr.read()
        assert process.wait(20) == 141
    assert stderr == b""


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("plans >&-", 0, ""),
        ("plans >&- 2>&-", 0, ""),
        ("plans 2>&- >/dev/null", 0, ""),
        ("quota 2>&- >/dev/null", 0, ""),
        ("quota 2>/dev/full >/dev/null", 0, ""),
        ("no-such-command 2>&-", 2, ""),
        ("--version >&-", 0, ""),
        ("--version >/dev/full", 1, "error: [Errno 28] No space left on device\n"),
        ("--help >/dev/full", 1, "error: [Errno 28] No space left on device\n"),
        ("plans >/dev/full", 1, "error: [Errno 28] No space left on device\n"),
    ],
)
@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_stream_that_is_closed_or_full_changes_nothing_else(environment, command, code, message):
    ran = subprocess.run(
        ["/bin/sh", "-c", f"exec '{sys.executable}' -m agora_analytics.cli {command}"],
        env=os.environ | dict(environment) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr.decode()) == (code, message)


@pytest.mark.process
def test_the_simulator_prints_its_settings_as_json(environment):
    with start_piped(environment, "simulate", "--port", "0", "--json") as process:
        access = json.loads(process.stdout.readline())
        process.terminate()
    assert access.keys() == {"base_url", "customer_id", "customer_secret", "app_id", "plan"}
    assert access["base_url"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize(
    "arguments",
    [
        ("calls", "search", "--last", "1h"),
        ("insights", "usage", "--last", "2d"),
        ("realtime", "usage", "--last", "5m"),
        ("quota",),
        ("calls", "sessions", "no-such-call"),
    ],
    ids=" ".join,
)
def test_the_secret_is_never_printed(run, arguments, form):
    result = run(*arguments, *form)
    assert CUSTOMER_SECRET not in result.out + result.err


WARNS = """
import logging, sys
from agora_analytics.cli import runner

async def work():
    logging.getLogger("agora_analytics.streams").warning("the error: %s", "HTTP 503: \\x1b[31mred\\nand more")

sys.exit(runner.run_command(work))
"""


@pytest.mark.process
def test_warnings_are_printed_without_control_characters():
    done = subprocess.run([sys.executable, "-c", WARNS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "the error: HTTP 503:  [31mred and more\n"
