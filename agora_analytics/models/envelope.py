"""What every answer of the service carries around its data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Optional, Self, TypeVar

import attrs

from agora_analytics._core.decoding.json import Whole
from agora_analytics.spans import Span

_FEW = 6

RowT = TypeVar("RowT")


@attrs.frozen
class BadRow:
    """A spot of an answer that does not fit the reference: where, as `$.call_lists[3].created_ts`, and why.

    The item of the list at that place is left out; where `whole` is false it is there, with U+FFFD for what could not
    be read of a text.
    """

    path: str
    reason: str
    whole: bool = True


@attrs.frozen(kw_only=True)
class Answer:
    """The envelope: `code` (absent, 0 or 200 on success), `message` (means nothing on success), `request_id`.

    `skipped` tells what is missing of the answer because it does not fit (see `AnalyticsClient(on_bad_row=…)`).
    """

    code: Whole | None = None
    message: str | None = None
    request_id: str | None = None
    skipped: tuple[BadRow, ...] = ()


OURS = frozenset({"skipped", "missing"})
"""Fields of answers that this library fills in: what the service sends under these names is not read."""


class Found(tuple[RowT, ...]):  # noqa: SLOT001 - what it tells has no other place
    """A tuple of what was found, which also tells what is not in it.

    Attributes:
        missing: spans that could not be asked for: not kept any more, or not to be had yet.
        skipped: spots of the answers that do not fit the reference, the first thousand.

    """

    missing: tuple[Span, ...]
    skipped: tuple[BadRow, ...]

    def __new__(
        cls, items: Iterable[RowT] = (), *, missing: tuple[Span, ...] = (), skipped: tuple[BadRow, ...] = ()
    ) -> Self:
        """Return the items, and what is to be told of them."""
        found = super().__new__(cls, items)
        found.missing = missing
        found.skipped = skipped
        return found


def few(values: tuple[object, ...] | None) -> str:
    """Show the first items of a list, and how many more there are."""
    if values is None or len(values) <= _FEW:
        return repr(values)
    return f"({', '.join(map(repr, values[:_FEW]))}, … {len(values) - _FEW} more)"


@attrs.frozen(kw_only=True)
class Rows(Answer, Generic[RowT]):
    """An answer that consists of rows, in the service's order; None where it sent null."""

    # Not `… | None`: cattrs puts no type for RowT into a union of that spelling.
    data: Optional[tuple[RowT, ...]] = attrs.field(repr=few)  # noqa: UP045

    @property
    def items(self) -> tuple[RowT, ...]:
        """The rows, never None."""
        return self.data or ()
