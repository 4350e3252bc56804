"""The known name that was probably meant by an unknown one, for errors."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_SIMILAR: Final = 0.7
"""Least similarity of a suggested name: by less, `hourly` would be taken for `country`."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like another, None if none is; case and underscores do not matter.

    >>> closest("video_frezeRate", ["userCount", "videoFreezeRate"])
    'videoFreezeRate'
    """
    folded = {_fold(one): one for one in known}
    return next((folded[match] for match in get_close_matches(_fold(name), folded, n=1, cutoff=_SIMILAR)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question to put into an error, with a space after it; empty if no known name is like it."""
    close = closest(name, known)
    return f"did you mean {close}? " if close else ""


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()
