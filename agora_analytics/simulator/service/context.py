"""Everything a handler needs to answer one request: world, variants, limits, time and parameters."""

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
"""The alternative name of a dimension that has two."""

DIMENSIONS = {
    **{name: name for name in ("country", "region", "net", "sdk", "os", "device")},
    "network": "net",
    "sdkVersion": "sdk",
}
"""The canonical name of each dimension, by all its names."""


@attrs.frozen
class RequestContext:
    """The context of one request to one endpoint.

    Attributes:
        world: the world to report on.
        variants: how the service behaves.
        limits: the plan's limits for this endpoint.
        timestamp: when the request is answered, in UTC seconds.
        params: the request's parameters.
        number: how many requests the service has answered, this one included.
        now: `timestamp` in whole seconds.
        known_until: the service knows what happened until then: `now` minus the plan's data delay.

    """

    world: World
    variants: Variants
    limits: Limits
    timestamp: float
    params: RequestParams
    number: int = 0
    now: int = attrs.field(init=False)
    known_until: int = attrs.field(init=False)

    @now.default
    def _now(self) -> int:
        return int(self.timestamp)

    @known_until.default
    def _known_until(self) -> int:
        return self.now - self.limits.delay

    def time_range(self, start: str, end: str) -> TimeRange:
        """Return the requested time range; raises `ErrorResponse` if it is wrong or outside of the plan's limits."""
        return self.check_limits(self.params.time_range(start, end))

    def check_limits(self, time_range: TimeRange) -> TimeRange:
        """Return the time range; raises `ErrorResponse` if it is outside of the plan's limits.

        The inequalities are strict, as in the API reference.
        """
        limits, now = self.limits, self.now if self.variants.whole_seconds else self.timestamp
        if not time_range.end < now - limits.delay:
            raise too_new(limits.delay)
        if not time_range.start > now - limits.retention:
            raise too_old(limits.retention)
        if limits.longest is not None and not time_range.end - time_range.start < limits.longest:
            raise too_long(limits.longest)
        return time_range

    def dimension(self, *more: str) -> Grouping:
        """Return the requested dimension, one of the six or of `more`; raises `ErrorResponse` for any other."""
        sent = self.params.text("dimension")
        name = DIMENSIONS.get(sent, sent)
        if sent not in DIMENSIONS and sent not in more:
            raise invalid(f"dimension {sent} is not supported")
        echo = OTHER_NAMES.get(sent, sent) if self.variants.echo_other_name else sent
        # The lengths of top lists in the API reference.
        return Grouping(name, echo, 50 if name == "device" else 20)


@attrs.frozen
class Grouping:
    """The dimension that rows are grouped by.

    Attributes:
        name: canonical name, a key of `DIMENSIONS`.
        echo: the name under which rows show it.
        max_groups: how many groups an answer shows at most.

    """

    name: str
    echo: str
    max_groups: int
