"""Packages that load what is behind them when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def door(package: dict[str, Any], *homes: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package whose names are looked for in its modules `homes`, in this order.

    `package` is its `globals()`, with `__all__`. Light modules come first, so that a light name loads no heavy module.
    """
    exported: list[str] = package["__all__"]

    def load(name: str) -> Any:
        """Load a public name."""
        for home in homes if name in exported else ():
            module = import_module(f"{package['__name__']}.{home}")
            if name in module.__all__:
                package[name] = getattr(module, name)
                return package[name]
        raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")

    return load, lambda: list(exported)
