"""Every example of streams, in docstrings and in docs/concepts, runs unchanged."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from typing import Any

import pytest
from helpers.pages import blocks_of
from helpers.paths import PACKAGE, ROOT
from helpers.streaming import simulated

import agora_analytics
from agora_analytics import AnalyticsClient

CONCEPTS = ROOT / "docs" / "concepts" / "streams.md"
SERVERS = {"object_checkpoints", "postgres_checkpoints", "postgres_sink", "redis_checkpoints"}
"""Files whose examples need a server: they run in test_shared_checkpoints.py."""

EXAMPLES = [
    pytest.param(code, id=f"{path.stem}-{number}")
    for path in (*sorted((PACKAGE / "streams").rglob("*.py")), CONCEPTS)
    for number, code in enumerate(blocks_of(path))
    if path.stem not in SERVERS
]


def test_every_entry_point_of_streams_has_an_example():
    assert {str(param.id).rpartition("-")[0] for param in EXAMPLES} == {
        *("checkpoint_stores", "checkpoints", "events", "fan_out", "follow", "series", "watch", "streams")
    }


@pytest.mark.parametrize("code", EXAMPLES)
async def test_an_example_of_streams_runs(code, monkeypatch, tmp_path):
    simulation = simulated()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls, **options: simulation.client(**options)))
    names: dict[str, Any] = {name: getattr(agora_analytics, name) for name in agora_analytics.__all__}
    names["timedelta"] = timedelta
    program = code if "import " in code else f"async def main():\n{textwrap.indent(code, '    ')}"
    exec(compile(program.replace("asyncio.run(main())", ""), "example", "exec"), names)  # noqa: S102 - our own documentation
    await names["main"]()
