"""Where the values of a JSON text begin and end, without reading them: bounded memory, steps of bounded work.

A decoder in C reads a value in one go, and holds the event loop for as long as that takes; it also gives up the whole
text for one wrong byte. What is too large or not right is therefore taken apart first. That needs no understanding of
JSON beyond brackets and quotes, so a few replacements, made in C, carry over 4 KiB at once; only where a value ends
is each bracket looked at. Nothing here says that a text is JSON: what it cuts out is read strictly afterwards.

Functions with `Steps` are generators that yield whenever another 4 to 64 KiB are done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from agora_analytics._core.decoding.json import JsonSyntaxError

T = TypeVar("T")

Steps = Generator[Callable[[], object] | None, None, T]
"""Work in steps that returns a T; between two of them others may have their turn, or something is to be called."""


def finish(steps: Steps[T]) -> T:
    """Do all steps at once."""
    while True:
        try:
            work = next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        if work is not None:
            work()


_NARROW: Final = 256
_STEP: Final = 4_096
_WIDE: Final = 65_536
"""Bytes that are scanned at once: of a container at first and at most, and of a text or of spaces."""

_ROUNDS: Final = 12
"""Times that brackets are folded in C before each one is looked at, of which the first few go level by level."""
_SHALLOW: Final = 4

# Possessive (`*+`, `++`), so that no text makes them backtrack: time stays linear in the bytes.
_SPACE = re.compile(rb"[ \t\r\n]*+")
_KEY = re.compile(rb'"((?:[^"\\]|\\.)*+)"[ \t\r\n]*+:', re.DOTALL)
_PART_OF_KEY = re.compile(rb'"(?:[^"\\]|\\.)*+(?:\\|"[ \t\r\n]*+)?', re.DOTALL)
_SCALAR = re.compile(rb"[^,\]}\s]*+")
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_MARKS = re.compile(rb'\\.|["\[\]{}]', re.DOTALL)
_SHORT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_QUOTE = re.compile(rb'\\.|"', re.DOTALL)
_PEAK = re.compile(rb"(\[++)(\]++)")
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_REST: Final = bytes(set(range(256)) - set(b"[]{}"))


def space(body: bytes, at: int) -> int:
    """Return where the next thing begins; raises `JsonSyntaxError` where nothing does, or not within 64 KiB."""
    if body[at : at + 1] > b" ":
        return at  # nearly always
    end = _space_end(body, at)
    if end == len(body):
        raise JsonSyntaxError("it ends early", ended=True)
    if end - at >= _WIDE:
        raise JsonSyntaxError(f"nothing but spaces (byte {at})")
    return end


def rest(body: bytes, at: int) -> None:
    """Raise `JsonSyntaxError` unless nothing but spaces follows."""
    if _space_end(body, at) != len(body):
        raise JsonSyntaxError(f"more after the end (byte {at})")


def key(body: bytes, at: int) -> tuple[str, int]:
    """Return the name of a member of an object, and where its value begins."""
    found = _KEY.match(body, at, at + _WIDE)
    if found is None:
        early = at + _WIDE >= len(body) and _PART_OF_KEY.fullmatch(body, at) is not None
        raise JsonSyntaxError(f"expected a name (byte {at})", ended=early)
    return found[1].decode(errors="replace"), space(body, found.end())


def after(body: bytes, at: int, closing: bytes) -> tuple[int, bool]:
    """Return where the next item begins, or, with True, where the container ends, given the end of an item."""
    at = space(body, at)
    mark = body[at : at + 1]
    if mark == closing:
        return at + 1, True
    if mark != b",":
        raise JsonSyntaxError(f"expected a comma or the end (byte {at})")
    return space(body, at + 1), False


def skip(body: bytes, at: int, most: int | None = None) -> Steps[int | None]:
    """Return the end of the value that begins at `at`; None where it has more than about `most` bytes."""
    first = body[at : at + 1]
    if first == b'"':
        return (yield from _text(body, at, most))
    if first in {b"[", b"{"}:
        return (yield from _container(body, at, most))
    end = _SCALAR.match(body, at, at + _WIDE).end()  # type: ignore[union-attr]  # it matches nothing, too
    if end == len(body):
        raise JsonSyntaxError("it ends early", ended=True)
    if end == at or end - at >= _WIDE:
        raise JsonSyntaxError(f"expected a value (byte {at})")
    return end


def whole(body: bytes, at: int) -> Steps[int]:
    """Return the end of the value that begins at `at`, however long it is."""
    end = yield from skip(body, at)
    assert end is not None  # noqa: S101 - for the type checker: no `most` was given
    return end


def _space_end(body: bytes, at: int) -> int:
    return _SPACE.match(body, at, at + _WIDE).end()  # type: ignore[union-attr]  # it matches nothing, too


def _window(body: bytes, at: int, size: int) -> tuple[int, bytes]:
    """Return where a window ends, no escape cut in two, and what is in it without escapes."""
    end = at + size
    window = body[at:end]
    if b"\\" not in window:
        return end, window
    clean = _ESCAPED.sub(b"", window)
    # The escaped character is the first byte of the next window.
    if clean[-1:] == b"\\":
        end += 1
        clean = clean[:-1]
    return end, clean


def _text(body: bytes, at: int, most: int | None) -> Steps[int | None]:
    short = _SHORT.match(body, at, at + _STEP)
    if short is not None:
        return short.end()  # nearly always
    start, at = at, at + 1
    while at < len(body):
        end, clean = _window(body, at, _WIDE)
        if b'"' in clean:
            return next(found.end() for found in _QUOTE.finditer(body, at, end) if found[0] == b'"')
        at = end
        if most is not None and at - start > most:
            return None
        yield None
    raise JsonSyntaxError("it ends within a text", ended=True)


def _container(body: bytes, at: int, most: int | None) -> Steps[int | None]:
    start, at, depth, inside, size = at, at + 1, 1, False, _NARROW
    while at < len(body):
        end, clean = _window(body, at, size)
        # Small windows first, as most values are short.
        size = min(4 * size, _STEP)
        parts = clean.split(b'"')
        # Every second part lies outside of texts: the even ones, unless the window begins inside one.
        shape = _folded(b"".join(parts[inside::2]).translate(_SQUARE, _REST))
        closing = shape.count(b"]")
        # Otherwise the value cannot end in this window, and no bracket has to be looked at.
        if closing >= depth:
            found = _closing(body, at, end, depth, inside=inside)
            if found is not None:
                return found
        depth += len(shape) - 2 * closing
        inside ^= (len(parts) - 1) & 1 == 1
        at = end
        if most is not None and at - start > most:
            return None
        yield None
    raise JsonSyntaxError("it ends early", ended=True)


def _folded(shape: bytes) -> bytes:
    """Take away brackets that close each other: level by level, and what is nested deeper whole peaks at a time."""
    for turn in range(_ROUNDS):
        folded = shape.replace(b"[]", b"") if turn < _SHALLOW else _PEAK.sub(_levelled, shape)
        if len(folded) == len(shape):
            break
        shape = folded
    return shape


def _levelled(peak: re.Match[bytes]) -> bytes:
    up, down = len(peak[1]), len(peak[2])
    return b"[" * (up - down) + b"]" * (down - up)


def _closing(body: bytes, at: int, end: int, depth: int, *, inside: bool) -> int | None:
    """Return where the outermost bracket closes, looking at each one."""
    for found in _MARKS.finditer(body, at, end):
        mark = found[0]
        if mark == b'"':
            inside = not inside
        elif not inside and len(mark) == 1:
            depth += 1 if mark in b"[{" else -1
            if depth == 0:
                return found.end()
    return None
