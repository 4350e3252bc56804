"""`serve`: settings from flags, environment and file, what `--check` says, and a server that starts and stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from helpers.paths import ROOT

TOKEN = "correct-horse-battery-staple"
ANY = "0.0.0.0"  # noqa: S104 - only checked, never bound


@pytest.fixture
def config(tmp_path) -> Callable[..., str]:
    """Write a settings file that only its owner may read."""

    def write(text: str, mode: int = 0o600) -> str:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write


def checked(ran) -> dict:
    assert ran.code == 0, ran.err
    (line,) = ran.lines
    return line


def test_a_check_says_what_would_be_served_and_what_it_costs(run, served):
    before = sum(served.service.counts.values())
    found = checked(run("serve", "userCount:WebRTC", "videoFreezeRate", "--check", "--json"))
    assert found["url"] == "http://127.0.0.1:8766/"
    assert found["series"] == ["userCount WebRTC", "videoFreezeRate Native"]
    assert (found["token"], found["hosts"], found["list_requests"]) == (False, [], 1_440)
    assert found["realtime_requests"] == 1_440
    assert "2 requests every 120 s, of 1,440 a day" in found["coverage"]
    assert found["missing"] == []
    assert sum(served.service.counts.values()) == before


def test_a_check_needs_no_account_with_the_simulator(bare):
    ran = bare("serve", "--simulate", "--check")
    assert ran.code == 0
    assert "without a token" in ran.out
    assert "userCount Native country" in ran.out


def test_a_check_needs_no_credentials_and_names_those_that_are_missing(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("AGORA_PLAN", "premium")
    monkeypatch.setenv("AGORA_CUSTOMER_ID", "ab" * 16)
    monkeypatch.setenv("AGORA_LEDGER", str(tmp_path / "ledger.db"))
    found = checked(bare("serve", "--check", "--json"))
    assert found["missing"] == [
        "customer_secret (--secret-file, --secret-stdin or AGORA_CUSTOMER_SECRET)",
        "app_id (--app-id or AGORA_APP_ID)",
    ]
    assert found["realtime_requests"] > 0
    assert not (tmp_path / "ledger.db").exists()
    ran = bare("serve", "--check")
    assert "missing, and needed to serve: app_id (--app-id or AGORA_APP_ID)" in ran.out
    assert bare("serve").code == 2


def test_a_check_without_credentials_still_finds_what_is_wrong(bare, config, monkeypatch):
    ran = bare("serve", "--check")
    assert (ran.code, "settings are missing" in ran.err, "plan" in ran.err) == (2, True, True)
    monkeypatch.setenv("AGORA_PLAN", "premium")
    ran = bare("serve", "--check", "--config", config("base_url = 'x'\n"))
    assert (ran.code, "base_url" in ran.err) == (2, True)
    ran = bare("serve", "--check", "--allow-host", "https://x")
    assert (ran.code, "hosts" in ran.err) == (2, True)


def test_flags_come_before_the_environment_and_that_before_the_file(run, config, monkeypatch):
    path = config('[serve]\nport = 1\nhost = "127.0.0.2"\nseries = ["channelCount"]\nhosts = ["a.example"]\n')
    assert checked(run("serve", "--config", path, "--check", "--json"))["url"] == "http://127.0.0.2:1/"
    monkeypatch.setenv("AGORA_SERVE_PORT", "2")
    monkeypatch.setenv("AGORA_SERVE_HOSTS", "b.example, c.example")
    monkeypatch.setenv("AGORA_SERVE_SERIES", "userCount:WebRTC,userCount")
    found = checked(run("serve", "--config", path, "--check", "--json"))
    assert (found["url"], found["hosts"]) == ("http://127.0.0.2:2/", ["b.example", "c.example"])
    assert found["series"] == ["userCount WebRTC", "userCount Native"]
    found = checked(run("serve", "userCount", "--port", "3", "--config", path, "--check", "--json"))
    assert (found["url"], found["series"]) == ("http://127.0.0.2:3/", ["userCount Native"])


def test_rules_of_a_flag_or_the_file_are_checked_and_their_series_are_served(run, config):
    rule = "videoFreezeRate:WebRTC > 5% for 2"
    found = checked(run("serve", "userCount", "--alert", rule, "--check", "--json"))
    assert (found["alerts"], found["series"]) == ([rule], ["userCount Native", "videoFreezeRate WebRTC"])
    path = config(f'[serve]\nalerts = ["{rule}"]\n')
    assert checked(run("serve", "--config", path, "--check", "--json"))["alerts"] == [rule]
    ran = run("serve", "--alert", "videoFrezeRate > 5%", "--check")
    assert ran.code == 2
    assert "did you mean videoFreezeRate?" in ran.err


def test_the_address_of_a_check_can_be_opened(run):
    assert checked(run("serve", "--host", "::1", "--check", "--json"))["url"] == "http://[::1]:8766/"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serve]\nprot = 1\n", "did you mean port?"),
        ("[server]\nport = 1\n", "did you mean serve?"),
        ("plna = 'premium'\n", "did you mean plan?"),
        ("[serve]\nport = 'x'\n", "port must be a whole number"),
        ("[serve]\nport = true\n", "port must be a whole number"),
        ("[serve]\nport = 65536\n", "port must be a whole number"),
        ("[serve]\nseries = 'userCount'\n", "series must be a list"),
        ("[serve]\nsessions = 1\n", "sessions must be true or false"),
        ("serve = 1\n", "must be a table"),
        ("[serve]\nport =\n", "cannot be read"),
        ("[serve]\ntoken = 'short'\n", "16 or more"),
        ("[serve]\ntoken = 'x'\ntoken_file = 'y'\n", "one is enough"),
        ("[serve]\nhost = '0.0.0.0'\n", "viewers need a token"),
        ("[serve]\nhost = '10.0.0.1'\n", "--token-file"),
        ("[serve]\nseries = ['userCuont']\n", "did you mean userCount?"),
    ],
)
def test_a_wrong_setting_is_named(run, config, text, message):
    ran = run("serve", "--check", "--config", config(text))
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


@pytest.mark.parametrize(("name", "value"), [("PORT", "eighty"), ("SESSIONS", "maybe"), ("TOKEN", "short")])
def test_a_wrong_variable_is_named_without_its_value(run, monkeypatch, name, value):
    monkeypatch.setenv(f"AGORA_SERVE_{name}", value)
    ran = run("serve", "--check")
    assert ran.code == 2
    assert name.lower() in ran.err
    assert value not in ran.err


def test_a_token_is_read_from_a_private_file_and_never_shown(run, config, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    secret.chmod(0o644)
    ran = run("serve", "--host", ANY, "--token-file", str(secret), "--check")
    assert ran.code == 2
    assert "others can read it" in ran.err
    secret.chmod(0o600)
    for arguments in (("--token-file", str(secret)), ("--config", config("[serve]\ntoken_file = 'token'\n"))):
        ran = run("serve", "--host", ANY, *arguments, "--check")
        assert ran.code == 0, ran.err
        assert TOKEN not in ran.out + ran.err
    path = config(f"[serve]\ntoken = '{TOKEN}'\n", 0o644)
    assert "others can read it" in run("serve", "--config", path, "--check").err


def test_the_other_commands_accept_the_table_of_serve(run, config):
    assert run("quota", "--config", config("[serve]\nport = 1\n")).code == 0


def test_more_series_than_the_plan_carries_are_refused(run, monkeypatch):
    monkeypatch.setenv("AGORA_PLAN", "premium")
    series = [f"{metric}:{product}" for product in ("Native", "WebRTC") for metric in (
        "userCount", "channelCount", "videoFreezeRate", "audioFreezeRate", "networkDelay", "joinSuccessRate",
        "joinSuccessIn5sRate")]  # fmt: skip
    ran = run("serve", *series, "--check")
    assert ran.code == 2
    assert "take fewer" in ran.err
    assert run("serve", *series, "--check", "--gaps").code == 0


@pytest.fixture
def start(environment) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def begin(*arguments: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "agora_analytics.cli", "serve", "--port", "0", "--json", *arguments],
            env=os.environ | dict(environment) | {"PYTHONPATH": str(ROOT)} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def get(url: str, **headers: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def until(url: str, check: Callable[[dict], object]) -> dict:
    """Return the answer of a probe once it is as it should be."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        _, found = get(url)
        if check(found):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


@pytest.mark.slow_except("SIGTERM")
@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.skipif(os.name == "nt", reason="processes are ended in another way here")
def test_it_serves_until_a_signal_and_stops_at_once(start, tmp_path, number):
    process = start("userCount", "--checkpoint", "page")
    url = json.loads(process.stdout.readline())["url"]
    until(f"{url}readyz", lambda found: found["ready"])
    with urllib.request.urlopen(f"{url}api/v1/events") as events:
        assert events.readline() == b"retry: 2000\n"
        begun = time.monotonic()
        process.send_signal(number)
        code = process.wait(30)
        assert time.monotonic() - begun < 5
    assert code == 128 + number
    assert process.stderr.read() == ""
    assert {path.name for path in (tmp_path / "agora-analytics" / "checkpoints").glob("*.json")} == {
        "page-calls.json",
        "page-windows.json",
    }


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="processes are ended in another way here")
def test_a_wrong_secret_is_shown_and_the_server_goes_on(start):
    process = start("userCount", AGORA_CUSTOMER_SECRET="0" * 32, AGORA_SERVE_TOKEN=TOKEN)
    url = json.loads(process.stdout.readline())["url"]
    until(f"{url}readyz", lambda found: found["status"] == "degraded")
    assert get(f"{url}healthz")[0] == 200
    assert get(f"{url}api/v1/status")[0] == 401
    status, found = get(f"{url}api/v1/status", Authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert {reason["code"] for reason in found["probe"]["reasons"]} >= {"windows", "calls"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert "0" * 32 not in str(found)


@pytest.mark.slow
@pytest.mark.process
def test_a_port_in_use_is_an_error(start, run):
    process = start("userCount")
    url = json.loads(process.stdout.readline())["url"]
    ran = run("serve", "userCount", "--port", url.rstrip("/").rpartition(":")[2])
    assert ran.code == 1
    assert "is in use" in ran.err
