"""When faults strike: by script, by chance, for a span of time, or for certain requests alone.

Schedules are pure: what happens to a request follows from its number, its host, what it asks for, and the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import attrs

from agora_analytics._core import validation
from agora_analytics.plans import ENDPOINTS, Endpoint
from agora_analytics.simulator.faults import Fault
from agora_analytics.simulator.service import settings
from agora_analytics.simulator.service.arrivals import Arrival
from agora_analytics.simulator.world.rng import stream

_NO_CONNECTION, _BROKEN = Fault("refused"), Fault("reset")
UNKNOWN_CALL = Fault("refusal", code=404, message="no such call")
"""What `Faults.of_call` does unless another fault is given."""

_NAMES = frozenset(endpoint.name for endpoint in ENDPOINTS)
PARAMETERS = (
    "aggregateGranularity", "appid", "call_id", "cname", "dimension", "dimensionValues", "endTs", "end_ts",
    "exclude_server_user", "extraMetrics", "filters", "metric", "page_no", "page_size", "productType", "sids",
    "startTs", "start_ts", "ts", "uids",
)  # fmt: skip
"""Names of all parameters that the service knows."""


class Rule(Protocol):
    """One part of a schedule."""

    def strike(self, arrival: Arrival) -> Fault | None:
        """Return the fault that hits a request, or None."""


@attrs.frozen
class _Script:
    steps: tuple[Fault | None, ...]
    host: int | None
    endpoint: str | None

    def strike(self, arrival: Arrival) -> Fault | None:
        if self.host not in {None, arrival.host} or self.endpoint not in {None, arrival.endpoint}:
            return None
        number = self._number(arrival)
        return self.steps[number] if number < len(self.steps) else None

    def _number(self, arrival: Arrival) -> int:
        if self.endpoint is not None:
            return arrival.at_endpoint
        return arrival.number if self.host is None else arrival.at_host


@attrs.frozen
class _Chance:
    rate: float
    faults: tuple[Fault, ...]
    seed: int
    host: int | None

    def strike(self, arrival: Arrival) -> Fault | None:
        rng = stream(self.seed, "fault", arrival.number)
        if self.host not in {None, arrival.host} or rng.random() >= self.rate:
            return None
        return rng.choice(self.faults)


@attrs.frozen
class _Outage:
    start: float
    end: float
    fault: Fault
    host: int | None

    def strike(self, arrival: Arrival) -> Fault | None:
        there = self.host in {None, arrival.host} and self.start <= arrival.now < self.end
        return self.fault if there else None


@attrs.frozen
class _Only:
    """Rules that strike certain requests alone."""

    rules: tuple[Rule, ...]
    endpoint: str | None
    host: int | None
    params: Mapping[str, str]

    def strike(self, arrival: Arrival) -> Fault | None:
        if self.host not in {None, arrival.host} or self.endpoint not in {None, arrival.endpoint}:
            return None
        return _first(self.rules, arrival) if arrival.asks(self.params) else None


def _rules(rules: object) -> tuple[Rule, ...]:
    found = validation.as_list("rules", rules, "rules")
    return tuple(
        validation.with_members("rules", one, "what Faults.script, .chance and so on make", "strike") for one in found
    )


@attrs.frozen
class Faults:
    """A schedule of faults; `Faults()` is none at all. Add schedules up: the first that strikes wins."""

    rules: tuple[Rule, ...] = attrs.field(default=(), converter=_rules)

    @classmethod
    def script(
        cls, steps: Sequence[Fault | None], *, host: int | None = None, endpoint: Endpoint | str | None = None
    ) -> Self:
        """Return faults for the first requests, in order, then none; with a host or endpoint, counting only its own.

        Raises `TypeError` for a host and an endpoint at once.
        """
        if host is not None and endpoint is not None:
            raise TypeError("a script counts the requests of a host or of an endpoint, not of both")
        allowed_steps = validation.as_list("steps", steps, "Fault or None")
        faults = tuple(validation.none_or(_fault, f"steps[{at}]", step) for at, step in enumerate(allowed_steps))
        return cls((_Script(faults, _host(host), _name(endpoint)),))

    @classmethod
    def chance(
        cls, rate: float, faults: Sequence[Fault] = (_BROKEN,), *, seed: int = 1, host: int | None = None
    ) -> Self:
        """Return a schedule in which each request has a fault with probability `rate`, one of those given."""
        found = validation.instances("faults", faults, Fault)
        if not found:
            raise ValueError("faults=(): allowed is a list of at least one Fault")
        return cls((_Chance(settings.fraction("rate", rate), found, settings.whole("seed", seed), _host(host)),))

    @classmethod
    def outage(
        cls,
        start: float,
        end: float,
        fault: Fault = _NO_CONNECTION,
        *,
        host: int | None = None,
    ) -> Self:
        """Return a schedule in which every request in `[start, end)`, in UTC seconds, has the fault."""
        first, last = settings.moment("start", start), settings.later("end", end)
        if first >= last:
            raise ValueError(f"end={validation.short_repr(end)} must be after start={validation.short_repr(start)}")
        return cls((_Outage(first, last, _fault("fault", fault), _host(host)),))

    @classmethod
    def always(cls, fault: Fault) -> Self:
        """Return a schedule in which every request has the fault; narrow it down with `only`."""
        return cls.outage(float("-inf"), float("inf"), fault)

    @classmethod
    def of_call(cls, call_id: str, fault: Fault = UNKNOWN_CALL) -> Self:
        """Return a schedule in which every request for the details of one call has the fault."""
        return cls.always(fault).only(call_id=validation.non_empty_str("call_id", call_id))

    def only(self, endpoint: Endpoint | str | None = None, *, host: int | None = None, **params: object) -> Self:
        """Return the same schedule for requests to one endpoint, one host, or with these parameters alone.

        Parameters have the service's names and are compared as text, such as `call_id="…"` or `metric="userCount"`.
        Raises `ValueError` for an endpoint or a parameter that is not there.
        """
        for name in params:
            validation.one_of("parameter", name, PARAMETERS)
        spelled = {name: str(value) for name, value in params.items()}
        return type(self)((_Only(self.rules, _name(endpoint), _host(host), spelled),))

    def __add__(self, other: Faults) -> Faults:
        return Faults(self.rules + validation.instance("faults", other, Faults).rules)

    def strike(self, arrival: Arrival) -> Fault | None:
        """Return the fault that hits a request, or None."""
        return _first(self.rules, arrival)


def _first(rules: Sequence[Rule], arrival: Arrival) -> Fault | None:
    return next((fault for rule in rules if (fault := rule.strike(arrival))), None)


def _name(endpoint: Endpoint | str | None) -> str | None:
    name = endpoint.name if isinstance(endpoint, Endpoint) else endpoint
    return None if name is None else validation.one_of("endpoint", name, sorted(_NAMES))


def _host(host: object) -> int | None:
    return validation.none_or(settings.count, "host", host)


def _fault(name: str, fault: object) -> Fault:
    return validation.instance(name, fault, Fault)
