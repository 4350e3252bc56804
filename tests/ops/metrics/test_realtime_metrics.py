"""Real-time values in a scrape: those of the newest final window, few for each dimension, whatever the service says."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from helpers.many_values import ManyValues
from helpers.scraping import OPENMETRICS, scrape
from helpers.streaming import CHANNELS, FREEZES, HOUR, NETWORKS, NOON, USERS, consuming, latest_values, simulated

from agora_analytics import Series
from agora_analytics.catalogue import QualityMetric, RealtimeUsageMetric
from agora_analytics.ops import Collector
from agora_analytics.simulator import Faults

APP = {"apps": {"simulated-app-id-0123456789abcdef": "shop"}}
NAMES = {
    "userCount": "agora_realtime_users",
    "channelCount": "agora_realtime_channels",
    "joinSuccessRate": "agora_realtime_join_success_ratio",
    "joinSuccessIn5sRate": "agora_realtime_join_success_in_5s_ratio",
    "audioFreezeRate": "agora_realtime_audio_freeze_ratio",
    "videoFreezeRate": "agora_realtime_video_freeze_ratio",
    "networkDelay": "agora_realtime_network_delay_ratio",
}
USERS_BY_COUNTRY = Series("userCount", product="Native", dimension="country")
FREEZES_BY_COUNTRY = Series("videoFreezeRate", product="Native", dimension="country")


async def scraped(seen, series: Series) -> tuple[int | None, dict[str | None, float]]:
    """Return the window and the values that a scrape has for a series."""
    labels = {"app": "shop", "product": series.product}
    name = NAMES.get(series.metric, "agora_realtime_value")
    if series.metric not in NAMES:
        labels["metric"] = series.metric
    window_labels = labels | {"metric": series.metric}
    if series.dimension:
        by = {"dimension": series.dimension}
        window = seen.value("agora_realtime_window_timestamp_seconds", **window_labels, **by)
        return window, seen.by(name, "value", **labels, **by)
    value = seen.value(name, **labels)
    window = seen.value("agora_realtime_window_timestamp_seconds", **window_labels)
    return window, {} if value is None else {None: value}


def test_every_metric_of_the_catalogue_has_a_name():
    assert {*RealtimeUsageMetric, *QualityMetric} == set(NAMES)


@pytest.mark.slow_except("{}")
@pytest.mark.parametrize("options", [{}, {"only_final": True}, {"revisions": False}], ids=str)
async def test_values_are_those_of_the_newest_final_window_after_revisions_and_outages(options):
    simulation = simulated(
        "enterprise",
        faults=Faults.outage(NOON + 1_500, NOON + 2_700),
        late_windows=0.2,
        revised_windows=0.3,
        late_by=200,
    )
    series = (USERS, CHANNELS, NETWORKS, FREEZES)
    seen = []
    async with simulation.client() as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(*series, start=timedelta(minutes=20), **options)
        collector.watch(watch)
        async with consuming(watch) as events:
            for _ in range(24):
                await asyncio.sleep(297)
                found = await scrape(collector)
                seen += [(simulation.clock(), one, *(await scraped(found, one))) for one in series]
            table = latest_values(events)
    shown = [(now, one, window, values) for now, one, window, values in seen if window is not None]
    assert len(shown) > 80
    for now, one, window, values in shown:
        # Nothing that was shown was revised later, and nothing final was held back for long outside of the outage.
        assert values == table.get((int(window), one), {})
        assert NOON + 1_500 < now < NOON + 3_300 or now - window < 500


async def test_a_series_without_data_in_the_newest_window_disappears_and_its_window_does_not():
    simulation, values = simulated("enterprise"), {"CN": 5.0}
    async with simulation.client(transport=ManyValues(simulation.transport(), lambda _: values)) as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(USERS, USERS_BY_COUNTRY)
        collector.watch(watch)
        async with consuming(watch):
            await asyncio.sleep(1_200)
            assert (await scraped(await scrape(collector), USERS_BY_COUNTRY))[1] == {"CN": 5}
            values.clear()
            await asyncio.sleep(1_200)
            found = await scrape(collector)
            window, counted = await scraped(found, USERS)
            assert counted
            assert await scraped(found, USERS_BY_COUNTRY) == (window, {})


async def test_a_query_that_fails_holds_back_its_own_series_alone():
    faults = Faults.outage(NOON + 1_200, NOON + 3 * HOUR).only(productType="WebRTC")
    simulation = simulated("enterprise", faults=faults)
    web = Series("userCount", product="WebRTC")
    async with simulation.client() as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(USERS, web)
        collector.watch(watch)
        async with consuming(watch):
            await asyncio.sleep(2 * HOUR)
            found = await scrape(collector)
            assert simulation.clock() - (await scraped(found, USERS))[0] < 700
            assert (await scraped(found, web))[0] < NOON + 1_200
            await asyncio.sleep(NOON + 3 * HOUR + 200 - simulation.clock())
            window, values = await scraped(await scrape(collector), web)
            assert values  # of a window that was delivered without them, and revised
            assert simulation.clock() - window < 700


async def test_a_channel_is_shown_only_if_wanted_and_a_user_never():
    simulation = simulated("enterprise")
    async with simulation.client() as client:
        calls = [call async for call in client.calls.search(*client.calls.recent(timedelta(hours=1)))]
        cname = next(call.cname for call in calls if not call.is_over)
        channel = Series("userCount", product="Native", cname=cname)
        user = Series("videoFreezeRate", product="Native", cname=cname, uids=(1, 2))
        plain, wanted = Collector(client, **APP), Collector(client, **APP, channels=True)
        watch = client.realtime.watch(USERS, channel, user, start=timedelta(minutes=20))
        plain.watch(watch)
        wanted.watch(watch)
        async with consuming(watch):
            await asyncio.sleep(60)
            body, _ = await plain.render()
            assert cname.encode() not in body
            assert b"channel=" not in body
            assert b"video_freeze" not in body
            shown = (await scrape(wanted)).by("agora_realtime_users", "channel")
            assert set(shown) <= {cname}
            assert f'channel="{cname}"' in (await wanted.render())[0].decode()


async def test_of_what_two_watches_have_the_newest_is_shown_once():
    async with simulated("enterprise").client() as client:
        collector = Collector(client, **APP)
        selected = Series("userCount", product="Native", dimension="net", dimension_values=("WIFI",))
        first, second = client.realtime.watch(NETWORKS), client.realtime.watch(NETWORKS, selected, final_after=0)
        collector.watch(first, name="first")
        collector.watch(second, name="second")
        async with consuming(first), consuming(second):
            await asyncio.sleep(1_200)
            window, _ = await scraped(await scrape(collector), NETWORKS)
            assert window == second.final_before(NETWORKS) - 20
            assert window > first.final_before(NETWORKS)


def hostile(number: int) -> dict[str, float]:
    """Return values of a dimension, the largest first, whose names try to break a line or a label."""
    names = ["", "other", 'quo"te', "new\nline", "back\\slash", "# HELP x", "x" * 1_000, "\r\n# EOF\n", "\ud800", "💥"]
    names += [f"value {each}" for each in range(number)]
    return {name: float(len(names) - place) for place, name in enumerate(names)}


async def watched(values, *series: Series, seconds: float = 180, windows: int = 3, **options):
    """Return the last scrape of a collector over a service whose dimensions have such values."""
    simulation = simulated("enterprise")
    async with simulation.client(transport=ManyValues(simulation.transport(), values, windows)) as client:
        collector = Collector(client, **APP, **options)
        watch = client.realtime.watch(*series, final_after=0, gaps=True)
        collector.watch(watch)
        async with consuming(watch):
            for _ in range(10):
                await asyncio.sleep(seconds / 10)
                texts = await scrape(collector), await scrape(collector, OPENMETRICS)
            assert texts[0].by("agora_realtime_users", "value") == texts[1].by("agora_realtime_users", "value")
            return texts[0]


@pytest.mark.slow_except("0")
@pytest.mark.parametrize("number", [0, 10_000])
async def test_values_of_any_name_are_few_valid_and_add_up(number):
    total = hostile(number)
    seen = await watched(lambda _: total, USERS_BY_COUNTRY)
    _, values = await scraped(seen, USERS_BY_COUNTRY)
    assert sum(values.values()) == sum(total.values())
    assert values["unknown"] == total[""]
    assert {'quo"te', "new\nline", "back\\slash", "# HELP x", "\r\n# EOF\n", "\ufffd", "💥"} <= set(values)
    assert max(map(len, values)) == 128
    if number:
        assert len(values) == 21
        assert values["other"] > total["other"]
    else:
        assert values["other"] == total["other"]


async def test_a_mean_of_the_others_is_weighted_by_their_users():
    users = {f"value {each}": 100.0 - each for each in range(40)}
    rates = {name: each / 1_000 for each, name in enumerate(users)}
    seen = await watched(lambda metric: users if metric == "userCount" else rates, USERS_BY_COUNTRY, FREEZES_BY_COUNTRY)
    _, values = await scraped(seen, FREEZES_BY_COUNTRY)
    shown, others = list(users)[:20], list(users)[20:]
    assert {name: values[name] for name in shown} == pytest.approx({name: rates[name] for name in shown})
    weighted = sum(users[name] * rates[name] for name in others) / sum(users[name] for name in others)
    assert values["other"] == pytest.approx(weighted)
    assert len(values) == 21


@pytest.mark.slow
async def test_quality_without_users_keeps_the_values_that_it_shows():
    simulation, names = simulated("enterprise"), [f"value {each}" for each in range(1_000)]
    transport = ManyValues(simulation.transport(), lambda _: dict.fromkeys(names, 0.1))
    async with simulation.client(transport=transport) as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(FREEZES_BY_COUNTRY, final_after=0)
        collector.watch(watch)
        async with consuming(watch):
            await asyncio.sleep(300)
            _, before = await scraped(await scrape(collector), FREEZES_BY_COUNTRY)
            names[:] = [*(name for name in reversed(names) if name != max(before)), *map(str, range(9_000))]
            await asyncio.sleep(300)
            _, after = await scraped(await scrape(collector), FREEZES_BY_COUNTRY)
    assert len(before) == len(after) == 21
    assert set(before) - set(after) == {max(before)}


async def test_a_number_too_large_for_a_sample_is_left_out():
    seen = await watched(lambda _: {"big": 10**400, "small": 1}, USERS_BY_COUNTRY)
    assert (await scraped(seen, USERS_BY_COUNTRY))[1] == {"small": 1}


@pytest.mark.slow
async def test_samples_beyond_the_cap_are_dropped_and_counted():
    series = [
        Series(metric, product=product, dimension=dimension)
        for metric in QualityMetric
        for product in ("Native", "WebRTC")
        for dimension in ("os", "country", "sdk", "net", "device", "region")
    ]
    values = {f"value {each}": each / 100 for each in range(25)}
    seen = await watched(lambda _: values, *series, seconds=900, windows=60, max_series=1_000)
    whole = await watched(lambda _: values, *series, seconds=900, windows=60)
    assert len(seen.samples) == 1_001 < len(whole.samples)
    assert seen.value("agora_series_dropped_total") >= len(whole.samples) - 1_001
    assert whole.value("agora_series_dropped_total") == 0
    assert {"agora_quota_left", "agora_stream_state", "agora_watch_windows_total"} <= seen.names()


@pytest.mark.slow
async def test_memory_is_bounded_by_the_windows_that_are_not_final():
    async with simulated("enterprise").client() as client:
        collector = Collector(client, **APP)
        watch = client.realtime.watch(NETWORKS)
        collector.watch(watch)
        (observer,) = collector._streams.values()
        async with consuming(watch):
            kept = []
            for _ in range(48):
                await asyncio.sleep(HOUR / 2)
                kept.append(len(observer._windows))
            assert max(kept) < 100
            await scrape(collector)
            assert len(observer._windows) < 25
