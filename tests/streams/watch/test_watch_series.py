"""Series of a channel, of its users and of a dimension; and which of them share a request."""

from __future__ import annotations

import pytest
from helpers.streaming import NOON, collect, native_users_throughout, timestamps

from agora_analytics import Series, Window
from agora_analytics.simulator import Service, Simulation, World


@pytest.fixture
async def simulation(clock) -> Simulation:
    return Simulation(Service(World(seed=7, large_share=0.3), "premium", clock=clock))


def busy_channel(simulation: Simulation) -> tuple[str, list[int]]:
    """Return a channel with at least twelve native users who stay during the windows, and these users."""
    return native_users_throughout(simulation.world, NOON - 620, NOON - 180, 12)


async def windows_of(client, *series: Series) -> list[Window]:
    """Return the windows of 400 seconds before noon."""
    windows = await collect(client.realtime.watch(*series, start=NOON - 600, stop=NOON - 200, allowed_lateness=0))
    assert timestamps(windows) == list(range(NOON - 600, NOON - 200, 20))
    return windows


async def test_users_of_a_channel_share_requests_ten_by_ten(simulation):
    cname, uids = busy_channel(simulation)
    each = [Series("networkDelay", product="Native", cname=cname, uids=[uid]) for uid in uids[:12]]
    async with simulation.client() as client:
        assert client.realtime.coverage(*each).requests_per_poll == 2
        windows = await windows_of(client, *each)
    assert simulation.service.counts["realtime_quality"] == 2
    for window in windows:
        assert window.missing == {}
        for series, uid in zip(each, uids, strict=False):
            assert [str(point.uid) for point in window.values[series]] == [str(uid)]
            assert window.value(series) is not None


async def test_a_channel_and_the_project_are_separate_requests(simulation):
    cname, _ = busy_channel(simulation)
    channel, project = (Series("userCount", product="Native", cname=name) for name in (cname, None))
    async with simulation.client() as client:
        windows = await windows_of(client, channel, project)
    assert all(0 < window.value(channel) < window.value(project) for window in windows)


async def test_a_dimension_without_values_has_all_groups(simulation):
    countries = Series("userCount", product="Native", dimension="country")
    two_countries = Series("userCount", product="Native", dimension="country", dimension_values=("China", "India"))
    async with simulation.client() as client:
        assert client.realtime.coverage(countries, two_countries).requests_per_poll == 2
        windows = await windows_of(client, countries, two_countries)
    for window in windows:
        all_countries = window.by_group(countries)
        assert len(all_countries) > 5
        assert window.by_group(two_countries).items() <= all_countries.items()


def test_a_series_of_more_users_than_fit_a_request_raises():
    with pytest.raises(ValueError, match="uids has 11 entries"):
        Series("networkDelay", product="Native", cname="room", uids=range(11))


def test_the_text_of_a_series_has_its_metric_product_and_filters():
    assert str(Series("userCount", product="Native", dimension="country", dimension_values=["China"])) == (
        "userCount Native country China"
    )
    assert str(Series("networkDelay", product="WebRTC", cname="room", uids=[7])) == "networkDelay WebRTC room 7"
