"""The documentation site: its builder in a process of its own, and the site that it builds."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.paths import ROOT

BUILDER = ROOT / "docs/builder"

_MISSING = [name for name in ("zensical", "mkdocstrings", "griffe", "typer") if find_spec(name) is None]
NEEDS_DOCS = pytest.mark.skipif(
    bool(_MISSING), reason=f"the dependency group `docs` is not installed: {', '.join(_MISSING)}"
)


def run_builder(code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the modules of the builder, in a process of its own: they are no package."""
    code = f"import sys; sys.path[:0] = [{str(BUILDER)!r}, {str(ROOT)!r}]\nfrom pathlib import Path\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def build_site(folder: Path) -> Path:
    """Build the site into a folder, and return it."""
    run = subprocess.run(
        [sys.executable, str(BUILDER / "build.py"), str(folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder
