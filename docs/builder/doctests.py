"""Shows doctests of docstrings as code: an extension of the reader of sources."""

from __future__ import annotations

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"^>>> .*(?:\n\S.*)*", re.MULTILINE)


class FencedDoctests(griffe.Extension):
    """Puts fences around doctests: Markdown takes their prompt for a quotation."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring and ">>> " in obj.docstring.value:
            obj.docstring.value = _DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
