"""The modules of the live page that are functions of their arguments alone: findings, formats, months, addresses."""

from __future__ import annotations

from typing import Any

import pytest_asyncio
from helpers.browser import IN_BROWSER
from helpers.streaming import BUSY
from helpers.times import NOON
from helpers.web_server import site

from agora_analytics.ops import LiveState, routes
from agora_analytics.simulator import Simulation

pytestmark = IN_BROWSER

CALL = {"call_id": "C", "created_ts": NOON, "destroyed_ts": NOON + 1_800, "finished": True}
VIDEO = 20011
UPLINK_LOSS = 20017
DASH = "\u2013"

SECONDS = "(ts) => new Date(ts * 1000).toISOString().slice(11, 19)"
WRITE = f"{{ second: {SECONDS}, minute: (ts) => ({SECONDS})(ts).slice(0, 5) }}"


@pytest_asyncio.fixture(loop_scope="session")
async def run(tab):
    """Run a script in a page whose address is the server's: `modules.NAME` are its modules."""
    async with (
        Simulation(world=BUSY, plan="enterprise", clock=NOON).client() as client,
        site(routes(LiveState(client, calls=False), token="not-used-in-this-test")) as here,
        tab() as viewer,
    ):
        await viewer.page.goto(f"http://127.0.0.1:{here.port}/login")
        names = ("findings", "format", "months", "router", "thresholds")
        loads = "".join(f'{name}: await import("./static/{name}.js"), ' for name in names)

        async def evaluate(script: str, argument: Any = None) -> Any:
            code = f"async (given) => {{ const modules = {{ {loads} }}; return ({script}); }}"
            return await viewer.page.evaluate(code, argument)

        yield evaluate


def session(number: int, **more: Any) -> dict[str, Any]:
    return {"sid": f"S{number}", "uid": number, "join_ts": NOON, "leave_ts": NOON + 1_800, "network": "WIFI", **more}


async def texts(run, **known: Any) -> list[str]:
    found = await run(f"modules.findings.find(given, {WRITE}).map((one) => one.text)", {"call": CALL, **known})
    return list(found)


async def test_a_loss_is_said_with_the_freezes_that_followed(run):
    loss = [[NOON + 120 + at, 12.0] for at in range(0, 60, 2)]
    frozen = [[NOON + at, 800.0 if at >= 180 else 0] for at in range(0, 300, 2)]
    tracks = {
        "S1": [{"mid": UPLINK_LOSS, "peer_uid": 0, "points": [[NOON, 1.0], *loss, [NOON + 200, 1.0]]}],
        **{f"S{n}": [{"mid": VIDEO, "peer_uid": 1, "points": frozen}] for n in (2, 3, 4)},
    }
    assert await texts(run, sessions=[session(n) for n in range(1, 5)], tracks=tracks) == [
        "User 1: uplink loss of the video 12 % from 12:02:00, before video froze at 12:03:00 for three receivers."
    ]


async def test_without_metrics_of_receivers_the_minutes_of_the_call_tell_what_followed(run):
    tracks = {"S1": [{"mid": UPLINK_LOSS, "peer_uid": 0, "points": [[NOON + at, 14.0] for at in range(0, 40, 2)]}]}
    timelines = {"video_freeze_rate": [[NOON + 60, 0.2]], "video_freeze_user_count": [[NOON + 60, 2]]}
    assert await texts(run, sessions=[session(1)], tracks=tracks, timelines=timelines) == [
        "User 1: uplink loss of the video 14 % from 12:00:00, before video froze at 12:01:00 for two users.",
        "Video froze 20 % at 12:01, for two users.",
    ]


async def test_short_or_small_losses_are_no_finding(run):
    short = [[NOON + at, 30.0] for at in (0, 2)]
    small = [[NOON + 100 + at, 4.9] for at in range(0, 200, 2)]
    assert await texts(run, tracks={"S1": [{"mid": UPLINK_LOSS, "peer_uid": 0, "points": short + small}]}) == []


async def test_minutes_in_a_row_above_the_limit_are_one_finding(run):
    rates = [0.01, 0.2, 0.3, 0.08, 0.05, None, 0.4, 0.0]
    timelines = {"video_freeze_rate": [[NOON + 60 * at, rate] for at, rate in enumerate(rates)]}
    assert await texts(run, timelines=timelines) == [
        "Video froze above the limit from 12:01 to 12:04, worst 30 % at 12:02.",
        "Video froze 40 % at 12:06.",
    ]


async def test_what_the_frozen_have_in_common_is_said(run):
    bad = [session(n, network="4G", user_video_freeze_rate=0.3) for n in (1, 2)]
    good = [session(n, user_video_freeze_rate=0.01) for n in (3, 4, 5)]
    assert await texts(run, sessions=[*bad, *good]) == [
        "2 of 5 sessions froze more than the limit, all on 4G; no other is."
    ]
    assert await texts(run, sessions=[*bad, *(one | {"network": "4G"} for one in good)]) == [
        "2 of 5 sessions froze more than the limit."
    ]


async def test_a_rate_of_the_whole_call_and_users_who_came_back_are_findings(run):
    call = CALL | {"call_video_freeze_rate": 0.12, "call_audio_freeze_rate": 0.03}
    assert await texts(run, call=call, sessions=[session(1), session(1) | {"sid": "S9"}, session(2)]) == [
        "Video froze for 12 % of the time over the whole call.",
        "User 1 joined twice: a reconnection, or a second device.",
    ]


async def test_numbers_are_written_with_their_units_whatever_they_are(run):
    script = "given.map(([name, ...values]) => modules.format[name](...values))"
    cases = {
        ("percent", 0.0004): "0.04 %",
        ("percent", 0.12): "12.0 %",
        ("percent", 1): "100 %",
        ("percent", 1e300): ">999 %",
        ("percent", None): DASH,
        ("quantity", 1_234, "min"): "1,234 min",
        ("quantity", 0.05, "fraction"): "5.0 %",
        ("count", 1_234_567): "1,234,567",
        ("count", 2**62): "4.6e+18",
        ("duration", 59.6): "1 min",
        ("duration", 3_900): "1 h 05 min",
        ("duration", 200_000): "2 d 7 h",
        ("clock", NOON): "12:00:00",
        ("clock", 1e300): DASH,
        ("moment", None): DASH,
        ("name", "a\u202eb"): "a\ufffdb",
        ("name", ""): "(no name)",
        ("words", "videoFreezeRate"): "Video freeze",
        ("words", "some_new_metric"): "some new metric",
    }
    assert dict(zip(cases, await run(script, [list(case) for case in cases]), strict=True)) == cases


async def test_months_sum_up_their_days_and_only_the_newest_is_projected(run):
    day = 86_400
    october = 1_793_404_800  # 31 October 2026
    points = [[october, 100], *[[october + day * at, 10] for at in range(1, 11)], [october + day * 11, None]]
    november, before = await run("modules.months.months(given)", points)
    assert (november["minutes"], november["known"], november["length"], november["projected"]) == (100, 10, 30, 300)
    assert (before["minutes"], before["known"], before["length"], before["projected"]) == (100, 1, 31, 100)


async def test_an_address_keeps_what_it_is_made_of(run):
    script = "modules.router.parse(modules.router.href('call', given.id, given.params))"
    given = {"id": "a/b?c#d é", "params": {"channel": "x&y=%2F", "peer": "7"}}
    assert await run(script, given) == {"view": "call", **given}
    assert await run("modules.router.parse('')") == {"view": "now", "id": "", "params": {}}
    assert await run("modules.router.parse('#/call/%E0%A4%A')") == {"view": "call", "id": "%E0%A4%A", "params": {}}


async def test_limits_tell_good_from_bad(run):
    script = "given.map(([metric, value]) => modules.thresholds.severity(metric, value))"
    cases = [
        ["videoFreezeRate", 0.05],
        ["videoFreezeRate", 0.051],
        ["videoFreezeRate", 0.11],
        ["joinSuccessIn5sRate", 0.96],
        ["joinSuccessIn5sRate", 0.93],
        ["joinSuccessIn5sRate", 0.5],
        ["userCount", 5],
        ["videoFreezeRate", None],
    ]
    assert await run(script, cases) == ["good", "warn", "bad", "good", "warn", "bad", None, None]
