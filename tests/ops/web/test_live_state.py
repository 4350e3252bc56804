"""The live state on virtual time: what it knows, what it costs, and how large it gets."""

from __future__ import annotations

import asyncio
import errno
import json

import pytest
from helpers.streaming import BUSY, CHANNELS, DAY, FREEZES, HOUR, NETWORKS, USERS, WEB, simulated, stop_after

from agora_analytics import AnalyticsClient, CallStarted, CheckpointError, MemoryCheckpoints, Window
from agora_analytics.errors import LedgerError
from agora_analytics.ops import LiveState, alerts
from agora_analytics.ops.web.readiness import probe
from agora_analytics.simulator import Fault, Faults

ENTERPRISE = (USERS, WEB, FREEZES)


def codes(state) -> list[str]:
    return [reason.code for reason in probe(state).reasons]


async def test_the_last_hour_is_there_after_the_first_poll_and_equals_the_world():
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, *ENTERPRISE) as state:
        assert probe(state).status == "starting"
        await asyncio.sleep(60)
        users, _, freezes = state.series_views()
        assert users.values.count(None) == 0
        assert len(users.values) > 160
        for at, value in enumerate(users.values):
            assert simulation.world.users("Native", users.start + 20 * at)[""] == value
        assert freezes.unit == "fraction"
        assert set(freezes.states) == {"complete"}
        assert probe(state).ready
        assert codes(state) == []


async def test_the_server_spends_no_more_than_the_two_streams():
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, USERS, calls=False) as state:
        await asyncio.sleep(HOUR)
        assert sum(one.requests for one in state.usage.hours()) == sum(simulation.service.counts.values())
        assert sum(simulation.service.counts.values()) <= 2 * 62  # at noon, twice as many are left for each hour


async def test_requests_are_counted_by_hour_endpoint_and_priority():
    simulation = simulated("premium")
    async with simulation.client() as client, LiveState(client, USERS) as state:
        await asyncio.sleep(2 * HOUR)
        await client.calls.page(*client.calls.recent(HOUR))
        hours = state.usage.hours()
        assert {(one.endpoint, one.priority) for one in hours} == {
            ("realtime_usage", "stream"),
            ("call_lists", "stream"),
            ("call_lists", "interactive"),
        }
        assert len({one.hour for one in hours}) == 2
        counted = sum(one.requests for one in hours)
        assert counted == sum(simulation.service.counts.values())
        simulation.faults = Faults.always(Fault("status", status=503))
        await asyncio.sleep(HOUR)
        assert sum(one.failed for one in state.usage.hours()) > 2
    hours = state.usage.hours()
    await asyncio.sleep(1)
    assert state.usage.hours() == hours


def day_of(state, counter: str):
    return next(one for one in state.monitor.quota.counters if (one.counter, one.unit) == (counter, "day"))


async def test_the_quota_says_when_the_day_is_used_up_at_the_pace_of_the_last_hour():
    simulation = simulated("premium")
    async with simulation.client() as client, LiveState(client, USERS, calls=False) as state:
        await asyncio.sleep(HOUR)
        day = day_of(state, "call_lists")
        assert (day.used, day.last_hour, day.lasts_until) == (0, 0, None)
        for _ in range(300):
            await client.calls.page(*client.calls.recent(60))
        with state.feed.viewer():
            await asyncio.sleep(6)
        day = day_of(state, "call_lists")
        assert (day.used, day.left, day.last_hour) == (300, 1_700, 300)
        assert abs(day.lasts_until - state.now() - 1_700 * 12) < 10
        assert day.resets_at % DAY == 0


def kinds(state, after: int) -> list[bytes]:
    """The kinds of the events after a number."""
    return [event.split(b"\n")[1].removeprefix(b"event: ") for event in state.feed.after(after, 1_000)]


async def test_without_viewers_the_quota_is_read_once_a_minute_and_with_them_every_five_seconds():
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, USERS, calls=False) as state:
        await asyncio.sleep(90)
        first = state.monitor.quota.at
        await asyncio.sleep(25)
        assert state.monitor.quota.at == first
        await asyncio.sleep(10)
        assert 59 <= state.monitor.quota.at - first <= 61
        with state.feed.viewer():
            await asyncio.sleep(0.1)
            assert state.now() - state.monitor.quota.at < 2
            await asyncio.sleep(57)
            assert state.now() - state.monitor.quota.at < 7


async def test_the_first_viewer_gets_the_health_of_each_stream_and_then_what_changes():
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, USERS) as state:
        await asyncio.sleep(600)
        assert b"stream" not in kinds(state, 0)
        before = state.feed.last
        with state.feed.viewer():
            await asyncio.sleep(0.1)
            assert kinds(state, before).count(b"stream") == 2
            await asyncio.sleep(60)
            assert kinds(state, before).count(b"stream") == 2
            before, simulation.faults = state.feed.last, Faults.always(Fault("status", status=503))
            await asyncio.sleep(600)
            assert b"stream" in kinds(state, before)


async def test_calls_are_listed_newest_and_worst_first():
    simulation = simulated("enterprise", world=BUSY)
    async with simulation.client() as client, LiveState(client, USERS) as state:
        await asyncio.sleep(600)
        newest = [one.call.created_ts for one in state.calls.sorted("newest")]
        assert len(newest) > 100
        assert newest == sorted(newest, reverse=True)
        worst = [one.impact or 0 for one in state.calls.sorted("worst")]
        assert worst == sorted(worst, reverse=True)
        assert {one.state for one in state.calls.sorted("worst")} == {"open", "finished"}


async def test_sessions_are_fetched_with_the_calls_if_wanted():
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, USERS, sessions=True) as state:
        await asyncio.sleep(900)
        assert any(one.sessions for one in state.calls.sorted("newest"))


async def test_each_window_says_which_windows_of_its_series_are_final():
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, USERS, calls=False) as state:
        await asyncio.sleep(60)
        before = state.feed.last
        await asyncio.sleep(HOUR)
        events = [one.split(b"data: ") for one in state.feed.after(before, 1_000) if b"event: windows" in one]
        finals = [json.loads(data)["changes"][0]["final_before"] for _, data in events]
        assert finals == sorted(finals)
        assert len(set(finals)) > 10
        (view,) = state.series_views()
        assert view.final_before - finals[-1] in {0, 20}


@pytest.mark.slow
async def test_memory_is_bounded_after_a_simulated_day():
    simulation = simulated("enterprise", world=BUSY)
    async with simulation.client() as client, LiveState(client, USERS, NETWORKS, CHANNELS) as state:
        await asyncio.sleep(DAY + HOUR)
        assert {len(one.cells) for one in state.board.histories.values()} == {180}
        assert len(state.calls) <= 1_400
        assert len(state.usage.hours()) <= 26 * 3
        assert len(state.feed.after(state.feed.last - 1_000, 10_000) or ()) == 1_000
        assert state.feed.after(0, 1) is None
        assert state.feed.size <= 4 * 2**20
        assert len(asyncio.all_tasks()) < 15


async def test_nothing_is_left_when_the_state_is_closed():
    simulation = simulated("enterprise")
    async with simulation.client() as client:
        async with LiveState(client, USERS):
            await asyncio.sleep(60)
        spent = sum(simulation.service.counts.values())
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(HOUR)
        assert sum(simulation.service.counts.values()) == spent


async def test_an_outage_degrades_and_heals():
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, USERS) as state:
        await asyncio.sleep(120)
        simulation.faults = Faults.always(Fault("status", status=503))
        await asyncio.sleep(600)
        assert (probe(state).status, probe(state).ready) == ("degraded", False)
        assert set(codes(state)) == {"windows", "calls"}
        assert "outage" in probe(state).reasons[0].text
        simulation.faults = Faults()
        await asyncio.sleep(600)
        assert probe(state).ready
        (users,) = state.series_views()
        assert "gap" not in users.states


async def test_a_wrong_secret_is_shown_and_tried_again():
    simulation = simulated("enterprise", faults=Faults.always(Fault("status", status=401)))
    async with simulation.client() as client, LiveState(client, USERS) as state:
        await asyncio.sleep(HOUR)
        assert set(codes(state)) == {"windows", "calls", "starting"}
        assert "ended by an error, starts again at 2026-" in probe(state).reasons[0].text
        assert sum(one.requests for one in state.usage.hours()) < 40
        simulation.faults = Faults()
        await asyncio.sleep(700)
        assert probe(state).ready


async def test_a_spent_day_is_no_trouble_but_is_noted():
    simulation = simulated("premium")
    async with simulation.client() as client, LiveState(client, USERS, calls=False) as state:
        await asyncio.sleep(60)
        simulation.service.spend("realtime", 10_000)
        await asyncio.sleep(HOUR)
        assert probe(state).status == "ok"
        assert [note.code for note in probe(state).notes] == ["quota"]
        assert day_of(state, "realtime").left == 0
        assert day_of(state, "realtime").free_at >= state.now()


async def test_an_unreadable_ledger_is_shown_and_the_last_numbers_stay(monkeypatch):
    simulation = simulated("enterprise")
    async with simulation.client() as client, LiveState(client, USERS) as state:
        await asyncio.sleep(60)
        used = day_of(state, "realtime").used

        async def fail():
            raise LedgerError("quota.db: database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(client.quota._limiters, "snapshot", fail)
            await asyncio.sleep(61)
            assert codes(state) == ["ledger"]
            assert "disk is full" in state.monitor.quota.ledger
            assert day_of(state, "realtime").used == used
        await asyncio.sleep(61)
        assert codes(state) == []


class FullDisk(MemoryCheckpoints):
    """A store on a disk that is full for a while."""

    full = True

    async def save(self, name, checkpoint, epoch):
        if self.full:
            raise CheckpointError(f"{name}: {errno.ENOSPC}") from OSError(errno.ENOSPC, "No space left on device")
        await super().save(name, checkpoint, epoch)


async def test_a_full_disk_is_shown_and_the_streams_go_on_once_there_is_room():
    simulation, store = simulated("enterprise"), FullDisk()
    async with simulation.client(checkpoints=store) as client, LiveState(client, USERS, checkpoint="page") as state:
        await asyncio.sleep(30)
        assert set(codes(state)) <= {"windows", "calls", "starting"}
        assert "windows" in codes(state)
        store.full = False
        await asyncio.sleep(400)
        assert codes(state) == []
        (users,) = state.series_views()
        assert len(users.values) > 160
    assert (await store.load("page-windows")).done
    assert (await store.load("page-calls")).done


async def test_a_listener_gets_every_event_and_may_fail():
    simulation = simulated("enterprise")
    async with simulation.client() as client:
        state, events = LiveState(client, USERS), []
        state.on_event(events.append)
        state.on_event(lambda _: 1 / 0)
        async with state:
            await asyncio.sleep(60)
    assert {type(event) for event in events} >= {Window, CallStarted}


async def test_a_stream_is_announced_when_it_opens_and_to_those_who_come_later():
    simulation = simulated("enterprise", faults=Faults.always(Fault("status", status=401)))
    async with simulation.client() as client:
        state, opened, later = LiveState(client, USERS, calls=False), [], []
        state.on_stream(opened.append)
        assert opened == []
        async with state:
            await asyncio.sleep(90)
            assert len(opened) >= 2
            state.on_stream(later.append)
            assert later == opened[-1:]


async def test_alerts_are_kept_with_a_number_and_must_be_json():
    async with simulated("enterprise").client() as client:
        state = LiveState(client, USERS)
        for at in range(300):
            state.add_alert({"text": f"freeze {at}"})
        assert [one.id for one in state.alerts] == list(range(101, 301))
        assert json.loads(state.feed.after(state.feed.last - 1, 1)[0].split(b"data: ")[1])["alert"] == {
            "text": "freeze 299"
        }
        with pytest.raises(TypeError, match="object"):
            state.add_alert(object())
        assert len(state.alerts) == 200


@pytest.mark.parametrize(
    ("plan", "series", "interval"), [("standard", 0, None), ("premium", 2, 360), ("enterprise", 6, 360)]
)
async def test_without_series_it_watches_what_the_plan_keeps_fresh(plan, series, interval):
    async with simulated(plan).client() as client:
        state = LiveState(client)
        assert len(state.series) == series
        assert (state.coverage and state.coverage.poll_interval) == interval


async def test_a_plan_without_real_time_data_has_calls_alone():
    simulation = simulated("standard")
    async with simulation.client() as client, LiveState(client) as state:
        await asyncio.sleep(120)
        assert probe(state).ready
        assert [view.name for view in state.streams] == ["calls"]
        assert len(state.calls) > 0


async def test_invalid_arguments_are_refused_at_once():
    async with simulated("premium").client() as client:
        with pytest.raises(ValueError, match="more than 480 a day"):
            LiveState(client, *(NETWORKS, *(type(USERS)("userCount", product=f"p{at}") for at in range(20))))
        with pytest.raises(TypeError, match="sessions"):
            LiveState(client, sessions="yes")
        with pytest.raises(TypeError, match="client"):
            LiveState("client")
    with pytest.raises(ValueError, match="app_id"):
        LiveState(AnalyticsClient("a" * 32, "b" * 32, plan="premium"), USERS)


async def test_a_state_may_be_made_before_the_event_loop_and_start_late():
    simulation = simulated("enterprise")
    client = await asyncio.to_thread(simulation.client)
    state = await asyncio.to_thread(LiveState, client, USERS)
    async with client, stop_after(120), state:
        await asyncio.sleep(100)
        assert probe(state).ready


async def test_rules_are_evaluated_on_the_windows_of_the_page_and_their_series_are_watched_too():
    simulation = simulated("enterprise")
    rule = alerts.parse("userCount:Native > 0 for 2")
    sent: list[alerts.Alert] = []

    class Sink:
        async def send(self, alert: alerts.Alert) -> None:
            sent.append(alert)

        def pending(self) -> tuple[alerts.Alert, ...]:
            return ()

        async def flush(self) -> None:
            pass

    async with simulation.client() as client, LiveState(client, WEB, rules=[rule], sinks=[Sink()]) as state:
        assert state.series == (WEB, USERS)
        await asyncio.sleep(HOUR)
        shown = [entry.alert for entry in state.alerts]
        assert [alert.kind for alert in shown] == ["firing"]
        assert shown == sent
        _, users = state.series_views()
        assert users.values.count(None) == 0


@pytest.mark.slow
async def test_alerts_are_not_repeated_after_a_restart_with_a_checkpoint():
    simulation = simulated("enterprise")
    rule = alerts.parse("userCount:Native > 0 for 2")
    kept: list[int] = []
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:
        for _ in range(2):
            async with LiveState(client, USERS, rules=[rule], checkpoint="page") as state:
                await asyncio.sleep(HOUR)
                kept.append(len(state.alerts))
    assert kept == [1, 0]
