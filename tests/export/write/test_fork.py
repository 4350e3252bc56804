"""A program that exports and forks: its children neither keep the writer process alive nor send it commands."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agora_analytics.export.write.writer import writer_lock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked")

START_WRITER = """
import multiprocessing, os, signal, sys
from pathlib import Path
from agora_analytics.export.write.subprocess_writer import SubprocessWriter
folder = Path(sys.argv[1])
writer = SubprocessWriter("jsonl", folder, folder / "state" / "writing")
writer.ready()
process = writer._channel._process
"""
FORK_AND_DIE = """
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""
FORK_WITHIN_COMMAND = """
process._in.write(b'[0,"be')  # half a command in the buffer, as if another thread were sending it
child = multiprocessing.get_context("fork").Process(target=process._in.flush)
child.start()
child.join()
process._write(b'gin","calls",1]\\n')
assert writer._channel._replies.get() == ("begin", None, "", "")
print(child.exitcode, writer.end())
writer.close()
"""
FORK_WITHOUT_FREE_DESCRIPTORS = """
import resource
_, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard_limit))
try:
    while True:
        os.open(os.devnull, os.O_RDONLY)
except OSError:
    child = os.fork()
if not child:
    os._exit(os.path.sameopenfile(process._in.fileno(), process._out.fileno()))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_the_writer_ends_with_its_export_although_a_forked_child_lives_on(tmp_path: Path):
    command = [sys.executable, "-c", START_WRITER + FORK_AND_DIE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait() == -signal.SIGKILL
        writer_lock(tmp_path / "state").close()  # waits for the writer process to end, and raises if it does not
        process.communicate()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="multiprocessing forks nothing")
def test_a_child_forked_while_a_command_is_sent_does_not_send_it_again(tmp_path: Path):
    command = [sys.executable, "-c", START_WRITER + FORK_WITHIN_COMMAND, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0 0\n", "")


def test_a_forked_child_detaches_without_a_spare_descriptor(tmp_path: Path):
    pytest.importorskip("resource")
    # From Python 3.12 on, a fork beside threads is warned of; the writer's connection has one.
    ignored = "-Wignore:This process:DeprecationWarning"
    command = [sys.executable, ignored, "-c", START_WRITER + FORK_WITHOUT_FREE_DESCRIPTORS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")  # in the child, both pipes are replaced by the null device
