"""`agora-analytics simulate`: a simulated service on a port, for programs that have no account yet."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Annotated, get_args

import attrs
import typer

from agora_analytics.cli.options import Shown, command
from agora_analytics.cli.output import Screen

if TYPE_CHECKING:
    from agora_analytics.simulator import Fault, Service

_KINDS = "reset,status,slow,cut,html"

Plan = Annotated[str, typer.Option(help="The plan that the simulated account has.")]
Seed = Annotated[int, typer.Option(help="Another number is another world.")]


@attrs.frozen(kw_only=True)
class Access:
    """What a client needs to reach the simulated service; these credentials open nothing else."""

    base_url: str
    customer_id: str
    customer_secret: str
    app_id: str
    plan: str

    @classmethod
    def to(cls, service: Service, base_url: str) -> Access:
        """Return the access to a service with its usual credentials."""
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
    shown: Shown,
    *,
    port: Annotated[int, typer.Option(help="0: any that is free.", min=0, max=65_535)] = 8_765,
    host: Annotated[str, typer.Option(help="Clients send to a loopback address only, since this is no HTTPS.")] = (
        "127.0.0.1"
    ),
    seed: Seed = 1,
    plan: Plan = "enterprise",
    hostile: Annotated[
        bool, typer.Option("--hostile", help="Read every open point of the reference the other way.")
    ] = False,
    fault_rate: Annotated[float, typer.Option(help="Fraction of requests that a fault hits.", min=0, max=1)] = 0.0,
    fault_kinds: Annotated[
        str, typer.Option(help="Kinds of faults, with commas between: status, html, busy, garbage, refused, reset, …")
    ] = _KINDS,
) -> None:
    """Serve a simulated Agora Analytics until Ctrl-C. Example: agora-analytics simulate --port 8765 --seed 7."""
    from agora_analytics.simulator import Faults, Service, Variants, World  # noqa: PLC0415 - longer than any help
    from agora_analytics.simulator.server import serve  # noqa: PLC0415

    faults = Faults.chance(fault_rate, _faults(fault_kinds), seed=seed)
    variants = Variants.hostile() if hostile else Variants()
    service = Service(World(seed=seed), plan, faults=faults, variants=variants)
    try:
        async with serve(service, host, port) as url:
            await _serve_on(shown.screen, service, url)
    except OSError as error:
        raise OSError(_unable(error, host, port)) from None


async def _serve_on(screen: Screen, service: Service, url: str) -> None:
    _introduce(screen, Access.to(service, url))
    try:
        await asyncio.Event().wait()
    finally:
        refused = sum(service.refusals.values())
        screen.note(f"{sum(service.counts.values())} requests, {refused} refused")


def _unable(error: OSError, host: str, port: int) -> str:
    """Say why nothing can listen there, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: give another as --port, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user lacks: give one from 1024 on as --port, or 0 for any"
    return f"nothing can listen on port {port} of {host}: {error.strerror or error}"


def _introduce(screen: Screen, access: Access) -> None:
    if screen.json:
        screen.emit(access)
        return
    screen.note(f"a simulated service, plan {access.plan}; its credentials are made up. In another shell:")
    for name, value in attrs.asdict(access).items():
        screen.say(f"export AGORA_{name.upper()}={value}")
    screen.note("Ctrl-C ends it")


def _faults(kinds: str) -> tuple[Fault, ...]:
    from agora_analytics.simulator import Fault  # noqa: PLC0415
    from agora_analytics.simulator.faults import FaultKind  # noqa: PLC0415

    known = {kind: Fault(kind) for kind in get_args(FaultKind)}
    wanted = tuple(kind.strip() for kind in kinds.split(","))
    unknown = [kind for kind in wanted if kind not in known]
    if unknown:
        raise ValueError(f"--fault-kinds={unknown[0]!r}: allowed are {', '.join(known)}")
    return tuple(known[kind] for kind in wanted)
