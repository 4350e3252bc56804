"""`agora-analytics simulate`: a simulated service on a port, for programs without an account."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar, get_args

import attrs
import typer

from agora_analytics.cli.options import OutputOptions, command, rate_option
from agora_analytics.cli.output import Screen
from agora_analytics.cli.parsing import check_choice, check_plan, completion_of
from agora_analytics.plans import PLANS

if TYPE_CHECKING:
    from agora_analytics.simulator import Fault, Service

T = TypeVar("T")

# Faults that a retry gets over: a client should work against them without any setting.
_FAULT_KINDS = "reset,status,slow,cut,html"

Plan = Annotated[
    str, typer.Option(help=f"Plan of the simulated account: {', '.join(PLANS)}.", autocompletion=completion_of(PLANS))
]
Seed = Annotated[int, typer.Option(help="Seed of the simulated world: the same seed gives the same calls.")]


@attrs.frozen(kw_only=True)
class SimulatorAccess:
    """Settings of a client of the simulated service; its credentials are valid nowhere else."""

    base_url: str
    customer_id: str
    customer_secret: str
    app_id: str
    plan: str

    @classmethod
    def to(cls, service: Service, base_url: str) -> SimulatorAccess:
        """Return the settings for a service at a URL."""
        from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET  # noqa: PLC0415

        return cls(
            base_url=base_url,
            customer_id=CUSTOMER_ID,
            customer_secret=CUSTOMER_SECRET,
            app_id=APP_ID,
            plan=service.plan.name,
        )


@command
async def simulate(
    output: OutputOptions,
    *,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.", min=0, max=65_535)] = 8_765,
    host: Annotated[
        str, typer.Option(help="Address to listen on; without HTTPS clients accept only a loopback address.")
    ] = "127.0.0.1",
    seed: Seed = 1,
    plan: Plan = "enterprise",
    hostile: Annotated[
        bool, typer.Option("--hostile", help="Answer unusually wherever the reference leaves a choice.")
    ] = False,
    fault_rate: Annotated[float, rate_option("Fraction of requests that fail: 5% or 0.05 (default: 0).")] = 0.0,
    fault_kinds: Annotated[
        str, typer.Option(help="Kinds of faults, separated by commas: status, html, busy, garbage, refused, reset, …")
    ] = _FAULT_KINDS,
) -> None:
    """Run a simulated Agora Analytics service until Ctrl-C.

    Prints the environment variables that a client needs.

    Example: agora-analytics simulate --port 8765 --seed 7
    """
    from agora_analytics.simulator import Faults, Service, Variants, World  # noqa: PLC0415 - slow to load
    from agora_analytics.simulator.server import serve  # noqa: PLC0415

    check_plan("--plan", plan)
    faults = Faults.chance(fault_rate, _faults(fault_kinds), seed=seed)
    variants = Variants.hostile() if hostile else Variants()
    service = Service(World(seed=seed), plan, faults=faults, variants=variants)
    async with listen_or_explain(serve(service, host, port), host, port) as url:
        await _wait_until_cancelled(output.screen, service, url)


async def _wait_until_cancelled(screen: Screen, service: Service, url: str) -> None:
    _print_access(screen, SimulatorAccess.to(service, url))
    try:
        await asyncio.Event().wait()
    finally:
        # Also after Ctrl-C, which is the only way out.
        refused = sum(service.refusals.values())
        screen.note(f"{sum(service.counts.values())} requests, {refused} refused")


@asynccontextmanager
async def listen_or_explain(server: AbstractAsyncContextManager[T], host: str, port: int) -> AsyncIterator[T]:
    """Enter a server; raise an `OSError` that says what to do if the port cannot be used."""
    async with AsyncExitStack() as entered:
        try:
            opened = await entered.enter_async_context(server)
        except OSError as error:
            raise OSError(_listen_error(error, host, port)) from None
        yield opened


def _listen_error(error: OSError, host: str, port: int) -> str:
    """Return why the port cannot be used, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: choose another --port, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user lacks: choose a --port from 1024 on, or 0 for any free one"
    return f"cannot listen on port {port} of {host}: {error.strerror or error}"


def _print_access(screen: Screen, access: SimulatorAccess) -> None:
    if screen.json:
        screen.emit(access)
        return
    screen.note(f"a simulated service, plan {access.plan}, with made-up credentials. In another shell:")
    for name, value in attrs.asdict(access).items():
        screen.print(f"export AGORA_{name.upper()}={value}")
    screen.note("Ctrl-C stops it")


def _faults(kinds: str) -> tuple[Fault, ...]:
    from agora_analytics.simulator import Fault  # noqa: PLC0415
    from agora_analytics.simulator.faults import FaultKind  # noqa: PLC0415

    known = {kind: Fault(kind) for kind in get_args(FaultKind)}
    chosen = tuple(kind.strip() for kind in kinds.split(","))
    for kind in chosen:
        check_choice("--fault-kinds", kind, known)
    return tuple(known[kind] for kind in chosen)
