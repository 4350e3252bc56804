"""A server of the responses of this benchmark: `python -m benchmarks.stalls.serving` prints its port."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

import attrs
import msgspec

from benchmarks import _answers
from benchmarks._canned import _Server

_SESSIONS: Final = {"1": 1, "20": 20}
"""Sessions whose metrics make about that many megabytes."""


@attrs.frozen
class _Answer:
    body: bytes


class _Service:
    """Returns a page of 100 calls, or the metrics of as many sessions as the call's id says."""

    def __init__(self) -> None:
        random = Random(7)  # noqa: S311 - the same answers at every run
        self._page = _Answer(_body(call_lists=[_answers.call(random) for _ in range(100)], **_answers.paging()))
        metrics = [_answers.metrics(random) for _ in range(20)]
        self._metrics = {name: _Answer(_body(metrics=metrics[:count])) for name, count in _SESSIONS.items()}

    def answer(self, _method: str, _path: str, query: str, _body: bytes | None, _authorization: str) -> _Answer:
        """Return the response."""
        return next((found for name, found in self._metrics.items() if f"call_id={name}&" in query), self._page)


def _body(**fields: object) -> bytes:
    return msgspec.json.encode({"code": 200, "message": "success", "requestId": "r", **fields})


async def _serve() -> None:
    service = _Service()
    server = await asyncio.get_running_loop().create_server(lambda: _Server(service, {}), "127.0.0.1", 0)  # type: ignore[arg-type]  # it answers alike
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
