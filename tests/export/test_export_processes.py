"""Exports as processes of their own: killed at random moments, out of disk, interrupted, started twice.

`AGORA_TEST_KILLS=20 AGORA_TEST_CALLS=2000` with `-m slow` makes the first test as large as that.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
import pytest
from helpers.export_files import check_manifest, manifest_of, rows
from helpers.export_runs import options_of
from helpers.paths import HELPERS
from helpers.simulator_process import world

pytestmark = pytest.mark.process

KILLS = int(os.environ.get("AGORA_TEST_KILLS", "4"))
CALLS = int(os.environ.get("AGORA_TEST_CALLS", "60"))
PER_HOUR = 600
DATASETS = ("calls", "sessions", "metrics")

END = (int(time.time()) // 86_400 - 1) * 86_400 + 16 * 3_600
START = world(PER_HOUR).calls(END - 86_400, END)[-CALLS].created
"""The span holds as many calls on every day: what a test is given does not hang on the date."""


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """The URL of a server; on leaving it tells how many requests it counted."""
    command = [sys.executable, "simulator_process.py", str(PER_HOUR), *arguments]
    with subprocess.Popen(command, cwd=HELPERS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as found:
        yield found


def start(
    url: str,
    folder: Path | str,
    form: str = "jsonl",
    before: tuple[str, ...] = (),
    begin: int = START,
    most: str = "",
    **environment: str,
) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "export_process.py", url, str(folder), str(begin), str(END), form, most]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=HELPERS, env={**os.environ, **environment}, **pipes)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


def log_of(folder: Path) -> int:
    """When the log of changes of its state was last written to, 0 where there is none."""
    with suppress(FileNotFoundError):
        return (folder / ".agora-export" / "state.db-wal").stat().st_mtime_ns
    return 0


def has_begun(process: subprocess.Popen[str], folder: Path, before: int = 0) -> bool:
    """Wait until a process changes the state, whose log was last written to `before`; False where it ends instead."""
    while log_of(folder) == before:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    return True


def stop_in_its_work(process: subprocess.Popen[str], folder: Path) -> None:
    """Have it stand still once it has begun: however busy the machine is, it is not done meanwhile."""
    assert has_begun(process, folder)
    process.send_signal(signal.SIGSTOP)


@pytest.fixture(scope="module")
def whole(url: str, tmp_path_factory) -> tuple[dict[str, object], float, int]:
    """Rows of an export that nothing interrupted, its seconds and its requests."""
    folder = tmp_path_factory.mktemp("whole")
    begun = time.monotonic()
    code, out, err = ended(start(url, folder))
    assert (code, err) == (0, "")
    return {name: rows(folder, name) for name in DATASETS}, time.monotonic() - begun, int(out.split()[0])


@pytest.mark.parametrize(
    ("form", "kills"),
    [
        ("jsonl", 1),
        pytest.param("jsonl", KILLS, marks=pytest.mark.slow),
        pytest.param("sqlite", KILLS // 2, marks=pytest.mark.slow),
        pytest.param("duckdb", KILLS // 2, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_and_resumed_it_holds_the_same_rows(url, whole, tmp_path, form, kills):
    expected, seconds, _ = whole
    assert len(expected["calls"]) >= CALLS
    chance = random.Random(11)
    killed = 0
    while killed < kills:
        before = log_of(tmp_path)
        process = start(url, tmp_path, form)
        begun = has_begun(process, tmp_path, before)
        time.sleep(chance.uniform(0, 0.3 + 2 * seconds / KILLS))
        process.send_signal(signal.SIGKILL)
        code, _, _ = ended(process)
        assert begun or code == 0
        if code == 0:  # it was done: begin anew
            shutil.rmtree(tmp_path)
        assert code in {0, -signal.SIGKILL}
        killed += code == -signal.SIGKILL
    code, _, err = ended(start(url, tmp_path, form))
    assert (code, err) == (0, "")
    assert {name: rows(tmp_path, name) for name in DATASETS} == expected
    check_manifest(tmp_path)
    assert not writers(tmp_path)


@pytest.mark.slow
def test_killed_in_the_middle_another_machine_goes_on_in_a_bucket_and_has_every_row(url, whole, s3, tmp_path):
    expected, _, requests = whole
    options = options_of(s3)
    store, to = fsspec.filesystem("s3", **options), "s3://bucket/killed"
    made = []
    for machine in ("one", "two", "three"):
        home = {"XDG_STATE_HOME": str(tmp_path / machine), "AGORA_TEST_SINK": json.dumps(options)}
        process = start(url, to, most="" if machine == "three" else str(requests // 3), **home)
        while machine == "two" and process.poll() is None and not store.glob(f"{to}/.agora-export/run-00000002*"):
            store.invalidate_cache()
        if machine == "two":
            process.kill()
        code, out, err = ended(process)
        assert code in {"one": {3}, "two": {3, -signal.SIGKILL}, "three": {0}}[machine], err
        made.append(int(out.split()[0]) if out else 0)
    assert made[2] <= requests - made[0] + 3  # what the first had told, nobody asked for again
    store.get(f"{to}/", str(tmp_path / "here"), recursive=True)
    assert {name: rows(tmp_path / "here", name) for name in DATASETS} == expected
    check_manifest(tmp_path / "here")


def writers(folder: Path) -> list[str]:
    """The files of the folder that a process has open, as far as the system tells."""
    found = []
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # somebody else's, or it has ended
            found.append(str(opened.readlink()))
    return [name for name in found if name.startswith(f"{folder}/")]


@pytest.mark.slow
def test_five_percent_of_faults_on_the_wire_change_nothing(whole, tmp_path):
    with serving("0.05") as url:
        code, _, err = ended(start(url, tmp_path, "parquet"))
    assert (code, err) == (0, "")
    assert {name: rows(tmp_path, name) for name in DATASETS} == whole[0]


def can_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_mount(), reason="needs a small disk of its own")
@pytest.mark.parametrize("size", ["500k", pytest.param("800k", marks=pytest.mark.slow)])
def test_a_full_disk_is_told_and_more_room_mends_it(url, whole, tmp_path, size):
    """The small disk is seen by the export alone; what it holds is copied off it, as if it had grown."""
    small, saved = tmp_path / "small", tmp_path / "saved"
    small.mkdir()
    script = (
        'mount -t tmpfs -o size="$1" tmpfs "$2" && shift && folder="$1" && saved="$2" && shift 2'
        ' && "$@"; code=$?; cp -a "$folder" "$saved"; exit $code'
    )
    before = ("unshare", "-rm", "sh", "-c", script, "sh", size, str(small), str(saved))
    code, _, err = ended(start(url, small, before=before))
    assert code == 1
    assert err.startswith("disk: ")
    assert "cannot be" in err
    assert "full" in err.lower() or "no space left" in err.lower()
    assert "run the same export again" in err
    assert "Traceback" not in err
    code, out, err = ended(start(url, saved))
    assert (code, err) == (0, "")
    # A disk that was full before an answer could be kept has saved none.
    assert int(out.split()[0]) < whole[2] + (size == "500k")
    assert {name: rows(saved, name) for name in DATASETS} == whole[0]
    check_manifest(saved)


@pytest.mark.skipif(not can_mount(), reason="needs a folder that even root cannot write to")
def test_an_unwritable_folder_is_told_before_anything_is_sent(url, tmp_path):
    script = 'mount -t tmpfs -o ro tmpfs "$1" && shift && "$@"'
    before = ("unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path))
    code, _, err = ended(start(url, tmp_path, before=before))
    assert code == 1
    assert err.startswith("disk: ")
    assert "nothing can be written to" in err
    assert "Nothing was sent" in err


def test_it_cannot_be_started_twice_and_a_killed_one_holds_nothing_up(url, tmp_path):
    first = start(url, tmp_path, begin=START - 7_200)
    stop_in_its_work(first, tmp_path)
    code, _, err = ended(start(url, tmp_path))
    assert code == 1
    assert err.startswith("running: ")
    assert "is running already" in err
    first.kill()
    ended(first)
    code, _, err = ended(start(url, tmp_path, begin=START - 7_200, most="3"))
    assert (code, err) == (3, "")


# The command


def command(url: str, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    given = {
        "AGORA_BASE_URL": url,
        "AGORA_CUSTOMER_ID": "simulated-customer",
        "AGORA_CUSTOMER_SECRET": "simulated-secret",
        "AGORA_APP_ID": "simulated-app-id-0123456789abcdef",
        "AGORA_PLAN": "enterprise",
        "AGORA_LEDGER": ":memory:",
        **environment,
    }
    line = [
        sys.executable,
        "-m",
        "agora_analytics.cli",
        "export",
        str(folder),
        "--start",
        str(START),
        "--end",
        str(END),
    ]
    return subprocess.Popen(
        [*line, *arguments], env={**os.environ, **given}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_command_tells_what_is_there_and_ends_with_0_only_if_it_is_all(url, tmp_path):
    some = ("--datasets", "calls,sessions", "--format", "csv", "--max-requests", "1")
    code, out, err = ended(command(url, tmp_path / "some", *some))
    assert code == 1
    assert "pending: " in out
    code, out, err = ended(command(url, tmp_path, "--format", "csv"))
    assert code == 0, err
    assert "calls" in out
    assert "manifest.json" in out
    assert manifest_of(tmp_path)["complete"] is True
    code, out, _ = ended(command(url, tmp_path, "--format", "csv", "--json"))
    assert code == 0
    assert '"step":"report"' in out.splitlines()[-1]
    code, out, _ = ended(command(url, tmp_path / "none", "--dry-run", "--datasets", "calls,sessions"))
    assert code == 0
    assert "call_details" in out
    assert not (tmp_path / "none").exists()


def test_ctrl_c_ends_the_command_at_once_and_says_how_to_go_on(url, tmp_path):
    process = command(url, tmp_path, "--datasets", "calls,sessions", "--format", "jsonl")
    stop_in_its_work(process, tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    code, _, err = ended(process)
    assert code == 130
    assert "run the same command again to resume" in err
    assert "Traceback" not in err


def test_wrong_credentials_and_bad_options_are_one_line_each(url, tmp_path):
    code, _, err = ended(command(url, tmp_path / "a", AGORA_CUSTOMER_SECRET="wrong"))
    assert code == 1
    assert "Check Customer ID" in err
    assert "wrong" not in err
    code, _, err = ended(command(url, tmp_path / "b", "--datasets", "call"))
    assert code == 2
    assert "--datasets='call': did you mean calls? allowed are calls" in err
