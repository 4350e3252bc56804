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
from agora_analytics._core.futures import retrieve_error, wait_until_done
from agora_analytics._core.responsive_timer import ResponsiveTimer
from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.errors import LedgerError
from agora_analytics.quota.known_state import KnownState
from agora_analytics.quota.ledger_state import MAX_PROCESSES, LedgerState
from agora_analytics.quota.ledger_store import Exchange, Store, StoreAnswer
from agora_analytics.quota.own_changes import Contents, OwnChanges, contents
from agora_analytics.quota.store_clock import StoreClock, elapsed

T = TypeVar("T")

LEASE: Final = 3.0
"""Seconds after its last sign of life in which a process is still a member."""

KEPT: Final = 45 * 86_400
"""Seconds in which a store keeps an account that nobody uses: learned limits and habits outlast a month."""

_IDLE: Final = 120.0
"""Seconds without a change after which a process that has nothing in the state leaves: in a fleet, each worker has had
each account after a while. Who waits for a permit tries again each minute."""

_RENEW_EVERY: Final = 1.0
_PATIENCE: Final = 1.0
"""Seconds after its submission in which a change that the store does not take fails."""

_GATHERING: Final = 0.5
"""Seconds after something was restored in which nothing is changed: each process brings back what it knows.

Without them one would issue permits of a second of which another has issued some that the store has forgotten.
"""

_LOOK_EVERY: Final = 0.1
"""Seconds between two looks meanwhile."""

_RETRY_PAUSE: Final = 0.05
"""Seconds between two attempts to reach the store."""

log = logging.getLogger("agora_analytics.quota")


class _Submitted(NamedTuple):
    change: Callable[[LedgerState], Any]
    done: asyncio.Future[Any]


class _Attempt(NamedTuple):
    last: _Submitted
    limit: asyncio.Timeout


class _Made(NamedTuple):
    """A state on which changes were made, what its counters held before that, and the result of each change.

    There are no results, and no change was made, while others bring back what the store has forgotten.
    """

    state: LedgerState
    before: Contents
    results: list[Any] | None


class SharedAccount:
    """Makes the changes of one account in one process; belongs to the event loop in which it was made."""

    def __init__(self, store: Store, account: str, clock: StoreClock) -> None:
        self._store = store
        self._account = account
        self._clock = clock
        self._known = KnownState()
        self._own = OwnChanges(secrets.token_hex(4))
        self._member = ""
        self._members = 1
        self._lost: tuple[str, ...] = ()
        self._reason = ""
        # How often the store's clock was set, and how often the known state was adapted to that.
        self._clocks = self._adapted = clock.steps
        self._is_reachable = True
        self._lost_answers = 0
        self._reachable_since = self._renewed_at = elapsed()
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
        self._heartbeat.cancel()
        await asyncio.wait([self._heartbeat])
        if self._runner is not None:
            await asyncio.wait([self._runner])
        await self._leave()

    async def _leave(self) -> None:
        self._own.forget_old(elapsed())
        # Forgotten first: a change that comes meanwhile joins again.
        member, self._member = self._member, ""
        # With requests in flight its lease ends by itself: then another process counts them as answered.
        if not member or not self._is_reachable or self._has_anything(member):
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._store.leave(self._account, member)
        except (StoreFailedError, TimeoutError) as error:
            log.info("the ledger could not be left in order, its lease ends by itself: %s", error)

    def _has_anything(self, member: str) -> bool:
        counters = self._known.state().counters.values()
        numbers = (number for one in counters for number in (*one.in_flight, *one.reservations))
        return any(number % MAX_PROCESSES == _slot(member) for number in numbers)

    async def renew_lease(self) -> bool:
        """Show that this process lives, unless a change has just done so; return whether it still needs a lease."""
        if elapsed() < self._renewed_at + _RENEW_EVERY:
            return True
        try:
            is_used = await self._submit(lambda state: state.is_used_here)
        except LedgerError as error:
            log.debug("the lease could not be renewed: %s", error)  # the next request will say so
            return True
        used_at = self._used_at
        if is_used or asyncio.get_running_loop().time() < used_at + _IDLE:
            return True
        await self._leave()
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
            self._is_reachable = False
            for one in submitted:
                self._fail(one, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._attempt = None

    def _expire(self, one: _Submitted) -> None:
        # The last one that was submitted is the last to expire: nobody waits for the attempt any more.
        if self._attempt is not None and self._attempt.last is one:
            self._attempt.limit.reschedule(0)
        self._fail(one)

    async def _make_or_raise(self, submitted: list[_Submitted]) -> None:
        """Run the changes, and again on a newer state, until what they made of it is stored."""
        # All ways to know that it is: longer than 25 lines for that.
        attempted: set[str] = set()
        last: tuple[list[_Submitted], _Made] | None = None
        lost_answers = self._lost_answers
        is_stored = is_fresh = False
        while not is_stored:
            if not self._member:
                await self._join()
            # What has failed by now is not made any more.
            submitted = [one for one in submitted if not one.done.done()]
            if last and lost_answers != self._lost_answers and self._own.has_last_attempt(self._known.state()):
                # It was stored, its answer was lost, and another process has made the next change.
                submitted, made = last
                self._own.on_seen(self._known.state(), elapsed())
                break
            self._notice_clock()
            buried, clocks = self._lost, self._clocks
            made = self._run(submitted, buried)
            body, is_change = self._encoded(made)
            if is_change and made.results is not None:
                last = submitted, made
            # By a state that has just come, what changes nothing need not ask whether it is still the newest.
            is_stored = (is_fresh and self._is_look(body, buried)) or await self._store_state(body, buried, attempted)
            is_fresh = True
            if is_stored:
                self._own.on_seen(made.state, elapsed())
                # Of before that answer: it may be the first to show that the clock was set.
                self._adapted = clocks
                if made.results is None:
                    await asyncio.sleep(_LOOK_EVERY)
                    attempted, is_stored, is_fresh = set(), False, False
        for one, result in zip(submitted, made.results or (), strict=True):
            if one.done.done():
                continue
            one.done.set_result(result) if not isinstance(result, _Raised) else one.done.set_exception(result.error)

    async def _store_state(self, body: bytes, buried: tuple[str, ...], attempted: set[str]) -> bool:
        """Store a state in place of the known one, and return whether that was possible; learn the newer one if not."""
        is_look = self._is_look(body, buried)
        exchange = Exchange(self._known.tag, self._known.next_tag(), None if is_look else body, buried)
        attempted.add(exchange.tag)
        answer = await self._exchange(exchange)
        if not answer.member:
            self._member = ""
            return False
        # An attempt whose answer was lost may have succeeded.
        if answer.replaced or answer.tag in attempted:
            self._known = KnownState(self._known.changes + 1, answer.tag, body)
            return True
        # With the same tag, a member that was to be buried has renewed its lease, and the state is as it was.
        if answer.tag != self._known.tag:
            self._adopt(answer)
            return False
        return is_look

    def _encoded(self, made: _Made) -> tuple[bytes, bool]:
        """Return what is to be stored, and whether that is a change: one that changes nothing gets no number."""
        if (body := made.state.encode()) == self._known.body:
            return body, False
        self._own.attempt(made.state, made.before, self._known.changes + 1, self._clock.now(), elapsed())
        return made.state.encode(), True

    def _is_look(self, body: bytes, buried: tuple[str, ...]) -> bool:
        # What did not change is not stored, as that would make the changes of all other processes run again.
        return body == self._known.body and self._known.is_stored and not buried

    def _run(self, submitted: list[_Submitted], lost: tuple[str, ...]) -> _Made:
        """Run all changes on the newest state; one that raises is undone by running the others again."""
        raised: dict[int, _Raised] = {}
        while True:
            state = self._state(lost)
            before, results = contents(state), list[Any]()
            if _is_gathering(state, self._clock.now()):
                return _Made(state, before, None)
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
                return _Made(state, before, results)

    def _state(self, lost: tuple[str, ...]) -> LedgerState:
        state = self._known.state()
        state.process_slot, state.processes = _slot(self._member), max(1, self._members)
        now = self._clock.now()
        if lost_changes := self._own.restore(state, elapsed()):
            _gather(state, now)
            log.warning("the quota ledger lost %d changes of this process: they are restored", lost_changes)
        if self._adapted < self._clocks:
            state.change_clock(now)
        for member in lost:
            state.reclaim(_slot(member), now)
        return state

    async def _join(self) -> None:
        self._member, _ = await self._reach(self._store.join, self._account, secrets.token_hex(4))
        # A look before the first change, which needs the store's time.
        answer = await self._exchange(Exchange(self._known.tag, "", None))
        if answer.body is not None:
            self._adopt(answer)

    async def _exchange(self, exchange: Exchange) -> StoreAnswer:
        answer: StoreAnswer
        answer, sent = await self._reach(self._store.exchange, self._account, self._member, exchange)
        received = self._renewed_at = elapsed()
        if self._clock.observe(sent, received, answer.now):
            log.warning("the clock of the quota ledger was set, or another host has taken over: it is learned again")
        self._notice_clock()
        self._members = answer.members
        if not self._is_reachable:
            self._is_reachable, self._reachable_since, self._reason = True, received, ""
        # After an outage of the store all leases have ended: the others get the time to renew theirs.
        patient = received > self._reachable_since + LEASE
        self._lost = tuple(member for member in answer.lost if member != self._member) if patient else ()
        return answer

    def _notice_clock(self) -> None:
        # Another account of the ledger may have been the first to see it.
        if self._clocks < self._clock.steps:
            self._clocks = self._clock.steps
            self._own.on_clock_set()

    def _adopt(self, answer: StoreAnswer) -> None:
        """Take over the stored state, unless more changes made the known one: then the store has crashed."""
        stored = KnownState.of(answer)
        if lost := max(0, self._known.changes - stored.changes):
            # Others had stored some of them, who may be gone. What was stored since is restored by those who did it.
            log.warning("the quota ledger lost its last %d changes: they are restored", lost)
            state = self._known.state()
            _gather(state, self._clock.now())
            self._known = self._known._replace(tag=answer.tag, body=state.encode(), is_stored=False)
        else:
            self._known = stored

    def _fail(self, one: _Submitted, error: BaseException | None = None) -> None:
        """Report an error to who submitted a change; nothing if its result is known."""
        if one.done.done():
            return
        reason = self._reason or f"no answer in {_PATIENCE:g} s"
        if isinstance(error, (*DecodeFailures, ValueError)):
            reason = str(error)
        elif isinstance(error, Exception) and not isinstance(error, TimeoutError):
            reason = type(error).__name__  # its text may hold a credential
        # One for each: each raise adds a traceback.
        failure = LedgerError(
            f"the quota ledger in {self._store.name} cannot be used: {reason}",
            hint="Nothing was sent. Check that the store is up and can be reached.",
        )
        one.done.set_exception(failure)
        retrieve_error(one.done)

    async def _reach(self, call: Callable[..., Any], *arguments: object) -> tuple[Any, float]:
        """Call the store, and again while it cannot be reached; return its answer, and when it was asked for that.

        The caller has a time limit.
        """
        while True:
            try:
                sent = elapsed()
                return await call(*arguments), sent
            except StoreFailedError as error:
                self._reason, self._is_reachable = str(error), False
                self._lost_answers += 1
                await asyncio.sleep(_RETRY_PAUSE)


class _Raised(NamedTuple):
    error: Exception


def _gather(state: LedgerState, now: float) -> None:
    if not _is_gathering(state, now):  # or it would never end
        state.restored_at = now


def _is_gathering(state: LedgerState, now: float) -> bool:
    # Two hosts read the store's clock a little differently; a time that is much later is of another clock.
    return abs(now - state.restored_at) < _GATHERING


def _slot(member: str) -> int:
    return int(member.partition(":")[0])


async def _renew_lease(account: weakref.ref[SharedAccount]) -> None:
    while (found := account()) is not None and await found.renew_lease():
        del found
        await asyncio.sleep(_RENEW_EVERY)
