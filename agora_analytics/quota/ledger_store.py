"""What a store does for a ledger that hosts share: it replaces a state by compare-and-set, and knows who shares it."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple, Protocol

from agora_analytics.quota.ledger_state import LedgerState, decode

LEASE: Final = 3.0
"""Seconds after its last sign of life in which a process is still a member."""

KEPT: Final = 45 * 86_400
"""Seconds in which a store keeps an account that nobody uses: learned limits and habits outlast a month."""


class StoreAnswer(NamedTuple):
    """What a store says to an exchange.

    Attributes:
        member: whether the process is still a member; if not, nothing was replaced.
        replaced: whether the new state is stored.
        tag: the tag of the state that is stored now, empty for none.
        body: that state, if it is not the one that was expected.
        now: the store's UTC seconds.
        members: how many processes are members.
        lost: the members whose lease has ended.

    """

    member: bool
    replaced: bool
    tag: str
    body: bytes | None
    now: float
    members: int
    lost: tuple[str, ...]


class Exchange(NamedTuple):
    """A state to store in place of the one with the tag `expected`; a `body` of None only looks.

    `buried` are members whose lease had ended, and whose requests the new state has reclaimed.
    """

    expected: str
    tag: str
    body: bytes | None
    buried: tuple[str, ...] = ()


class Store(Protocol):
    """What a shared store does; each call is one round trip, and raises `StoreFailedError`."""

    name: str
    """For errors, without credentials."""

    async def join(self, account: str, name: str) -> str:
        """Become a member under a slot that no other has; return `slot:name`."""

    async def exchange(self, account: str, member: str, exchange: Exchange) -> StoreAnswer:
        """Renew the member's lease, and replace the state if it is the expected one; all or nothing.

        Nothing is replaced either if a member that was to be buried has renewed its lease.
        """

    async def leave(self, account: str, member: str) -> None:
        """End a membership."""


class KnownState(NamedTuple):
    """The newest state of an account that a process knows.

    Attributes:
        changes: how many changes made it.
        tag: the tag that the store has.
        body: the encoded state, empty for none.
        is_stored: whether the store has this body under that tag; False after it went back to an older one.
        at: when the store last said so, in seconds of `elapsed`.

    """

    changes: int = 0
    tag: str = ""
    body: bytes = b""
    is_stored: bool = True
    at: float = 0.0

    @classmethod
    def of(cls, answer: StoreAnswer, at: float) -> KnownState:
        """Return the state that a store has answered."""
        return cls(int(answer.tag.partition("-")[0] or 0), answer.tag, answer.body or b"", at=at)

    def state(self) -> LedgerState:
        """Return a copy of the state."""
        return decode(self.body) if self.body else LedgerState()

    def next_tag(self) -> str:
        """Return a tag for the next state."""
        # The random part tells two changes apart of which the store lost one.
        return f"{self.changes + 1}-{secrets.token_hex(4)}"
