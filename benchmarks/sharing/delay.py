"""A TCP proxy that delays each direction by half of a round trip, and keeps the order.

`python -m benchmarks.sharing.delay PORT SECONDS` connects to a port of this host, prints the one on which it listens,
and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from contextlib import suppress
from functools import partial

_CHUNK = 65_536


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Write what is read, each piece `delay` seconds after it came."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        while (piece := await pieces.get())[1]:
            await asyncio.sleep(piece[0] - loop.time())
            writer.write(piece[1])
            await writer.drain()
        writer.close()

    writing = asyncio.create_task(write())
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            pieces.put_nowait((loop.time() + delay, data))
    pieces.put_nowait((0.0, b""))
    with suppress(ConnectionError):
        await writing


async def _connect(port: int, delay: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    there, back = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_forward(reader, back, delay), _forward(there, writer, delay))


async def _serve(port: int, round_trip: float) -> None:
    server = await asyncio.start_server(partial(_connect, port, round_trip / 2), "127.0.0.1")
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    # The usual selector rounds up to whole milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(_serve(int(sys.argv[1]), float(sys.argv[2])))
