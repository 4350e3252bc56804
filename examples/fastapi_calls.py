"""A FastAPI service that returns the calls of the last hours; `attrs.asdict` turns models into JSON.

Needs `fastapi` and `httpx`, and AGORA_CUSTOMER_ID, AGORA_CUSTOMER_SECRET, AGORA_APP_ID and AGORA_PLAN.
`agora-analytics simulate` prints values for these and AGORA_BASE_URL that need no account. Serve it with
`uvicorn fastapi_calls:app`. Run as a program, it sends a request to itself.
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
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client while the service runs: all requests share its connections and its quota."""
    async with AnalyticsClient.from_env() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/calls")
async def calls(request: Request, hours: Annotated[int, Query(ge=1, le=24)] = 1) -> list[dict[str, Any]]:
    """Return the calls of the last hours."""
    client: AnalyticsClient = request.app.state.client
    span = client.calls.recent(timedelta(hours=hours))
    return [attrs.asdict(call) async for call in client.calls.search(*span)]


@app.exception_handler(AgoraError)
async def on_error(request: Request, error: AgoraError) -> JSONResponse:  # noqa: ARG001 - FastAPI's signature
    """Return the error as JSON; its text holds no credentials."""
    status = 429 if isinstance(error, QuotaExhausted) else 502
    return JSONResponse({"error": str(error)}, status)


async def main() -> None:
    """Send one request to the app, without a server."""
    transport = httpx.ASGITransport(app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        response = await http.get("/calls", params={"hours": 2})
    for call in response.json()[:5]:
        print(call["call_id"], call["cname"], call["created_ts"])


if __name__ == "__main__":
    asyncio.run(main())
