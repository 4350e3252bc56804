"""The simulated service behind the transport's seam: no sockets, all waiting by `asyncio.sleep`.

So a loop with virtual time can let a day of requests pass in seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agora_analytics._core import validation
from agora_analytics.errors import DecodeError, TransportError, TransportTimeout
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator.faults import Fault, Kind
from agora_analytics.simulator.service.arrivals import Call
from agora_analytics.simulator.service.service import Service, basic
from agora_analytics.simulator.service.settings import above_nothing, seconds, some, words

Latency = tuple[float, float] | Callable[[], tuple[float, float]]
"""Seconds to the service and back, or what draws them for each request."""

_BROKEN: Mapping[Kind, str] = {
    "refused": "connection refused",
    "reset": "connection reset",
    "reset_after": "connection reset",
    "cut": "the body ended early",
}


class SimulatorTransport:
    """Carries requests to a simulated service in this process (`protocols.Transport`).

    The credentials are the service's own unless others are given. `latency` is one-way seconds there and back, `skews`
    how many seconds each host's clock is ahead (the rest: none), `timeout` the seconds after which `TransportTimeout`
    is raised.
    """

    def __init__(
        self,
        service: Service,
        *,
        customer_id: str | None = None,
        customer_secret: str | None = None,
        latency: Latency = (0.0, 0.0),
        hosts: int = 2,
        skews: Sequence[float] = (),
        timeout: float = 30.0,
    ) -> None:
        self._service = validation.instance("service", service, Service)
        self._authorization = basic(
            words("customer_id", customer_id or service.customer_id),
            words("customer_secret", customer_secret or service.customer_secret),
        )
        self._latency = _latency("latency", latency)
        self._hosts = some("hosts", hosts)
        ahead = [seconds(f"skews[{at}]", one) for at, one in enumerate(validation.as_list("skews", skews, "seconds"))]
        self._skews = (*ahead, *[0.0] * hosts)
        self._timeout = above_nothing("timeout", timeout)

    @property
    def hosts(self) -> int:
        """How many hosts there are."""
        return self._hosts

    async def send(self, request: Request, host: int = 0) -> Response:
        """Carry a request there and its answer back.

        Raises `TransportError` or `TransportTimeout`, and `DecodeError` for the faults `huge` and `bomb`.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._carry(request, host)
        except TimeoutError as error:
            what = f"no answer within {self._timeout:g} s"
            raise TransportTimeout(what, request=str(request)) from error

    def scrub(self, body: bytes) -> bytes:
        """Return the body as it is: the service never echoes credentials."""
        return body

    async def close(self) -> None:
        """Close nothing: it opened nothing."""

    async def _carry(self, request: Request, host: int) -> Response:
        there, back = self._latency() if callable(self._latency) else self._latency
        await _pass(there)
        call = self._call(request, host)
        fault = self._service.arrive(host, call)
        response = self._service.carry(fault, call)
        await _pass(back + (fault.delay if fault else 0.0))
        if fault and fault.kind in _BROKEN:
            raise _broken(fault, request)
        if response is None:
            raise DecodeError("the answer is too large", request=str(request))
        return response

    def _call(self, request: Request, host: int) -> Call:
        return Call(
            method=request.endpoint.method,
            path=request.endpoint.path,
            query=request.query,
            body=request.body,
            authorization=self._authorization,
            host=host,
            skew=self._skews[host],
        )


def _broken(fault: Fault, request: Request) -> TransportError:
    error = TransportError(_BROKEN[fault.kind], request=str(request))
    error.sent = fault.kind != "refused"
    return error


async def _pass(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _latency(name: str, value: Any) -> Latency:
    """Return two amounts of seconds, or what draws them."""
    if callable(value):
        drawn: Latency = value
        return drawn
    ways = validation.as_list(name, value, "two numbers of seconds, there and back")
    if len(ways) != 2:  # noqa: PLR2004 - there and back
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are two numbers of seconds, there and back")
    return (validation.number_in_range(f"{name}[0]", ways[0]), validation.number_in_range(f"{name}[1]", ways[1]))
