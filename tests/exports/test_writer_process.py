"""The process that writes: what it is told of its surroundings, and that it imports what its parent imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agora_analytics.export._process import Apart

TWICE = """
import sys
from pathlib import Path
from agora_analytics.export._process import Apart
writer = Apart("jsonl", Path(sys.argv[1]), Path(sys.argv[1]) / "s")
writer.ready()
print(*writer._process.args[:2])
writer.close()
"""


@pytest.fixture
def begun(tmp_path: Path, monkeypatch):
    """What a writer's process was started with."""
    seen: list[tuple[list[str], dict[str, str]]] = []
    real = subprocess.Popen

    def started(line, **options):
        seen.append((line, options["env"]))
        return real(line, **options)

    monkeypatch.setattr("agora_analytics.export._process.subprocess.Popen", started)

    def begin() -> tuple[list[str], dict[str, str]]:
        writer = Apart("jsonl", tmp_path, tmp_path / ".state" / "scratch")
        try:
            writer.ready()
        finally:
            writer.close()
        return seen[-1]

    return begin


def test_the_process_gets_variables_by_name_and_no_secret_of_anybody(begun, monkeypatch):
    for name in ("AGORA_CUSTOMER_SECRET", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "HTTPS_PROXY", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("TZ", "UTC")
    _, environment = begun()
    assert "s3cret" not in environment.values()
    assert (environment["PATH"], environment["TZ"]) == (os.environ["PATH"], "UTC")


def test_the_path_of_imports_may_hold_what_imports_ignore(begun, monkeypatch):
    monkeypatch.setattr(sys, "path", [Path("/nowhere"), None, "a\nline", "\udcff", *sys.path])
    begun()


def test_the_process_is_isolated_where_this_one_is(tmp_path: Path):
    code = f"import sys; sys.path[:] = {sys.path!r}\n{TWICE}"
    for flags, told in ((["-I"], "-I"), ([], "-c")):
        done = subprocess.run(
            [sys.executable, *flags, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.stdout.split()[-1:] == [told], done.stderr
