"""Every format in every sink has the same rows, as other code reads them, and hostile names are exported as data."""

from __future__ import annotations

import asyncio
import csv
import os
import re
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers.export_files import Rows, check_manifest, manifest_of, rows
from helpers.export_runs import NOON, s3_options
from helpers.wrong_dates import Tampering

from agora_analytics import ExportError, Insight, Selection, Series
from agora_analytics.export.formats import NAMES
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World

HOUR = 3_600
DATASETS = ("calls", "sessions", "metrics", "statistics", "insights", "realtime")
SELECTION = Selection(
    NOON - 11 * HOUR,
    NOON - 600,
    datasets=DATASETS,
    mids={20001},
    insights=[Insight("userCount", granularity="1h")],
    series=[Series("userCount", product="Native")],
    min_freeze_rate=0.04,
)


class Place:
    """A folder or URL to export to, and its sink options and state folder."""

    def __init__(self, to: str, options: dict[str, object], state: Path | None) -> None:
        self.to = to
        self.options = options
        self.state = state

    def download(self, folder: Path) -> Path:
        if "://" not in self.to:
            return Path(self.to)
        store, path = fsspec.core.url_to_fs(self.to, **self.options)
        for name in store.find(path):
            target = folder / name[len(path.lstrip("/")) if not name.startswith(path) else len(path) :].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(name, str(target))
        return folder


@pytest.fixture
def place(request, tmp_path) -> Place:
    if request.param == "local":
        request.getfixturevalue("subprocess_writer")
        return Place(str(tmp_path / "here"), {}, None)
    if request.param == "s3":
        url = request.getfixturevalue("s3")
        return Place(f"s3://bucket/{tmp_path.name}", s3_options(url), tmp_path / "state")
    to = f"memory://{tmp_path.name}/export" if request.param == "memory" else f"file://{tmp_path}/export"
    return Place(to, {}, tmp_path / "state")


async def run(simulation: Simulation, selection: Selection, place: Place, form: str):
    async with simulation.client() as client:
        return await client.export.run(
            selection, place.to, format=form, state=place.state, sink_options=place.options, concurrency=2
        )


def at_ten_past(world: World) -> Simulation:
    """Return a simulation on which it is now ten past noon."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    return Simulation(Service(world, clock=lambda: NOON + 600 + loop.time() - started))


@pytest.fixture(scope="module")
def expected(tmp_path_factory, world) -> dict[str, Rows]:
    """Return the expected rows: those of an export into a folder."""
    folder = tmp_path_factory.mktemp("truth")

    async def export_to_folder() -> None:
        await run(at_ten_past(world), SELECTION, Place(str(folder), {}, None), "jsonl")

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(export_to_folder())
    found = {name: rows(folder, name) for name in DATASETS}
    assert all(found.values())
    return found


@pytest.mark.slow_except(
    "local-jsonl",
    "local-sqlite",
    "memory-csv",
    "memory-jsonl",
    "memory-jsonl.gz",
    "memory-jsonl.zst",
    "memory-parquet",
    "memory-duckdb",
    "file-jsonl",
    "file-sqlite",
)
@pytest.mark.parametrize(
    ("place", "form"),
    [
        *(pytest.param("local", form, marks=pytest.mark.process) for form in NAMES),
        *((place, form) for place in ("memory", "file", "s3") for form in NAMES),
    ],
    indirect=["place"],
)
async def test_every_format_in_every_sink_has_the_same_rows_after_each_run(tmp_path, world, expected, place, form):
    simulation = at_ten_past(world)
    report = await run(simulation, SELECTION, place, form)
    folder = place.download(tmp_path / "first")
    comparable = _null_as_empty if form == "csv" else dict  # CSV has no null, only empty fields
    assert comparable({name: rows(folder, name) for name in DATASETS}) == comparable(expected)
    assert report.rows == {name: len(found) for name, found in expected.items()}
    check_manifest(folder)
    assert report.provisional > 0
    second_report = await run(simulation, SELECTION, place, form)
    assert second_report.rows == report.rows
    folder = place.download(tmp_path / "second")
    assert comparable({name: rows(folder, name) for name in DATASETS}) == comparable(expected)
    check_manifest(folder)
    assert [path for path in folder.rglob("*") if path.name.endswith(".part")] == []


def _null_as_empty(found):
    return {name: sorted(tuple(cell or "" for cell in row) for row in some) for name, some in found.items()}


HOSTILE = (
    "../../x",
    "..\\..\\x",
    "/etc/passwd",
    'it\'s "quoted"; DROP TABLE calls; --',
    "two\nlines\r\nand\ttab",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "+1-1",
    "-2+3",
    "\t=1+1",
    "nul\0in it",
    "smile \N{GRINNING FACE} \N{RIGHT-TO-LEFT OVERRIDE}txt",
    "CON",
    "x" * 65_536,
    " ",
    "null",
    "NaN",
    "1e5",
    "\N{BYTE ORDER MARK}bom",
    "{}${jndi:ldap://x}",
)


def set_hostile_names(document: dict[str, Any]) -> None:
    """Replace the names of channels and accounts by hostile ones."""
    for number, call in enumerate(document.get("call_lists") or ()):
        call["cname"] = HOSTILE[number % len(HOSTILE)]
    for number, session in enumerate(document.get("call_info") or ()):
        session["account"] = HOSTILE[number % len(HOSTILE)]


@pytest.mark.slow_except("jsonl", "csv", "sqlite")
@pytest.mark.parametrize("form", NAMES)
@pytest.mark.usefixtures("subprocess_writer")
async def test_hostile_names_are_exported_as_data_and_create_no_other_file(tmp_path, simulation, form):
    folder = tmp_path / "deep" / "export"
    before = set(tmp_path.rglob("*"))
    async with simulation.client(transport=Tampering(simulation.transport(), set_hostile_names)) as client:
        await client.export.run(
            Selection(NOON - 5 * HOUR, NOON - 600, datasets=("calls", "sessions")), folder, format=form
        )
    names = [row[2] for row in rows(folder, "calls")]
    escaped = {name: f"'{name}" if name.startswith(tuple("=+-@\t\r")) and form == "csv" else name for name in HOSTILE}
    assert set(names) == set(escaped.values())
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "deep", folder}
    assert all(folder in path.parents for path in new)
    partitions = re.compile(
        r"(calls|sessions)(/app=[\w%.-]+(/day=\d{4}-\d\d-\d\d(/[\w.-]+)?)?|/_delta_log(/\d{20}\.json)?)?"
        r"|manifest.json|export\.\w+|\..*"
    )
    assert [path for path in new if not partitions.fullmatch(path.relative_to(folder).as_posix())] == []
    check_manifest(folder)


def set_long_texts(document: dict[str, Any]) -> None:
    """Give every session long texts that no other session has."""
    for session in document.get("call_info") or ():
        for name in ("account", "network", "platform", "sdk_version", "device_type"):
            session[name] = f"{name} {session['sid']} " * 400


@pytest.mark.slow_except("sqlite")
@pytest.mark.parametrize("form", ["parquet", "sqlite", "duckdb"])
@pytest.mark.usefixtures("subprocess_writer")
async def test_long_texts_are_exported_in_full(tmp_path, simulation, form):
    async with simulation.client(transport=Tampering(simulation.transport(), set_long_texts)) as client:
        selection = Selection(NOON - 5 * HOUR, NOON - 600, datasets=("sessions",))
        report = await client.export.run(selection, tmp_path, format=form)
    accounts = [row[5] for row in rows(tmp_path, "sessions")]
    assert len(accounts) == report.rows["sessions"] > 0
    assert {len(account) for account in accounts} == {41 * 400}


async def test_no_csv_cell_is_a_formula(tmp_path, simulation):
    async with simulation.client(transport=Tampering(simulation.transport(), set_hostile_names)) as client:
        await client.export.run(Selection(NOON - 5 * HOUR, NOON - 600, datasets=("calls",)), tmp_path, format="csv")
    texts = [path.read_text().splitlines(keepends=True) for path in tmp_path.rglob("*.csv")]
    cells = [cell for text in texts for row in csv.reader(text) for cell in row]
    assert any(cell.startswith("'=cmd|") for cell in cells)
    assert [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))] == []


@pytest.mark.parametrize("app", ["../..", "a/b", ".", "x" * 300, "é\N{GRINNING FACE}"])
async def test_a_hostile_app_id_becomes_the_name_of_one_folder(tmp_path, simulation, app):
    simulation.service.app_id = app
    folder = tmp_path / "deep" / "export"
    async with simulation.client(app_id=app) as client:
        await client.export.run(Selection(NOON - 2 * HOUR, NOON - 600, datasets=("calls",)), folder, format="jsonl")
    files = [path for path in tmp_path.rglob("*.jsonl") if path.is_file()]
    assert [path.relative_to(folder).parts[0] for path in files] == ["calls"]
    assert len(files[0].relative_to(folder).parts) == 4
    assert {row[0] for row in rows(folder, "calls")} == {app}


# Unusable places


async def test_an_export_to_a_file_as_its_folder_fails_before_a_request(tmp_path, simulation):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="nothing can be written to") as error:
        await run(simulation, SELECTION, Place(str(tmp_path / "file"), {}, None), "jsonl")
    assert error.value.kind == "disk"
    assert sum(simulation.service.counts.values()) == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
async def test_an_export_to_an_unwritable_folder_fails_before_a_request(tmp_path, simulation):
    tmp_path.chmod(0o500)
    with pytest.raises(ExportError, match="Permission denied"):
        await run(simulation, SELECTION, Place(str(tmp_path / "new"), {}, None), "jsonl")
    tmp_path.chmod(0o700)
    assert sum(simulation.service.counts.values()) == 0


async def test_a_missing_bucket_is_reported_without_secrets_before_a_request(tmp_path, simulation, s3):
    place = Place("s3://user:password@nowhere/x", s3_options(s3), tmp_path)
    with pytest.raises(ExportError) as error:
        await run(simulation, SELECTION, place, "jsonl")
    shown = f"{error.value!r} {error.value}"
    assert "nowhere" in shown
    assert "password" not in shown
    assert "not-to-be-seen" not in shown
    assert sum(simulation.service.counts.values()) == 0


async def test_a_url_with_an_unknown_scheme_is_rejected(tmp_path, simulation):
    with pytest.raises(ValueError, match="to='carrier-pigeon://x'"):
        await run(simulation, SELECTION, Place("carrier-pigeon://x", {}, tmp_path), "jsonl")


async def test_no_credential_is_written_to_any_file(tmp_path, simulation):
    await run(simulation, SELECTION, Place(str(tmp_path), {}, None), "jsonl")
    service = simulation.service
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6
    secrets = (service.customer_id.encode(), service.customer_secret.encode())
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
    assert "settings" in manifest_of(tmp_path)


@pytest.mark.slow_except("jsonl", "sqlite")
@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv", "sqlite", "duckdb"])
@pytest.mark.usefixtures("subprocess_writer")
async def test_a_folder_with_a_newline_in_its_name_can_be_exported_to(tmp_path, simulation, form, monkeypatch):
    folder = tmp_path / "two\nlines"
    monkeypatch.syspath_prepend(str(folder))
    async with simulation.client() as client:
        report = await client.export.run(
            Selection(NOON - 2 * HOUR, NOON - 600, datasets=("calls",)), folder / "export", format=form
        )
    assert report.rows["calls"] == len(rows(folder / "export", "calls")) > 0
