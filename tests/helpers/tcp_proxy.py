"""A TCP proxy of the test's own loop: it delays what it passes on, switches to another server, and cuts connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

import attrs


@attrs.define
class TcpProxy:
    """Passes each connection on to the port that is the target when it is opened, `delay` seconds late each way.

    With `loses_next_answer` the server runs the next command, and the connection is cut instead of its answer.
    """

    target: int
    delay: float = 0.0
    loses_next_answer: bool = False
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.Task[None]] = attrs.field(factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def switch(self, target: int) -> None:
        """Pass on to another server, as after a failover: open connections are lost."""
        self.target = target
        await self.cut()

    async def cut(self) -> None:
        """Close all connections."""
        while self._open:
            for one in self._open:
                one.cancel()
            await asyncio.wait(self._open)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        opened = [writer]
        try:
            # A server that is down refuses the client's connection a moment late, as a proxy does.
            other_reader, other = await asyncio.open_connection("127.0.0.1", self.target)
            opened.append(other)
            both = self._copy(reader, other), self._copy(other_reader, writer, answers=True)
            await asyncio.wait([*map(asyncio.ensure_future, both)], return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            for one in opened:
                one.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                if answers and self.loses_next_answer:
                    self.loses_next_answer = False
                    return
                # In order: the delay is the same for all.
                loop.call_later(self.delay, _write, writer, chunk)


def _write(writer: asyncio.StreamWriter, chunk: bytes) -> None:
    if not writer.is_closing():
        writer.write(chunk)
