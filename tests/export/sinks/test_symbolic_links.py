"""An export reads, writes and removes nothing through a symbolic link, and removes only files of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.export_files import data_files, rows
from helpers.export_runs import export, last_hours, remove_rate_limits, request_count

from agora_analytics import ExportError
from agora_analytics.export.write.writer_process import _CODE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need privileges on Windows")

SELECTION = last_hours(2, "calls")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of somebody else, with some files that are named like those of an export."""
    folder = tmp_path / "victim"
    folder.mkdir()
    for name in ("thesis.txt", "1.jsonl", "manifest.json", "export.sqlite"):
        (folder / name).write_text("precious")
    return folder


def is_untouched(victim: Path) -> bool:
    contents = {path.name: path.read_text() for path in victim.iterdir()}
    return contents == dict.fromkeys(("thesis.txt", "1.jsonl", "manifest.json", "export.sqlite"), "precious")


@pytest.mark.parametrize(
    ("link", "form"),
    [
        (".agora-export", "jsonl"),
        (".agora-export/writing", "jsonl"),
        (".agora-export/state.db", "jsonl"),
        (".agora-export/writing.lock", "jsonl"),
        ("calls", "jsonl"),
        ("export.sqlite", "sqlite"),
        ("manifest.json", "jsonl"),
    ],
)
async def test_a_symbolic_link_in_an_export_folder_is_refused_before_a_request(
    tmp_path, simulation, victim, link, form
):
    remove_rate_limits(simulation)
    path = tmp_path / "export" / link
    path.parent.mkdir(parents=True)
    file = victim / "thesis.txt"
    path.symlink_to(file if "." in path.name and path.name != ".agora-export" else victim)
    with pytest.raises(ExportError):
        await export(simulation, SELECTION, tmp_path / "export", format=form)
    assert is_untouched(victim)
    assert request_count(simulation) == 0


@pytest.mark.parametrize("name", ["state.copy", "state.plain", "state.gz", "database.copy"])
async def test_a_symbolic_link_in_the_local_state_folder_of_a_url_is_not_followed(
    tmp_path, simulation, memory_place, victim, name
):
    remove_rate_limits(simulation)
    await memory_place.run(simulation, "one", selection=SELECTION, format="sqlite", max_requests=1)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / name).symlink_to(victim / "thesis.txt")
    with suppress(ExportError):
        await memory_place.run(simulation, "two", selection=SELECTION, format="sqlite")
    assert is_untouched(victim)


async def test_the_local_state_folder_of_a_url_may_be_neither_a_link_nor_shared(tmp_path, simulation, memory_place):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "one").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match="symbolic link"):
        await memory_place.run(simulation, "one", selection=SELECTION)
    assert (list((tmp_path / "elsewhere").iterdir()), request_count(simulation)) == ([], 0)
    (tmp_path / "two").mkdir()
    (tmp_path / "two").chmod(0o777)
    await memory_place.run(simulation, "two", selection=SELECTION)
    assert (tmp_path / "two").stat().st_mode & 0o022 == 0
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    with pytest.raises(ExportError, match="shared with other users"):
        await memory_place.run(simulation, "shared", selection=SELECTION)
    assert (tmp_path / "shared").stat().st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize(
    ("link", "form"),
    [
        ("calls", "jsonl"),
        ("manifest.json", "jsonl"),
        (".manifest.json.part", "jsonl"),
        (".agora-export", "jsonl"),
        (".agora-export/run-00000001", "jsonl"),
        (".agora-export/state-00000001.db.gz", "jsonl"),
        (".agora-export/state-00000001.db.gz.part", "jsonl"),
        ("export.sqlite", "sqlite"),
    ],
)
async def test_a_symbolic_link_in_the_folder_of_a_file_url_is_refused(tmp_path, simulation, victim, link, form):
    remove_rate_limits(simulation)
    path = tmp_path / "export" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(victim if path.name in {"calls", ".agora-export"} else victim / "thesis.txt")
    with pytest.raises(ExportError, match="is a symbolic link, and is not followed"):
        await export(simulation, SELECTION, f"file://{tmp_path}/export", format=form, state=tmp_path / "state")
    assert is_untouched(victim)


async def test_a_symbolic_link_under_a_name_that_exports_do_not_use_is_left_alone(tmp_path, simulation, victim):
    remove_rate_limits(simulation)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "manifest.json.part").symlink_to(victim / "thesis.txt")
    assert (await export(simulation, SELECTION, f"file://{tmp_path}/export", state=tmp_path / "state")).complete
    assert is_untouched(victim)
    assert (tmp_path / "export" / "manifest.json.part").is_symlink()


async def test_the_write_check_of_a_file_url_follows_no_symbolic_link(tmp_path, simulation, victim):
    (victim / ".agora-export-check").symlink_to(victim / "thesis.txt")
    with pytest.raises(ExportError, match=r"manifest\.json, export\.sqlite|export\.sqlite"):
        await export(simulation, SELECTION, f"file://{victim}", state=tmp_path / "state")
    (victim / ".agora-export-check").rename(tmp_path / "check")
    assert is_untouched(victim)


async def test_a_partition_folder_replaced_by_a_symbolic_link_is_not_followed(tmp_path, simulation, victim):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path / "export", max_requests=1)
    day = data_files(tmp_path / "export", "calls")[0].parent
    day.rename(tmp_path / "elsewhere")
    day.symlink_to(victim)
    with pytest.raises(ExportError):
        await export(simulation, SELECTION, tmp_path / "export")
    assert is_untouched(victim)


async def test_a_file_replaced_by_a_symbolic_link_is_neither_read_nor_written(tmp_path, simulation, victim):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path / "export")
    path = data_files(tmp_path / "export", "calls")[0]
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(ExportError, match="altered: calls/"):
        await export(simulation, SELECTION, tmp_path / "export")
    assert is_untouched(victim)


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_the_writer_removes_only_files_with_names_that_it_uses(tmp_path, simulation, form):
    writing = tmp_path / ".agora-export" / "writing"
    writing.mkdir(parents=True, mode=0o700)
    (tmp_path / ".agora-export").chmod(0o700)
    for name in ("7.jsonl", "7.jsonl.gz", "manifest.json", "export.sqlite", "notes.txt", "2024.txt", "export.old"):
        (writing / name).write_text("half written")
    (writing / "folder").mkdir()
    await export(simulation, SELECTION, tmp_path, format=form)
    assert sorted(path.name for path in writing.iterdir()) == ["2024.txt", "export.old", "folder", "notes.txt"]


async def test_the_export_folder_itself_may_be_a_symbolic_link(tmp_path, simulation):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    await export(simulation, SELECTION, tmp_path / "link")
    assert rows(tmp_path / "disk", "calls")


async def test_a_state_folder_writable_by_others_is_closed_to_them(tmp_path, simulation):
    (tmp_path / ".agora-export").mkdir()
    (tmp_path / ".agora-export").chmod(0o777)
    await export(simulation, SELECTION, tmp_path)
    for folder in (tmp_path / ".agora-export", tmp_path / ".agora-export" / "writing"):
        assert folder.stat().st_mode & 0o022 == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change the owner")
async def test_a_state_folder_of_another_user_is_refused(tmp_path, simulation):
    (tmp_path / ".agora-export").mkdir()
    os.chown(tmp_path / ".agora-export", 12_345, 12_345)
    with pytest.raises(ExportError, match="belongs to another user"):
        await export(simulation, SELECTION, tmp_path)
    os.chown(tmp_path, 12_345, 12_345)  # allowed: the same user owns the export folder
    await export(simulation, SELECTION, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems require valid Unicode in names")
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "sqlite"])
async def test_a_folder_whose_name_is_not_valid_utf_8_can_be_exported_to(tmp_path, simulation, form):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    report = await export(simulation, SELECTION, folder, format=form)
    folder.rename(tmp_path / "renamed")  # other libraries need a name in UTF-8
    assert report.rows["calls"] == len(rows(tmp_path / "renamed", "calls")) > 0
    assert report.to.endswith("caf\\xe9")


# The end of the writer process


@pytest.mark.parametrize("commands", ["", "half a li", "path\n", "path\nhalf a li"])
def test_the_writer_process_ends_silently_when_its_parent_has_ended(commands):
    path = "\0".join(sys.path).encode("utf-8", "surrogatepass").hex()
    process = subprocess.run(
        [sys.executable, "-c", _CODE], input=commands.replace("path", path), capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="needs SIGPIPE")
def test_the_writer_process_ends_silently_when_its_output_is_closed(tmp_path):
    path = "\0".join(sys.path).encode("utf-8", "surrogatepass").hex()
    folder, scratch = (os.fsencode(one).hex() for one in (tmp_path, tmp_path / "state" / "writing"))
    with subprocess.Popen(
        [sys.executable, "-c", _CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(
            f'{path}\n[1,"open","jsonl","{folder}","{scratch}"]\n[1,"ready"]\n[1,"part_row_counts"]\n'.encode()
        )
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
