"""What checkpoint stores have in common that processes on many hosts share: patience, order, and leases that end.

A lease is over when it has run out by the store's clock, and the one who takes it over has seen the store answer for as
long: after an outage, in which nobody can renew a lease, a holder that runs has the time to renew it first.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import attrs

from agora_analytics._core import validation
from agora_analytics._core.futures import cancel_and_wait, uncancellable
from agora_analytics._core.shared_store import Connections, SharedStore, StoreFailedError
from agora_analytics.errors import CheckpointError
from agora_analytics.protocols import Lease
from agora_analytics.streams.checkpoint_contract import (
    check_size,
    checked_checkpoint,
    checked_epoch,
    checked_name,
    in_use,
    seconds_between_saves,
    taken_over,
    unusable,
)
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.health import log
from agora_analytics.streams.store_contact import StoreContact

T = TypeVar("T")

_ATTEMPT: Final = 5.0
"""Seconds for an answer of the store; by then a connection that broke without a word is given up."""

_PATIENCE: Final = 30.0
"""Seconds for which a call is repeated before a stream ends: a store that is restarted or fails over is back."""

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0
"""Seconds between two attempts."""

_RENEWALS: Final = 3
"""How often a lease is renewed before it would end, so that one that fails does no harm."""

_SHORTEST_RENEWAL: Final = 1.0
"""Seconds that an answer to a renewal may take, even if the lease is shorter than three of them."""

_LOOKS: Final = 6
"""How often a lease that has run out is looked at while it could be renewed."""

_HINT: Final = "Check that the store runs, its address, and that this user may write."
_HELD: Final = "Try again then: this process goes on where that one has stopped."


@attrs.frozen
class StoredCheckpoint:
    """What a store has under a name: the epoch, the encoded checkpoint, empty if there is none, and its bytes.

    `held` are the seconds for which the lease of another holder still lasts, 0 or less if it has run out; None where no
    lease keeps others away.
    """

    epoch: int
    text: bytes = b""
    size: int = 0
    held: float | None = None


@attrs.define
class _Held:
    """A lease of this process, and what is called if another process takes its name over."""

    epoch: int
    on_lost: Callable[[], object] = lambda: None


class CheckpointRows(Connections, Protocol):
    """A store, and the connections to it. Each call is one change, whole or not at all; it may be repeated."""

    async def load(self, name: str) -> StoredCheckpoint:
        """Return what is stored; of more than `MAX_BYTES` the size alone."""

    async def acquire(self, name: str, lease: float, *, watched: bool) -> StoredCheckpoint:
        """Draw the next epoch and return what is stored with it, unless another lease keeps others away.

        One that has run out does that unless it was `watched`; without a `lease` none does.
        """

    async def save(self, name: str, text: str, epoch: int, number: int, lease: float) -> bool:
        """Store a checkpoint; False if the stored epoch is a later one.

        What is stored with the same epoch and a later `number` stays: a call that was given up may arrive late.
        """

    async def renew(self, name: str, epoch: int, lease: float) -> bool:
        """Let the lease of an epoch last so many seconds from now; False if the epoch is a later one."""

    async def release(self, name: str, epoch: int) -> None:
        """End the lease of an epoch, if it has one."""


class SharedCheckpoints(SharedStore):
    """A checkpoint store that processes on many hosts share; its subclasses say in which store."""

    def __init__(self, rows: CheckpointRows, every: float, lease: float = 0.0) -> None:
        super().__init__(rows)
        self.every = seconds_between_saves(every)
        self._rows = rows
        self._lease = validation.number_in_range("lease", lease)
        self._number = 0
        # Much shorter than the time without renewals in which a lease runs out.
        self._contact = StoreContact(self._lease / 2)
        self._held: dict[str, _Held] = {}
        self._is_failing = False
        self._heartbeat: asyncio.Task[None] | None = None

    async def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint that was saved last, or None; takes nothing over."""
        name = checked_name(name)
        return await self._decoded(name, await self._call(name, lambda: self._rows.load(name)))

    async def acquire(self, name: str) -> Lease:
        """Take a name over; raises `CheckpointError` while another lease of it lasts.

        Of a lease that has run out, it first waits until the store has been reachable for as long as a lease.
        """
        name = checked_name(name)
        taken: list[StoredCheckpoint] = []
        try:
            await self._take(name, taken)
            checkpoint = await self._decoded(name, taken[-1])
        except BaseException:
            # Who is cancelled, or cannot read it, does not keep others away.
            with suppress(CheckpointError):
                await self._give_back(name, taken)
            raise
        found = taken[-1]
        if found.held is not None:
            raise in_use(name, f"another process, for {math.ceil(found.held)} s unless it is renewed", _HELD)
        lease = Lease(found.epoch, checkpoint)
        if self._lease:
            self._held[name] = _Held(lease.epoch)
            if self._heartbeat is None or self._heartbeat.done():
                self._heartbeat = asyncio.create_task(self._renew_leases())
        return lease

    async def _take(self, name: str, taken: list[StoredCheckpoint]) -> None:
        """Acquire a name, or find that another lease of it lasts; `taken` are all answers."""
        loop, has_run_out = asyncio.get_running_loop(), False

        async def take() -> None:
            # Only if the last answer said so: a call that is given up may reach a store that was frozen when it wakes.
            watched = has_run_out and self._contact.seconds(loop.time()) >= self._lease
            taken.append(await self._rows.acquire(name, self._lease, watched=watched))

        while True:
            await self._call(name, take)
            held = taken[-1].held
            if held is None or held > 0:
                return
            left = max(self._lease - self._contact.seconds(loop.time()), 0.0)
            if left and not has_run_out:
                log.info("%s: its lease has run out, taken over in %.0f s unless renewed", self._source(name), left)
            has_run_out = True
            await asyncio.sleep(min(left, self._lease / _LOOKS))

    def when_lost(self, name: str, epoch: int, on_lost: Callable[[], object]) -> None:
        """Call a function, once, if a renewal of the lease with this epoch shows that the name was taken over."""
        if (held := self._held.get(name)) is not None and held.epoch == epoch:
            held.on_lost = on_lost

    async def save(self, name: str, checkpoint: Checkpoint, epoch: int) -> None:
        """Save a checkpoint; raises `CheckpointError` if the name was acquired after `epoch`."""
        name, epoch, number = checked_name(name), checked_epoch(epoch), self._next_number()
        # In a thread: for thousands of windows this is megabytes.
        text = await asyncio.to_thread(checked_checkpoint(checkpoint).encode)
        check_size(len(text), self._source(name))
        if not await self._call(name, lambda: self._rows.save(name, text, epoch, number, self._lease)):
            self._lose(name, epoch)
            raise taken_over(name)

    async def release(self, name: str, epoch: int) -> None:
        """End the lease with this epoch; does nothing if it has ended."""
        name, epoch = checked_name(name), checked_epoch(epoch)
        self._lose(name, epoch)
        if self._lease:
            await self._call(name, lambda: self._rows.release(name, epoch))

    async def close(self) -> None:
        """Close the connections; may be called twice, and the store may be used again after it."""
        self._bind()
        self._held.clear()
        heartbeat, self._heartbeat = self._heartbeat, None
        try:
            if heartbeat is not None:
                await cancel_and_wait(heartbeat)
        finally:
            await self._rows.close()

    async def _give_back(self, name: str, taken: list[StoredCheckpoint]) -> None:
        for found in taken:
            if found.held is None:
                await self.release(name, found.epoch)

    def _next_number(self) -> int:
        """Return a number greater than all before, also than those of another store of this process."""
        self._number = max(self._number + 1, int(time.time() * 1e6))
        return self._number

    def _source(self, name: str) -> str:
        return f"the checkpoint {name!r} in {self._rows.name}"

    async def _decoded(self, name: str, found: StoredCheckpoint) -> Checkpoint | None:
        source = self._source(name)
        check_size(found.size, source)
        return await asyncio.to_thread(Checkpoint.decode, found.text, source=source) if found.text else None

    async def _call(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Return what a call returns, repeated while the store cannot be used; a cancellation waits for its end."""
        self._bind()
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + _PATIENCE, _FIRST_PAUSE
        while True:
            try:
                return await uncancellable(self._attempt(work, _ATTEMPT))
            except StoreFailedError as error:
                why, refused = str(error), error.refused
            # Not inside `except`: the frames of the library that failed may hold a password.
            if refused or loop.time() + pause > until:
                raise unusable(self._source(name), why, _HINT)
            if pause == _FIRST_PAUSE:
                log.warning("%s cannot be used, will retry for %.0f s: %s", self._source(name), _PATIENCE, why)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _attempt(self, work: Callable[[], Awaitable[T]], seconds: float) -> T:
        """Return what a call returns, and record whether the store answers."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                answer = await work()
        except StoreFailedError:
            self._contact.failed()
            raise
        except TimeoutError:
            self._contact.failed()
        else:
            self._contact.answered(loop.time())
            return answer
        raise StoreFailedError(f"no answer within {seconds:.0f} s")

    def _lose(self, name: str, epoch: int) -> _Held | None:
        """Renew a lease no more, and return it; one with another epoch, which another stream has now, stays."""
        held = self._held.get(name)
        return self._held.pop(name) if held is not None and held.epoch == epoch else None

    def _reset(self) -> object:
        heartbeat, self._held, self._heartbeat = self._heartbeat, {}, None
        self._contact = StoreContact(self._lease / 2)
        return heartbeat

    async def _renew_leases(self) -> None:
        while self._held:
            await asyncio.sleep(self._lease / _RENEWALS)
            # Side by side: each may take its time.
            await asyncio.gather(*(self._renew(name, held.epoch) for name, held in tuple(self._held.items())))

    async def _renew(self, name: str, epoch: int) -> None:
        # Not longer than until the next one, which may find that the store is back.
        seconds = min(max(self._lease / _RENEWALS, _SHORTEST_RENEWAL), _ATTEMPT)
        try:
            is_mine = await self._attempt(lambda: self._rows.renew(name, epoch, self._lease), seconds)
        except StoreFailedError as error:
            why = str(error)
        else:
            self._is_failing = False
            if not is_mine and (held := self._lose(name, epoch)) is not None:
                held.on_lost()
            return
        if not self._is_failing:
            self._is_failing = True
            log.warning("%s: its lease cannot be renewed, will retry until it can: %s", self._source(name), why)
