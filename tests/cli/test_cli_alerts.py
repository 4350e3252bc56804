"""`agora-analytics watch --alert` and `calls worst`, over a world with an incident."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from functools import partial

import pytest
from aiohttp import web
from helpers.times import NOON
from helpers.unlimited_rates import without_rate_limits

from agora_analytics import AnalyticsClient, Plan
from agora_analytics.cli import settings
from agora_analytics.ops.alerts import verify_signature
from agora_analytics.simulator import Service, World
from agora_analytics.simulator.server import serve

WORLD = World(seed=121, calls_per_hour=60)
"""Its only incident near noon is everywhere, from 12:13:01 to 12:43:29."""

RULE = "videoFreezeRate:WebRTC > 8% for 2 with 5 users"
FIRED = NOON + 820
SECRET = "s3cret-of-the-webhook"


@contextmanager
def in_thread(context):
    """Enter an asynchronous context in an event loop of another thread, and yield what it yields."""
    loop, ready, over, found = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), []

    async def work() -> None:
        async with context as value:
            found.append(value)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(60)
        loop.close()


@pytest.fixture(scope="module")
def clock():
    """A clock that is 65 minutes past noon."""
    ahead = NOON + 3_900 - time.time()
    return lambda: time.time() + ahead


@pytest.fixture(scope="module")
def incident(clock):
    """The URL of a service with that clock."""
    plan = without_rate_limits(Plan.of("enterprise"))
    with in_thread(serve(Service(WORLD, plan, clock=clock))) as url:
        yield url


@pytest.fixture
def watch(run, incident, clock, monkeypatch):
    monkeypatch.setenv("AGORA_BASE_URL", incident)
    # The host of the command has the clock too: on the machine's own, that noon is further away each day.
    monkeypatch.setattr(settings, "AnalyticsClient", partial(AnalyticsClient, clock=clock))
    # All that it needs is final: it ends at the newest window of a quarter to one.
    return lambda *arguments: run("watch", "--start", str(NOON + 600), "--windows", "120", *arguments)


class Hook:
    """Notes what it receives."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []

    async def __call__(self, request):
        self.requests.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response()

    async def __aenter__(self):
        self.runner = web.ServerRunner(web.Server(self), shutdown_timeout=0.01)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}/services/secretpath"

    async def __aexit__(self, *_):
        await self.runner.cleanup()


def worst_in_use() -> set[str]:
    """Calls of video that were in use when it fired, and froze: the truth."""
    return {
        call.call_id
        for call in WORLD.calls_during(FIRED - 20, FIRED + 20)
        if any((session.video_freeze or 0) > 0.05 for session in WORLD.sessions(call))
    }


def test_an_alert_names_the_calls_behind_it_in_json(watch):
    ran = watch("--alert", RULE, "--alert-link", "https://ops/{call_id}", "--json")
    found = [line["alert"] for line in ran.lines if line["event"] == "alert"]
    assert [(alert["kind"], alert["ts"] - NOON) for alert in found] == [("firing", 820), ("recovered", 2640)]
    first = found[0]["calls"][0]
    assert first["call_id"] in worst_in_use()
    assert first["link"] == f"https://ops/{first['call_id']}"
    assert first["worst_users"][0]["video_freeze_rate"] > 0.05
    windows = [line for line in ran.lines if line["event"] == "window"]
    assert len(windows) == 120
    assert set(windows[0]["values"]) == {"videoFreezeRate WebRTC", "userCount WebRTC"}


def test_an_alert_is_shown_to_people_with_the_command_that_lists_its_calls(watch, run):
    ran = watch("--alert", RULE)
    assert ran.code == 0
    assert "firing: videoFreezeRate WebRTC 27.12% at 2026-11-24T12:13:40Z, 53 users, 2 windows" in ran.out
    assert "recovered: videoFreezeRate WebRTC" in ran.out
    command = "calls worst --at 2026-11-24T12:13:40Z --metric videoFreezeRate"
    assert f"agora-analytics {command}" in ran.out
    listed = run(*command.split(), "--json").lines
    shown = ran.out.partition("\n1. ")[2]
    assert f"({listed[0]['call_id']})" in shown.partition("\n2. ")[0]


def test_alerts_go_to_a_file_and_a_signed_webhook_and_nothing_shows_its_secrets(watch, tmp_path, monkeypatch):
    hook = Hook()
    monkeypatch.setenv("AGORA_ALERT_SECRET", SECRET)
    with in_thread(hook) as url:
        monkeypatch.setenv("AGORA_ALERT_WEBHOOK", url)
        ran = watch("--alert", RULE, "--alert-log", str(tmp_path / "alerts.jsonl"), "--alert-requests", "0")
    written = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert [alert["kind"] for alert in written] == ["firing", "recovered"]
    assert [headers["webhook-id"] for headers, _ in hook.requests] == [alert["key"] for alert in written]
    assert all(verify_signature(SECRET, headers, body, now=time.time()) for headers, body in hook.requests)
    assert SECRET not in ran.out + ran.err
    assert "secretpath" not in ran.out + ran.err
    assert written[0]["calls"] == []


def test_a_webhook_that_is_not_there_ends_nothing_and_is_reported(watch, monkeypatch, caplog):
    monkeypatch.setattr("agora_analytics.cli.commands.alerts.CLOSE_TIMEOUT", 0.1)
    with in_thread(Hook()) as url:
        pass
    ran = watch("--alert", RULE, "--alert-webhook", url, "--alert-requests", "0")
    assert ran.code == 0
    assert "recovered: videoFreezeRate WebRTC" in ran.out
    assert "alerts not delivered when it was closed: 2" in caplog.text
    assert "secretpath" not in ran.err + caplog.text


def test_the_url_of_a_webhook_is_read_from_a_private_file(watch, tmp_path, monkeypatch):
    hook, file = Hook(), tmp_path / "hook"
    with in_thread(hook) as url:
        file.write_text(f"{url}\n")
        file.chmod(0o644)
        ran = watch("--alert", RULE, "--alert-webhook", f"@{file}", "--windows", "1")
        assert (ran.code, "others can read it" in ran.err) == (2, True)
        file.chmod(0o600)
        ran = watch("--alert", RULE, "--alert-webhook", f"@{file}", "--alert-requests", "0")
    assert ran.code == 0
    assert len(hook.requests) == 2
    assert "secretpath" not in ran.out + ran.err


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T0/B0/secretpathsecretpatH",
        "https://hooks.example.com/hook?key=secretpath",
        "https://user:secretpath@hooks.example.com/hook",
        "https://hooks.example.com/3f8e0c52-secretpath-1a2b/",
    ],
)
def test_a_url_that_may_hold_a_secret_is_refused_as_an_option_and_not_shown(watch, url):
    ran = watch("--alert", RULE, "--alert-webhook", url)
    assert (ran.code, ran.out) == (2, "")
    assert "AGORA_ALERT_WEBHOOK" in ran.err
    assert "secretpath" not in ran.err


def test_a_restart_with_a_checkpoint_repeats_no_alert(watch):
    kinds = []
    for windows in ("30", "20", "70"):
        ran = watch("--alert", RULE, "--checkpoint", "desk", "--json", "--windows", windows)
        kinds += [line["alert"]["kind"] for line in ran.lines if line["event"] == "alert"]
    assert kinds == ["firing", "recovered"]


def test_an_alert_stays_above_a_table_that_is_redrawn(watch, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    shown = watch("--alert", RULE, "--alert-requests", "0").out
    assert shown.count("firing: videoFreezeRate WebRTC") == 1
    assert shown.count("recovered: videoFreezeRate WebRTC") == 1


def test_a_watch_without_a_rule_needs_no_webhook(watch, monkeypatch):
    monkeypatch.setenv("AGORA_ALERT_WEBHOOK", "not a URL")
    assert watch("--windows", "1").code == 0
    assert watch("--windows", "1", "--alert", RULE).code == 2


def test_series_by_dimension_are_watched_and_not_plotted(watch):
    ran = watch("userCount:WebRTC", "--alert", "videoFreezeRate:WebRTC by country > 20%", "--windows", "60")
    assert ran.code == 0
    assert "videoFreezeRate WebRTC country=" in ran.out
    assert "  userCount WebRTC" in ran.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--alert", "videoFreezRate > 5%"),
            "at column 1 ('videoFreezRate'): 'videoFreezRate' is no known metric: did you",
        ),
        (("--alert", "videoFreezeRate > 5"), "did you mean 5%?"),
        (("--alert-log", "x"), "--alert-webhook and --alert-log need an --alert"),
        (("--alert", RULE, "--alert-webhook", "http://example.com/secretpath"), "https is needed"),
        (("--alert", RULE, "--alert-link", "https://x"), "allowed is a URL with {call_id} in it"),
    ],
)
def test_wrong_options_are_refused_and_say_what_is_allowed(watch, arguments, says):
    ran = watch(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "secretpath" not in ran.err


def test_the_worst_calls_of_the_newest_moment_are_listed_for_one_request(run):
    ran = run("calls", "worst", "--limit", "3")
    assert ran.code == 0
    assert "worst calls at " in ran.out
    assert "in use then had frozen" in ran.err
    assert "spent today: 1 of the day's" in ran.err


def test_the_newest_moment_is_the_services_also_if_the_hosts_clock_is_days_off(run, incident, monkeypatch):
    monkeypatch.setenv("AGORA_BASE_URL", incident)
    assert "worst calls at 2026-11-24 13:0" in run("calls", "worst", "--limit", "3").out
