"""What to say where a library is missing that an extra brings."""

from __future__ import annotations


class MissingExtraError(ValueError):
    """A library is not installed that an extra brings."""


def install_command(extra: str) -> str:
    """Return the command that installs an extra, also of a package that was installed from a clone.

    pip then keeps the package that is there, whether the index has it or not, and adds only the extra's libraries.
    """
    return f'python -m pip install "agora-analytics[{extra}]"'
