"""The service's wire format: builds requests, and turns status, code and message of a response into errors.

Errors come in two forms. A gateway in front answers with a real HTTP status and a body of only a message, or HTML. The
API itself answers 200 and puts the error into the body's `code`, with phrases of its own in `message`. So the HTTP
status is checked first, then the code, and phrases in the message decide which error it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from agora_analytics._core.decoding.codec import envelope
from agora_analytics._core.decoding.json import (
    MisfitError,
    encode,
    excerpt,
    one_line,
    parse_value,
    replace_lone_surrogates,
)
from agora_analytics.errors import (
    BadRequest,
    NotFound,
    PlanRefused,
    RateLimited,
    ResponseError,
    ServerError,
    Unauthorized,
)
from agora_analytics.models.envelope import Answer
from agora_analytics.plans import Endpoint, Unit
from agora_analytics.protocols import Request, Response

Param = str | int | bool | None
"""A parameter's value; None omits it."""


class NotSentError(Exception):
    """A request was given up before it was sent."""


class NothingToFetchError(NotSentError):
    """When the request's turn came, nothing was left to fetch, or allowed to be: nothing was sent."""


_SUCCESS = frozenset({None, 0, 200})
# The vendor's phrases. They come behind prefixes, on every endpoint, and with other codes than documented; so they are
# searched for in the message, and go before the code.
_RATES: dict[str, Unit] = {"qps limit": "second", "qpm limit": "minute", "qpd limit": "day"}
_PLAN = {
    "query latency limit": "latency",
    "query time range limit": "range",
    "query time length limit": "length",
    "query duration limit": "length",
    "no auth": "access",
}
_SCALE = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

_DATE = 60
"""Characters of the longest date or number in a header."""

# A single answer dated 1970 or 9999 would otherwise give spans that no request can carry.
_EARLIEST, _LATEST = 1_000_000_000, 4_102_444_800
"""`Date` headers outside of these (2001 and 2100) are ignored."""

_ID = 100
"""Characters of a request id that are kept."""

_READ = 2_000
"""Characters of a message that are searched for known phrases."""

_LONGEST_MESSAGE = 500
"""Characters of a message that an error quotes."""

_REFUSAL = 65_536
"""Bytes of the largest body that is parsed to explain an HTTP status."""

_LONGEST = 86_400.0
"""A longer `Retry-After` is read as this many seconds: after a day every quota has been reset."""

_USER = re.compile(r"//[^/]*@")

_HINTS: dict[type[ResponseError], str] = {
    BadRequest: "Check the parameters against the endpoint's docstring and the catalogue (`agora-analytics metrics`).",
    Unauthorized: "Check Customer ID, Customer Secret and App ID in Agora Console.",
    PlanRefused: "Ask within the plan, check that `plan=` is the account's, or upgrade it.",
    NotFound: "Check the host and AGORA_BASE_URL.",
    RateLimited: "Other programs may use the same account: wait for the next second, minute or UTC day.",
    ServerError: "Try again later; give Agora support the request id.",
    ResponseError: "The reference does not list this answer; give Agora support the request id.",
}


def build_request(
    endpoint: Endpoint, app_id: str, params: Mapping[str, Param], body: Mapping[str, Any] | None = None
) -> Request:
    """Build a request; parameters that are None are omitted, the App ID is in the query even of a POST."""
    query = {"appid": app_id}
    for name, value in params.items():
        if value is not None:
            query[name] = str(value).lower() if isinstance(value, bool) else str(value)
    content = None
    if body is not None:
        content = encode({name: value for name, value in body.items() if value is not None})
    return Request(endpoint, "&".join(f"{_spelled(name)}={_spelled(value)}" for name, value in query.items()), content)


@lru_cache(maxsize=256)  # names and most values are the same at every request
def _spelled(text: str) -> str:
    return quote(text, safe="")


def comma_separated(values: Iterable[object]) -> str | None:
    """Return a list as a query has it: separated by commas; None if it is empty."""
    return ",".join(map(str, values)) or None


def quoted_list(values: Iterable[str]) -> str | None:
    """Return dimension values as a query has them: each in double quotes, separated by commas; None if empty."""
    return ",".join(f'"{value}"' for value in values) or None


def read_envelope(body: bytes) -> Answer:
    """Read code, message and request id of a body; empty if it is not a JSON object or larger than 64 KiB."""
    if len(body) > _REFUSAL:
        return Answer()
    try:
        return envelope(parse_value(replace_lone_surrogates(body)))
    except MisfitError:
        return Answer()


def request_id(response: Response, answer: Answer) -> str | None:
    """Return the request id of the body, or else of the headers."""
    found = answer.request_id or header(response, "X-Request-ID")
    return found and one_line(found, _ID)


def header(response: Response, name: str) -> str | None:
    """Return a header's value; names are case-insensitive."""
    # aiohttp's headers ignore case by themselves, a transport of somebody else's may not.
    value = response.headers.get(name)
    if value is not None:
        return value
    wanted = name.lower()
    return next((value for key, value in response.headers.items() if key.lower() == wanted), None)


def server_date(response: Response) -> int | None:
    """Return the `Date` header as a UTC second, None if there is no valid one."""
    return _second(header(response, "Date") or "")


def raise_for_status(request: Request, response: Response) -> None:
    """Raise the error of an HTTP status, unless it is a success."""
    if not 200 <= response.status < 300:  # noqa: PLR2004 - HTTP's own numbers
        _raise(request, response, read_envelope(response.body), response.status)


def raise_for_code(request: Request, response: Response, answer: Answer) -> None:
    """Raise the error of a body's code, unless it is a success: absent, 0 or 200."""
    if answer.code not in _SUCCESS:
        _raise(request, response, answer, answer.code or 0)


def _raise(request: Request, response: Response, answer: Answer, number: int) -> None:
    text = answer.message or excerpt(response.body)
    kind, details = _classify(number, text)
    message = one_line(text, _LONGEST_MESSAGE)
    shown = f"HTTP {response.status}" + (f", code {answer.code}" if answer.code is not None else "")
    rid = request_id(response, answer)
    error = kind(
        f"{shown}: {message or 'no message'}{_redirect(response)}" + (f" (request id {rid})" if rid else ""),
        request=str(request),
        hint=_HINTS[kind],
        status=response.status,
        code=answer.code,
        message=message,
        request_id=rid,
        retry_after=retry_after(response),
    )
    for name, value in details.items():
        setattr(error, name, value)
    raise error


def _redirect(response: Response) -> str:
    """Show the target of a redirect, without its query, which may repeat the request's, and without a password."""
    target = header(response, "Location")
    if not target:
        return ""
    place = _USER.sub("//", re.split(r"[?#]", target, maxsplit=1)[0][:_READ])
    return f", redirect to {one_line(place, _ID)!r} not followed"


def _classify(number: int, message: str) -> tuple[type[ResponseError], dict[str, object]]:
    """Return the error class of a status or code and a message, and its details."""
    text = message[:_READ].lower()
    limit = _limit(text)
    if number != 401:  # noqa: PLR2004 - a gateway's 401 is final, whatever the message says
        for phrase, unit in _RATES.items():
            if phrase in text:
                return RateLimited, {"unit": unit, "limit": limit}
        for phrase, kind in _PLAN.items():
            if _has(phrase, text):
                return PlanRefused, {"kind": kind, "limit": limit}
    by_number: dict[int, type[ResponseError]] = {
        300: PlanRefused,
        400: BadRequest,
        401: Unauthorized,
        403: Unauthorized,
        404: NotFound,
        429: RateLimited,
    }
    return by_number.get(number, ServerError if 500 <= number < 600 else ResponseError), {}  # noqa: PLR2004


def _has(phrase: str, text: str) -> bool:
    """Whether a message contains a phrase as whole words (`no auth` is not in `no authentication`)."""
    return re.search(rf"{phrase}\b", text) is not None


# Every part is bounded, so that matching takes linear time on any text of the service.
_LIMIT = re.compile(r"limit[ ]{0,9}(?:error[ ]{0,9})?[=:][ ]{0,9}([0-9]{1,9})[ ]{0,9}([smhd]?)\b")


def _limit(text: str) -> int | None:
    """Read the number in an error message (`limit = 10`, `= 20s`, `= 3d`, `= 3h`), durations in seconds.

    A number of more than nine digits is ignored.
    """
    found = _LIMIT.search(text)
    return int(found[1]) * _SCALE[found[2]] if found else None


@lru_cache(maxsize=8)  # many responses a second have the same date
def _second(text: str) -> int | None:
    moment = _moment(text)
    second = None if moment is None else int(moment.timestamp())
    return second if second is not None and _EARLIEST <= second < _LATEST else None


def _moment(text: str) -> datetime | None:
    """Parse an HTTP date; None if it is invalid or out of range."""
    if len(text) > _DATE:
        return None
    try:
        moment = parsedate_to_datetime(text)
        # Raises for a date that is out of range.
        moment.timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return moment


def retry_after(response: Response) -> float | None:
    """Return the seconds of a `Retry-After` header, a day at most; a date counts from the response's own `Date`."""
    value = (header(response, "Retry-After") or "").strip()
    # `isdecimal` alone accepts digits of other scripts.
    if value.isascii() and value.isdecimal():
        return min(float(value[:_DATE]), _LONGEST)
    then, now = _moment(value), _moment(header(response, "Date") or "")
    # A naive and an aware datetime cannot be subtracted.
    if then is None or now is None or (then.tzinfo is None) != (now.tzinfo is None):
        return None
    seconds = (then - now).total_seconds()
    return min(max(0.0, seconds), _LONGEST)
