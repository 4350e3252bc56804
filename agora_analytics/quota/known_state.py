"""The newest state of an account that a process knows, as its store has it."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from agora_analytics.quota.ledger_state import LedgerState, decode
from agora_analytics.quota.ledger_store import StoreAnswer


class KnownState(NamedTuple):
    """The newest known state, how many changes made it, the tag that is stored, and whether that is with this state."""

    changes: int = 0
    tag: str = ""
    body: bytes = b""
    is_stored: bool = True

    @classmethod
    def of(cls, answer: StoreAnswer) -> KnownState:
        """Return the state that a store has answered."""
        return cls(int(answer.tag.partition("-")[0] or 0), answer.tag, answer.body or b"")

    def state(self) -> LedgerState:
        """Return a copy of the state."""
        return decode(self.body) if self.body else LedgerState()

    def next_tag(self) -> str:
        """Return a tag for the next state."""
        # The random part tells two changes apart of which the store lost one.
        return f"{self.changes + 1}-{secrets.token_hex(4)}"
