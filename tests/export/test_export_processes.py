"""Exports in processes of their own: killed at random moments, out of disk space, interrupted, started twice.

`AGORA_TEST_KILLS=20 AGORA_TEST_CALLS=2000` with `-m slow` sets the size of the first test.
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
from helpers.export_runs import s3_options
from helpers.paths import HELPERS
from helpers.simulator_process import world

pytestmark = pytest.mark.process

KILLS = int(os.environ.get("AGORA_TEST_KILLS", "4"))
CALLS = int(os.environ.get("AGORA_TEST_CALLS", "60"))
PER_HOUR = 600
DATASETS = ("calls", "sessions", "metrics")

END = (int(time.time()) // 86_400 - 1) * 86_400 + 16 * 3_600
START = world(PER_HOUR).calls(END - 86_400, END)[-CALLS].created
"""The span always has `CALLS` calls, whatever today's date is."""


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Run a server while the context lasts; yields its URL."""
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
    prefix: tuple[str, ...] = (),
    begin: int = START,
    max_requests: str = "",
    **environment: str,
) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "export_process.py", url, str(folder), str(begin), str(END), form, max_requests]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=HELPERS, env={**os.environ, **environment}, **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


def log_time(folder: Path) -> int:
    """Return when the write-ahead log of the state was last written to, 0 if there is none."""
    with suppress(FileNotFoundError):
        return (folder / ".agora-export" / "state.db-wal").stat().st_mtime_ns
    return 0


def has_begun(process: subprocess.Popen[str], folder: Path, before: int = 0) -> bool:
    """Wait until a process changes the state, whose log was last written to at `before`; False if it ends first."""
    while log_time(folder) == before:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    return True


def pause_once_begun(process: subprocess.Popen[str], folder: Path) -> None:
    """Pause a process once it changes the state, so that it cannot finish before the test continues."""
    assert has_begun(process, folder)
    process.send_signal(signal.SIGSTOP)


@pytest.fixture(scope="module")
def whole(url: str, tmp_path_factory) -> tuple[dict[str, object], float, int]:
    """The rows of an uninterrupted export, its duration in seconds, and the number of its requests."""
    folder = tmp_path_factory.mktemp("whole")
    started = time.monotonic()
    code, out, err = finish(start(url, folder))
    assert (code, err) == (0, "")
    return {name: rows(folder, name) for name in DATASETS}, time.monotonic() - started, int(out.split()[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "kills"),
    [
        ("jsonl", KILLS),
        ("sqlite", KILLS // 2),
        ("duckdb", KILLS // 2),
    ],
)
def test_an_export_resumed_after_random_kills_has_the_same_rows(url, whole, tmp_path, form, kills):
    expected, seconds, _ = whole
    assert len(expected["calls"]) >= CALLS
    randomness = random.Random(11)
    killed = 0
    while killed < kills:
        before = log_time(tmp_path)
        process = start(url, tmp_path, form)
        started = has_begun(process, tmp_path, before)
        time.sleep(randomness.uniform(0, 0.3 + 2 * seconds / KILLS))
        process.send_signal(signal.SIGKILL)
        code, _, _ = finish(process)
        assert started or code == 0
        if code == 0:  # it finished before the kill: start a new export
            shutil.rmtree(tmp_path)
        assert code in {0, -signal.SIGKILL}
        killed += code == -signal.SIGKILL
    code, _, err = finish(start(url, tmp_path, form))
    assert (code, err) == (0, "")
    assert {name: rows(tmp_path, name) for name in DATASETS} == expected
    check_manifest(tmp_path)
    assert not open_files(tmp_path)


@pytest.mark.slow
def test_another_machine_resumes_a_killed_export_to_a_bucket_and_has_every_row(url, whole, s3, tmp_path):
    expected, _, requests = whole
    options = s3_options(s3)
    store, to = fsspec.filesystem("s3", **options), "s3://bucket/killed"
    requests_made = []
    for machine in ("one", "two", "three"):
        home = {"XDG_STATE_HOME": str(tmp_path / machine), "AGORA_TEST_SINK": json.dumps(options)}
        process = start(url, to, max_requests="" if machine == "three" else str(requests // 3), **home)
        while machine == "two" and process.poll() is None and not store.glob(f"{to}/.agora-export/run-00000002*"):
            store.invalidate_cache()
        if machine == "two":
            process.kill()
        code, out, err = finish(process)
        assert code in {"one": {3}, "two": {3, -signal.SIGKILL}, "three": {0}}[machine], err
        requests_made.append(int(out.split()[0]) if out else 0)
    assert requests_made[2] <= requests - requests_made[0] + 3  # the answers of the first run are not requested again
    store.get(f"{to}/", str(tmp_path / "here"), recursive=True)
    assert {name: rows(tmp_path / "here", name) for name in DATASETS} == expected
    check_manifest(tmp_path / "here")


@pytest.mark.slow
def test_a_machine_that_was_stopped_and_comes_back_is_refused(url, whole, s3, tmp_path):
    expected, _, requests = whole
    options = s3_options(s3)
    store, to = fsspec.filesystem("s3", **options), "s3://bucket/stopped"
    machines = [
        {"XDG_STATE_HOME": str(tmp_path / name), "AGORA_TEST_SINK": json.dumps(options)} for name in ("one", "two")
    ]
    stopped = start(url, to, **machines[0])
    while len(store.glob(f"{to}/.agora-export/state-*-00000002*")) == 0:  # a second copy: some answers are saved
        assert stopped.poll() is None
        store.invalidate_cache()
    stopped.send_signal(signal.SIGSTOP)
    code, out, err = finish(start(url, to, **machines[1]))
    assert (code, err) == (0, "")
    assert int(out.split()[0]) <= requests
    before = {path: store.info(path)["ETag"] for path in store.find(to) if "/.agora-export/" not in path}
    stopped.send_signal(signal.SIGCONT)
    code, _, err = finish(stopped)
    assert (code, err.partition(":")[0]) == (1, "superseded")
    store.invalidate_cache()
    assert {path: store.info(path)["ETag"] for path in before} == before
    store.get(f"{to}/", str(tmp_path / "here"), recursive=True)
    assert {name: rows(tmp_path / "here", name) for name in DATASETS} == expected
    check_manifest(tmp_path / "here")


def open_files(folder: Path) -> list[str]:
    """Return the files of a folder that a process has open, as far as /proc shows them."""
    names = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it belongs to another user, or was closed meanwhile
            names.append(str(link.readlink()))
    return [name for name in names if name.startswith(f"{folder}/")]


@pytest.mark.slow
def test_five_percent_of_faults_on_the_wire_change_no_row(whole, tmp_path):
    with serving("0.05") as url:
        code, _, err = finish(start(url, tmp_path, "parquet"))
    assert (code, err) == (0, "")
    assert {name: rows(tmp_path, name) for name in DATASETS} == whole[0]


def can_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs to mount a small disk")
@pytest.mark.parametrize("size", ["500k", "800k"])
def test_a_full_disk_is_reported_and_the_export_resumes_with_more_room(url, whole, tmp_path, size):
    """The small disk is mounted for the export only; its files are then copied to a larger one to resume there."""
    small, saved = tmp_path / "small", tmp_path / "saved"
    small.mkdir()
    script = (
        'mount -t tmpfs -o size="$1" tmpfs "$2" && shift && folder="$1" && saved="$2" && shift 2'
        ' && "$@"; code=$?; cp -a "$folder" "$saved"; exit $code'
    )
    prefix = ("unshare", "-rm", "sh", "-c", script, "sh", size, str(small), str(saved))
    code, _, err = finish(start(url, small, prefix=prefix))
    assert code == 1
    assert err.startswith("disk: ")
    assert "cannot be" in err
    assert "full" in err.lower() or "no space left" in err.lower()
    assert "run the same export again" in err
    assert "Traceback" not in err
    code, out, err = finish(start(url, saved))
    assert (code, err) == (0, "")
    # The smallest disk may be full before the first answer is saved.
    assert int(out.split()[0]) < whole[2] + (size == "500k")
    assert {name: rows(saved, name) for name in DATASETS} == whole[0]
    check_manifest(saved)


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs a folder that even root cannot write to")
def test_an_unwritable_folder_is_reported_before_a_request(url, tmp_path):
    script = 'mount -t tmpfs -o ro tmpfs "$1" && shift && "$@"'
    prefix = ("unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path))
    code, _, err = finish(start(url, tmp_path, prefix=prefix))
    assert code == 1
    assert err.startswith("disk: ")
    assert "nothing can be written to" in err
    assert "Nothing was sent" in err


@pytest.mark.slow
def test_a_second_run_is_refused_while_the_first_lives_and_not_after_its_kill(url, tmp_path):
    first = start(url, tmp_path, begin=START - 7_200)
    pause_once_begun(first, tmp_path)
    code, _, err = finish(start(url, tmp_path))
    assert code == 1
    assert err.startswith("running: ")
    assert "is running already" in err
    first.kill()
    finish(first)
    code, _, err = finish(start(url, tmp_path, begin=START - 7_200, max_requests="3"))
    assert (code, err) == (3, "")


# The command


def command(url: str, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    settings = {
        "AGORA_BASE_URL": url,
        "AGORA_CUSTOMER_ID": "simulated-customer",
        "AGORA_CUSTOMER_SECRET": "simulated-secret",
        "AGORA_APP_ID": "simulated-app-id-0123456789abcdef",
        "AGORA_PLAN": "enterprise",
        "AGORA_LEDGER": ":memory:",
        **environment,
    }
    export_command = [
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
        [*export_command, *arguments],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_the_command_reports_an_export_and_exits_with_0_only_if_it_is_complete(url, tmp_path):
    options = ("--datasets", "calls,sessions", "--format", "csv", "--max-requests", "1")
    code, out, err = finish(command(url, tmp_path / "some", *options))
    assert code == 1
    assert "pending: " in out
    code, out, err = finish(command(url, tmp_path, "--format", "csv"))
    assert code == 0, err
    assert "calls" in out
    assert "manifest.json" in out
    assert manifest_of(tmp_path)["complete"] is True
    code, out, _ = finish(command(url, tmp_path, "--format", "csv", "--json"))
    assert code == 0
    assert '"step":"report"' in out.splitlines()[-1]
    code, out, _ = finish(command(url, tmp_path / "none", "--dry-run", "--datasets", "calls,sessions"))
    assert code == 0
    assert "call_details" in out
    assert not (tmp_path / "none").exists()


def test_ctrl_c_ends_the_command_and_explains_how_to_resume(url, tmp_path):
    process = command(url, tmp_path, "--datasets", "calls,sessions", "--format", "jsonl")
    pause_once_begun(process, tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    code, _, err = finish(process)
    assert code == 130
    assert "run the same command again to resume" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_wrong_credentials_exit_with_1_and_bad_options_with_2_and_a_hint(url, tmp_path):
    code, _, err = finish(command(url, tmp_path / "a", AGORA_CUSTOMER_SECRET="wrong"))
    assert code == 1
    assert "Check Customer ID" in err
    assert "wrong" not in err
    code, _, err = finish(command(url, tmp_path / "b", "--datasets", "call"))
    assert code == 2
    assert "--datasets='call': did you mean calls? allowed are calls" in err
