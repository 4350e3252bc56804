"""Answers as JSON: values, and errors with a code, a text and what to do."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, Final

import attrs
from aiohttp import web

from agora_analytics._core.decoding.json import encode
from agora_analytics._core.validation import short_repr
from agora_analytics.errors import (
    AgoraError,
    LedgerError,
    NotFound,
    PlanRefused,
    QuotaExhausted,
    RateLimited,
    TooEarly,
    Unauthorized,
)

MAX_BODY: Final = 16_384
"""Bytes of a request's body."""

BODY_TIMEOUT: Final = 10.0
"""Seconds in which a body must come."""

MAX_TEXT: Final = 200
"""Characters of a text in a query or a body."""

_MAX_DIGITS: Final = 12
"""Digits of a whole number in a query: `int` of a text is slow, or an error, for thousands of them."""

_STATUS: Final[tuple[tuple[type[AgoraError], int, str], ...]] = (
    (QuotaExhausted, 503, "quota"),
    (RateLimited, 503, "rate_limited"),
    (TooEarly, 409, "too_early"),
    (PlanRefused, 409, "plan"),
    (NotFound, 502, "service"),
    (Unauthorized, 502, "credentials"),
    (LedgerError, 503, "ledger"),
    (AgoraError, 502, "service"),
)
"""HTTP status and code of the library's errors; the first that matches counts."""


class RefusalError(Exception):
    """A request that is answered by an error."""

    def __init__(self, status: int, code: str, text: str, *, retry_after: float | None = None, **more: Any) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.more = more


@attrs.frozen(kw_only=True)
class ErrorBody:
    """An error as JSON: a word for programs, a text and a hint for people."""

    code: str
    text: str
    hint: str = ""


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a value as JSON."""
    return raw_response(encode(value), status, headers)


def raw_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return what is JSON already."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def refused(error: RefusalError) -> web.Response:
    """Return the answer to a refused request."""
    body = {"error": ErrorBody(code=error.code, text=str(error)), **error.more}
    return json_response(body, error.status, _retry_after(error.retry_after))


def failed(error: AgoraError, spent: int = 0) -> web.Response:
    """Return the answer where the library raised an error, after so many requests."""
    status, code = next((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
    resets_in = error.resets_in if isinstance(error, QuotaExhausted) else None
    text = f"{error.request}: {error.args[0]}" if error.request else str(error.args[0])
    return json_response(
        {"error": ErrorBody(code=code, text=text, hint=error.hint), "spent": spent}, status, _retry_after(resets_in)
    )


def _retry_after(seconds: float | None) -> dict[str, str] | None:
    return None if seconds is None else {"Retry-After": str(math.ceil(seconds))}


async def json_body(request: web.Request) -> dict[str, Any]:
    """Return the object that a request has as its body; raises `RefusalError` for anything else."""
    # A form of another site can send any other type without asking the server first (CORS).
    if request.content_type != "application/json":
        raise RefusalError(415, "content_type", "send application/json")
    body = await bounded_body(request)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusalError(400, "body", "the body is not JSON") from None
    if not isinstance(found, dict):
        raise RefusalError(400, "body", "the body is no JSON object")
    return found


async def bounded_body(request: web.Request) -> bytes:
    """Return the body of a request; raises `RefusalError` for one of more than 16 KiB, or that does not come."""
    # Not `request.read()`, whose limit is the whole application's, and which waits for ever.
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for part in request.content.iter_chunked(MAX_BODY):
                body += part
                if len(body) > MAX_BODY:
                    raise RefusalError(413, "body", f"the body has more than {MAX_BODY} bytes")
    except TimeoutError:
        raise RefusalError(408, "body", f"the body did not come within {BODY_TIMEOUT:.0f} s") from None
    except web.RequestPayloadError:
        raise RefusalError(400, "body", "the body is not encoded as its headers say") from None
    return bytes(body)


def text_of(values: Any, name: str, default: str | None = None) -> str | None:
    """Return a text of a query or a body, `default` if it is missing; raises `RefusalError` for anything else."""
    value = values.get(name, default)
    if value is None or (isinstance(value, str) and 0 < len(value) <= MAX_TEXT):
        return value
    raise RefusalError(400, name, f"{name}={short_repr(value)}: allowed is a text of 1 to {MAX_TEXT} characters")


def choice_of(values: Any, name: str, allowed: tuple[str, ...]) -> str:
    """Return one of some texts, the first if it is missing."""
    value = text_of(values, name, allowed[0]) or allowed[0]
    if value not in allowed:
        raise RefusalError(400, name, f"{name}={short_repr(value)}: allowed are {', '.join(allowed)}")
    return value


def int_of(values: Any, name: str, default: int | None, least: int, most: int) -> int | None:
    """Return a whole number of a query or a body, `default` if it is missing."""
    value = values.get(name, default)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise RefusalError(400, name, f"{name}={short_repr(value)}: allowed are whole numbers from {least} to {most}")
