"""Fault injection: which requests fail. By script, at random, during an outage, or for selected requests only.

A schedule is a pure function: whether a request fails depends on its number, host, parameters and time alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import attrs

from agora_analytics._core import validation
from agora_analytics.plans import ENDPOINTS, Endpoint
from agora_analytics.simulator import validators
from agora_analytics.simulator.faults import Fault
from agora_analytics.simulator.service.params import IncomingRequest
from agora_analytics.simulator.world.rng import rng_for

_CONNECTION_REFUSED, _CONNECTION_RESET = Fault("refused"), Fault("reset")
UNKNOWN_CALL = Fault("refusal", code=404, message="no such call")
"""The default fault of `Faults.of_call`."""

_NAMES = frozenset(endpoint.name for endpoint in ENDPOINTS)
# Listed, so that a misspelled parameter of `only` raises: it would match no request, and the test have no fault.
PARAMETERS = (
    "aggregateGranularity", "appid", "call_id", "cname", "dimension", "dimensionValues", "endTs", "end_ts",
    "exclude_server_user", "extraMetrics", "filters", "metric", "page_no", "page_size", "productType", "sids",
    "startTs", "start_ts", "ts", "uids",
)  # fmt: skip
"""Names of all request parameters of the API, as `Faults.only` takes them."""


@attrs.frozen
class Arrival:
    """A request as a schedule sees it: how many came before it (in total, at its host, to its endpoint), and when."""

    number: int
    at_host: int
    host: int
    now: float
    at_endpoint: int = 0
    request: IncomingRequest | None = None

    @property
    def endpoint(self) -> str:
        """The endpoint's name in `plans`, or an empty string for an unknown path."""
        endpoint = self.request.endpoint if self.request else None
        return endpoint.name if endpoint else ""

    def has_params(self, params: Mapping[str, str]) -> bool:
        """Whether the request has all of these parameters; values are compared as strings."""
        if not params:
            return True
        sent = self.request.params if self.request else {}
        return all(str(sent.get(name, "")) == value for name, value in params.items())


class FaultRule(Protocol):
    """One rule of a schedule: implement `strike` to add a rule of your own to `Faults`."""

    def strike(self, arrival: Arrival) -> Fault | None:
        """Return the fault to inject into this request, or None."""


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

    # Counted where the script looks: requests to other hosts or endpoints in between do not use up its steps.
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
        # Seeded by the request's number, not drawn from one generator: other rules cannot shift which requests fail.
        rng = rng_for(self.seed, "fault", arrival.number)
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
        is_down = self.host in {None, arrival.host} and self.start <= arrival.now < self.end
        return self.fault if is_down else None


@attrs.frozen
class _Only:
    """Rules limited to certain requests."""

    rules: tuple[FaultRule, ...]
    endpoint: str | None
    host: int | None
    params: Mapping[str, str]

    def strike(self, arrival: Arrival) -> Fault | None:
        if self.host not in {None, arrival.host} or self.endpoint not in {None, arrival.endpoint}:
            return None
        return _first(self.rules, arrival) if arrival.has_params(self.params) else None


def _rules(rules: object) -> tuple[FaultRule, ...]:
    return tuple(
        validation.with_members("rules", rule, "a result of Faults.script, Faults.chance and so on", "strike")
        for rule in validation.as_list("rules", rules, "rules")
    )


@attrs.frozen
class Faults:
    """A fault schedule. `Faults()` has no faults; add schedules with `+`, and the first that matches a request wins.

    ```python
    import asyncio

    from agora_analytics.simulator import Fault, Faults, Simulation


    async def main():
        third_fails = Faults.script([None, None, Fault("reset")])
        details_are_slow = Faults.chance(0.1, [Fault("slow", seconds=2)], seed=7).only("call_sessions")
        simulation = Simulation(clock=1_795_521_600, faults=third_fails + details_are_slow)
        outage = Faults.outage(1_795_521_600, 1_795_521_660, Fault("html"), host=0)  # the client uses the other host
        simulation.faults += outage
        async with simulation.client() as client:
            assert [call async for call in client.calls.search(*client.calls.recent(3_600))]


    asyncio.run(main())
    ```
    """

    rules: tuple[FaultRule, ...] = attrs.field(default=(), converter=_rules)

    @classmethod
    def script(
        cls, steps: Sequence[Fault | None], *, host: int | None = None, endpoint: Endpoint | str | None = None
    ) -> Self:
        """Return a schedule with one step for each of the first requests, in order; None lets a request pass.

        With `host` or `endpoint`, only requests to it are counted. Raises `TypeError` if both are given.
        """
        if host is not None and endpoint is not None:
            raise TypeError(
                f"host={validation.short_repr(host)} and endpoint={validation.short_repr(endpoint)}: a script counts"
                " the requests to a host or to an endpoint; pass one of them"
            )
        allowed_steps = validation.as_list("steps", steps, "Fault or None")
        faults = tuple(validation.none_or(_fault, f"steps[{at}]", step) for at, step in enumerate(allowed_steps))
        return cls((_Script(faults, _host(host), _name(endpoint)),))

    @classmethod
    def chance(
        cls, rate: float, faults: Sequence[Fault] = (_CONNECTION_RESET,), *, seed: int = 1, host: int | None = None
    ) -> Self:
        """Return a schedule in which each request fails with probability `rate`, with one of `faults` at random."""
        choices = validation.instances("faults", faults, Fault)
        if not choices:
            raise ValueError("faults=(): allowed is a list of at least one Fault")
        return cls(
            (_Chance(validators.fraction("rate", rate), choices, validators.integer("seed", seed), _host(host)),)
        )

    @classmethod
    def outage(
        cls,
        start: float,
        end: float,
        fault: Fault = _CONNECTION_REFUSED,
        *,
        host: int | None = None,
    ) -> Self:
        """Return a schedule in which every request in `[start, end)` fails; both are UTC seconds."""
        first, last = validators.utc_seconds("start", start), validators.utc_seconds_or_inf("end", end)
        if first >= last:
            raise ValueError(f"end={validation.short_repr(end)} must be after start={validation.short_repr(start)}")
        return cls((_Outage(first, last, _fault("fault", fault), _host(host)),))

    @classmethod
    def always(cls, fault: Fault) -> Self:
        """Return a schedule in which every request fails; narrow it down with `only`."""
        return cls.outage(float("-inf"), float("inf"), fault)

    @classmethod
    def of_call(cls, call_id: str, fault: Fault = UNKNOWN_CALL) -> Self:
        """Return a schedule in which every request for details of one call fails, by default with `UNKNOWN_CALL`."""
        return cls.always(fault).only(call_id=validation.non_empty_str("call_id", call_id))

    def only(self, endpoint: Endpoint | str | None = None, *, host: int | None = None, **params: object) -> Self:
        """Return this schedule limited to requests to one endpoint or one host, or with these parameters.

        Parameters have the API's names and are compared as strings, such as `call_id="…"` or `metric="userCount"`.
        Raises `ValueError` for an unknown endpoint or parameter.
        """
        for name in params:
            validation.one_of("parameter", name, PARAMETERS)
        # A query has only strings; a body has numbers too.
        spelled = {name: str(value) for name, value in params.items()}
        return type(self)((_Only(self.rules, _name(endpoint), _host(host), spelled),))

    def __add__(self, other: Faults) -> Faults:
        return Faults(self.rules + validation.instance("faults", other, Faults).rules)

    def strike(self, arrival: Arrival) -> Fault | None:
        """Return the fault to inject into this request, or None."""
        return _first(self.rules, arrival)


def _first(rules: Sequence[FaultRule], arrival: Arrival) -> Fault | None:
    return next((fault for rule in rules if (fault := rule.strike(arrival))), None)


def _name(endpoint: Endpoint | str | None) -> str | None:
    name = endpoint.name if isinstance(endpoint, Endpoint) else endpoint
    return None if name is None else validation.one_of("endpoint", name, sorted(_NAMES))


def _host(host: object) -> int | None:
    return validation.none_or(validators.non_negative, "host", host)


def _fault(name: str, fault: object) -> Fault:
    return validation.instance(name, fault, Fault)
