"""Transports that change answers: with a wrong `Date`, with another status and body, or with another document."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import formatdate, parsedate_to_datetime

import attrs

from agora_analytics.protocols import Request, Response, Transport


@attrs.frozen
class Wrong:
    """What to change in one answer: the seconds to add to its `Date`, and its status and body."""

    ahead: float
    status: int = 200
    body: bytes | None = None


class Misdated:
    """A transport that changes the answers, counted from 1, for which `wrong` has an entry or returns one."""

    def __init__(self, inner: Transport, wrong: Mapping[int, Wrong] | Callable[[int], Wrong | None]) -> None:
        self._inner = inner
        self._wrong = wrong if callable(wrong) else wrong.get
        self.sent = 0

    @property
    def hosts(self) -> int:
        return self._inner.hosts

    async def send(self, request: Request, host: int = 0) -> Response:
        self.sent += 1
        wrong = self._wrong(self.sent)
        response = await self._inner.send(request, host)
        if wrong is None:
            return response
        date = parsedate_to_datetime(response.headers["Date"]).timestamp() + wrong.ahead
        body = response.body if wrong.body is None else wrong.body
        return Response(wrong.status, {**response.headers, "Date": formatdate(date, usegmt=True)}, body)

    def scrub(self, body: bytes) -> bytes:
        return self._inner.scrub(body)

    async def close(self) -> None:
        await self._inner.close()


@attrs.frozen
class Tampering:
    """A transport that applies `change` to the JSON document of each answer."""

    inner: Transport
    change: Callable[[dict], None]

    @property
    def hosts(self) -> int:
        return self.inner.hosts

    async def send(self, request: Request, host: int = 0) -> Response:
        response = await self.inner.send(request, host)
        document = json.loads(response.body)
        self.change(document)
        return attrs.evolve(response, body=json.dumps(document).encode())

    def scrub(self, body: bytes) -> bytes:
        return self.inner.scrub(body)

    async def close(self) -> None:
        await self.inner.close()
