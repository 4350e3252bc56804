"""Every command prints times in JSON as plain numbers, also before the service's clock is known."""

from __future__ import annotations

import pytest
import typer
from typer.main import get_command

from agora_analytics._core.decoding import json
from agora_analytics.cli.app import app
from agora_analytics.simulator import APP_ID
from agora_analytics.spans import HostSecond, Span, by_host

APPS = f"{APP_ID},another"
COMMANDS = {
    "calls search": ("--last", "1h"),
    "calls sessions": ("CALL", "--last", "4h"),
    "calls sessions --sort worst": ("CALL", "--last", "4h"),
    "calls metrics": ("CALL", "--last", "4h"),
    "calls statistics": ("CALL", "--last", "4h"),
    "calls freeze": ("CALL", "--last", "4h"),
    "calls timeline": ("CALL", "--last", "4h"),
    "calls worst": (),
    "insights usage": (),
    "insights quality": (),
    "insights usage-total": (),
    "insights quality-total": (),
    "realtime usage": (),
    "realtime quality": (),
    "realtime usage-top": (),
    "realtime quality-top": (),
    "watch": ("--last", "10m", "--windows", "2"),
    "follow": ("--last", "2h", "--events", "2"),
    "doctor": (),
    "doctor --dry-run": (),
    "quota": (),
    "metrics": (),
    "plans": (),
    "report": ("--call", "CALL", "--last", "4h"),
    "export --dry-run": ("--last", "1w"),
    "export": ("data", "--last", "1h", "--apps", APPS, "--format", "csv"),
}
OTHERS = {"demo", "fleet check", "fleet drain", "fleet status", "fleet worker", "serve", "simulate", "sql"}
"""Commands that send nothing to the service of the settings."""


def commands(group: typer.core.TyperGroup, prefix: tuple[str, ...] = ()) -> list[str]:
    found = []
    for name, one in group.commands.items():
        inner = isinstance(one, typer.core.TyperGroup)
        found += commands(one, (*prefix, name)) if inner else [" ".join((*prefix, name))]
    return found


def test_the_table_has_every_command():
    assert set(commands(get_command(app))) - OTHERS <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_json_before_the_service_clock_is_known(run, call_id, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    result = run(*name.split(), *(call_id if one == "CALL" else one for one in COMMANDS[name]), "--json")
    assert result.code == (1 if name == "export" else 0), result.err  # the service refuses one of the two App IDs
    assert result.lines


@pytest.mark.parametrize("span", [("--last", "1h"), ("--last", "400d"), ("--start", "2026-11-20T00:00:00Z")])
def test_a_dry_run_reports_what_is_left_out_before_the_service_clock_is_known(run, span):
    result = run("export", "--dry-run", *span, "--apps", APPS, "--json")
    assert result.code == 0, result.err
    (skipped,) = [one for one in result.lines[-1]["expired"] if one["what"] == "app"]
    assert skipped["span"]["start"] < skipped["span"]["end"]


def test_a_host_second_is_encoded_as_a_number():
    document = json.loads(json.encode({"at": HostSecond(7), "span": by_host(Span(1, 2))}))
    assert document == {"at": 7, "span": {"start": 1, "end": 2}}
    assert json.encode_lines([HostSecond(7)]) == b"7\n"
    with pytest.raises(TypeError, match="no JSON is made of object"):
        json.encode(object())
