"""What lies before an endpoint when it answers: the world, the settings, the limits, the moment and the question."""

from __future__ import annotations

import attrs

from agora_analytics.plans import Limits
from agora_analytics.simulator.service.error_responses import invalid, too_long, too_new, too_old
from agora_analytics.simulator.service.params import RequestParams, TimeRange
from agora_analytics.simulator.service.variants import Variants
from agora_analytics.simulator.world.world import World

Document = dict[str, object]
"""A JSON object, or part of one."""

OTHER_NAMES = {"net": "network", "network": "net", "sdk": "sdkVersion", "sdkVersion": "sdk"}
"""The other spelling of a dimension that has two."""

DIMENSIONS = {
    **{name: name for name in ("country", "region", "net", "sdk", "os", "device")},
    "network": "net",
    "sdkVersion": "sdk",
}
"""Dimensions by each of their spellings."""


@attrs.frozen
class RequestContext:
    """One request to one endpoint at `moment`, in UTC seconds; `number` counts the requests before it."""

    world: World
    variants: Variants
    limits: Limits
    moment: float
    params: RequestParams
    number: int = 0
    now: int = attrs.field(init=False)
    """The moment in whole seconds."""

    known_until: int = attrs.field(init=False)
    """The moment up to which the service knows what happened."""

    @now.default
    def _now(self) -> int:
        return int(self.moment)

    @known_until.default
    def _known_until(self) -> int:
        return self.now - self.limits.delay

    def time_range(self, start: str, end: str) -> TimeRange:
        """Return the time frame asked for; raises `ErrorResponse` where it is wrong or outside of the plan."""
        return self.within(self.params.time_range(start, end))

    def within(self, time_range: TimeRange) -> TimeRange:
        """Return the time frame; raises `ErrorResponse` where it is outside of the plan.

        The inequalities are the reference's own, strict as it writes them.
        """
        limits, now = self.limits, self.now if self.variants.whole_seconds else self.moment
        if not time_range.end < now - limits.delay:
            raise too_new(limits.delay)
        if not time_range.start > now - limits.available:
            raise too_old(limits.available)
        if limits.longest is not None and not time_range.end - time_range.start < limits.longest:
            raise too_long(limits.longest)
        return time_range

    def dimension(self, *more: str) -> Grouping:
        """Return the dimension asked for, one of the six or of some more; raises `ErrorResponse` for any other."""
        sent = self.params.text("dimension")
        name = DIMENSIONS.get(sent, sent)
        if sent not in DIMENSIONS and sent not in more:
            raise invalid(f"dimension {sent} is not supported")
        echo = OTHER_NAMES.get(sent, sent) if self.variants.echo_other_name else sent
        return Grouping(name, echo, 50 if name == "device" else 20)


@attrs.frozen
class Grouping:
    """A dimension by the name it has here, the name that rows give it, and how many rows a top list has."""

    name: str
    echo: str
    most: int
