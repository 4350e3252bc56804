"""A TCP proxy that can lose an answer: the server has done what it was told, and its client does not hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs


@attrs.define
class CuttingProxy:
    """Passes bytes on to a port of this machine, and cuts the connection instead of the next answer if told to."""

    target: int
    port: int = 0
    cuts_next_answer: bool = False
    cuts: int = 0
    _open: set[asyncio.StreamWriter] = attrs.field(factory=set)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer, is_answer=True))

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                if is_answer and self.cuts_next_answer:
                    self.cuts_next_answer = False
                    self.cuts += 1
                    break
                target.write(data)
        target.close()

    def close(self) -> None:
        for writer in self._open:
            writer.close()


@asynccontextmanager
async def cutting_proxy(target: int) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(target)
    server = await asyncio.start_server(proxy.connect, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    yield proxy
    server.close()
    proxy.close()
    await server.wait_closed()
