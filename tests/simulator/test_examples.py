"""Every example in a docstring of the simulator runs as it is written."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agora_analytics import simulator
from agora_analytics.simulator import Simulation
from agora_analytics.simulator.fixtures import agora_simulator

__all__ = ["agora_simulator"]

MODULES = [simulator, *(importlib.import_module(found.name) for found in pkgutil.walk_packages(
    simulator.__path__, f"{simulator.__name__}."))]  # fmt: skip
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
WITH_EXAMPLES = {
    "Fault", "Faults", "OtherProgram", "Service", "Simulation", "Variants", "VirtualLoop", "World",
    "serve", "simulator", "simulator.fixtures",
}  # fmt: skip


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield the name and docstring of every module, class and function of the simulator."""
    for module in MODULES:
        yield module.__name__.removeprefix("agora_analytics."), module.__doc__ or ""
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") == module.__name__ and callable(value):
                yield name, inspect.getdoc(value) or ""


EXAMPLES = {name: found for name, text in docstrings() if (found := BLOCK.findall(text))}


def test_every_entry_point_has_an_example():
    assert set(EXAMPLES) == WITH_EXAMPLES


@pytest.mark.parametrize("name", sorted(WITH_EXAMPLES))
def test_an_example_runs(name: str, agora_simulator: Simulation, tmp_path: Path):
    for number, block in enumerate(EXAMPLES[name]):
        code = textwrap.dedent(block)
        namespace: dict[str, Any] = {"__name__": "example"}
        exec(compile(code, str(tmp_path / f"{name}_{number}.py"), "exec"), namespace)  # noqa: S102 - it is ours
        for test in [value for key, value in namespace.items() if key.startswith("test_")]:
            test(agora_simulator)
