"""How `fleet worker` ends, and what it says while its store is away."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time

import pytest
from helpers.paths import ROOT
from helpers.redis_server import RedisServer, free_port

pytest.importorskip("docket", reason="needs the extra fleet")
pytestmark = pytest.mark.real_time


@pytest.fixture
def described(described):
    """The fleet under a name of its own: all tests use one Redis."""
    described.write_text(described.read_text().replace("europe", secrets.token_hex(4)))
    return described


@pytest.fixture
def start(redis, environment):
    started: list[subprocess.Popen[bytes]] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start_process(*arguments: str, store: str = redis.url) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "agora_analytics.cli", "fleet", *arguments],
            env=os.environ | dict(environment) | {"PYTHONPATH": str(ROOT), "FLEET_STORE": store},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start_process
    signal.signal(signal.SIGINT, before)
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.process
@pytest.mark.slow
def test_a_worker_ends_when_nobody_reads_its_output(start, described):
    process = start("worker", str(described))
    assert json.loads(process.stdout.readline())["job"] == "acme.watch.web"
    process.stdout.close()
    assert process.wait(40) == 141
    assert b"Traceback" not in process.stderr.read()


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_for_its_store_ends_by_a_signal(start, described, number):
    process = start("worker", str(described), store=f"redis://127.0.0.1:{free_port()}/0")
    while b"is not there yet, waiting" not in (line := process.stderr.readline()):
        assert line
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert b"Traceback" not in process.stderr.read()


@pytest.mark.process
@pytest.mark.slow
def test_a_store_that_goes_away_is_a_few_lines(start, described, tmp_path):
    own = RedisServer(tmp_path)
    own.start("--requirepass", "geheim")
    process = start("worker", str(described), store=own.url.replace("//", "//:geheim@"))
    try:
        assert process.stdout.readline()
        own.kill()
        time.sleep(6)
        own.start("--requirepass", "geheim")
        time.sleep(6)
    finally:
        own.kill()
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 143
    said = process.stderr.read().decode()
    assert "the store cannot be used, jobs wait until it can: ConnectionError: Error 111 connecting" in said
    assert "the store can be used again" in said
    assert "Traceback" not in said
    assert "geheim" not in said
    assert len(said.splitlines()) < 20


@pytest.mark.process
@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_worker_at_once(start, described):
    process = start("worker", str(described))
    assert process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.2)  # longer than what counts as one
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
