"""Sends alerts to sinks; remembers which sink lacks which alert, and what the calls behind the alerts have cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs

from agora_analytics._core.decoding.json import DecodeFailures, encode, strict_decoder
from agora_analytics.ops.alerts.alert import Alert
from agora_analytics.ops.alerts.evaluator import DELIVERY
from agora_analytics.ops.alerts.sinks import AlertSink, log
from agora_analytics.ops.alerts.worst_calls import WorstCalls
from agora_analytics.streams.checkpoints import Checkpoint, unreadable


@attrs.define(kw_only=True)
class DeliveryState:
    """What a checkpoint has beside the rules.

    `alerts` are those that some sink had not delivered, `pending` their keys by sink (also of a sink that had delivered
    all), and `spent` the requests for worst calls by day, in days since 1970.
    """

    alerts: list[Alert] = attrs.field(factory=list)
    pending: dict[str, list[str]] = attrs.field(factory=dict)
    spent: dict[int, int] = attrs.field(factory=dict)


_decode = strict_decoder(DeliveryState)


class Delivery:
    """The sinks of one evaluation, and what is added to its alerts."""

    def __init__(
        self, sinks: Sequence[AlertSink], worst: WorstCalls | None, channels: Mapping[str, str | None]
    ) -> None:
        self._sinks = dict(zip(_names(sinks), sinks, strict=True))
        self._worst = worst
        self._channels = channels

    async def resume(self, checkpoint: Checkpoint | None) -> None:
        """Go on from a checkpoint: send again to each sink what it had not delivered."""
        state = DeliveryState() if checkpoint is None else _state(checkpoint)
        if self._worst is not None:
            self._worst.add_spent(state.spent)
        lost = {name: keys for name, keys in state.pending.items() if keys and name not in self._sinks}
        # A renamed or replaced sink gets what its predecessor lacked: better twice than never.
        heirs = [name for name in self._sinks if name not in state.pending]
        for name, keys in () if heirs else lost.items():
            log.warning("the sink %s is not given any more; alerts that it did not deliver: %d", name, len(keys))
        for name, sink in self._sinks.items():
            missed: Collection[str] = state.pending[name] if name in state.pending else set().union(*lost.values())
            for alert in state.alerts:
                if alert.key in missed:
                    await sink.send(alert)

    async def publish(self, alert: Alert) -> Alert:
        """Add the worst calls to an alert, send it to all sinks, and return it."""
        if self._worst is not None and alert.kind == "firing":
            alert = await self._worst.added_to(alert, cname=self._channels[alert.rule])
        # One after the other: no sink waits for its receiver, and each gets the alerts in their order.
        for sink in self._sinks.values():
            await sink.send(alert)
        return alert

    async def flush(self) -> None:
        """Deliver what is pending."""
        for sink in self._sinks.values():
            await sink.flush()

    def added_to(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint with the state of the delivery, to be encoded at once."""
        pending = {name: sink.pending() for name, sink in self._sinks.items()}
        state = DeliveryState(
            # Each once, however many sinks lack it: with calls an alert takes kilobytes.
            alerts=list({alert.key: alert for alerts in pending.values() for alert in alerts}.values()),
            pending={name: [alert.key for alert in alerts] for name, alerts in pending.items()},
            spent={} if self._worst is None else self._worst.spent,
        )
        return attrs.evolve(checkpoint, open={**checkpoint.open, DELIVERY: {"state": state}})


def _names(sinks: Sequence[AlertSink]) -> list[str]:
    """Return a name for each sink, which is the same after a restart: its `key`, or its class; with a number if needed.

    A `key` that names the receiver keeps two sinks of a class apart, whatever their order.
    """
    found: list[str] = []
    for sink in sinks:
        name = first = str(getattr(sink, "key", "") or type(sink).__name__)
        number = 1
        while name in found:
            number += 1
            name = f"{first} {number}"
        found.append(name)
    return found


def _state(checkpoint: Checkpoint) -> DeliveryState:
    entry: Mapping[str, Any] = checkpoint.open.get(DELIVERY, {"state": {}})
    try:
        return _decode(encode(entry["state"]))
    except (*DecodeFailures, KeyError, ValueError, TypeError) as error:
        raise unreadable("the checkpoint of the alerts", error) from None
