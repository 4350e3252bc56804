"""What a manifest must be for a state to be made of it: of the right types, and true to itself.

One that was changed by hand, or torn, would have rows asked for again that are there, or told as there that are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, Final, Literal, NamedTuple

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.export.formats import DATABASES
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.state.found_parts import DATABASE

_LISTS: Final = "calls"
"""The first word of the sources of whatever is of calls."""

_SOURCES: Final = {"insights": "insight", "realtime": "realtime"}
"""The first word of the sources of the other datasets."""


@attrs.frozen(kw_only=True)
class _Part:
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
class _Spanned:
    app_id: str
    source: str
    state: Literal["read", "unsettled", "expired", "cut off"]
    start: json.Whole
    end: json.Whole


@attrs.frozen(kw_only=True)
class _Database:
    bytes: json.Whole
    sha256: str


class _Call(NamedTuple):
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


class _Lost(NamedTuple):
    app: str
    dataset: str
    day: json.Whole
    rows: json.Whole
    reason: str


class _Original(NamedTuple):
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
    calls: list[_Call]
    skipped: list[tuple[str, str, json.Whole, str]]
    lost: list[_Lost]
    originals: list[_Original] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class _Manifest:
    settings: dict[str, Any]
    rows: dict[str, json.Whole]
    parts: list[_Part]
    database: _Database | None
    spans: list[_Spanned]
    resume: _Resume


_read = json.strict_decoder(_Manifest)

_FIRST: Final = date(1970, 1, 1).toordinal()


def iso_day(day: int) -> str | int:
    """Return the date of a part, like `2026-11-20`, by the days since 1970; the number where no date is so late."""
    try:
        return date.fromordinal(_FIRST + day).isoformat()
    except (ValueError, OverflowError):
        return day


def day_of(told: str | int) -> int:
    """Return the days since 1970; raises `ValueError` for what is no date. Older manifests have the number."""
    if isinstance(told, int):
        return told
    found = date.fromisoformat(told)
    if found.isoformat() != told:
        raise ValueError(f"{told!r} is not written like {found}")
    return found.toordinal() - _FIRST


def check(document: bytes) -> None:
    """Raise `ValueError` for a manifest that no export wrote."""
    try:
        found = _read(document)
    except json.DecodeFailures as error:
        raise ValueError(str(error)) from None
    wrong = next(_wrong(found), None)
    if wrong is not None:
        raise ValueError(wrong)


def _wrong(found: _Manifest) -> Iterator[str]:
    """Yield what cannot be true of an export."""
    resume = found.resume
    datasets = {one.dataset for some in (found.parts, resume.originals) for one in some}
    datasets |= {one.dataset for one in resume.lost}
    yield from (f"{name!r} is no dataset" for name in datasets - {*DATASETS, DATABASE})
    yield from _twice("part", (one.id for one in found.parts))
    yield from _twice("part", ((one.dataset, one.app_id, day_of(one.day), one.number) for one in found.parts))
    yield from _twice("call", ((one.app, one.call_id) for one in found.resume.calls))
    yield from _twice("original", (one.id for one in resume.originals))
    altered = {one.id for one in resume.originals}
    for part in found.parts:
        if part.number and (part.bytes is None or part.sha256 is None) != (found.settings.get("format") in DATABASES):
            yield f"part {part.id} is a file without a checksum, or none with one"
        if (part.rows is None) != (part.id in altered):
            yield f"part {part.id} has rows that nobody knows, and was not altered, or was"
        if min(part.id, part.number, part.rows or 0, part.bytes or 0) < 0:
            yield f"part {part.id} has a number below 0"
        if part.provisional != (part.number == 0):
            yield f"part {part.id} is provisional or has a number, not both"
    yield from _unequal(found)
    yield from _unread(found)


def _twice(what: str, keys: Iterable[object]) -> Iterator[str]:
    return (f"{what} {key!r} is there twice" for key, count in Counter(keys).items() if count > 1)


def _unequal(found: _Manifest) -> Iterator[str]:
    """Yield the datasets whose parts have not as many rows as are told."""
    rows: Counter[str] = Counter()
    for part in found.parts:
        rows[part.dataset] += part.rows or 0
    for name in {*rows, *found.rows}:
        if rows[name] != found.rows.get(name, 0):
            yield f"the parts of {name} have {rows[name]} rows, not {found.rows.get(name, 0)}"


def _unread(found: _Manifest) -> Iterator[str]:
    """Yield the parts of what is not told to have been read: it would be asked for again, and come twice."""
    read = {(one.app_id, one.source.split(" ")[0]) for one in found.spans if one.state in {"read", "cut off"}}
    read |= {(one.app, _LISTS) for one in found.resume.calls}
    for part in found.parts:
        if part.number and part.rows != 0 and (part.app_id, _SOURCES.get(part.dataset, _LISTS)) not in read:
            yield f"part {part.id} has rows of {part.app_id!r}, but no span of it was read"
