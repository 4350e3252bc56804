"""What every answer of the service carries around its data."""

from __future__ import annotations

from typing import Generic, Optional, TypeVar

import attrs

RowT = TypeVar("RowT")


@attrs.frozen(kw_only=True)
class Answer:
    """The envelope: `code` (absent, 0 or 200 on success), `message` (means nothing on success), `requestId`."""

    code: int | None = None
    message: str | None = None
    requestId: str | None = None


@attrs.frozen(kw_only=True)
class Rows(Answer, Generic[RowT]):
    """An answer that consists of rows, in the service's order; None where it sent null."""

    # Not `… | None`: cattrs puts no type for RowT into a union of that spelling.
    data: Optional[tuple[RowT, ...]]  # noqa: UP045

    @property
    def items(self) -> tuple[RowT, ...]:
        """The rows, never None."""
        return self.data or ()
