"""Decodes answers in pieces: reads all valid rows, whatever the size of an answer and whatever is wrong with it.

An answer is an object with a list of items, which may have lists themselves (sessions of tracks of samples). Items are
decoded strictly, in pieces whose ends `boundaries` guesses. A piece that does not fit is read again in smaller ones,
with numbers that may be texts, and then item by item. Where a guess fails, `scanner` finds the end of each item. An
item that does not fit is read leniently; otherwise it is skipped and reported, or raises in strict mode.

A list of several items of which none fits is an error, and so is an answer with too many misfits or too many members:
each costs thousands of times as much as a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from agora_analytics._core.decoding import json, scanner
from agora_analytics._core.decoding.boundaries import SeparatorGuesses
from agora_analytics._core.decoding.json import JsonSyntaxError, MisfitError
from agora_analytics._core.decoding.scanner import Steps
from agora_analytics._core.decoding.value_format import PIECE, ValueFormat
from agora_analytics.models.envelope import OURS, BadRow

_MAX_ITEM: Final = 1 << 20
"""Largest item that is read, in bytes."""

_MAX_SKIPPED: Final = 1_000
"""Most items that are skipped; an answer with more of them does not fit the reference at all."""

_MAX_LENIENT: Final = 32_768
"""Most items that are read leniently: as many as the tracks of a busy page."""

_MAX_MEMBERS: Final = 131_072
"""Most members of objects that are scanned one by one."""

_SMALLER_BY: Final = 8
"""By how much pieces are smaller where a large one did not fit."""

_LONG: Final = 2_048
"""Bytes that are left of a text which is too long to be read, such as a message with a whole page of HTML in it."""

_ENVELOPE: Final = frozenset({"code", "message", "requestId"})
_MENDED: Final = "half of a character, shown as U+FFFD"


class _ListState:
    """State of a list while it is read: its values, and the number of items and of misfits.

    A large piece did not fit before `small_until`; the ends of items were not found before `singly_until`.
    """

    __slots__ = ("count", "form", "listed", "misfits", "path", "singly_until", "small_until", "values")

    def __init__(self, form: ValueFormat, path: str, *, listed: bool = True) -> None:
        self.form = form
        self.path = path
        self.listed = listed
        self.values: list[Any] = []
        self.count = self.misfits = self.small_until = self.singly_until = 0

    def add(self, items: Any) -> None:
        """Add items that fit."""
        self.count += len(items)
        for each in items if self.form.flat else (items,):
            self.values.extend(each)

    def add_misfit(self) -> None:
        """Count an item that does not fit."""
        self.count += 1
        self.misfits += 1


class ChunkReader:
    """Reads one body; with `strict`, raises `MisfitError` for items that would be skipped.

    `known` has the envelope's fields so far.
    """

    def __init__(self, body: bytes, *, strict: bool) -> None:
        self.body = body
        self.strict = strict
        self.skipped: list[BadRow] = []
        self.known: dict[str, Any] = {}
        self._separators = SeparatorGuesses()
        self._large: set[int] = set()
        self._lost = self._members = self._lenient_items = 0

    def whole(self, form: ValueFormat) -> Steps[Any]:
        """Read the body as one value; raises `MisfitError` or `JsonSyntaxError`."""
        # Behind a byte order mark: it is no reason to give an answer up.
        at = scanner.space(self.body, 3 if self.body.startswith(b"\xef\xbb\xbf") else 0)
        if self.body[at : at + 1] != b"{":
            raise self._no_object(at)
        value, end = yield from self._object(form, at, "$")
        scanner.rest(self.body, end)
        return value

    def _object(self, form: ValueFormat, at: int, path: str) -> Steps[tuple[Any, int]]:
        """Read an object: its lists item by item, and around them the rest of it."""
        # One pass over the text, in which every branch moves the position: longer than 25 lines for that.
        if self.body[at : at + 1] != b"{":
            text = yield from self._text(at)
            raise MisfitError(f"expected an object, got {json.short_repr(json.parse_value(text))}", path)
        fields: dict[str, bytes] = {}
        lists: dict[str, tuple[Any, ...]] = {}
        at = scanner.space(self.body, at + 1)
        ended = self.body[at : at + 1] == b"}"
        at += ended
        while not ended:
            name, at = self._key(at, path)
            part = form.parts.get(name)
            first = self.body[at : at + 1]
            if part is not None and first == b"[":
                lists[name], at = yield from self._items(part, at, f"{path}.{name}")
            elif part is not None and first == b"{" and form.wrapped:
                lists[name], at = yield from self._wrapped(part, at, f"{path}.{name}")
            else:
                start, at = at, (yield from scanner.whole(self.body, at))
                # Of two members with one name the last wins, as where a decoder reads the whole object.
                fields[name] = self._short(start, at)
                lists.pop(name, None)
            # Known at once, so that the code of an error is read although the rest does not fit.
            if path == "$" and name in _ENVELOPE and name in fields:
                self.known[name] = _known(fields[name])
            at, ended = scanner.after(self.body, at, b"}")
        outline = _outline(fields, lists)
        value = yield from self._value(form, outline, path)
        found = {json.field_name(name): items for name, items in lists.items()}
        return attrs.evolve(value, **found) if found else value, at

    def _no_object(self, at: int) -> MisfitError | JsonSyntaxError:
        text = self.body[at:] if len(self.body) <= PIECE else self.body[at : at + 1] + b"]"
        try:
            document = json.parse_value(text)
        except MisfitError as error:
            return JsonSyntaxError(error.reason, ended="truncated" in error.reason)
        if document is None:  # reported as an empty answer, which another attempt may fill
            return JsonSyntaxError("null")
        return MisfitError(f"expected an object, got {json.short_repr(document)}", "$")

    def _wrapped(self, form: ValueFormat, at: int, path: str) -> Steps[tuple[tuple[Any, ...], int]]:
        """Read an object where a list is due: one with a `list`, or an item alone."""
        start = at
        # Its end first: an object without a `list` is read a second time, as an item.
        end = yield from scanner.whole(self.body, start)
        at = scanner.space(self.body, start + 1)
        if self.body[at : at + 1] == b"}":
            return (), end
        ended = False
        while not ended:
            name, at = self._key(at, path)
            if name == "list" and self.body[at : at + 1] == b"[":
                found, _ = yield from self._items(form, at, f"{path}.list")
                return found, end
            if name == "list" and self.body[at : at + 4] == b"null":
                return (), end
            at = yield from scanner.whole(self.body, at)
            at, ended = scanner.after(self.body, at, b"}")
        item = _ListState(form, path, listed=False)
        yield from self._item(item, start)
        return tuple(item.values), end

    def _items(self, form: ValueFormat, at: int, path: str) -> Steps[tuple[tuple[Any, ...], int]]:
        """Read a list."""
        at = scanner.space(self.body, at + 1)
        if self.body[at : at + 1] == b"]":
            return (), at + 1
        found, before, ended = _ListState(form, path), len(self.skipped), False
        while not ended:
            end = yield from self._some(found, at)
            yield None
            if end:
                at, ended = scanner.after(self.body, end, b"]")
                if not ended:
                    self._separators.learn(id(form), self.body, end, at)
        # None fits: this is no list of the reference, and without its rows it would pass for an empty answer.
        if found.misfits == found.count > 1:
            raise MisfitError(self.skipped[before].reason, self.skipped[before].path)
        return tuple(found.values), at

    def _some(self, found: _ListState, at: int) -> Steps[int]:
        """Read items of a list, at least one, and return where they end; 0 where less is to be tried at once."""
        form, small_until = found.form, at < found.small_until
        size = form.size // _SMALLER_BY if small_until else form.size
        ends: list[int] = []
        if at >= found.singly_until:
            ends = self._separators.ends(id(form), self.body, at, size, nested=bool(form.parts))
        items, end = self._at_once(form, at, ends)
        if items is not None:
            found.add(items)
            return end
        # One odd item makes a whole piece fail: smaller ones leave less to be read item by item.
        if ends and not small_until:
            found.small_until = max(ends)
            return 0
        apart = self._apart(at, ends)
        if apart:
            yield from self._several(found, apart)
            return apart[-1][1]
        found.singly_until = max(ends, default=at)
        return (yield from self._item(found, at))

    def _key(self, at: int, path: str) -> tuple[str, int]:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise TooManyMisfitsError(f"more than {_MAX_MEMBERS} members need scanning", path)
        return scanner.key(self.body, at)

    def _several(self, found: _ListState, spans: list[tuple[int, int]]) -> Steps[None]:
        """Read items that do not fit together."""
        form, ways = found.form, (found.form.one, found.form.lax_one)
        if form.lax and not form.load and len(spans) > _SMALLER_BY:  # small ones, whose names may be all that is odd
            items = _first_fitting((_each(form),), b"[%b]" % self.body[spans[0][0] : spans[-1][1]])
            if items is not None:
                found.add(items)
                return
        for at, end in spans:
            value = None if form.parts else _first_fitting(ways, self.body[at:end])
            if value is not None:
                found.add((value,))
            else:
                yield from self._item(found, at, end)
                yield None

    def _at_once(self, form: ValueFormat, at: int, ends: list[int]) -> tuple[Any, int]:
        """Return several items if all up to one of these ends fit, and this end; None and 0 if not."""
        for end in ends:
            text = b"[%b]" % self.body[at:end]
            if len(self.skipped) >= _MAX_SKIPPED:
                text = json.replace_lone_surrogates(text)  # it could not be reported any more
            found = _first_fitting((form.many, form.lax), text)
            if found is not None:
                return found, end
        return None, 0

    def _apart(self, at: int, ends: list[int]) -> list[tuple[int, int]]:
        """Return where items begin and end, up to the first of `ends` that ends an item; empty if none does."""
        for end in ends:
            try:
                return [(at + one - 1, at + other - 1) for one, other in json.item_spans(b"[%b]" % self.body[at:end])]
            except json.DecodeFailures:
                pass
        return []

    def _item(self, found: _ListState, at: int, end: int | None = None) -> Steps[int]:
        """Read one item, or skip it; return its end."""
        form, path = found.form, f"{found.path}[{found.count}]" if found.listed else found.path
        if end is None and not (form.parts and id(form) in self._large):
            end = yield from scanner.skip(self.body, at, form.size if form.parts else None)
        try:
            if end is None:
                # The next items are probably as large, and are not scanned in vain first.
                self._large.add(id(form))
                value, end = yield from self._object(form, at, path)
            elif end - at > _MAX_ITEM:
                raise MisfitError(f"it is longer than {_MAX_ITEM} bytes", path)  # noqa: TRY301 - as any other misfit
            else:
                value = yield from self._one(form, at, end, path)
        except MisfitError as error:
            end = end or (yield from scanner.whole(self.body, at))
            self._skip(error)
            found.add_misfit()
        else:
            found.add((value,))
        return end

    def _one(self, form: ValueFormat, at: int, end: int, path: str) -> Steps[Any]:
        value, mended = self._exact(form, self.body[at:end], path)
        if value is None and form.parts:
            value, _ = yield from self._object(form, at, path)
        elif value is None:
            value = yield from self._leniently(form, mended, path)
        return value

    def _value(self, form: ValueFormat, text: bytes, path: str) -> Steps[Any]:
        """Read the text of one value: as it is, else with half characters replaced, else leniently."""
        value, mended = self._exact(form, text, path)
        return (yield from self._leniently(form, mended, path)) if value is None else value

    def _exact(self, form: ValueFormat, text: bytes, path: str) -> tuple[Any, bytes]:
        """Return the value of a text or None, and the text with half characters replaced, which is reported."""
        ways = form.one, form.lax_one
        value = _first_fitting(ways, text)
        if value is not None:
            return value, text
        mended = json.replace_lone_surrogates(text)
        if mended == text:
            return None, text
        value = _first_fitting(ways, mended)
        # One with lists is read again part by part, which reports the character where it is.
        if value is not None or not form.parts:
            self._note(BadRow(path=path, reason=_MENDED, whole=False))
        return value, mended

    def _leniently(self, form: ValueFormat, text: bytes, path: str) -> Steps[Any]:
        if form.load is not None:
            self._count(path)
            missing = form.load()
            if missing:
                yield missing
        try:
            return form.lenient(json.parse_value(text))
        except MisfitError as error:
            raise MisfitError(error.reason, path + error.path) from error

    def _count(self, path: str) -> None:
        self._lenient_items += 1
        if self._lenient_items > _MAX_LENIENT:
            raise TooManyMisfitsError(f"more than {_MAX_LENIENT} items do not fit the reference exactly", path)

    def _text(self, at: int) -> Steps[bytes]:
        end = yield from scanner.whole(self.body, at)
        return self._short(at, end)

    def _short(self, at: int, end: int) -> bytes:
        """Return the text of a value; a very long text is cut, and what else is very long is null."""
        if end - at <= PIECE:
            return self.body[at:end]
        if self.body[at : at + 1] == b'"':
            return json.encode(self.body[at + 1 : at + _LONG].decode(errors="replace"))
        return b"null"

    def _skip(self, error: MisfitError) -> None:
        if self.strict:
            raise error
        self._lost += 1
        self._note(BadRow(error.path, error.reason))
        if self._lost > _MAX_SKIPPED:
            first = self.skipped[0]
            raise TooManyMisfitsError(
                f"more than {_MAX_SKIPPED} items do not fit; the first: {first.reason}", first.path
            )

    def _note(self, spot: BadRow) -> None:
        if not spot.whole and self.strict:
            raise MisfitError(spot.reason, spot.path)
        # Bounded, as a body may consist of broken characters.
        if len(self.skipped) < _MAX_SKIPPED:
            self.skipped.append(spot)


def _each(form: ValueFormat) -> Callable[[bytes], Any]:
    return lambda text: [form.lenient(row) for row in json.parse_value(text)]


def _first_fitting(ways: tuple[Callable[[bytes], Any] | None, ...], text: bytes) -> Any:
    """Read a text in the first way in which it can be read; None where there is none."""
    for read in ways:
        try:
            if read is not None:
                return read(text)
        except (*json.DecodeFailures, MisfitError):
            pass
    return None


class TooManyMisfitsError(Exception):
    """Too much of an answer does not fit: why, and where first."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


def _known(text: bytes) -> Any:
    try:
        return json.parse_value(json.replace_lone_surrogates(text))
    except MisfitError:
        return None


def _outline(fields: Mapping[str, bytes], lists: Mapping[str, object]) -> bytes:
    """Return the JSON of an object whose lists are empty."""
    # What the service sends under the names of our own fields must not fill them.
    members = {name: text for name, text in fields.items() if name not in OURS} | dict.fromkeys(lists, b"[]")
    return b"{%b}" % b",".join(json.encode(name) + b":" + text for name, text in members.items())
