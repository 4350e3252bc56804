"""A FastAPI service that answers with the calls of the last hours: models become JSON by `attrs.asdict`.

Needs `fastapi` and `httpx`, and AGORA_CUSTOMER_ID, AGORA_CUSTOMER_SECRET, AGORA_APP_ID and AGORA_PLAN;
`agora-analytics simulate` prints ones that work with AGORA_BASE_URL set to what it serves. Serve it with
`uvicorn fastapi_calls:app`; run as a program, it asks itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

import attrs
import httpx
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse

from agora_analytics import AgoraError, AnalyticsClient, QuotaExhausted


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for as long as the service runs: it shares connections and counts all requests together."""
    async with AnalyticsClient.from_env() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=opened)


@app.get("/calls")
async def calls(request: Request, hours: Annotated[int, Query(ge=1, le=24)] = 1) -> list[dict[str, Any]]:
    """Return the calls of the last hours."""
    client: AnalyticsClient = request.app.state.client
    span = client.calls.recent(timedelta(hours=hours))
    return [attrs.asdict(call) async for call in client.calls.search(*span)]


@app.exception_handler(AgoraError)
async def failed(request: Request, error: AgoraError) -> JSONResponse:  # noqa: ARG001 - FastAPI's signature
    """Tell what went wrong: an error has no credential in it."""
    status = 429 if isinstance(error, QuotaExhausted) else 502
    return JSONResponse({"error": str(error)}, status)


async def main() -> None:
    """Ask the service, without a server."""
    transport = httpx.ASGITransport(app)
    async with opened(app), httpx.AsyncClient(transport=transport, base_url="http://here") as asking:
        answer = await asking.get("/calls", params={"hours": 2})
    for call in answer.json()[:5]:
        print(call["call_id"], call["cname"], call["created_ts"])


if __name__ == "__main__":
    asyncio.run(main())
