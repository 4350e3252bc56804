"""The examples of exports in docstrings and in docs/concepts run as they are written."""

from __future__ import annotations

import re
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers.export_runs import HOUR, NOON, remove_rate_limits
from helpers.paths import ROOT

import agora_analytics
from agora_analytics import AnalyticsClient

EXPORT = Path(agora_analytics.__file__).parent / "export"
CONCEPTS = ROOT / "docs" / "concepts" / "exports.md"
EXAMPLES = [
    pytest.param(textwrap.dedent(code), id=f"{path.stem}-{number}")
    for path in (*sorted(EXPORT.glob("*.py")), CONCEPTS)
    for number, (_, code) in enumerate(
        re.findall(r"^( *)```python\n(.*?)^\1```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    )
]


def test_every_entry_point_of_exports_has_an_example():
    assert [str(param.id) for param in EXAMPLES] == [
        *("dataframes-0", "dataframes-1", "dataframes-2", "exporter-0", "exporter-1", "selection-0", "selection-1"),
        "exports-0",
    ]


@pytest.mark.parametrize("code", EXAMPLES)
async def test_an_example_runs_and_prints(code, simulation, monkeypatch, tmp_path, capsys):
    remove_rate_limits(simulation)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls, **more: simulation.client(**more)))
    names: dict[str, Any] = {name: getattr(agora_analytics, name) for name in agora_analytics.__all__}
    names["timedelta"] = timedelta
    names |= {"start": NOON - 6 * HOUR, "end": NOON - HOUR}
    exec(compile(f"async def main(client):\n{textwrap.indent(code, '    ')}", "example", "exec"), names)  # noqa: S102
    async with simulation.client() as client:
        await names["main"](client)
    assert capsys.readouterr().out
