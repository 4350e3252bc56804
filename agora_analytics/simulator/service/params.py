"""An incoming request and its parameters, validated as strictly as Agora does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs
import msgspec

from agora_analytics.plans import ENDPOINTS, Endpoint
from agora_analytics.simulator.service.error_responses import ErrorResponse, invalid, milliseconds
from agora_analytics.simulator.validators import MILLISECONDS_FROM

_BY_PATH: Mapping[tuple[str, str], Endpoint] = {(endpoint.method, endpoint.path): endpoint for endpoint in ENDPOINTS}
# No number of 64 bits has as many; `int()` takes quadratic time for a text of any length.
_MAX_DIGITS = 20


@attrs.frozen
class IncomingRequest:
    """A request as one of the hosts receives it; that host's clock is `skew` seconds ahead of the service's."""

    method: str
    path: str
    query: str
    body: bytes | None = None
    authorization: str | None = None
    host: int = 0
    skew: float = 0.0

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint of this method and path, or None."""
        return _BY_PATH.get((self.method, self.path))

    @property
    def params(self) -> Mapping[str, Any]:
        """All parameters, unvalidated: strings from the query, and values from a JSON object in the body."""
        # The query last, because the App ID is there, with POST too.
        return {**_json_object(self.body), **dict(parse_qsl(self.query, keep_blank_values=True))}


@attrs.frozen
class TimeRange:
    """The requested time range in UTC seconds; whether the end is included depends on the endpoint."""

    start: int
    end: int


@attrs.frozen
class PageRequest:
    """The requested page: its number from 1, and its size, at most 100."""

    number: int
    size: int


@attrs.frozen
class RequestParams:
    """The parameters of a request: the query of a GET, the JSON body of a POST; the App ID is always in the query.

    Every method raises `ErrorResponse` if the parameter is missing or wrong.
    """

    endpoint: Endpoint
    app_id: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, endpoint: Endpoint, query: str, body: bytes | None) -> RequestParams:
        """Parse the parameters of a request."""
        query_params = dict(parse_qsl(query, keep_blank_values=True))
        if not query_params.get("appid"):
            raise invalid("appid is required")
        values: object = query_params if endpoint.method == "GET" else _parse_body(body)
        if not isinstance(values, dict):
            raise invalid("the body is not an object")
        return cls(endpoint, query_params["appid"], values)

    def text(self, name: str) -> str:
        """Return a required, non-empty string."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise invalid(f"{name} is required")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None if it is missing or empty."""
        return self.text(name) if self.values.get(name) not in (None, "") else None

    def one_of(self, name: str, allowed: Mapping[str, Any] | frozenset[str] | tuple[str, ...]) -> str:
        """Return a required string that must be one of `allowed`."""
        value = self.text(name)
        if value not in allowed:
            raise invalid(f"{name} {value} is not supported")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        """Return an int; it is required unless there is a default."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value.isdecimal() and len(value) < _MAX_DIGITS:
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid(f"{name} must be a number")
        return value

    def timestamp(self, name: str) -> int:
        """Return UTC seconds; for milliseconds raise the unknown error that Agora returns."""
        value = self.number(name)
        if value >= MILLISECONDS_FROM:
            raise milliseconds()
        return value

    def time_range(self, start: str, end: str) -> TimeRange:
        """Return the time range given by two parameters."""
        time_range = TimeRange(self.timestamp(start), self.timestamp(end))
        if time_range.start >= time_range.end:
            raise invalid(f"{end} must be after {start}")
        return time_range

    def page(self) -> PageRequest:
        """Return the requested page: by default the first, with 20 rows; larger sizes are reduced to 100."""
        number, size = self.number("page_no", 1), self.number("page_size", 20)
        if number < 1 or size < 1:
            raise invalid("page_no and page_size start at 1")
        return PageRequest(number, min(size, 100))

    def csv_list(self, name: str, max_items: int) -> tuple[str, ...]:
        """Return comma-separated strings, at most `max_items`; empty if the parameter is missing."""
        values = tuple(filter(None, (self.optional_text(name) or "").split(",")))
        if len(values) > max_items:
            raise invalid(f"{name}: at most {max_items}")
        return values

    def quoted_list(self, name: str) -> tuple[str, ...]:
        """Return comma-separated strings in double quotes, or a JSON list; empty if the parameter is missing."""
        value = self.values.get(name)
        if value in (None, ""):
            return ()
        if isinstance(value, str):
            value = _parse_quoted(f"[{value}]")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise invalid(f"{name} must be in double quotes, separated by commas")
        return tuple(value)


def _parse_body(body: bytes | None) -> object:
    try:
        return msgspec.json.decode(body or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid("the body is not JSON") from None


def _parse_quoted(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _json_object(body: bytes | None) -> dict[str, Any]:
    """Return the values of a JSON object; empty for any other body, which the handler refuses."""
    try:
        values = _parse_body(body)
    except ErrorResponse:
        return {}
    return values if isinstance(values, dict) else {}
