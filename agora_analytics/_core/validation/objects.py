"""Rules for objects: of a class, of a seam, paths, functions, and the fields of a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agora_analytics._core.validation.messages import short_repr, type_error

T = TypeVar("T")

Rule = Callable[[str, Any], Any]


def instance(name: str, value: object, kind: type[T], allowed: str = "") -> T:
    """Return a value of a class; `allowed` says what else there is to know."""
    if not isinstance(value, kind):
        raise type_error(name, value, allowed or f"a {kind.__name__}")
    return value


def with_members(name: str, value: T, allowed: str, *members: str) -> T:
    """Return what has these methods and properties, of whatever class; a class itself is none."""
    if isinstance(value, type) or not all(hasattr(value, member) for member in members):
        raise type_error(name, value, allowed)
    return value


def function(name: str, value: T, allowed: str) -> T:
    """Return what can be called."""
    if not callable(value):
        raise type_error(name, value, allowed)
    return value


def mapping(name: str, value: object, kind: type[T]) -> Mapping[str, T]:
    """Return a mapping from texts to values of a class, which may be secrets: the error shows none of it."""
    if not isinstance(value, Mapping) or not all(
        isinstance(key, str) and isinstance(one, kind) for key, one in value.items()
    ):
        raise TypeError(f"{name}: allowed is a mapping from str to {kind.__name__} (value not shown)")
    return value


def none_or(rule: Callable[..., T], name: str, value: object, *more: Any) -> T | None:
    """Return None for None, and what the rule returns for all else."""
    return None if value is None else rule(name, value, *more)


def path(name: str, value: object) -> Path:
    """Return the path of a file or folder, `~` replaced by the user's folder."""
    if not isinstance(value, str) and not hasattr(type(value), "__fspath__"):
        raise type_error(name, value, "a path: a str or a Path")
    try:
        found = Path(value)  # type: ignore[arg-type]  # what has __fspath__ is a path
    except TypeError:  # of bytes
        raise type_error(name, value, "a path: a str or a Path") from None
    if value == "" or "\0" in str(found):
        raise ValueError(f"{name}={short_repr(str(value))} is no path: it is empty or has a null character in it")
    try:
        return found.expanduser()
    except RuntimeError:
        raise ValueError(f"{name}={short_repr(str(found))}: there is no such user's folder") from None


def apply_rules(model: object, **rules: Rule) -> None:
    """Check fields of a frozen value that is being made, and keep what their rules return."""
    for name, rule in rules.items():
        object.__setattr__(model, name, rule(name, getattr(model, name)))
