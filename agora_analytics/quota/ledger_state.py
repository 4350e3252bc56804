"""What an account's clients share: the state that a ledger keeps, and the ledger that keeps it in memory.

A state is changed by one client at a time. Its fields are the stored format of `FileLedger`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import attrs

from agora_analytics._core.decoding.json import encode, strict_decoder
from agora_analytics.quota.bucket import IN_FLIGHT_TTL, LATE_ARRIVAL, SEND_DELAY, WindowCounter
from agora_analytics.quota.claims import Claims
from agora_analytics.quota.date_trust import DateTrust
from agora_analytics.quota.service_clock import ServiceClock

__all__ = ["LedgerState", "MemoryLedger", "decode"]

T = TypeVar("T")

_REBOOT_JUMP: Final = 60.0
"""Seconds by which wall and monotonic clock must part to show that the machine was restarted since."""

UNDER_WAY: Final = 10.0
"""Seconds for which a request stays in flight whose time is of another clock, unless its answer comes sooner."""

_FORMAT: Final = 1
"""The stored format; raise it when a field gets another name or meaning."""

MAX_PROCESSES: Final = 4096
"""Processes that can share a state at a time."""


class NewestChange(NamedTuple):
    """A process's newest change: its number, the store's UTC seconds, and its place among those of all processes."""

    number: int
    at: int
    place: int


@attrs.define
class LedgerState:
    """The service's clock and why it is trusted, the counters by name, and how many permits were issued.

    `process_slot` is the slot of the process that has the state open; it is part of every number it issues.
    `processes` is how many share the account now. The ledger sets both before each change; they are not stored.
    `boot_time` is UTC minus monotonic time, in a ledger without a clock of its own.
    """

    clock: ServiceClock = attrs.field(factory=ServiceClock)
    counters: dict[str, WindowCounter] = attrs.field(factory=dict)
    issued: int = 0
    boot_time: float = 0.0
    process_slot: int = 0
    processes: int = 1
    trust: DateTrust = attrs.field(factory=DateTrust)
    claims: dict[str, Claims] = attrs.field(factory=dict)
    """What processes wait for, by counter."""
    newest_changes: dict[str, NewestChange] = attrs.field(factory=dict)
    """In a store that hosts share, the newest change of each process that is in the state."""
    forgotten_until: int = 0
    """The last place of those of them that were dropped, as their processes made none for long."""
    restored_at: float = 0.0
    """When a process last made changes again that the store had forgotten."""
    format: int = 0
    """Set by `encode`."""

    def counter(self, name: str) -> WindowCounter:
        """Return the counter of this name; creates it if there is none."""
        counter = self.counters.get(name)
        if counter is None:
            counter = self.counters[name] = WindowCounter()
        return counter

    def claims_of(self, name: str) -> Claims:
        """Return the claims on a counter's permits."""
        return self.claims.setdefault(name, Claims())

    @property
    def upcoming_id(self) -> int:
        """What `next_permit_id` will return."""
        # The slot is in the number, so that a crashed process's permits differ from all others.
        return (self.issued + 1) * MAX_PROCESSES + self.process_slot

    def next_permit_id(self) -> int:
        """Return a number for a permit or a reservation that is unique among all processes and rises."""
        number = self.upcoming_id
        self.issued += 1
        return number

    @property
    def is_used_here(self) -> bool:
        """Whether this process has a request in flight or a reservation, or waits for a permit."""
        numbers = [number for one in self.counters.values() for number in (*one.in_flight, *one.reservations)]
        claims = [by_slot for one in self.claims.values() for by_slot in one.by_priority.values()]
        slot = self.process_slot
        return any(number % MAX_PROCESSES == slot for number in numbers) or any(slot in by_slot for by_slot in claims)

    def has_stale_permits(self, now: float) -> bool:
        """Whether another process may have crashed: it has a reservation, or a request in flight for over 0.5 s."""
        return any(
            number % MAX_PROCESSES != self.process_slot and until < now + IN_FLIGHT_TTL - SEND_DELAY
            for counter in self.counters.values()
            # A reservation has no time of its own, so one of another process always counts as stale.
            for number, until in (*counter.in_flight.items(), *dict.fromkeys(counter.reservations, now).items())
        )

    def reclaim(self, slot: int, now: float) -> None:
        """Drop what a crashed process reserved and claimed, and count its requests in flight as answered in 0.5 s."""
        for counter in self.counters.values():
            counter.expire([number for number in counter.in_flight if number % MAX_PROCESSES == slot], now + SEND_DELAY)
            for number in [number for number in counter.reservations if number % MAX_PROCESSES == slot]:
                del counter.reservations[number]
        for claims in self.claims.values():
            claims.drop(slot)

    def encode(self) -> bytes:
        """Return the state as JSON; `decode` reads it back. Equal states have equal bytes, in whichever process."""
        slot, processes = self.process_slot, self.processes
        self.process_slot, self.processes, self.format = 0, 1, _FORMAT
        try:
            return encode(self)
        finally:
            self.process_slot, self.processes = slot, processes

    def rebase(self, now: float, wall: float) -> None:
        """Adapt a stored state to this boot of the machine: a restart sets monotonic time back to zero."""
        if abs(wall - now - self.boot_time) > _REBOOT_JUMP:
            self.restart_clock(now)
        self.boot_time = wall - now

    def change_clock(self, now: float) -> None:
        """Go on by another clock, which shows `now`: nobody knows how long ago anything was."""
        self.clock.restart()
        self.trust.reset()
        for counter in self.counters.values():
            _count_as_recent(counter, now)

    def restart_clock(self, now: float) -> None:
        """Adapt the state to a clock that restarted, and shows `now`."""
        # No bound by the clock before means anything; days are UTC and stay.
        self.clock.restart()
        self.trust.reset()
        self.claims.clear()
        for counter in self.counters.values():
            counter.drop_later_than(now)


def _count_as_recent(counter: WindowCounter, now: float) -> None:
    """Count all requests as answered just now or still under way, and errors as just received."""
    # No clock tells which of them share a window with those to come. To drop them would exceed the limit.
    counter.completed = [max(now, min(at, now + LATE_ARRIVAL)) for at in counter.completed + counter.completed_early]
    counter.completed.sort()
    counter.completed_early, counter.early_in_flight = [], {}
    # Those in hand can be released by their own time, so what is possible by the new clock stays.
    for number, until in counter.in_flight.items():
        counter.in_flight[number] = until if now < until <= now + IN_FLIGHT_TTL else now + UNDER_WAY
    counter.rate_limited_at = dict.fromkeys(counter.rate_limited_at, now)
    blocked = counter.blocked.items()
    counter.blocked = {unit: block._replace(at=now, until=now + block.until - block.at) for unit, block in blocked}


_decode: Callable[[bytes], LedgerState] = strict_decoder(LedgerState)


def decode(stored: bytes) -> LedgerState:
    """Read back what `LedgerState.encode` returned.

    Raises `ValueError` for a state of another version of the library, and what `DecodeFailures` lists for anything
    else.
    """
    state = _decode(stored)
    # An error rather than a fresh state, which would forget what was spent today.
    if state.format != _FORMAT:
        raise ValueError(f"another version of the library stored it, in format {state.format} instead of {_FORMAT}")
    return state


class MemoryLedger:
    """A ledger in memory, for one process; the default of a client.

    Clients of one process that share it share the quota:

    ```python
    ledger = MemoryLedger()
    first = AnalyticsClient.from_env(ledger=ledger)
    second = AnalyticsClient.from_env(ledger=ledger)
    ```
    """

    def __init__(self) -> None:
        self._states: defaultdict[str, LedgerState] = defaultdict(LedgerState)

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state of an account and return its result."""
        return change(self._states[account])

    def state(self, account: str) -> LedgerState:
        """Return the state of an account itself, to be changed without awaiting anything in between."""
        return self._states[account]

    async def close(self) -> None:
        """Do nothing: nothing is open."""
