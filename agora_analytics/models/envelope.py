"""The envelope of every answer, and results that report what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Optional, Self, TypeVar

import attrs

from agora_analytics._core.decoding.json import Whole
from agora_analytics.spans import Span

_FEW = 6
"""Items that a `repr` shows: an answer may have thousands, and consoles print it whole."""

RowT = TypeVar("RowT")


@attrs.frozen
class BadRow:
    """A row of an answer that does not fit the reference: where, as `$.call_lists[3].created_ts`, and why.

    The row is left out. If `whole` is False it is there, with U+FFFD in place of invalid characters.
    """

    path: str
    reason: str
    whole: bool = True


@attrs.frozen(kw_only=True)
class Answer:
    """The envelope: `code` (absent, 0 or 200 on success), `message` (meaningless on success), `request_id`.

    `skipped` has the rows that were left out because they do not fit (see `AnalyticsClient(on_bad_row=…)`).
    """

    code: Whole | None = None
    message: str | None = None
    request_id: str | None = None
    skipped: tuple[BadRow, ...] = ()


OURS = frozenset({"skipped", "missing"})
"""Fields of answers that this library fills in; values of the service with these names are ignored."""


class Found(tuple[RowT, ...]):  # noqa: SLOT001 - it has two attributes
    """A tuple of results, with attributes for what is not in it.

    Attributes:
        missing: spans that could not be fetched: expired, or not queryable yet.
        skipped: rows that do not fit the reference and were left out, the first thousand.

    """

    missing: tuple[Span, ...]
    skipped: tuple[BadRow, ...]

    def __new__(
        cls, items: Iterable[RowT] = (), *, missing: tuple[Span, ...] = (), skipped: tuple[BadRow, ...] = ()
    ) -> Self:
        """Make a tuple of the items."""
        found = super().__new__(cls, items)
        found.missing = missing
        found.skipped = skipped
        return found


def few(values: tuple[object, ...] | None) -> str:
    """Return a `repr` of the first items of a list, and the number of the others."""
    if values is None or len(values) <= _FEW:
        return repr(values)
    return f"({', '.join(map(repr, values[:_FEW]))}, … {len(values) - _FEW} more)"


@attrs.frozen(kw_only=True)
class Rows(Answer, Generic[RowT]):
    """An answer that consists of rows, in the service's order; None if it sent null."""

    # Not `… | None`: cattrs puts no type for RowT into a union of that spelling.
    data: Optional[tuple[RowT, ...]] = attrs.field(repr=few)  # noqa: UP045

    @property
    def items(self) -> tuple[RowT, ...]:
        """The rows, never None."""
        return self.data or ()
