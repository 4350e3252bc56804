"""The notebooks of `examples/` run in Jupyter, print what they promise, and are kept without output."""

from __future__ import annotations

import json
import re

import pytest
from helpers.paths import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def test_there_is_a_notebook_and_the_guide_links_it():
    guide = (ROOT / "docs/guides/notebooks.md").read_text(encoding="utf-8")
    assert NOTEBOOKS
    assert [path.name for path in NOTEBOOKS if f"(../../examples/{path.name})" not in guide] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_output(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] or cell["metadata"]] == []
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_in_jupyter_and_prints_what_it_promises(path, tmp_path, monkeypatch):
    for library in ("nbclient", "ipykernel", "duckdb", "pandas", "pyarrow"):
        pytest.importorskip(library, reason=f"the notebook needs {library}, which is not installed here")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # no profile of the machine's user
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [
        [output.get("text") or output["data"]["text/plain"] for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    imports, client, found, worst, chart, users, rows, query, cost = ("".join(texts) for texts in shown)
    assert (imports, client) == ("", "")
    total, finished = map(int, re.fullmatch(r"(\d+) calls, (\d+) of them finished\n", found).groups())
    assert 300 < finished < total
    assert rows == f"{total} rows\n"
    harm = [float(value) for value in re.findall(r"^\d+ +(\d+\.\d+) *$", worst.partition("harm")[2], re.MULTILINE)]
    assert len(harm) == 5
    assert harm == sorted(harm, reverse=True)
    assert re.findall(r"^(\d\d):00 +\d\.\d\d% █+$", chart, re.MULTILINE) == [f"{at % 24:02}" for at in range(20, 30)]
    frozen = [float(value) for value in re.findall(r"(\d\.\d+)$", users, re.MULTILINE)]
    assert len(frozen) == 5
    assert frozen == sorted(frozen, reverse=True)
    assert len(re.findall(r"^\d +room-\d+ ", query, re.MULTILINE)) == 5
    assert re.findall(r"^(\w+) \d+ of 10000 a day$", cost, re.MULTILINE) == ["call_lists", "call_details"]
