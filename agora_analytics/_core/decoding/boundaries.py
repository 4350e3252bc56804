"""Where a piece of a JSON list may end, guessed: the separator of two items is what stood between two others before.

A guess cannot do harm: a list that is cut anywhere else than between two items, or after the last, leaves a first piece
that is no JSON.
"""

from __future__ import annotations

import re
from typing import Final

_TRIES: Final = 8
"""Bytes like the first of a mark that are looked at one by one: if there are more, the byte is not rare."""

_LONG: Final = 2_048
"""Bytes in which a separator must begin and end: one with more spaces is not worth a guess."""

# Possessive, as in `scanner`: time stays linear in the bytes.
_OPENING = re.compile(rb'\[|\{[ \t\r\n]*+"[^"\\]{1,64}"[ \t\r\n]*+:')
_BRACKETS = re.compile(rb"[}\]][ \t\r\n]*+,[ \t\r\n]*+[{\[]")


class SeparatorGuesses:
    """Separators of the lists of one body, such as `},{"sid":`, by the kind of their items."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}

    def learn(self, kind: int, body: bytes, end: int, at: int) -> None:
        """Note what stands between two items, if it differs from what stands inside of them."""
        # The first two items decide: all others of a list nearly always look alike, and a wrong guess costs only time.
        if kind not in self._known and at - end < _LONG and body[end - 1 : end] in {b"}", b"]"}:
            opening = _OPENING.match(body, at, at + _LONG)
            if opening is not None:
                self._known[kind] = body[end - 1 : opening.end()]

    def ends(self, kind: int, body: bytes, at: int, size: int, *, nested: bool) -> list[int]:
        """Return where a piece of about this size may end, the likeliest first; none where that is not known.

        Where items are not `nested`, brackets alone separate them as well.
        """
        cut = self._known.get(kind)
        if cut is None:
            return []
        found = _ends(body, cut, at, size)
        if not found and not nested and not cut.endswith((b"{", b"[")):  # its items do not all begin with the same name
            cut = self._known[kind] = _BRACKETS.match(cut)[0]  # type: ignore[index]  # it begins with these
            found = _ends(body, cut, at, size)
        return found


def _ends(body: bytes, cut: bytes, at: int, size: int) -> list[int]:
    """Return where a piece may end: with the list, else between two items, else with the last of its brackets."""
    closing = cut[:1] + b"]"
    # No further than three times the size: larger pieces would hold the event loop.
    mark = _find(body, cut, at + size, at + 3 * size)
    most = at + 3 * size if mark < 0 else mark + 1
    last, sure = _near(body, closing, at, most)
    if last < 0 and not sure and mark < 0:
        last = body.find(closing, at, most)
    found = [last, mark] if last < 0 or mark >= 0 else [last, body.rfind(closing, at, most)]
    return [end + 1 for end in dict.fromkeys(found) if end >= 0]


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
