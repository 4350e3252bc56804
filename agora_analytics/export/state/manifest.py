"""Checks a manifest before a state is rebuilt from it: its types, and that it is consistent.

A manifest that was edited or torn would make an export fetch rows twice, or report rows that do not exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, Final, Literal, NamedTuple

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.export.formats import DATABASE_FORMATS
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.state.recovery_tables import WHOLE_DATABASE

_CALL_SOURCES: Final = "calls"
"""First word of the names of all sources of calls."""

_SOURCES: Final = {"insights": "insight", "realtime": "realtime"}
"""First word of the names of sources, by dataset."""


@attrs.frozen(kw_only=True)
class _PartEntry:
    id: json.Whole
    dataset: str
    app_id: str
    day: json.Whole | str
    number: json.Whole
    provisional: bool
    rows: json.Whole | None
    bytes: json.Whole | None
    sha256: str | None


@attrs.frozen(kw_only=True)
class _SpanEntry:
    app_id: str
    source: str
    state: Literal["read", "unsettled", "expired", "truncated"]
    start: json.Whole
    end: json.Whole


@attrs.frozen(kw_only=True)
class _DatabaseEntry:
    bytes: json.Whole
    sha256: str


class _CallEntry(NamedTuple):
    app: str
    call_id: str
    cname: str | None
    first: json.Whole
    last: json.Whole
    score: float
    users: json.Whole
    status: Literal[0, 1, 2, 3]
    reason: str | None
    begun: bool | json.Whole


class _LostEntry(NamedTuple):
    app: str
    dataset: str
    day: json.Whole
    rows: json.Whole
    reason: str


class _OriginalEntry(NamedTuple):
    id: json.Whole
    dataset: str
    app: str
    day: json.Whole
    number: json.Whole
    rows: json.Whole
    bytes: json.Whole
    sha256: str
    reason: str


@attrs.frozen(kw_only=True)
class _Resume:
    calls: list[_CallEntry]
    skipped: list[tuple[str, str, json.Whole, str]]
    lost: list[_LostEntry]
    originals: list[_OriginalEntry] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class _Manifest:
    settings: dict[str, Any]
    rows: dict[str, json.Whole]
    parts: list[_PartEntry]
    database: _DatabaseEntry | None
    spans: list[_SpanEntry]
    resume: _Resume


_decode_manifest = json.strict_decoder(_Manifest)

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()


def iso_day(day: int) -> str | int:
    """Return a day, as days since 1970, as a date like `2026-11-20`; unchanged if it is outside of the calendar."""
    try:
        return date.fromordinal(_EPOCH_ORDINAL + day).isoformat()
    except (ValueError, OverflowError):
        return day


def day_of(day: str | int) -> int:
    """Return a day, written as by `iso_day`, in days since 1970; raises `ValueError` for any other text."""
    if isinstance(day, int):
        return day
    found = date.fromisoformat(day)
    # `fromisoformat` also reads 20261120 and week dates, which no export writes.
    if found.isoformat() != day:
        raise ValueError(f"{day!r} is not written like {found}")
    return found.toordinal() - _EPOCH_ORDINAL


def check_manifest(document: bytes) -> None:
    """Raise `ValueError` for a manifest that no export wrote."""
    try:
        found = _decode_manifest(document)
    except json.DecodeFailures as error:
        raise ValueError(str(error)) from None
    wrong = next(_inconsistencies(found), None)
    if wrong is not None:
        raise ValueError(wrong)


def _inconsistencies(found: _Manifest) -> Iterator[str]:
    """Yield what is inconsistent."""
    resume = found.resume
    datasets = {one.dataset for some in (found.parts, resume.originals) for one in some}
    datasets |= {one.dataset for one in resume.lost}
    yield from (f"{name!r} is no dataset" for name in datasets - {*DATASETS, WHOLE_DATABASE})
    yield from _duplicates("part", (one.id for one in found.parts))
    yield from _duplicates("part", ((one.dataset, one.app_id, day_of(one.day), one.number) for one in found.parts))
    yield from _duplicates("call", ((one.app, one.call_id) for one in found.resume.calls))
    yield from _duplicates("original", (one.id for one in resume.originals))
    altered = {one.id for one in resume.originals}
    for part in found.parts:
        if part.number and (part.bytes is None or part.sha256 is None) != (
            found.settings.get("format") in DATABASE_FORMATS
        ):
            yield f"part {part.id} is a file without size or checksum, or a part of a database with them"
        if (part.rows is None) != (part.id in altered):
            yield f"part {part.id} has an unknown number of rows and was not altered, or the other way round"
        if min(part.id, part.number, part.rows or 0, part.bytes or 0) < 0:
            yield f"part {part.id} has a number below 0"
        if part.provisional != (part.number == 0):
            yield f"part {part.id} is provisional with a number above 0, or has number 0 and is not provisional"
    yield from _wrong_row_counts(found)
    yield from _unread_parts(found)


def _duplicates(what: str, keys: Iterable[object]) -> Iterator[str]:
    return (f"{what} {key!r} occurs twice" for key, count in Counter(keys).items() if count > 1)


def _wrong_row_counts(found: _Manifest) -> Iterator[str]:
    """Yield the datasets whose parts do not add up to the number of rows."""
    rows: Counter[str] = Counter()
    for part in found.parts:
        rows[part.dataset] += part.rows or 0
    for name in {*rows, *found.rows}:
        if rows[name] != found.rows.get(name, 0):
            yield f"the parts of {name} have {rows[name]} rows, not {found.rows.get(name, 0)}"


def _unread_parts(found: _Manifest) -> Iterator[str]:
    """Yield parts with rows of spans that were never read: these would be fetched again, and duplicated."""
    read = {(one.app_id, one.source.split(" ")[0]) for one in found.spans if one.state in {"read", "truncated"}}
    read |= {(one.app, _CALL_SOURCES) for one in found.resume.calls}
    for part in found.parts:
        if part.number and part.rows != 0 and (part.app_id, _SOURCES.get(part.dataset, _CALL_SOURCES)) not in read:
            yield f"part {part.id} has rows of {part.app_id!r}, but no span of it was read"
