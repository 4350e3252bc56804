"""What a restart knows of alerts that were not delivered, and of the requests that they have cost."""

from __future__ import annotations

import pytest
from helpers.alerting import run
from helpers.checkpoints import store_checkpoint
from helpers.streaming import HOUR, NOON, simulated

from agora_analytics import CheckpointError, MemoryCheckpoints
from agora_analytics.ops import alerts
from agora_analytics.simulator import World

WORLD = World(seed=121, calls_per_hour=60)
"""It has one incident between 11:00 and 14:00, everywhere, from 12:13:01 to 12:43:29."""

RULE = alerts.parse("videoFreezeRate:WebRTC > 8% for 2")
END = NOON + HOUR + 300


def simulation():
    return simulated("enterprise", world=WORLD)


def watched(client, stop: int = END):
    return client.realtime.watch(*alerts.watched([RULE]), start=NOON, stop=stop, checkpoint="prod")


async def evaluated(client, *sinks, worst=None, stop: int = END) -> list[alerts.Alert]:
    async with watched(client, stop) as watch:
        return [alert async for alert in alerts.evaluate(watch, [RULE], worst=worst, sinks=sinks)]


class Slow:
    """A sink that delivers nothing until it is released, or at once."""

    def __init__(self, key: str = "", *, delivers: bool = False) -> None:
        self.key = key
        self.waiting: list[alerts.Alert] = []
        self.accepted: list[alerts.Alert] = []
        self._delivers = delivers

    async def send(self, alert):
        self.accepted.append(alert)
        if not self._delivers:
            self.waiting.append(alert)

    def pending(self):
        return tuple(self.waiting)

    async def flush(self):
        """Deliver nothing."""

    @property
    def kinds(self) -> list[str]:
        return [alert.kind for alert in self.accepted]


async def test_what_a_sink_could_not_deliver_is_sent_again_after_a_restart():
    first, second = Slow(), Slow()
    async with simulation().client(checkpoints=MemoryCheckpoints()) as client:
        await evaluated(client, first, stop=NOON + 1_200)
        assert first.kinds == ["firing"]
        await evaluated(client, second)
    assert second.kinds == ["firing", "recovered"]
    assert second.accepted[0] == first.accepted[0]


async def test_what_was_delivered_is_not_sent_again():
    first, second = Slow(), Slow()
    async with simulation().client(checkpoints=MemoryCheckpoints()) as client:
        async with watched(client, NOON + 1_200) as watch:
            async for _ in alerts.evaluate(watch, [RULE], sinks=[first]):
                first.waiting.clear()
        await evaluated(client, second)
    assert second.kinds == ["recovered"]


@pytest.mark.parametrize("keys", [("a", "b"), ("", "b"), ("a", "")])
async def test_only_the_sink_that_lacks_an_alert_gets_it_again_whatever_the_order(keys):
    before = [Slow(keys[0]), Slow(keys[1], delivers=True)]
    after = [Slow(keys[1]), Slow(keys[0])]
    async with simulation().client(checkpoints=MemoryCheckpoints()) as client:
        await evaluated(client, *before, stop=NOON + 1_200)
        await evaluated(client, *after)
    assert [sink.kinds for sink in before] == [["firing"], ["firing"]]
    assert [sink.kinds for sink in after] == [["recovered"], ["firing", "recovered"]]


async def test_sinks_of_one_class_are_distinguished_by_their_order():
    before, after = [Slow(delivers=True), Slow()], [Slow(), Slow()]
    async with simulation().client(checkpoints=MemoryCheckpoints()) as client:
        await evaluated(client, *before, stop=NOON + 1_200)
        await evaluated(client, *after)
    assert [sink.kinds for sink in after] == [["recovered"], ["firing", "recovered"]]


async def test_alerts_of_a_sink_that_is_gone_go_to_a_new_one_or_are_given_up_with_a_word(caplog):
    for others, kinds in (([Slow("new")], ["firing", "recovered"]), ([], ["recovered"])):
        kept, caplog_before = Slow("kept", delivers=True), len(caplog.records)
        async with simulation().client(checkpoints=MemoryCheckpoints()) as client:
            await evaluated(client, Slow("gone"), kept, stop=NOON + 1_200)
            await evaluated(client, kept, *others)
        assert kept.kinds == ["firing", "recovered"]
        assert (others[0].kinds if others else ["recovered"]) == kinds
        said = [record.getMessage() for record in caplog.records[caplog_before:]]
        assert ("the sink gone is not given any more; alerts that it did not deliver: 1" in said) == (not others)


async def test_the_day_s_budget_lasts_over_restarts():
    async with simulation().client(checkpoints=MemoryCheckpoints()) as client:
        first = alerts.WorstCalls(client, requests_per_day=3)
        (alert,) = await evaluated(client, worst=first, stop=NOON + 1_200)
        assert len(alert.calls) > 0
        assert first.left_today == 1
        second = alerts.WorstCalls(client, requests_per_day=3)
        await evaluated(client, worst=second)
        assert second.left_today == 1


async def test_the_budget_of_a_restart_is_never_more_than_what_is_left():
    (fired,) = run("videoFreezeRate:WebRTC > 5%", [0.06])
    async with simulation().client() as client:
        worst = alerts.WorstCalls(client, requests_per_day=3)
        await worst.added_to(fired)
        worst.add_spent(worst.spent)
        assert worst.left_today == 1
        for day in range(10):
            worst.add_spent({day: 1})
        assert len(worst.spent) <= 3


async def test_a_delivery_that_cannot_be_read_is_refused():
    store = MemoryCheckpoints()
    async with simulation().client(checkpoints=store) as client:
        await evaluated(client, stop=NOON + 1_200)
        saved = await store.load("prod.alerts")
        saved.open["delivery"]["state"] = {"pending": 5}
        await store_checkpoint(store, "prod.alerts", saved)
        with pytest.raises(CheckpointError, match="holds no checkpoint"):
            await evaluated(client)
