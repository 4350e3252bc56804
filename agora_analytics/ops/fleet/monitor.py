"""`ops.FleetMonitor`: reads the status of a fleet every few seconds, and keeps the newest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Final, Self

from agora_analytics._core import validation
from agora_analytics._core.decoding.json import one_line
from agora_analytics._core.dispatcher import in_turns
from agora_analytics._core.futures import cancel_and_wait, retrieve_error
from agora_analytics.errors import AgoraError
from agora_analytics.fleet.fleet import Fleet
from agora_analytics.fleet.status import FleetStatus
from agora_analytics.ops.fleet.snapshot import LIMIT, FleetSnapshot, Unheld, snapshot
from agora_analytics.streams.listeners import Listeners

__all__ = ["FleetMonitor"]

_PATIENCE: Final = 5.0
"""Seconds for one reading: a store that is frozen never answers."""

_UNREAD: Final = "it was not read yet"

_MAX_ERROR: Final = 200
_NAMED: Final = 3
"""Characters of an error, and jobs that a text names."""

log = logging.getLogger("agora_analytics.ops")


class FleetMonitor:
    """Keeps the newest status of a fleet, for metrics and the live page; it costs no request of any account.

    ```python
    from agora_analytics import ops
    from agora_analytics.fleet import Fleet

    fleet = Fleet(store="memory://")  # or Fleet.from_file("fleet.toml")
    async with ops.FleetMonitor(fleet) as monitor, ops.LiveState(client, fleet=monitor) as state:
        application = ops.routes(state)
    ```

    It reads in the background while its context is open, over one connection; a store that does not answer is asked
    again, and the last status stays. It keeps that status alone.

    Entering it raises `ValueError` if the extra `fleet` or the secret with the store's URL is missing, and
    `RuntimeError` if it is open already.

    Args:
        fleet: whose status to read.
        every: seconds between two readings.

    """

    def __init__(self, fleet: Fleet, *, every: float = 5.0) -> None:
        self.name = validation.instance("fleet", fleet, Fleet).name
        self.status: FleetStatus | None = None
        self.error = _UNREAD
        self._fleet = fleet
        self._every = validation.number_in_range("every", every, above=True)
        self._snapshot: FleetSnapshot | None = None
        self._unheld: Unheld = {}
        self._takeovers = 0
        self._read_at: float | None = None
        self._opened_at = 0.0
        self._clock: Callable[[], float] | None = None
        self._listeners: Listeners[FleetMonitor] = Listeners("the fleet monitor")
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"FleetMonitor({self.name!r}, age={self.age}, error={self.error!r})"

    @property
    def age(self) -> float | None:
        """Seconds since the status was read; None before the first."""
        return None if self._read_at is None or self._clock is None else self._clock() - self._read_at

    @property
    def takeovers(self) -> int:
        """Jobs that were taken over since the first reading; it never falls, even when a job is removed."""
        return self._takeovers

    @property
    def snapshot(self) -> FleetSnapshot | None:
        """What the status says of each job and each worker."""
        return self._snapshot

    @property
    def trouble(self) -> str:
        """What is wrong in words: jobs that nobody has had for a minute, or a status older than that; else empty."""
        if self._clock is None:
            return ""
        since = self._opened_at if self._read_at is None else self._read_at
        unread = self._clock() - since
        if self.error and unread > LIMIT:
            return f"the fleet {self.name} could not be read for {unread:.0f} s: {self.error}"
        unheld = () if self._snapshot is None else self._snapshot.unheld
        if self._snapshot is None or not unheld:
            return ""
        jobs = "1 job" if len(unheld) == 1 else f"{len(unheld)} jobs"
        why = "" if self._snapshot.alive else "; no worker is alive"
        named = ", ".join(job.key for job in unheld[:_NAMED]) + (", …" if len(unheld) > _NAMED else "")
        return f"fleet {self.name}: {jobs} with nobody for {unheld[0].unheld:.0f} s{why}: {named}"

    def on_status(self, listener: Callable[[FleetMonitor], object]) -> Callable[[], None]:
        """Call a function with this monitor after each reading, also one that failed; return what ends this.

        An exception from it ends nothing; its first one is logged.
        """
        return self._listeners.add(listener, "a monitor")

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("this fleet monitor is open already")
        self._fleet.status_reader()  # for what it raises: that does not get better by itself
        # Kept, as a scrape may ask for the age in another thread.
        self._clock = asyncio.get_running_loop().time
        self._opened_at = self._clock()
        self._task = asyncio.create_task(self._read_forever())
        self._task.add_done_callback(retrieve_error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            await cancel_and_wait(task)

    async def _read_forever(self) -> None:
        while True:
            try:
                await self._read_until_error()
            except Exception as error:  # noqa: BLE001 - of any store: the last status stays, and says how old it is
                if self.error in {"", _UNREAD}:
                    log.warning("the fleet %s cannot be read: %s", self.name, _reason(error))
                self.error = _reason(error)
            self._listeners.notify(self)
            await asyncio.sleep(self._every)

    async def _read_until_error(self) -> None:
        async with AsyncExitStack() as opened:
            async with asyncio.timeout(_PATIENCE):
                read = await opened.enter_async_context(self._fleet.status_reader())
            while True:
                async with asyncio.timeout(_PATIENCE):
                    status = await read()
                await self._keep(status)
                self._listeners.notify(self)
                await asyncio.sleep(self._every)

    async def _keep(self, status: FleetStatus) -> None:
        now = asyncio.get_running_loop().time()
        found, self._unheld = await in_turns(snapshot(status, self._unheld, now))
        # From 0 for each process: a sum over jobs falls with each that is removed, which Prometheus would take for a
        # restart, and count all of them again.
        counted = {job.key: job.takeovers for job in self.status.jobs} if self.status else {}
        self._takeovers += sum(max(0, job.takeovers - counted.get(job.key, job.takeovers)) for job in status.jobs)
        self.status, self._snapshot, self._read_at, self.error = status, found, now, ""


def _reason(error: Exception) -> str:
    """Return what the store or the system said; the text of any other error may hold a credential."""
    said = ""
    with suppress(Exception):
        if isinstance(error, AgoraError):
            return one_line(str(error.args[0]), _MAX_ERROR)
        if isinstance(error, OSError):
            said = str(error)
    return one_line(f"{type(error).__name__}: {said}".removesuffix(": "), _MAX_ERROR)
