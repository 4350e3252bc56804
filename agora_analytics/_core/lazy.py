"""Lazy packages: a public name loads its module at first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def door(package: dict[str, Any], *homes: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package whose names are defined in its modules `homes`.

    `package` is its `globals()`, with `__all__`. Modules are searched in order, so light ones come first.
    """
    exported: list[str] = package["__all__"]

    def load(name: str) -> Any:
        """Load a public name."""
        # Tools probe modules for names such as `__wrapped__`: what is not exported must load nothing.
        for home in homes if name in exported else ():
            module = import_module(f"{package['__name__']}.{home}")
            if name in module.__all__:
                # Kept in the package, so that this function is called once for each name.
                package[name] = getattr(module, name)
                return package[name]
        raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")

    return load, lambda: list(exported)


def door_of_modules(
    package: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package in which each public name has the module in `homes`.

    For packages whose modules need different extras: only the module of a name that is used is loaded. A name with a
    module of the same name is that module.
    """

    def load(name: str) -> Any:
        """Load a public name."""
        if name not in homes:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        module = import_module(f"{package['__name__']}.{homes[name]}")
        package[name] = module if homes[name] == name else getattr(module, name)
        return package[name]

    return load, lambda: list(homes)
