"""What can go wrong between a client and the service, and when it does: by script, by chance, or for a span of time.

A fault is a value; the transport or the server that carries the request acts it out. Schedules are pure: what happens
to a request follows from its number, its host and the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import attrs

from agora_analytics.protocols import Response
from agora_analytics.simulator.chance import stream

Kind = Literal["status", "html", "busy", "garbage", "refused", "reset", "reset_after", "cut", "slow", "huge", "bomb"]

_COUNTED = frozenset({"reset_after", "cut", "slow", "garbage"})
_GATEWAY = frozenset({"status", "html", "busy"})
_PAGE = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr>nginx</body></html>\r\n"
_GARBAGE = b'{"code":200,"data":[{"ts":17900\xff\xfe'


@attrs.frozen
class Fault:
    """One thing that goes wrong with one request.

    Kinds:
        status: HTTP `status` with a JSON message, from a gateway.
        html: HTTP `status` (200: a captive proxy) with a page.
        busy: HTTP 429 with `Retry-After: retry_after`.
        garbage: a body that is no JSON.
        refused: no connection; over sockets it is a `reset`, for a port cannot refuse one request.
        reset: the connection breaks before the service has counted the request.
        reset_after: the connection breaks after that.
        cut: the body ends early.
        slow: the answer comes `seconds` later.
        huge: a body of `size` bytes.
        bomb: a small body that unpacks to `size` bytes.
    """

    kind: Kind
    status: int = 502
    retry_after: int = 1
    seconds: float = 5.0
    size: int = 2**31

    @property
    def counted(self) -> bool:
        """Whether the request reaches the service, which counts and answers it."""
        return self.kind in _COUNTED

    @property
    def delay(self) -> float:
        """Seconds by which the answer is late."""
        return self.seconds if self.kind == "slow" else 0.0

    def instead(self) -> Response | None:
        """Return the gateway's answer that takes the place of the service's, or None where the fault is none such."""
        if self.kind not in _GATEWAY:
            return None
        if self.kind == "html":
            return Response(self.status, {"Content-Type": "text/html"}, _PAGE % (self.status, self.status))
        status = 429 if self.kind == "busy" else self.status
        headers = {"Content-Type": "application/json"}
        headers |= {"Retry-After": str(self.retry_after)} if self.kind == "busy" else {}
        return Response(status, headers, b'{"message":"simulated fault"}')

    def spoil(self, response: Response) -> Response:
        """Return the service's answer as this fault leaves it."""
        return attrs.evolve(response, body=_GARBAGE) if self.kind == "garbage" else response


@attrs.frozen
class Arrival:
    """A request that arrives: the number of requests before it, in all and at its host, and when."""

    number: int
    at_host: int
    host: int
    now: float


@attrs.frozen
class _Script:
    steps: tuple[Fault | None, ...]
    host: int | None

    def strike(self, arrival: Arrival) -> Fault | None:
        number = arrival.number if self.host is None else arrival.at_host
        if self.host not in {None, arrival.host} or number >= len(self.steps):
            return None
        return self.steps[number]


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
class Faults:
    """A schedule of faults; `Faults()` is none at all. Add schedules up: the first that strikes wins."""

    rules: tuple[_Script | _Chance | _Outage, ...] = ()

    @classmethod
    def script(cls, steps: Sequence[Fault | None], *, host: int | None = None) -> Self:
        """Return faults for the first requests, in order, then none; with a host, counting only its requests."""
        return cls((_Script(tuple(steps), host),))

    @classmethod
    def chance(
        cls, rate: float, faults: Sequence[Fault] = (Fault("reset"),), *, seed: int = 1, host: int | None = None
    ) -> Self:
        """Return a schedule in which each request has a fault with probability `rate`, one of those given."""
        return cls((_Chance(rate, tuple(faults), seed, host),))

    @classmethod
    def outage(
        cls,
        start: float,
        end: float,
        fault: Fault = Fault("refused"),
        *,
        host: int | None = None,
    ) -> Self:
        """Return a schedule in which every request in `[start, end)`, in UTC seconds, has the fault."""
        return cls((_Outage(start, end, fault, host),))

    def __add__(self, other: Faults) -> Faults:
        return Faults(self.rules + other.rules)

    def strike(self, arrival: Arrival) -> Fault | None:
        """Return the fault that hits a request, or None."""
        return next((fault for rule in self.rules if (fault := rule.strike(arrival))), None)
