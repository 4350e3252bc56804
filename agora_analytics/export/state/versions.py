"""Whether this version can read what a state holds: found when it is opened, before anything is asked for.

Each value that decides what is done has its few names or numbers; another one was written by another version, or by
accident, and guessing what it means would lose rows or have them twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agora_analytics.export.fetch.cursor import restored
from agora_analytics.export.schema import DATASETS

_OUT_OF_RANGE: Final = (
    "SELECT {column} FROM {table} WHERE {column} IS NULL OR {column} < 0 OR {column} >= {known} LIMIT 1"
)


def unknown_value(select: Callable[[str], list[tuple[Any, ...]]], *, kinds: int, statuses: int) -> str | None:
    """Return what this version cannot read of a state, None where it can read it all."""
    for table, column, known in (("spans", "kind", kinds), ("calls", "status", statuses)):
        for (found,) in select(_OUT_OF_RANGE.format(table=table, column=column, known=known)):
            return f"{found!r} is no {column} of {table} that this version knows"
    for (dataset,) in select("SELECT DISTINCT dataset FROM groups"):
        if dataset not in DATASETS:
            return f"{dataset!r} is no dataset that this version knows"
    for (cursor,) in select("SELECT cursor FROM calls WHERE cursor != ''"):
        try:
            restored(cursor)
        except ValueError as error:
            return str(error)
    return None
