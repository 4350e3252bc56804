"""What a series may be: a channel, its users, a dimension with or without values; and which of them share a request."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from agora_analytics import Series, Window
from agora_analytics.simulator import Service, Simulation, World

NOON = 1_795_521_600


@pytest.fixture
async def simulation(clock) -> Simulation:
    return Simulation(Service(World(seed=7, large_share=0.3), "premium", clock=clock))


def busy(simulation: Simulation):
    """A call that goes on before noon, and native users who are in it all the time."""
    world = simulation.world
    for call in world.calls_during(NOON - 600, NOON - 200):
        there = [
            one.uid
            for one in world.sessions(call)
            if one.join < NOON - 620 and one.leave > NOON - 180 and one.profile.product == "Native" and not one.server
        ]
        if len(set(there)) >= 12:
            return call, list(dict.fromkeys(there))
    raise LookupError("no such call in this world")


async def windows_of(client, *series: Series, **more) -> list[Window]:
    async with aclosing(
        client.realtime.watch(*series, start=NOON - 600, stop=NOON - 200, allowed_lateness=0, **more)
    ) as watch:
        return [event async for event in watch if isinstance(event, Window)]


async def test_users_of_a_channel_share_requests_ten_by_ten(simulation):
    call, uids = busy(simulation)
    each = [Series("networkDelay", product="Native", cname=call.cname, uids=[uid]) for uid in uids[:12]]
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
    call, _ = busy(simulation)
    channel, project = (Series("userCount", product="Native", cname=cname) for cname in (call.cname, None))
    async with simulation.client() as client:
        windows = await windows_of(client, channel, project)
    assert all(0 < window.value(channel) < window.value(project) for window in windows)


async def test_a_dimension_without_values_has_all_groups(simulation):
    countries = Series("userCount", product="Native", dimension="country")
    some = Series("userCount", product="Native", dimension="country", dimension_values=("China", "India"))
    async with simulation.client() as client:
        assert client.realtime.coverage(countries, some).requests_per_poll == 2
        windows = await windows_of(client, countries, some)
    for window in windows:
        groups = {point.dimension_value: point.value for point in window.values[countries]}
        assert len(groups) > 5
        assert {point.dimension_value: point.value for point in window.values[some]}.items() <= groups.items()


def test_more_users_than_fit_a_request_are_several_series():
    with pytest.raises(ValueError, match="uids has 11 entries"):
        Series("networkDelay", product="Native", cname="room", uids=range(11))


def test_a_series_is_shown_in_words():
    assert str(Series("userCount", product="Native", dimension="country", dimension_values=["China"])) == (
        "userCount Native country China"
    )
    assert str(Series("networkDelay", product="WebRTC", cname="room", uids=[7])) == "networkDelay WebRTC room 7"
