"""One account in a store that hosts share: every change is a compare-and-set of the whole state.

One task per account makes the changes: all that queue up while one is under way are made together with the next round
trip, and a process does not compete with itself. The newest state that is known is kept, so that a change costs one
round trip unless another process was faster. Then its answer brings the newer state, and the changes run again.

A process is a member for as long as it renews its lease, until it has not used the account for a while. When a lease
has ended by itself, the next process to make a change reclaims what the lost one had under way.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from agora_analytics._core.decoding.json import DecodeFailures
from agora_analytics._core.futures import cancel_and_wait, retrieve_error, wait_until_done
from agora_analytics._core.responsive_timer import ResponsiveTimer
from agora_analytics.errors import LedgerError
from agora_analytics.quota.ledger_state import LedgerState
from agora_analytics.quota.ledger_store import Exchange, KnownState, Store, StoreAnswer
from agora_analytics.quota.membership import Membership, slot_of
from agora_analytics.quota.own_changes import REPLAYABLE, OwnChanges
from agora_analytics.quota.store_clock import StoreClock, elapsed

T = TypeVar("T")

_IDLE: Final = 120.0
"""Seconds without a change after which a process that has nothing in the state leaves: in a fleet, each worker has had
each account after a while. Who waits for a permit tries again each minute."""

_RENEW_EVERY: Final = 1.0
_RENEW_PAUSE: Final = 0.05
_PATIENCE: Final = 1.0
"""Seconds after its submission in which a change that the store does not take fails."""

_GATHERING: Final = 2.1
"""Seconds after an outage of the store, or a replay, in which no change is made: all processes look meanwhile.

Each looks once in a second, after it has given up a call that hung. One that did not wait would issue permits of a
window of which another has issued some that the store has forgotten.
"""

_LOOK_EVERY: Final = 0.1
"""Seconds between two looks meanwhile."""

log = logging.getLogger("agora_analytics.quota")


class _Submitted(NamedTuple):
    change: Callable[[LedgerState], Any]
    done: asyncio.Future[Any]


class _Attempt(NamedTuple):
    last: _Submitted
    limit: asyncio.Timeout


class _Made(NamedTuple):
    """A state on which changes were made.

    Attributes:
        state: the state.
        body: the state, encoded.
        number: the number of the change in it, 0 if nothing was changed.
        results: the result of each submitted change; None where none was made, as others look first.
        submitted: those changes.
        buried: the members whose requests it has reclaimed.
        replayed: how many changes were replayed that the store had forgotten.
        clocks: how often the store's clock had been set.
        failures: how often the store had failed.

    """

    state: LedgerState
    body: bytes
    number: int
    results: list[Any] | None
    submitted: list[_Submitted]
    buried: tuple[str, ...]
    replayed: int
    clocks: int
    failures: int


class SharedAccount:
    """Makes the changes of one account in one process; belongs to the event loop in which it was made."""

    def __init__(self, store: Store, account: str, clock: StoreClock) -> None:
        self._store = store
        self._clock = clock
        self._membership = Membership(store, account, clock)
        self._known = KnownState()
        self._own = OwnChanges(secrets.token_hex(4))
        # How often the store's clock was set, and how often the known state was adapted to that.
        self._clocks = self._adapted = clock.steps
        self._gathers_until = 0.0
        self._submitted: list[_Submitted] = []
        self._runner: asyncio.Task[None] | None = None
        self._attempt: _Attempt | None = None
        self._used_at = 0.0
        self._heartbeat = self._started_heartbeat()

    def _started_heartbeat(self) -> asyncio.Task[None]:
        # A weak reference: an account that nobody uses any more is collected, and its lease ends by itself.
        return asyncio.get_running_loop().create_task(_renew_lease(weakref.ref(self)))

    async def change(self, change: Callable[[LedgerState], T]) -> T:
        """See `protocols.Ledger.change`."""
        self._used_at = asyncio.get_running_loop().time()
        if self._heartbeat.done():
            self._heartbeat = self._started_heartbeat()
        return await self._submit(change)

    async def _submit(self, change: Callable[[LedgerState], T]) -> T:
        loop = asyncio.get_running_loop()
        submitted = _Submitted(change, loop.create_future())
        self._submitted.append(submitted)
        # A time limit of its own: one that has to wait for others would have to wait for the end of theirs, too.
        timer = ResponsiveTimer(_PATIENCE, lambda: self._expire(submitted))
        if self._runner is None:
            self._runner = loop.create_task(self._make_changes())
        try:
            result: T = await wait_until_done(submitted.done)
        finally:
            timer.cancel()
        return result

    async def close(self) -> None:
        """Make the changes that were submitted, and end the membership."""
        await cancel_and_wait(self._heartbeat)
        if self._runner is not None:
            await asyncio.wait([self._runner])
        await self._membership.leave(is_used=self._is_used())

    def _is_used(self) -> bool:
        if not self._membership.is_member:
            return False
        state = self._known.state()
        state.process_slot = self._membership.slot
        return state.is_used_here

    @property
    def renewal_due_in(self) -> float:
        """Seconds until the lease is to be renewed."""
        return max(self._membership.renewed_at + _RENEW_EVERY - elapsed(), _RENEW_PAUSE)

    async def renew_lease(self) -> bool:
        """Show that this process lives, unless a change has just done so; return whether it still needs a lease."""
        if elapsed() < self._membership.renewed_at + _RENEW_EVERY:
            return True
        try:
            is_used = await self._submit(lambda state: state.is_used_here)
        except LedgerError as error:
            log.debug("the lease could not be renewed: %s", error)  # the next request will say so
            return True
        used_at = self._used_at
        if is_used or asyncio.get_running_loop().time() < used_at + _IDLE:
            return True
        await self._membership.leave(is_used=is_used)
        # By a change that came meanwhile.
        return self._used_at != used_at

    async def _make_changes(self) -> None:
        try:
            while self._submitted:
                submitted, self._submitted = self._submitted, []
                await self._make([one for one in submitted if not one.done.done()])
        finally:
            self._runner = None

    async def _make(self, submitted: list[_Submitted]) -> None:
        if not submitted:
            return
        try:
            async with asyncio.timeout(None) as limit:
                self._attempt = _Attempt(submitted[-1], limit)
                await self._make_or_raise(submitted)
        except BaseException as error:
            for one in submitted:
                self._fail(one, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._attempt = None

    def _expire(self, one: _Submitted, *, is_last: bool = False) -> None:
        if not is_last and elapsed() < self._gathers_until + _PATIENCE:
            # It had to wait for others while the store answered. Late ones may make it longer, but not forever.
            timer = ResponsiveTimer(2 * _GATHERING, lambda: self._expire(one, is_last=True))
            one.done.add_done_callback(lambda _: timer.cancel())
            return
        # The last one that was submitted is the last to expire: nobody waits for the attempt any more.
        if self._attempt is not None and self._attempt.last is one:
            self._attempt.limit.reschedule(0)
        self._fail(one)

    async def _make_or_raise(self, submitted: list[_Submitted]) -> None:
        """Run the changes, and again on a newer state, until the stored one has them."""
        made: _Made | None = None
        is_fresh = False
        while made is None or not self._membership.is_member or not self._is_stored(made):
            if not self._membership.is_member:
                await self._join()  # the state that it reads may have them
                continue
            made = self._run([one for one in submitted if not one.done.done()])
            # By a state that has just come, what changes nothing need not ask whether it is still the newest.
            if not (is_fresh and self._is_look(made)):
                await self._store_state(made)
            is_fresh = True
            if made.results is None and self._is_stored(made):
                self._on_stored(made)
                await asyncio.sleep(_LOOK_EVERY)
                made, is_fresh = None, False
        self._on_stored(made)
        for one, result in zip(made.submitted, made.results or (), strict=True):
            if not one.done.done():
                one.done.set_exception(result.error) if isinstance(result, _Raised) else one.done.set_result(result)

    def _is_stored(self, made: _Made) -> bool:
        """Whether the newest stored state is this one, or has the change: others may have made theirs since."""
        if not self._known.is_stored or self._known.body == made.body:
            return self._known.is_stored
        # Unless an answer was lost, the state that came instead does not have it.
        return made.number > 0 and made.failures != self._membership.failures and self._has_number(made.number)

    def _has_number(self, number: int) -> bool:
        return self._own.number_in(self._known.state()) == number

    def _is_look(self, made: _Made) -> bool:
        # What did not change is not stored, as that would make the changes of all other processes run again.
        return made.body == self._known.body and self._known.is_stored and not made.buried

    def _on_stored(self, made: _Made) -> None:
        self._own.on_seen(made.state, elapsed=elapsed())
        # Of before the answer: that may be the first to show that the clock was set.
        self._adapted = made.clocks
        if made.replayed:
            log.warning("the quota ledger had lost %d changes of this process: they were made again", made.replayed)

    async def _store_state(self, made: _Made) -> None:
        """Store a state in place of the known one, or learn the one that is stored instead."""
        body = None if self._is_look(made) else made.body
        exchange = Exchange(self._known.tag, self._known.next_tag(), body, made.buried)
        answer = await self._membership.exchange(exchange)
        if not answer.member:
            return
        if answer.replaced or answer.tag == exchange.tag:  # the latter: its answer was lost
            self._known = KnownState(self._known.changes + 1, answer.tag, made.body, at=elapsed())
        # With the same tag, a member that was to be buried may have renewed its lease: the state is as it was.
        elif answer.tag != self._known.tag:
            self._adopt(answer)
        else:
            self._known = self._known._replace(at=elapsed())

    def _run(self, submitted: list[_Submitted]) -> _Made:
        """Run all changes on the newest state; one that raises is undone by running the others again."""
        self._notice_clock()
        raised: dict[int, _Raised] = {}
        while True:
            state, before, replayed = self._state()
            if self._is_gathering(state):
                return self._encoded(state, before, None, submitted, replayed)
            results = list[Any]()
            for place, one in enumerate(submitted):
                if place in raised:
                    results.append(raised[place])
                    continue
                try:
                    results.append(one.change(state))
                except Exception as error:  # noqa: BLE001 - it is its caller's
                    raised[place] = _Raised(error)
                    break
            else:
                return self._encoded(state, before, results, submitted, replayed)

    def _state(self) -> tuple[LedgerState, bytes, int]:
        """Return the newest state as this process sees it, also encoded, and how many of its changes it lacked."""
        state = self._known.state()
        state.process_slot, state.processes = self._membership.slot, self._membership.processes
        now = self._clock.now()
        if replayed := self._own.replay(state, elapsed=elapsed()):
            _begin_gathering(state, now)
        if self._adapted < self._clocks:
            state.change_clock(now)
        for member in self._membership.lost:
            state.reclaim(slot_of(member), now)
        is_known = not replayed and self._adapted == self._clocks and not self._membership.lost
        return state, self._known.body if is_known else state.encode(), replayed

    def _encoded(
        self,
        state: LedgerState,
        before: bytes,
        results: list[Any] | None,
        submitted: list[_Submitted],
        replayed: int,
    ) -> _Made:
        """Return a state with what is to be stored; what changes nothing gets no number."""
        number = 0
        if (body := state.encode()) != self._known.body:
            place = self._known.changes + 1
            number, body = self._own.attempt(state, before, place, now=self._clock.now(), elapsed=elapsed())
        lost, failures = self._membership.lost, self._membership.failures
        return _Made(state, body, number, results, submitted, lost, replayed, self._clocks, failures)

    def _is_gathering(self, state: LedgerState) -> bool:
        """Whether other processes may bring back what the store has forgotten."""
        # Two hosts read the store's clock a little differently; a time that is much later is of another clock.
        since = elapsed() - abs(self._clock.now() - state.restored_at)
        self._gathers_until = max(since, self._membership.recovered_at) + _GATHERING
        return elapsed() < self._gathers_until

    async def _join(self) -> None:
        await self._membership.join()
        # A look before the first change, which needs the store's time.
        answer = await self._membership.exchange(Exchange(self._known.tag, "", None))
        if answer.body is not None:
            self._adopt(answer)

    def _notice_clock(self) -> None:
        # Another account of the ledger may have been the first to see it.
        if self._clocks < self._clock.steps:
            self._clocks = self._clock.steps
            self._own.on_clock_set(self._clock.now())

    def _adopt(self, answer: StoreAnswer) -> None:
        """Take over the stored state, unless more changes made the known one: then the store has crashed."""
        stored, known = KnownState.of(answer, elapsed()), self._known
        lost = known.changes - stored.changes
        # An old one would replace what others have stored for longer than they can replay.
        if lost <= 0 or known.at < elapsed() - REPLAYABLE:
            self._known = stored
            return
        # Others had stored some of them, who may be gone. What was stored since is replayed by those who did it.
        if known.is_stored:
            log.warning("the quota ledger had lost its last %d changes: they are made again", lost)
        state = known.state()
        _begin_gathering(state, self._clock.now())
        self._known = known._replace(tag=answer.tag, body=state.encode(), is_stored=False)

    def _fail(self, one: _Submitted, error: BaseException | None = None) -> None:
        """Report an error to who submitted a change; nothing if its result is known."""
        if one.done.done():
            return
        reason = self._membership.reason or f"no answer in {_PATIENCE:g} s"
        if not self._membership.reason and elapsed() < self._gathers_until + _PATIENCE:
            reason = "processes still make changes again that it has forgotten"
        if isinstance(error, (*DecodeFailures, ValueError)):
            reason = str(error)
        elif isinstance(error, Exception) and not isinstance(error, TimeoutError):
            reason = type(error).__name__  # its text may hold a credential
        # One for each: each raise adds a traceback.
        failure = LedgerError(
            f"the quota ledger in {self._store.name} cannot be used: {reason}",
            hint="No request is sent without it. Check that the store is up and can be reached.",
        )
        one.done.set_exception(failure)
        retrieve_error(one.done)


class _Raised(NamedTuple):
    error: Exception


def _begin_gathering(state: LedgerState, now: float) -> None:
    if abs(now - state.restored_at) >= _GATHERING:  # or it would never end
        state.restored_at = now


async def _renew_lease(account: weakref.ref[SharedAccount]) -> None:
    while (found := account()) is not None and await found.renew_lease():
        pause = found.renewal_due_in
        del found
        await asyncio.sleep(pause)
