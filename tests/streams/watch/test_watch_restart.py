"""Windows, revisions and gaps match the responses of the service, also after restarts and outages."""

from __future__ import annotations

import asyncio
import json

import pytest
from helpers.streaming import (
    DAY,
    DEFAULT,
    FREEZES,
    HOUR,
    NETWORKS,
    NOON,
    USERS,
    WEB,
    collect,
    gaps_since_noon,
    is_contiguous,
    latest_values,
    native_users_throughout,
    of_type,
    simulated,
    timestamps,
    values_by_group,
)

from agora_analytics import Checkpoint, CheckpointError, Gap, MemoryCheckpoints, Revision, Series, Window
from agora_analytics.simulator import Faults, World

NO_WEB_USERS = World(seed=7, calls_per_hour=20, web_share=0.0)
EMPTY_SERIES = Series("videoFreezeRate", product="WebRTC")


def two_users(world: World) -> Series:
    """Return a series of two native users who stay in a call for 25 minutes after noon."""
    cname, uids = native_users_throughout(world, NOON - 120, NOON + 1_500, 2)
    return Series("networkDelay", product="Native", cname=cname, uids=uids[:2])


@pytest.mark.parametrize("kind", ["ungrouped", "by dimension", "by user"])
async def test_another_order_of_rows_is_no_revision(kind):
    simulation = simulated("enterprise", world=DEFAULT, shuffled_rows=True)
    series = {
        "ungrouped": USERS,
        "by dimension": NETWORKS,
        "by user": two_users(simulation.world),
    }[kind]
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(series, stop=NOON + 1_200, final_after=600))
    assert len(timestamps(events)) > 60
    assert of_type(Revision, events) == []
    assert (
        max(len(window.points(series)) for window in events) == {"ungrouped": 1, "by dimension": 6, "by user": 2}[kind]
    )


async def test_a_row_missing_in_a_later_response_changes_nothing():
    simulation = simulated("enterprise", world=DEFAULT, vanishing_rows=0.5, late_by=60)
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(NETWORKS, stop=NOON + 1_200, final_after=600))
    assert of_type(Revision, events) == []
    table = latest_values(events)
    for ts in timestamps(events):
        assert table[ts, NETWORKS] == {k: v for k, v in simulation.world.users("Native", ts, "net").items() if v}


async def test_a_late_row_is_a_revision_with_all_known_groups():
    simulation = simulated("enterprise", world=DEFAULT)
    async with simulation.client() as client:
        events = []
        async for event in client.realtime.watch(NETWORKS, stop=NOON + 600):
            events.append(event)
            if len(events) == 10:
                simulation.variants = simulated(vanishing_rows=0.4, late_by=0).variants
            if len(events) == 12:
                simulation.variants = simulated().variants
    revisions = of_type(Revision, events)
    assert revisions
    for change in revisions:
        assert set(values_by_group(change.before)) < set(values_by_group(change.after))
        assert values_by_group(change.after) == {
            name: count for name, count in simulation.world.users("Native", change.ts, "net").items() if count
        }


async def test_the_value_of_several_groups_raises_and_names_the_alternatives():
    simulation = simulated(world=DEFAULT)
    users = two_users(simulation.world)
    china = Series("userCount", product="Native", dimension="country", dimension_values=["China"])
    single_user = Series("networkDelay", product="Native", cname=users.cname, uids=users.uids[:1])
    async with simulation.client() as client:
        watch = client.realtime.watch(NETWORKS, users, china, single_user, USERS, start=NOON, stop=NOON + 20)
        window = (await collect(watch))[0]
    for series in (NETWORKS, users):
        with pytest.raises(ValueError, match=r"points\(series\).*by_group\(series\)"):
            window.value(series)
        assert len(window.points(series)) == len(window.by_group(series)) > 1
    assert set(window.by_group(users)) == {str(uid) for uid in users.uids}
    assert window.by_group(NETWORKS)["WIFI"] == simulation.world.users("Native", NOON, "net")["WIFI"]
    assert window.value(china) == simulation.world.users("Native", NOON, "country")["China"]
    assert window.value(single_user) == window.by_group(users)[str(single_user.uids[0])]
    assert window.by_group(USERS) == {None: window.value(USERS)}


async def test_missing_distinguishes_no_data_from_not_requested():
    outage = Faults.outage(0, NOON + 2_600).only("realtime_quality")
    simulation = simulated(world=NO_WEB_USERS, faults=outage)
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(WEB, EMPTY_SERIES, start=NOON, stop=NOON + 1_200, revisions=False))
    assert is_contiguous(events, NOON)
    assert of_type(Gap, events) == []
    first = [window for window in events if window.ts < NOON + 180]
    assert first
    assert [window.missing for window in first] == [{EMPTY_SERIES: "not requested"}] * len(first)
    later = [window for window in events if window.ts > NOON + 500]
    assert later
    assert [window.missing for window in later] == [{EMPTY_SERIES: "no data"}] * len(later)
    assert {window.value(EMPTY_SERIES) for window in events} == {None}


@pytest.mark.parametrize("only_final", [False, True])
async def test_an_empty_window_requested_in_time_is_never_a_gap(only_final):
    simulation = simulated(world=NO_WEB_USERS)
    # Empty windows wait until they are final; then requests fail until these windows have expired.
    simulation.faults = Faults.outage(NOON + 700, NOON + 3_600)
    async with simulation.client() as client:
        watch = client.realtime.watch(
            EMPTY_SERIES, start=NOON - 60, stop=NOON + 3_600, only_final=only_final, every=60, final_after=600
        )
        events = await collect(watch)
    assert is_contiguous(events, NOON - 60)
    windows = [window for window in of_type(Window, events) if window.ts < NOON + 400]
    assert len(windows) == 23
    assert [window.missing for window in windows] == [{EMPTY_SERIES: "no data"}] * len(windows)
    assert {reason for _, _, reason in gaps_since_noon(events)} == {"outage"}


async def test_an_empty_series_is_reported_although_another_was_not_requested():
    simulation = simulated(world=NO_WEB_USERS, faults=Faults.outage(0, NOON + 3_600).only("realtime_usage"))
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(WEB, EMPTY_SERIES, start=NOON, stop=NOON + 600))
    assert [type(event) for event in events] == [Window] * 30
    assert [window.missing for window in events] == [{WEB: "not requested", EMPTY_SERIES: "no data"}] * 30


async def test_an_empty_response_erases_no_known_value():
    simulation = simulated("enterprise", world=DEFAULT)
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, FREEZES, stop=NOON + 900, final_after=600)
        events = []
        async for event in watch:
            events.append(event)
            if len(events) == 10:  # from now on, responses have no rows for windows older than 30 s
                simulation.variants = simulated(vanishing_rows=1.0, late_by=30).variants
    assert of_type(Revision, events) == []
    assert all(window.value(USERS) is not None for window in events if window.ts < NOON + 180)
    vanishing = simulated(world=DEFAULT, vanishing_rows=1.0, late_by=30)
    async with vanishing.client() as client:
        final = await collect(client.realtime.watch(USERS, stop=NOON + 300, only_final=True, every=20))
    table = {window.ts: window.value(USERS) for window in of_type(Window, final)}
    assert all(
        value == vanishing.world.users("Native", ts, None)[""] for ts, value in table.items() if value is not None
    )
    assert sum(value is not None for value in table.values()) > 5


@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "by sink"])
async def test_revisions_survive_a_restart(by_name):
    simulation = simulated("enterprise", world=DEFAULT, revised_windows=0.5, late_by=90)
    store, saved, events = MemoryCheckpoints(), None, []
    async with simulation.client(checkpoints=store) as client:
        for until in (300, 310, 330, 900, 1_500):
            checkpoint = "prod" if by_name else saved and Checkpoint.decode(saved)
            watch = client.realtime.watch(NETWORKS, USERS, start=NOON, checkpoint=checkpoint, stop=NOON + until)
            async for event in watch:
                events.append(event)
                saved = watch.checkpoint.encode()  # stored with the event
            assert len(watch.checkpoint.open) <= 30  # windows of 300 s and the delay
    assert is_contiguous(events, NOON)
    table = latest_values(events)
    for ts in range(NOON, NOON + 1_200, 20):
        assert table[ts, USERS] == {None: simulation.world.users("Native", ts, None)[""]}
        assert table[ts, NETWORKS] == {k: v for k, v in simulation.world.users("Native", ts, "net").items() if v}


async def test_a_revision_in_progress_at_a_crash_is_delivered_again():
    simulation = simulated("enterprise", world=DEFAULT, revised_windows=1.0, late_by=90)
    store, first = MemoryCheckpoints(), []
    async with simulation.client(checkpoints=store) as client:
        watch = client.realtime.watch(USERS, start=NOON, checkpoint="prod")
        async for event in watch:
            if isinstance(event, Revision):
                break
            first.append(event)
        await watch.aclose()
        resumed = await collect(client.realtime.watch(USERS, checkpoint="prod", stop=NOON + 600))
    assert isinstance(event, Revision)
    assert event in resumed
    assert is_contiguous([*first, *resumed], NOON)


async def test_the_order_of_series_may_change_at_a_restart():
    simulation = simulated("enterprise", world=DEFAULT, revised_windows=1.0, late_by=90)
    events = []
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:
        for stop, order in ((400, (USERS, NETWORKS, WEB)), (800, (WEB, USERS, NETWORKS))):
            watch = client.realtime.watch(*order, start=NOON, checkpoint="prod", stop=NOON + stop)
            events += await collect(watch)
    table, world = latest_values(events), simulation.world
    for ts in range(NOON, NOON + 600, 20):
        assert table[ts, USERS] == {None: world.users("Native", ts, None)[""]}
        assert table[ts, WEB] == {None: world.users("WebRTC", ts, None)[""]}
        assert len(table[ts, NETWORKS]) > 2


async def test_without_revisions_the_checkpoint_has_no_values():
    simulation = simulated("enterprise", revised_windows=1.0, late_by=90)
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, stop=NOON + 600, revisions=False)
        events = []
        async for event in watch:
            events.append(event)
            assert all(int(ts) > event.ts for ts in watch.checkpoint.open)
    assert len(timestamps(events)) == len(events) > 25


CORRUPTIONS = {
    "no number": lambda entry: {"x": entry},
    "no series": lambda entry: {str(NOON): {"7": entry["0"]}},
    "a text": lambda entry: {str(NOON): {"0": {"at": "soon", "rows": []}}},
    "no rows": lambda entry: {str(NOON): {"0": {"at": 1.0}}},
    "short rows": lambda entry: {str(NOON): {"0": {"at": 1.0, "rows": [[None]]}}},
    "a value": lambda entry: {str(NOON): {"0": {"at": 1.0, "rows": [[None, None, "many"]]}}},
    "a group": lambda entry: {str(NOON): {"0": {"at": 1.0, "rows": [[["WIFI"], None, 1]]}}},
    "a user": lambda entry: {str(NOON): {"0": {"at": 1.0, "rows": [[None, {}, 1]]}}},
    "a list": lambda entry: {str(NOON): {"0": []}},
    "an unknown field": lambda entry: {str(NOON): {"0": {**entry["0"], "unknown": 1}}},
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
async def test_a_corrupted_window_in_a_checkpoint_raises(corrupt):
    simulation = simulated("enterprise")
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, start=NOON, stop=NOON + 100)
        await collect(watch)
        text = json.loads(watch.checkpoint.encode())
        text["open"] = corrupt(text["open"][str(NOON)])
        checkpoint = Checkpoint.decode(json.dumps(text))
        with pytest.raises(CheckpointError):
            await collect(client.realtime.watch(USERS, checkpoint=checkpoint, stop=NOON + 200))


async def test_windows_lost_in_an_outage_are_a_gap_with_that_reason():
    simulation = simulated(faults=Faults.outage(NOON + 600, NOON + 4_200))
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(USERS, start=NOON, stop=NOON + 4_800))
    assert is_contiguous(events, NOON)
    ((first, end, reason),) = gaps_since_noon(events)
    assert reason == "outage"
    assert first in range(360, 600)  # the last successful poll was a few minutes before
    assert end in range(1_800, 2_400)  # the retention of 40 minutes, at the end of the outage


async def test_windows_lost_to_another_program_are_a_gap_for_the_quota():
    simulation = simulated(at=NOON + 10 * HOUR)
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, start=NOON + 10 * HOUR, stop=NOON + 13 * HOUR)
        asyncio.get_running_loop().call_later(600, simulation.service.spend, "realtime", 480)
        events = await collect(watch)
    assert is_contiguous(events, NOON + 10 * HOUR)
    ((first, end, reason),) = gaps_since_noon(events)
    assert reason == "quota"
    assert first < 10 * HOUR + 640
    assert 12 * HOUR - 2_400 <= end <= 12 * HOUR - 2_300


async def test_windows_lost_to_a_busy_consumer_are_a_gap_for_the_consumer():
    simulation = simulated()
    events = []
    async with simulation.client() as client:
        async for event in client.realtime.watch(USERS, start=NOON, stop=NOON + 5_000):
            events.append(event)
            if len(events) == 20:
                await asyncio.sleep(HOUR)
    assert is_contiguous(events, NOON)
    assert [reason for _, _, reason in gaps_since_noon(events)] == ["consumer"]


async def test_a_start_before_the_retention_is_a_gap_before_the_start():
    simulation = simulated()
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(USERS, start=NOON - DAY, stop=NOON - 60))
    assert is_contiguous(events, NOON - DAY)
    ((first, end, reason),) = gaps_since_noon(events)
    assert (first, reason) == (-DAY, "before_start")
    assert -2_400 < end < -2_360


async def test_windows_expired_since_a_checkpoint_are_a_gap_before_the_start():
    simulation = simulated()
    store = MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        first = await collect(client.realtime.watch(USERS, start=NOON, checkpoint="prod", stop=NOON + 100))
    await asyncio.sleep(3 * DAY)
    async with simulation.client(checkpoints=store) as client:
        resumed = await collect(client.realtime.watch(USERS, checkpoint="prod", stop=NOON + 3 * DAY))
    assert is_contiguous([*first, *resumed], NOON)
    ((start, end, reason),) = gaps_since_noon(resumed)
    assert (start, reason) == (140, "before_start")  # the last response also had two later windows
    assert 3 * DAY - 2_400 < end <= 3 * DAY - 2_200


async def test_windows_dropped_early_by_the_service_are_a_gap_for_the_service():
    simulation = simulated("premium")
    async with simulation.client(plan="enterprise") as client:
        asyncio.get_running_loop().call_later(600, simulation.clock.suspend, 3_000)
        events = await collect(client.realtime.watch(USERS, start=NOON, stop=NOON + 4_800))
    assert is_contiguous(events, NOON)
    assert "service" in {reason for _, _, reason in gaps_since_noon(events)}
    assert {reason for _, _, reason in gaps_since_noon(events)} <= {"service", "asleep"}


async def test_windows_delivered_before_a_restart_are_in_no_gap():
    done = [(NOON - 3_600, NOON - 3_000), (NOON - 2_600, NOON - 2_000), (NOON - 1_000, NOON - 800)]
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, start=NOON - 3_600, stop=NOON - 3_580)
        checkpoint = watch.checkpoint
        for start, end in done:
            for ts in range(start, end, 20):
                checkpoint = checkpoint.with_done(Window(ts=ts, values={}).span)
        events = await collect(client.realtime.watch(USERS, checkpoint=checkpoint, stop=NOON - 60))
    covered = [second for event in events for second in range(event.span.start, event.span.end, 20)]
    done_before = {second for start, end in done for second in range(start, end, 20)}
    assert not done_before & set(covered)
    assert sorted(covered) == covered
    assert done_before | set(covered) == set(range(NOON - 3_600, NOON - 60, 20))
    assert {gap.reason for gap in of_type(Gap, events)} == {"before_start"}


async def test_adjacent_gaps_of_two_reasons_stay_separate():
    simulation = simulated(faults=Faults.outage(NOON, NOON + 1_000))
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(USERS, start=NOON - 3_000, stop=NOON))
    assert is_contiguous(events, NOON - 3_000)
    (first, end, reason), (start, _, next_reason) = gaps_since_noon(events)
    assert (first, reason, next_reason) == (-3_000, "before_start", "outage")
    assert end == start in range(-2_400, -2_300)
