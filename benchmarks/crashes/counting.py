"""A gateway in front of the service that records each request, its run, and when it was answered."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import attrs
from aiohttp import web


@attrs.define
class Asked:
    """A request: its run, and when it was answered, if it was."""

    what: tuple[str, str, bytes]
    run: int
    answered: float | None = None


@attrs.define
class Counter:
    """The requests since the last `begin`, run by run."""

    url: str = ""
    asked: list[Asked] = attrs.field(factory=list)
    ends: dict[int, float] = attrs.field(factory=dict)
    run: int = 0
    alarm: tuple[int, Callable[[], None]] | None = None

    def note(self, what: tuple[str, str, bytes]) -> Asked:
        """Record a request; calls the `alarm` at the request of that number."""
        self.asked.append(Asked(what, self.run))
        if self.alarm and self.alarm[0] == sum(one.run == self.run for one in self.asked):
            self.alarm[1]()
        return self.asked[-1]

    def begin(self) -> None:
        """Forget everything, before an export begins."""
        self.asked.clear()
        self.ends.clear()
        self.run = 0

    def end_run(self) -> int:
        """Record that a run has ended, and return how many requests it made."""
        self.ends[self.run] = time.monotonic()
        made = sum(one.run == self.run for one in self.asked)
        self.run += 1
        return made

    def again(self, but: str | None = None) -> list[float]:
        """Return, for each request repeated after its answer, how long before the end of its run that was answered.

        Requests whose path contains `but` may be repeated.
        """
        known: dict[tuple[str, str, bytes], Asked] = {}
        ages = []
        for one in self.asked:
            if but is not None and but in one.what[1]:
                continue
            before = known.get(one.what)
            if before is not None and before.answered is not None and before.run < one.run:
                ages.append(self.ends[before.run] - before.answered)
            known[one.what] = one
        return ages


@asynccontextmanager
async def counting(service: str) -> AsyncIterator[Counter]:
    """Serve in place of the service."""
    counter = Counter()
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            asked = counter.note((request.method, request.raw_path, body))
            headers = {name: request.headers[name] for name in _GIVEN if name in request.headers}
            url = service + request.raw_path
            async with session.request(request.method, url, data=body or None, headers=headers) as answer:
                headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
                response = web.Response(status=answer.status, body=await answer.read(), headers=headers)
            asked.answered = time.monotonic()
            return response

        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{rest:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            counter.url = f"http://{host}:{port}"
            yield counter
        finally:
            await runner.cleanup()


_GIVEN = ("Authorization", "Content-Type")
_KEPT_HEADERS = ("Content-Type", "Date", "Retry-After")
