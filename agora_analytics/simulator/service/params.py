"""What a request asks for: its parameters, read as strictly as the vendor reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs
import msgspec

from agora_analytics.plans import ENDPOINTS, Endpoint
from agora_analytics.simulator.service.error_responses import invalid, milliseconds

_BY_PATH: Mapping[tuple[str, str], Endpoint] = {(endpoint.method, endpoint.path): endpoint for endpoint in ENDPOINTS}
_MILLISECONDS = 100_000_000_000
_DIGITS = 20


@attrs.frozen
class IncomingRequest:
    """A request as it arrives at one of the hosts, whose clock is `skew` seconds ahead of the service's."""

    method: str
    path: str
    query: str
    body: bytes | None = None
    authorization: str | None = None
    host: int = 0
    skew: float = 0.0

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint that is asked, or None where there is none of this path."""
        return _BY_PATH.get((self.method, self.path))

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters: texts of the query, and values of the body where that is a JSON object."""
        return {**_values(self.body), **dict(parse_qsl(self.query, keep_blank_values=True))}


@attrs.frozen
class TimeRange:
    """The time frame asked for, in UTC seconds; whether the end is in depends on the endpoint."""

    start: int
    end: int


@attrs.frozen
class PageRequest:
    """Which page of how many rows; the size is clamped to 100 already."""

    number: int
    size: int


@attrs.frozen
class RequestParams:
    """A request's parameters: from the query of a GET, from the body of a POST, the App ID always from the query.

    Every method raises `ErrorResponse` where the parameter is missing or wrong.
    """

    endpoint: Endpoint
    app_id: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, endpoint: Endpoint, query: str, body: bytes | None) -> RequestParams:
        """Read a request."""
        named = dict(parse_qsl(query, keep_blank_values=True))
        if not named.get("appid"):
            raise invalid("appid is required")
        values: object = named if endpoint.method == "GET" else _document(body)
        if not isinstance(values, dict):
            raise invalid("the body is not an object")
        return cls(endpoint, named["appid"], values)

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise invalid(f"{name} is required")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None where it is not there."""
        return self.text(name) if self.values.get(name) not in (None, "") else None

    def one_of(self, name: str, allowed: Mapping[str, Any] | frozenset[str] | tuple[str, ...]) -> str:
        """Return a text that must be one of a few."""
        value = self.text(name)
        if value not in allowed:
            raise invalid(f"{name} {value} is not supported")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        """Return a whole number; where there is no default it must be there."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value.isdecimal() and len(value) < _DIGITS:
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid(f"{name} must be a number")
        return value

    def timestamp(self, name: str) -> int:
        """Return a time in UTC seconds; milliseconds get the service's unknown error."""
        value = self.number(name)
        if value >= _MILLISECONDS:
            raise milliseconds()
        return value

    def time_range(self, start: str, end: str) -> TimeRange:
        """Return the time between two parameters."""
        time_range = TimeRange(self.timestamp(start), self.timestamp(end))
        if time_range.start >= time_range.end:
            raise invalid(f"{end} must be after {start}")
        return time_range

    def page(self) -> PageRequest:
        """Return the page asked for: the first of 20 by default, of 100 where more are asked for."""
        number, size = self.number("page_no", 1), self.number("page_size", 20)
        if number < 1 or size < 1:
            raise invalid("page_no and page_size start at 1")
        return PageRequest(number, min(size, 100))

    def csv_list(self, name: str, most: int) -> tuple[str, ...]:
        """Return texts separated by commas, at most so many; empty where they are not there."""
        values = tuple(filter(None, (self.optional_text(name) or "").split(",")))
        if len(values) > most:
            raise invalid(f"{name}: at most {most}")
        return values

    def quoted_list(self, name: str) -> tuple[str, ...]:
        """Return texts in double quotes separated by commas, or of a JSON list; empty where they are not there."""
        value = self.values.get(name)
        if value in (None, ""):
            return ()
        if isinstance(value, str):
            value = _unquoted(f"[{value}]")
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise invalid(f"{name} must be in double quotes, separated by commas")
        return tuple(value)


def _document(body: bytes | None) -> object:
    try:
        return msgspec.json.decode(body or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid("the body is not JSON") from None


def _unquoted(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _values(body: bytes | None) -> dict[str, Any]:
    try:
        values = json.loads(body or b"{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
