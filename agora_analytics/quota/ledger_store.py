"""What a store does for a ledger that hosts share: it replaces a state by compare-and-set, and knows who shares it."""

from __future__ import annotations

from typing import NamedTuple, Protocol


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
