"""Docstrings as the site shows them, and signatures of attrs: extensions of the reader of sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_DOCTEST = re.compile(r"^>>> .*(?:\n\S.*)*", re.MULTILINE)
_DEFAULT = re.compile(r"\bdefault=([^,()]+(?:\([^()]*\))?)")
_FILES = re.compile(r"^\| Question \| Where to look \|\n(?:\|.*\n?)*(?:\ndocs/concepts/.*)?", re.MULTILINE)


class SiteDocstrings(griffe.Extension):
    """Puts fences around doctests, whose prompt Markdown takes for a quotation, and leaves out tables of files."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = _FILES.sub("", _DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)).strip()


class AttrsSignatures(griffe.Extension):
    """Gives each class of attrs the signature that attrs makes of its fields."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add `__init__` to a class of attrs."""
        decorator = next((str(one.value) for one in cls.decorators if str(one.value).startswith("attrs.")), "")
        if not decorator or "__init__" in cls.members:
            return
        kind = griffe.ParameterKind.keyword_only if "kw_only=True" in decorator else _BOTH
        self_ = griffe.Parameter("self", kind=_BOTH)
        parameters = griffe.Parameters(self_, *_parameters(cls, kind))
        cls.set_member("__init__", griffe.Function("__init__", parameters=parameters, parent=cls))


_BOTH = griffe.ParameterKind.positional_or_keyword


def _parameters(cls: griffe.Class, kind: griffe.ParameterKind) -> Iterator[griffe.Parameter]:
    for name, field in cls.members.items():
        if not isinstance(field, griffe.Attribute) or field.annotation is None or "property" in field.labels:
            continue
        value = str(field.value or "")
        if "ClassVar" not in str(field.annotation) and "init=False" not in value:
            yield griffe.Parameter(name.lstrip("_"), annotation=field.annotation, kind=kind, default=_default(value))


def _default(value: str) -> str | None:
    """Return the default of a field as a signature shows it; None without one."""
    if not value.startswith("attrs.field("):
        return value or None
    default = _DEFAULT.search(value)
    return default[1] if default else "..." if "factory=" in value else None
