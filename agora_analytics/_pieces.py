"""Answers in pieces: whatever its size and whatever is wrong with it, what is right of an answer is read.

An answer is an object with a list of items, which may hold lists themselves (sessions of tracks of samples). Items are
decoded strictly, as many at once as make a piece. Where one ends and the next begins is guessed: the separator is what
stood between two items before, such as `},{"sid":`. A guess cannot do harm, since a list that is cut anywhere else than
between two items, or after the last, leaves a first piece that is no JSON. Where a guess fails, `_scan` finds the end
of each item, and each is read by itself: strictly, else patiently, else it is skipped and told, or ends the reading
where that is asked for.

A list of which several items came and none fits does not fit itself, and neither does an answer with too many misfits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from agora_analytics import _json, _scan
from agora_analytics._json import BrokenError, UnfitError
from agora_analytics._scan import Steps
from agora_analytics.models.answers import OURS, BadRow

PIECE: Final = 65_536
"""Bytes that are decoded in one go: half a millisecond."""

_LARGEST: Final = 1 << 20
"""Bytes of the largest single item that is read."""

_MOST: Final = 1_000
"""Items that are skipped at most; an answer with more of them is another one than the reference's."""

_PATIENT: Final = 2_048
"""Bytes that are read patiently in one go."""

_TRIES: Final = 8
_LONG: Final = 2_048
_OPENING = re.compile(rb'\[|\{[ \t\r\n]*+"[^"\\]{1,64}"[ \t\r\n]*+:')
_ENVELOPE: Final = frozenset({"code", "message", "requestId"})
_MENDED: Final = "half of a character, shown as U+FFFD"


@attrs.frozen(kw_only=True, eq=False)
class Form:
    """How values of one kind are read.

    `many` and `one` are strict decoders of a list and of a value; `patient` makes a value of a document that these
    refuse; `load` returns what has to be called before; `parts` are the fields that are lists of items; `wrapped` ones
    may also be an object with a `list`, or one item alone; `flat` items are themselves sequences, which are chained.
    """

    many: Callable[[bytes], Any]
    one: Callable[[bytes], Any]
    patient: Callable[[Any], Any]
    load: Callable[[], Callable[[], object] | None] | None = None
    parts: Mapping[str, Form] = attrs.field(factory=dict)
    wrapped: bool = False
    flat: bool = False
    size: int = PIECE


@attrs.define
class Reading:
    """One body while it is read; `insist` raises `UnfitError` for what would be skipped."""

    body: bytes
    insist: bool
    skipped: list[BadRow] = attrs.field(factory=list)
    known: dict[str, Any] = attrs.field(factory=dict)
    """What the outermost object says beside its list."""
    _cuts: dict[int, bytes] = attrs.field(factory=dict)
    _large: set[int] = attrs.field(factory=set)
    _lost: int = 0

    def whole(self, form: Form) -> Steps[Any]:
        """Read the body as one value; raises `UnfitError` or `BrokenError`."""
        at = _scan.space(self.body, 3 if self.body.startswith(b"\xef\xbb\xbf") else 0)
        if self.body[at : at + 1] != b"{":
            raise self._no_object(at)
        value, end = yield from self._object(form, at, "$")
        _scan.rest(self.body, end)
        return value

    def _object(self, form: Form, at: int, path: str) -> Steps[tuple[Any, int]]:
        """Read an object: its lists item by item, and around them the rest of it."""
        if self.body[at : at + 1] != b"{":
            text = yield from self._text(at)
            raise UnfitError(f"expected an object, got {_json.shown(_json.plain(text))}", path)
        fields: dict[str, bytes] = {}
        lists: dict[str, tuple[Any, ...]] = {}
        at = _scan.space(self.body, at + 1)
        ended = self.body[at : at + 1] == b"}"
        at += ended
        while not ended:
            name, at = _scan.key(self.body, at)
            part = form.parts.get(name)
            first = self.body[at : at + 1]
            if part is not None and first == b"[":
                lists[name], at = yield from self._items(part, at, f"{path}.{name}")
            elif part is not None and first == b"{" and form.wrapped:
                lists[name], at = yield from self._wrapped(part, at, f"{path}.{name}")
            else:
                start, at = at, (yield from _scan.whole(self.body, at))
                fields[name] = self._short(start, at)
                lists.pop(name, None)
            if path == "$" and name in _ENVELOPE and name in fields:
                self.known[name] = _known(fields[name])
            at, ended = _scan.after(self.body, at, b"}")
        outline = _outline(fields, lists)
        value = yield from self._value(form, outline, path)
        return attrs.evolve(value, **lists) if lists else value, at

    def _no_object(self, at: int) -> UnfitError | BrokenError:
        text = self.body[at:] if len(self.body) <= PIECE else self.body[at : at + 1] + b"]"
        try:
            document = _json.plain(text)
        except UnfitError as error:
            return BrokenError(error.reason, ended="truncated" in error.reason)
        return (
            UnfitError(f"expected an object, got {_json.shown(document)}", "$")
            if document is not None
            else BrokenError("null")
        )

    def _wrapped(self, form: Form, at: int, path: str) -> Steps[tuple[tuple[Any, ...], int]]:
        """Read an object where a list is due: one with a `list`, or an item alone."""
        start = at
        end = yield from _scan.whole(self.body, start)
        at = _scan.space(self.body, start + 1)
        if self.body[at : at + 1] == b"}":
            return (), end
        ended = False
        while not ended:
            name, at = _scan.key(self.body, at)
            if name == "list" and self.body[at : at + 1] == b"[":
                found, _ = yield from self._items(form, at, f"{path}.list")
                return found, end
            if name == "list" and self.body[at : at + 4] == b"null":
                return (), end
            at = yield from _scan.whole(self.body, at)
            at, ended = _scan.after(self.body, at, b"}")
        values: list[Any] = []
        yield from self._item(form, start, path, values)
        return tuple(values), end

    def _items(self, form: Form, at: int, path: str) -> Steps[tuple[tuple[Any, ...], int]]:
        """Read a list."""
        values: list[Any] = []
        at = _scan.space(self.body, at + 1)
        if self.body[at : at + 1] == b"]":
            return (), at + 1
        count, lost, before, ended = 0, 0, len(self.skipped), False
        wary = _Wary(0, 0)
        while not ended:
            start = at
            found, end = self._group(form, at, wary)
            if found is None:
                end, fits = yield from self._item(form, at, f"{path}[{count}]", values)
                count, lost = count + 1, lost + (not fits)
            else:
                count += len(found)
                _take(form, values, found)
            at, ended = _scan.after(self.body, end, b"]")
            if not ended and start >= wary.strictly:
                self._learn(form, end, at)
            yield None
        if lost == count > 1:
            raise UnfitError(self.skipped[before].reason, self.skipped[before].path)
        return tuple(values), at

    def _group(self, form: Form, at: int, wary: _Wary) -> tuple[Any, int]:
        """Decode several items, the first of which begins here; None where that fails, or the end is not known.

        Where they failed together, fewer are tried, patiently, and where these fail, none until these are passed.
        """
        if at >= wary.strictly:
            found, end = self._guessed(form, at, form.size, form.many)
            if found is not None or not end:
                return found, end
            wary.strictly = end
        if at < wary.patiently or form.parts or (form.load and form.load()):
            return None, 0
        found, end = self._guessed(form, at, _PATIENT, lambda text: [form.patient(row) for row in _json.plain(text)])
        if found is None:
            wary.patiently = end
        return found, end

    def _guessed(self, form: Form, at: int, size: int, many: Callable[[bytes], Any]) -> tuple[Any, int]:
        """Decode items up to where a piece seems to end; no items where it does not, 0 where no end is seen."""
        cut = self._cuts.get(id(form))
        if cut is None:
            return None, 0
        body, closing = self.body, cut[:1] + b"]"
        mark = _find(body, cut, at + size, at + 3 * size)
        most = at + 3 * size if mark < 0 else mark + 1
        last, sure = _near(body, closing, at, most)
        ends = [last] if last >= 0 else [mark] * (mark >= 0) + ([] if sure else [body.find(closing, at, most)])
        for end in ends:
            if end >= 0:
                try:
                    return many(b"[%b]" % body[at : end + 1]), end + 1
                except (*_json.Unreadable, UnfitError):
                    pass
        return None, max(ends, default=-1) + 1

    def _learn(self, form: Form, end: int, at: int) -> None:
        """Note what stands between two items, if it can be told from what stands inside of them."""
        if id(form) not in self._cuts and at - end < _LONG and self.body[end - 1 : end] in {b"}", b"]"}:
            opening = _OPENING.match(self.body, at, at + _LONG)
            if opening is not None:
                self._cuts[id(form)] = self.body[end - 1 : opening.end()]

    def _item(self, form: Form, at: int, path: str, values: list[Any]) -> Steps[tuple[int, bool]]:
        """Read one item into `values`, or skip it; return its end, and whether it fits."""
        end = None
        if not (form.parts and id(form) in self._large):
            end = yield from _scan.skip(self.body, at, form.size if form.parts else None)
        try:
            if end is None:
                self._large.add(id(form))
                value, end = yield from self._object(form, at, path)
            elif end - at > _LARGEST:
                raise UnfitError(f"it is longer than {_LARGEST} bytes", path)  # noqa: TRY301 - as any other misfit
            else:
                value = yield from self._one(form, at, end, path)
        except UnfitError as error:
            end = end or (yield from _scan.whole(self.body, at))
            self._skip(error)
            return end, False
        _take(form, values, (value,))
        return end, True

    def _one(self, form: Form, at: int, end: int, path: str) -> Steps[Any]:
        text = self.body[at:end]
        if not form.parts:
            return (yield from self._value(form, text, path))
        try:
            return form.one(text)
        except _json.Unreadable:
            value, _ = yield from self._object(form, at, path)
            return value

    def _value(self, form: Form, text: bytes, path: str) -> Steps[Any]:
        """Read the text of one value: as it is, else with half characters replaced, else patiently."""
        try:
            return form.one(text)
        except (*_json.Unreadable, UnfitError):
            pass
        mended = _json.mended(text)
        if mended != text:
            self._note(BadRow(path=path, reason=_MENDED, whole=False))
        missing = form.load and form.load()
        if missing:
            yield missing
        try:
            return form.patient(_json.plain(mended))
        except UnfitError as error:
            raise UnfitError(error.reason, path + error.path) from error

    def _text(self, at: int) -> Steps[bytes]:
        end = yield from _scan.whole(self.body, at)
        return self._short(at, end)

    def _short(self, at: int, end: int) -> bytes:
        """Return the text of a value; a very long text is cut, and what else is very long is null."""
        if end - at <= PIECE:
            return self.body[at:end]
        if self.body[at : at + 1] == b'"':
            return _json.encode(self.body[at + 1 : at + _LONG].decode(errors="replace"))
        return b"null"

    def _skip(self, error: UnfitError) -> None:
        if self.insist:
            raise error
        self._lost += 1
        self._note(BadRow(error.path, error.reason))
        if self._lost > _MOST:
            first = self.skipped[0]
            raise TooManyError(f"more than {_MOST} items do not fit; the first: {first.reason}", first.path)

    def _note(self, spot: BadRow) -> None:
        if not spot.whole and self.insist:
            raise UnfitError(spot.reason, spot.path)
        if len(self.skipped) < _MOST:
            self.skipped.append(spot)


@attrs.define
class _Wary:
    """Up to where groups of items are known not to decode, strictly and patiently."""

    strictly: int
    patiently: int


def _near(body: bytes, mark: bytes, at: int, end: int) -> tuple[int, bool]:
    """Look for a mark by its first byte, which is several times as fast as a search for two or more, if it is rare.

    Return -1 where it is not there, and whether that is certain.
    """
    for _ in range(_TRIES):
        at = body.find(mark[:1], at, end)
        if at < 0 or body.startswith(mark, at):
            return at, True
        at += 1
    return -1, False


def _find(body: bytes, mark: bytes, at: int, end: int) -> int:
    found, sure = _near(body, mark, at, end)
    return found if sure else body.find(mark, at, end)


class TooManyError(Exception):
    """So much of an answer does not fit that it is none: why, and where first."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


def _take(form: Form, values: list[Any], found: Any) -> None:
    for each in found if form.flat else (found,):
        values.extend(each)


def _known(text: bytes) -> Any:
    try:
        return _json.plain(_json.mended(text))
    except UnfitError:
        return None


def _outline(fields: Mapping[str, bytes], lists: Mapping[str, object]) -> bytes:
    """Spell an object again, its lists without their items."""
    members = {name: text for name, text in fields.items() if name not in OURS} | dict.fromkeys(lists, b"[]")
    return b"{%b}" % b",".join(_json.encode(name) + b":" + text for name, text in members.items())
