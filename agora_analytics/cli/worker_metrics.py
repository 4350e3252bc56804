"""Metrics of `agora-analytics fleet worker`: a small server beside the work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from agora_analytics.fleet import Fleet
    from agora_analytics.protocols import RequestObserver

_EVERY: Final = 15.0
"""Seconds between two readings of the fleet: each of many workers reads all of it."""

_MAX_PORT: Final = 65_535


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """Return the address in `PORT` (of 127.0.0.1), `HOST:PORT` or `[IPV6]:PORT`; raises `ValueError`."""
    host, _, port = text.rpartition(":")
    # `isdigit` alone also accepts characters such as ², on which `int` fails.
    if not (port.isascii() and port.isdigit()) or int(port[:6]) > _MAX_PORT or (":" in text and not host):
        raise ValueError(f"--metrics-port={text}: must be a port from 0 to {_MAX_PORT}, or HOST:PORT")
    return Address(host.strip("[]") or "127.0.0.1", int(port))


@asynccontextmanager
async def exporting(
    described: Callable[[tuple[RequestObserver, ...]], Fleet], worker: str, address: Address
) -> AsyncIterator[tuple[Fleet, str]]:
    """Serve the metrics of a worker; yields its fleet, whose requests are observed, and the URL.

    Raises `ValueError` without the extra `ops`, and `OSError` if the port cannot be used.
    """
    from agora_analytics._core.extras import install_command  # noqa: PLC0415 - loads the client, as all below

    if find_spec("prometheus_client") is None:
        raise ValueError(f"--metrics-port needs prometheus-client: {install_command('ops')}")
    from agora_analytics.ops import FleetMonitor  # noqa: PLC0415
    from agora_analytics.ops.metrics.request_metrics import RequestMetrics  # noqa: PLC0415
    from agora_analytics.ops.metrics.worker_metrics import WorkerMetrics  # noqa: PLC0415
    from agora_analytics.ops.web.scraping import metrics_only  # noqa: PLC0415
    from agora_analytics.ops.web.server import is_loopback, listening  # noqa: PLC0415

    requests = RequestMetrics()
    fleet = described((requests,))
    monitor = FleetMonitor(fleet, every=_EVERY)
    application = metrics_only(WorkerMetrics(worker, requests, monitor), any_host=not is_loopback(address.host))
    async with monitor, AsyncExitStack() as opened:
        try:
            url = await opened.enter_async_context(listening(application, *address))
        except OSError as error:
            raise OSError(f"metrics on {address.host}:{address.port}: {error.strerror or error}") from None
        yield fleet, f"{url}metrics"
