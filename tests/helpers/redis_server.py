"""A Redis of the test's own, where Debian's package `redis-server` is installed."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import attrs
import pytest

SENTINEL = shutil.which("redis-sentinel")
REDIS = shutil.which("redis-server") or shutil.which("valkey-server")
MISSING = "neither redis-server nor valkey-server is installed (Debian's package redis-server)"


@attrs.define
class RedisServer:
    """A server in a folder; it can be killed, frozen and started again, and keeps its data.

    `with` starts and kills it, and skips the test where Redis is not installed.
    """

    folder: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if REDIS is None:
            pytest.skip(MISSING)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        self.port = self.port or free_port()
        self.run(
            *(REDIS or "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec", *options),
        )

    def run(self, *command: str) -> None:
        """Start a command that serves the port, and wait until it answers."""
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        """Kill it, and start it again without its data."""
        self.kill()
        for file in self.folder.rglob("*"):
            if file.is_file():
                file.unlink()
        self.start()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """Return the first line of the answer to a command, as it comes; an error begins with `-`."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(f"*{len(words)}\r\n".encode() + b"".join(map(_bulk, words)))
            return connection.makefile("rb").readline().decode().strip()

    def wait_for(self, answer: str, *words: str) -> None:
        """Wait until a command has an answer that contains a text, in any of its lines."""
        deadline = time.monotonic() + 20
        while answer not in self.whole(*words):
            assert time.monotonic() < deadline, f"no {answer} from {words}"
            time.sleep(0.05)

    def whole(self, *words: str) -> str:
        """Return all of the answer to a command."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b" ".join(word.encode() for word in words) + b"\r\nPING\r\n")
            said = b""
            while b"+PONG" not in said and (chunk := connection.recv(65_536)):
                said += chunk
            return said.decode()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def start_sentinel(folder: Path, master: RedisServer) -> RedisServer:
    """Start a Sentinel that watches a server under the name `quota`, and fails over half a second after it is lost."""
    sentinel = RedisServer(folder, free_port())
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"port {sentinel.port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor quota 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds quota 500\nsentinel failover-timeout quota 3000\n"
    )
    sentinel.run(SENTINEL or "redis-sentinel", str(configuration))
    return sentinel


def _bulk(word: str) -> bytes:
    return f"${len(word)}\r\n{word}\r\n".encode()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
