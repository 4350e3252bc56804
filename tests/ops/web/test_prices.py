"""What costs requests: the price that GET says is what the quota then shows, once for all viewers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from urllib.parse import quote

import pytest
from helpers.streaming import BUSY, HOUR
from helpers.times import NOON
from helpers.web_server import site, until

from agora_analytics.models import Call
from agora_analytics.ops import LiveState, routes
from agora_analytics.ops.web.board import listed
from agora_analytics.ops.web.details import thinned
from agora_analytics.ops.web.loads import Load, Loader
from agora_analytics.ops.web.parts import DIMENSIONS, FREEZES
from agora_analytics.ops.web.usage import METER
from agora_analytics.plans import CALL_FREEZE
from agora_analytics.simulator import Fault, Faults, Simulation, World

pytestmark = pytest.mark.real_time

PARTS = [
    ("sessions", {}),
    ("timeline", {"metric": "video_freeze_rate"}),
    ("freeze", {"metric": "audio_freeze_rate"}),
    ("statistics", {"metric": "video_freeze_rate", "dimension": "net"}),
]


@pytest.fixture
def simulation():
    return Simulation(world=BUSY, plan="premium", clock=NOON)


@pytest.fixture
async def state(simulation):
    """A state that follows calls, with some that are over for long enough."""
    async with simulation.client() as client, LiveState(client, calls=True, back=timedelta(hours=1)) as found:
        await until(lambda: len(found.calls) > 10)
        yield found


def old_call(state) -> Call:
    return next(
        entry.call
        for entry in state.calls.sorted("worst")
        if entry.call.span and entry.call.span.end < NOON - 300 and (entry.call.call_pcu or 0) > 3
    )


async def used(state, counter: str) -> int:
    snapshot = await state.client.quota.snapshot()
    return next(one.used for one in snapshot if (one.counter, one.unit) == (counter, "day"))


async def post(here, path: str, **body) -> tuple[int, dict]:
    async with here.http.post(path, json=body) as response:
        return response.status, await response.json()


def path_of(call: Call, part: str = "") -> str:
    return f"/api/v1/calls/{quote(call.call_id)}" + (f"/{part}" if part else "")


@pytest.mark.parametrize(("part", "params"), PARTS, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_part_costs_what_was_said_and_nothing_the_second_time(state, part, params):
    call = old_call(state)
    async with site(routes(state)) as here:
        quote = await here.get(path_of(call, part), params=params)
        assert (quote["state"], quote["data"]) == ("available", None)
        price = quote["price"]
        assert price["counter"] == "call_details"
        assert price["text"] == f"{price['requests']} of {price['left']:,} requests of today"
        before = await used(state, "call_details")
        assert price["left"] == 2_000 - before
        status, answer = await post(here, path_of(call, part), price=price["requests"], **params)
        assert status == 200
        assert answer["spent"] == price["requests"] == await used(state, "call_details") - before == 1
        assert answer["data"]
        assert (answer["cached"], answer["shared"]) == (False, False)
        quote = await here.get(path_of(call, part), params=params)
        assert (quote["state"], quote["price"]["requests"], quote["data"]) == ("loaded", 0, answer["data"])
        status, again = await post(here, path_of(call, part), price=0, **params)
        assert (again["spent"], again["cached"], again["data"]) == (0, True, answer["data"])
        assert await used(state, "call_details") == before + 1


async def test_a_call_lists_the_prices_of_its_parts(state):
    call = old_call(state)
    async with site(routes(state)) as here:
        found = await here.get(path_of(call))
        assert found["entry"]["call"]["call_id"] == call.call_id
        assert [one["params"]["part"] for one in found["parts"]] == [
            "sessions", *["timeline"] * 5, *["freeze"] * 2, *["statistics"] * 2
        ]  # fmt: skip
        assert {one["state"] for one in found["parts"]} == {"available"}
        assert {one["price"]["requests"] for one in found["parts"]} == {1}
        assert await here.status("/api/v1/calls/none") == 404
        assert await here.status(path_of(call, "secrets")) == 404


async def test_the_sessions_and_their_metrics_are_those_of_the_world(state, simulation):
    call = old_call(state)
    async with site(routes(state)) as here:
        _, answer = await post(here, path_of(call, "sessions"), price=1)
        data = answer["data"]
        expected = [one for one in simulation.world.sessions(simulation.world.call(call.call_id)) if not one.server]
        assert {one["sid"] for one in data["sessions"]} == {one.sid for one in expected}
        assert (data["total"], data["pages"]) == (len(expected), 1)
        sids = [one["sid"] for one in data["sessions"][:2]]
        quote = await here.get(path_of(call, "metrics"), params={"sids": ",".join(sids)})
        assert quote["price"]["requests"] == 1
        _, answer = await post(here, path_of(call, "metrics"), sids=sids, price=1)
        assert [one["sid"] for one in answer["data"]["sessions"]] == sids
        track = answer["data"]["sessions"][0]["tracks"][0]
        assert {"mid", "name", "unit", "meaning", "peer_uid", "samples", "points"} == set(track)
        assert (await here.get(path_of(call, "metrics"), params={"sids": ",".join(sids)}))["state"] == "loaded"


async def test_many_sessions_have_pages_each_with_its_price():
    simulation = Simulation(world=World(seed=5, calls_per_hour=20, large_share=1.0), plan="premium", clock=NOON)
    async with simulation.client() as client, LiveState(client, back=timedelta(hours=1)) as state:
        await until(lambda: len(state.calls) > 5)
        call = old_call(state)
        async with site(routes(state)) as here:
            assert (await here.get(path_of(call, "sessions"), params={"page": 2}))["state"] == "unavailable"
            _, first = await post(here, path_of(call, "sessions"), price=1)
            pages = first["data"]["pages"]
            assert pages == -(-first["data"]["total"] // 100) > 1
            sids = {one["sid"] for one in first["data"]["sessions"]}
            for page in range(2, pages + 1):
                quote = await here.get(path_of(call, "sessions"), params={"page": page})
                assert quote["price"]["requests"] == 1
                _, answer = await post(here, path_of(call, "sessions"), page=page, price=1)
                sids |= {one["sid"] for one in answer["data"]["sessions"]}
            assert len(sids) == first["data"]["total"]
            assert (await here.get(path_of(call, "sessions"), params={"page": pages + 1}))["state"] == "unavailable"


@pytest.mark.slow
async def test_a_long_call_costs_a_request_for_each_slice():
    simulation = Simulation(world=World(seed=5, calls_per_hour=30, long_share=1.0), plan="premium", clock=NOON)
    async with simulation.client() as client, LiveState(client, back=timedelta(hours=14)) as state:
        await until(
            lambda: any(one.state == "finished" and one.call.call_pcu > 2 for one in state.calls.sorted("worst"))
        )
        call = next(one.call for one in state.calls.sorted("worst") if one.call.span and one.call.span.end < NOON - 300)
        slices = -(-call.span.duration // (3 * HOUR - 1))
        assert slices > 1
        async with site(routes(state)) as here:
            for part, params in PARTS[:2]:
                quote = await here.get(path_of(call, part), params=params)
                assert quote["price"]["requests"] in {slices, slices + 1}
                before = await used(state, "call_details")
                status, answer = await post(here, path_of(call, part), price=quote["price"]["requests"], **params)
                assert status == 200
                assert answer["spent"] == quote["price"]["requests"] == await used(state, "call_details") - before
            for part, params in PARTS[2:]:
                quote = await here.get(path_of(call, part), params=params)
                assert (quote["state"], quote["price"]["requests"]) == ("unavailable", 0)
                assert "longer than one request" in quote["reason"]
                status, answer = await post(here, path_of(call, part), price=1, **params)
                assert (status, answer["error"]["code"]) == (409, "unavailable")


async def test_another_price_than_was_shown_is_refused_and_nothing_is_spent(state):
    call = old_call(state)
    async with site(routes(state)) as here:
        before = await used(state, "call_details")
        for price in (None, 0, 2, -1, "1", True, 1.5, [1]):
            status, answer = await post(here, path_of(call, "sessions"), price=price)
            assert (status, answer["error"]["code"], answer["price"]["requests"]) == (409, "price", 1)
        assert await used(state, "call_details") == before


async def test_equal_loads_at_one_time_are_one_load(state, simulation):
    call = old_call(state)
    simulation.faults = Faults.always(Fault("slow", seconds=0.3))
    async with site(routes(state)) as here:
        before = await used(state, "call_details")
        answers = await asyncio.gather(*(post(here, path_of(call, "sessions"), price=1) for _ in range(20)))
        assert {status for status, _ in answers} == {200}
        assert [answer["shared"] for _, answer in answers].count(False) == 1
        assert {answer["spent"] for _, answer in answers} == {1}
        assert await used(state, "call_details") == before + 1


async def test_a_viewer_who_leaves_does_not_waste_the_load(state, simulation):
    call = old_call(state)
    simulation.faults = Faults.always(Fault("slow", seconds=0.3))
    async with site(routes(state)) as here:
        before = await used(state, "call_details")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await post(here, path_of(call, "sessions"), price=1)

        states = []
        while "loaded" not in states:
            await asyncio.sleep(0.05)
            states.append((await here.get(path_of(call, "sessions")))["state"])
        assert states[0] == "loading"
        assert await used(state, "call_details") == before + 1


@pytest.mark.parametrize(
    ("fault", "status", "code", "spent"),
    [(Fault("status", status=503), 502, "service", 1), (Fault("status", status=401), 502, "credentials", 1),
     (Fault("garbage"), 502, "service", 1), (Fault("busy", retry_after=3), 503, "rate_limited", 1),
     (Fault("reset"), 502, "service", 1)],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)  # fmt: skip
async def test_a_failed_load_says_why_spends_no_more_and_can_be_repeated(state, simulation, fault, status, code, spent):
    call = old_call(state)
    async with site(routes(state)) as here:
        simulation.faults = Faults.always(fault)
        got, answer = await post(here, path_of(call, "freeze"), metric="video_freeze_rate", price=1)
        assert (got, answer["error"]["code"], answer["spent"]) == (status, code, spent)
        assert answer["error"]["text"]
        assert simulation.service.customer_secret not in str(answer)
        assert simulation.app_id not in str(answer)
        simulation.faults = Faults()
        got, answer = await post(here, path_of(call, "freeze"), metric="video_freeze_rate", price=1)
        assert got in {200, 503}  # a gateway's refusal closes the counter for a moment


async def test_a_spent_day_is_an_error_that_says_when_to_come_back(state, simulation):
    call = old_call(state)
    async with site(routes(state)) as here:
        simulation.service.spend("call_details", 10_000)
        await post(here, path_of(call, "sessions"), price=1)
        async with here.http.post(path_of(call, "sessions"), json={"price": 1}) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > HOUR
            assert (await response.json())["error"]["code"] == "quota"


async def test_details_of_a_call_that_has_just_ended_say_when_they_come(state):
    call = Call(call_id="fresh", created_ts=NOON - 300, destroyed_ts=NOON - 30, finished=True)
    state.calls.add(listed(call, NOON))
    async with site(routes(state)) as here:
        quote = await here.get(path_of(call, "sessions"))
        assert quote["state"] == "unavailable"
        assert quote["available_at"] == NOON - 30 + 1 + 150 + 1
        status, answer = await post(here, path_of(call, "sessions"), price=1)
        assert (status, answer["available_at"]) == (409, quote["available_at"])


async def test_an_insight_costs_what_was_said(state):
    async with site(routes(state)) as here:
        end = NOON - 13 * HOUR
        before = await used(state, "insight_usage")
        for days, expected in ((13, 7), (7, 4), (3, 2)):
            params = {"metric": "userCount", "start": end - days * 86_400, "end": end}
            quote = await here.get("/api/v1/insights", params=params)
            assert quote["price"]["requests"] == expected
        assert await used(state, "insight_usage") == before
        status, answer = await post(here, "/api/v1/insights", price=2, **params)
        assert status == 200
        assert answer["spent"] == await used(state, "insight_usage") - before == 2
        assert len(answer["data"]["points"]) >= 3


async def test_every_kind_of_insight_can_be_loaded(state):
    wanted = [
        {"kind": "quality", "metric": "videoFreezeRate", "product": "Native", "granularity": "1h"},
        {"kind": "usage_total", "metric": "userCount", "dimension": "country"},
        {"kind": "quality_total", "metric": "networkDelay"},
    ]
    async with site(routes(state)) as here:
        for params in wanted:
            quote = await here.get("/api/v1/insights", params=params)
            given = {name: value for name, value in quote["params"].items() if value is not None}
            status, answer = await post(here, "/api/v1/insights", price=quote["price"]["requests"], **given)
            assert status == 200, answer
            assert answer["data"].get("points") or answer["data"]["totals"]
        for bad in ({"metric": "x"}, {"kind": "x"}, {"start": "1"}, {"granularity": "1m"}, {"end": str(NOON + 9)},
                    {"kind": "usage_total", "metric": "peakCurrentUsers", "dimension": "os"}):  # fmt: skip
            assert await here.status("/api/v1/insights", params=bad) == 400


async def test_a_search_costs_a_request_for_each_page_and_makes_the_calls_known(state):
    async with site(routes(state)) as here:
        params = {"start": NOON - 20 * HOUR, "end": NOON - 10 * HOUR}
        quote = await here.get("/api/v1/search", params=params)
        assert (quote["price"]["requests"], quote["price"]["counter"]) == (1, "call_lists")
        before = await used(state, "call_lists")
        status, answer = await post(here, "/api/v1/search", price=1, **params)
        assert (status, answer["spent"]) == (200, 1)
        assert await used(state, "call_lists") - before in {1, 2}  # the follow goes on meanwhile
        found = answer["data"]
        assert len(found["calls"]) == min(found["total"], 100)
        known = found["calls"][0]["call"]
        assert (await here.get(f"/api/v1/calls/{known['call_id']}"))["entry"]["call"] == known
        status, narrow = await post(here, "/api/v1/search", price=1, cname=known["cname"], **params)
        assert {one["call"]["cname"] for one in narrow["data"]["calls"]} == {known["cname"]}
        wide = {"start": NOON - 30 * HOUR, "end": NOON - HOUR}
        assert (await here.get("/api/v1/search", params=wide))["state"] == "unavailable"


@pytest.mark.parametrize(
    "params", [{}, {"sids": ""}, {"sids": ","}, {"sids": ",".join(map(str, range(21)))}, {"sids": "x" * 300},
            {"sids": "a", "start": "9" * 13}, {"sids": "a", "start": "1", "end": "2"}],
    ids=str,
)  # fmt: skip
async def test_invalid_parameters_of_metrics_are_refused(state, params):
    async with site(routes(state)) as here:
        assert await here.status(path_of(old_call(state), "metrics"), params=params) == 400


async def test_a_plan_without_insights_says_so():
    simulation = Simulation(world=BUSY, plan="standard", clock=NOON)
    async with simulation.client() as client, LiveState(client) as state, site(routes(state)) as here:
        quote = await here.get("/api/v1/insights")
        assert quote["state"] == "unavailable"
        assert "standard" in quote["reason"]


async def test_the_results_are_bounded_and_the_oldest_go_first(state):
    loader = Loader(state.client.plan, lambda: None, state.now, state.monitor.refresh)
    sizes = []
    for at in range(400):
        load = a_load(at, b"x" * 2**20)
        await loader.load(load, 1)
        sizes.append(loader._size)
    assert max(sizes) <= 32 * 2**20
    assert loader.cached(a_load(399, b"")) is not None
    assert loader.cached(a_load(0, b"")) is None


def a_load(number: int, data: bytes):
    async def fetch() -> bytes:
        return data

    return Load(params={"number": number}, title="", endpoint=CALL_FREEZE, requests=1, fetch=fetch)


async def test_loads_are_limited_and_end_with_the_server(state, simulation):
    simulation.faults = Faults.always(Fault("slow", seconds=30))
    call = old_call(state)
    async with site(routes(state)) as here:
        wanted = [{"metric": metric, "dimension": dimension} for metric in FREEZES for dimension in DIMENSIONS]
        tasks = [asyncio.create_task(post(here, path_of(call, "statistics"), price=1, **params)) for params in wanted]
        done, pending = await asyncio.wait(tasks, timeout=1)
        assert [task.result()[0] for task in done] == [503, 503]
        assert len(pending) == 16
        for task in pending:
            task.cancel()
    assert METER.get() is None


def test_thinning_keeps_the_peaks_and_the_order():
    points = [(at, float(at % 7)) for at in range(10_000)]
    points[5_000] = (5_000, 99.0)
    points[7_000] = (7_000, -9.0)
    thin = thinned(points, 100)
    assert len(thin) <= 100
    assert {(5_000, 99.0), (7_000, -9.0)} <= set(thin)
    assert thin == sorted(thin)
    assert thinned(points[:100], 100) == points[:100]


async def test_a_load_of_a_state_that_is_not_open_is_refused_and_spends_nothing(simulation):
    async with simulation.client() as client:
        state = LiveState(client, calls=True)
        async with site(routes(state)) as here:
            status, answer = await post(here, "/api/v1/search", price=1)
            assert (status, answer["error"]["code"]) == (503, "closed")
            assert "not open" in answer["error"]["text"]
            assert sum(simulation.service.counts.values()) == 0
            async with state:
                status, answer = await post(here, "/api/v1/search", price=1)
                assert (status, answer["spent"]) == (200, 1)
            assert (await post(here, "/api/v1/search", price=1))[0] == 503
