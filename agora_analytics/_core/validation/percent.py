"""Numbers as people write them where a fraction is meant: `0.05` or `5%`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_NUMBER: Final = re.compile(r"(\d{1,15}(?:\.\d{1,15})?|\.\d{1,15})(%?)")


def number_of(text: str) -> Decimal | None:
    """Return the number of a text like `0.05` or `5%`; None for any other.

    >>> number_of("5%")
    Decimal('0.05')
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    # Decimal, as 0.7 % would otherwise be 0.006999999999999999, and not the same as 0.007.
    return Decimal(found[1]) / 100 if found[2] else Decimal(found[1])
