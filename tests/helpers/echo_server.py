"""Servers that send raw bytes, clients for them, and what an error reporter could show of a failure."""

from __future__ import annotations

import asyncio
import base64
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

from agora_analytics import AnalyticsClient, Retry

SECRET = "f00dba5e0123456789abcdef00c0ffee"
APP = "0123456789abcdef0123456789abcdef"
TOKEN = base64.b64encode(f"customer:{SECRET}".encode()).decode()
PASSWORD = "pr0xyPassw0rd"
HIDDEN = {"secret": SECRET, "token": TOKEN, "App ID": APP, "proxy's password": PASSWORD}
HIDDEN |= {"proxy's token": base64.b64encode(f"user:{PASSWORD}".encode()).decode()}


def make_client(url: str, **options: Any) -> AnalyticsClient:
    settings = {"app_id": APP, "plan": "enterprise", "base_url": url, "retry": Retry(attempts=1), "quotas": False}
    return AnalyticsClient("customer", SECRET, **(settings | options))


async def list_calls(client: AnalyticsClient) -> Any:
    return await client.calls.page(*client.calls.recent(3600))


@asynccontextmanager
async def raw_server(response: bytes, *, close: bool = True) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve requests with these bytes; then close the connection, or keep it open without another byte."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(response)
            await writer.drain()
            if not close:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], requests
    finally:
        server.close()


def error_report(error: BaseException) -> str:
    """Return what an error reporter shows of an error, with the local variables of all frames but those of tests."""
    parts = [str(error), repr(error), repr(getattr(error, "__dict__", ""))]
    for error_in_chain in chain_of(error):
        trace = error_in_chain.__traceback__
        while trace:
            if "/tests/" not in trace.tb_frame.f_code.co_filename:
                parts.append(format_frame(trace.tb_frame))
            trace = trace.tb_next
        parts += traceback.format_exception_only(error_in_chain)
    return "\n".join(parts)


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    if error is not None:
        yield error
        yield from chain_of(error.__cause__)
        yield from chain_of(error.__context__)
        for inner in getattr(error, "exceptions", ()):
            yield from chain_of(inner)


def format_frame(frame: FrameType) -> str:
    """Return a frame as `TracebackException(capture_locals=True)` shows it."""
    stack = traceback.StackSummary.extract([(frame, frame.f_lineno)], capture_locals=True)
    return "".join(stack.format())


def frames_of_tasks() -> str:
    """Return the local variables of all suspended frames, as a sampling profiler sees them."""
    parts: list[str] = []
    for task in asyncio.all_tasks():
        waiting: Any = task.get_coro()
        while (frame := getattr(waiting, "cr_frame", None)) is not None:
            if "/tests/" not in frame.f_code.co_filename:
                parts.append(format_frame(frame))
            waiting = waiting.cr_await
    return "\n".join(parts)


def leaks(text: str) -> list[str]:
    """Return the names of the secrets that a text contains."""
    return [name for name, value in HIDDEN.items() if value in text]
