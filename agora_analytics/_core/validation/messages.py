"""How an error shows the value it is about: short, in one line, and without running code of unknown classes."""

from __future__ import annotations

from datetime import date, timedelta
from enum import Enum
from reprlib import Repr
from types import NoneType
from typing import Final

_MOST: Final = 100
"""Characters of a value that an error shows at most."""

# Another class's `repr` may be of any length, and may show a password, as that of aiohttp's BasicAuth does.
_PLAIN: Final = (str, int, float, complex, date, timedelta, Enum, NoneType)


class _Short(Repr):
    """Shows plain values and lists of them; of everything else the class."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong = 2, 60, 40

    def repr_instance(self, x: object, level: int) -> str:
        """Show a value of no built-in list."""
        del level
        return repr(x) if isinstance(x, _PLAIN) else f"<{type(x).__name__}>"


def short_repr(value: object) -> str:
    """Return a value as an error shows it: at most 100 characters of one line."""
    try:
        said = _Short().repr(value)
    except Exception:  # noqa: BLE001 - a `repr` may raise anything, and an int of 5,000 digits has none
        said = f"<{type(value).__name__}>"
    line = "".join(letter if letter.isprintable() else " " for letter in said)
    return line if len(line) <= _MOST else f"{line[: _MOST - 3]}..."


def type_error(name: str, value: object, allowed: str) -> TypeError:
    """Return the error for a value that is not of the argument's kind."""
    return TypeError(f"{name}={short_repr(value)}: allowed is {allowed}")
