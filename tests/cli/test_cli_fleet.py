"""`fleet check`, `worker`, `status` and `drain`: what is wrong is said in a line, and a closed pipe ends a worker."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading

import pytest
from helpers.paths import ROOT
from helpers.redis_server import free_port
from helpers.written_fleet import WrittenFleet

from agora_analytics import Gap, Span
from agora_analytics.cli.commands.fleet import _work
from agora_analytics.cli.options import OutputOptions
from agora_analytics.cli.output import Screen
from agora_analytics.fleet import Fleet
from agora_analytics.fleet.queue import WorkQueue

pytest.importorskip("docket", reason="needs the extra fleet")


@pytest.mark.real_time
@pytest.mark.parametrize("command", ["status", "drain"])
def test_a_store_that_is_away_is_an_error_of_one_line(run, described, monkeypatch, command):
    monkeypatch.setenv("FLEET_STORE", f"redis://user:geheim@127.0.0.1:{free_port()}/0")
    ran = run("fleet", command, str(described))
    assert ran.code == 1
    assert "cannot be used: ConnectionError: Error 111 connecting" in ran.err
    assert "Traceback" not in ran.err
    assert "geheim" not in ran.err


def test_a_drain_says_that_no_worker_runs(run, described):
    ran = run("fleet", "drain", str(described))
    assert (ran.code, ran.err) == (0, "no worker of the fleet europe runs\n")


@pytest.mark.real_time
def test_a_drain_says_which_workers_are_lost(run, described, redis, monkeypatch):
    monkeypatch.setenv("FLEET_STORE", redis.url)

    async def write_down() -> None:
        async with WorkQueue(redis.url, "europe").opened() as queue:
            written = WrittenFleet(queue, Fleet.from_file(described))
            await written.worker("host-1")
            await written.worker("host-2", seen=60)

    asyncio.run(write_down())
    ran = run("fleet", "drain", str(described))
    assert (ran.code, ran.err) == (0, "asked to hand over and end, usually within 20 seconds: host-1, host-2 (lost)\n")


def test_the_status_of_a_fleet_without_workers_says_that_nobody_has_its_jobs(run, described):
    ran = run("fleet", "status", str(described))
    assert ran.code == 0
    assert "1 job: 1 nobody" in ran.out


def test_a_check_finds_what_would_fail_later(run, described, monkeypatch):
    assert run("fleet", "check", str(described)).code == 0
    described.write_text(described.read_text().replace("userCount", "userCuont"))
    ran = run("fleet", "check", str(described), "--json")
    assert ran.code == 1
    (account,) = ran.lines[0]["accounts"]
    assert account["unknown"] == ["acme.watch.web: 'userCuont' is not in the catalogue: did you mean userCount?"]
    monkeypatch.delenv("FLEET_STORE")
    assert run("fleet", "check", str(described), "--json").lines[0]["missing"] == ["the secret $FLEET_STORE is not set"]


def test_a_check_blames_no_account_for_a_secret_of_the_store(run, described, monkeypatch):
    monkeypatch.delenv("FLEET_STORE")
    ran = run("fleet", "check", str(described))
    assert (ran.code, ran.err) == (1, "for all accounts: the secret $FLEET_STORE is not set\n")
    assert ["acme", "ok"] in [line.split()[:2] for line in ran.out.splitlines()]


def test_a_worker_with_a_name_that_is_not_allowed_ends_before_it_says_that_it_works(run, described):
    ran = run("fleet", "worker", str(described), "--name", "a/b")
    assert ran.code == 2
    assert ran.err.startswith("error: worker='a/b': allowed are ")
    assert "Ctrl-C" not in ran.err


@pytest.mark.real_time
async def test_a_slow_reader_does_not_hold_the_event_loop(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(Screen, "emit", lambda *_: released.wait(10))

    class OneEvent:
        name, has_sink, jobs = "europe", False, ()

        async def run_worker(self, show, **_: object) -> None:
            shown = asyncio.ensure_future(show("acme.watch.web", Gap(span=Span(0, 20), reason="outage")))
            await asyncio.sleep(0.1)
            assert not shown.done()
            released.set()
            await shown

    await _work(OutputOptions(), OneEvent(), "host-1", 1, 1)
    assert released.is_set()


@pytest.mark.process
@pytest.mark.real_time
@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error there")
def test_a_worker_whose_output_is_closed_hands_over_and_ends(described, environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "agora_analytics.cli", "fleet", "worker", str(described)],
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert json.loads(process.stdout.readline())["job"] == "acme.watch.web"
        process.stdout.close()
        assert process.wait(40) == 141
        assert "never retrieved" not in (said := process.stderr.read())
        assert "Traceback" not in said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
