"""An in-process transport to the simulated service: no sockets, and all waiting is `asyncio.sleep`.

Therefore it works on a `VirtualLoop`, where a day of requests takes seconds. Real sockets: `server.serve`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agora_analytics._core import validation
from agora_analytics.errors import DecodeError, TransportError, TransportTimeout
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator.faults import Fault, FaultKind
from agora_analytics.simulator.service.params import IncomingRequest
from agora_analytics.simulator.service.service import Service, basic_auth
from agora_analytics.simulator.validators import finite, positive, positive_integer, string

Latency = tuple[float, float] | Callable[[], tuple[float, float]]
"""One-way seconds to the service and back, or a function that returns them for each request."""

_CONNECTION_ERRORS: Mapping[FaultKind, str] = {
    "refused": "connection refused",
    "reset": "connection reset",
    "reset_after": "connection reset",
    "cut": "the body ended early",
}


class SimulatorTransport:
    """A `protocols.Transport` that sends requests to a simulated service in this process.

    The credentials default to the service's own. `latency` is one-way seconds to the service and back, `hosts` the
    number of hosts, `skews` the seconds by which each host's clock is ahead (default: 0), and `timeout` the seconds
    after which `send` raises `TransportTimeout`.
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
        self._authorization = basic_auth(
            string("customer_id", customer_id or service.customer_id),
            string("customer_secret", customer_secret or service.customer_secret),
        )
        self._latency = _latency("latency", latency)
        self._hosts = positive_integer("hosts", hosts)
        given = [
            finite(f"skews[{index}]", skew) for index, skew in enumerate(validation.as_list("skews", skews, "seconds"))
        ]
        # Padded, so that a test gives only the hosts whose clock is off.
        self._skews = (*given, *[0.0] * hosts)
        self._timeout = positive("timeout", timeout)

    @property
    def hosts(self) -> int:
        """The number of hosts."""
        return self._hosts

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Name and port of each host, as observers see them."""
        return [(f"host{number}.agora.test", 443) for number in range(self._hosts)]

    async def send(self, request: Request, host: int = 0) -> Response:
        """Send a request to a host and return the answer.

        Raises `TransportError` or `TransportTimeout`, and `DecodeError` for the faults `huge` and `bomb`.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(request, host)
        except TimeoutError as error:
            message = f"no answer within {self._timeout:g} s"
            raise TransportTimeout(message, request=str(request)) from error

    def scrub(self, body: bytes) -> bytes:
        """Return the body unchanged: the service never echoes credentials."""
        return body

    async def close(self) -> None:
        """Do nothing: the transport holds no resources."""

    async def _exchange(self, request: Request, host: int) -> Response:
        outbound, inbound = self._latency() if callable(self._latency) else self._latency
        await _sleep(outbound)
        incoming = self._incoming(request, host)
        # Counted on arrival, by the service's clock of that moment: neither when the request was sent nor when its
        # answer came.
        fault = self._service.receive(host, incoming)
        response = self._service.respond(fault, incoming)
        # After the count: a request that times out here was spent all the same.
        await _sleep(inbound + (fault.delay if fault else 0.0))
        if fault and fault.kind in _CONNECTION_ERRORS:
            raise _connection_error(fault, request)
        # As the aiohttp transport ends a body above its bound; without a socket there is none to read.
        if response is None:
            raise DecodeError("the answer is too large", request=str(request))
        return response

    def _incoming(self, request: Request, host: int) -> IncomingRequest:
        return IncomingRequest(
            method=request.endpoint.method,
            path=request.endpoint.path,
            query=request.query,
            body=request.body,
            authorization=self._authorization,
            host=host,
            skew=self._skews[host],
        )


def _connection_error(fault: Fault, request: Request) -> TransportError:
    error = TransportError(_CONNECTION_ERRORS[fault.kind], request=str(request))
    # Only a refused connection proves that nothing arrived, and so lets the client take its permit back.
    error.sent = fault.kind != "refused"
    return error


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _latency(name: str, value: Any) -> Latency:
    """Return two numbers of seconds, or a function that returns them."""
    if callable(value):
        function: Latency = value
        return function
    pair = validation.as_list(name, value, "two numbers of seconds, to the service and back")
    if len(pair) != 2:  # noqa: PLR2004 - to the service and back
        raise ValueError(
            f"{name}={validation.short_repr(value)}: allowed are two numbers of seconds, to the service and back"
        )
    return (validation.number_in_range(f"{name}[0]", pair[0]), validation.number_in_range(f"{name}[1]", pair[1]))
