"""A request on its way to the service: what it asks for, and what came before it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs

from agora_analytics.plans import ENDPOINTS, Endpoint

_BY_PATH: Mapping[tuple[str, str], Endpoint] = {(endpoint.method, endpoint.path): endpoint for endpoint in ENDPOINTS}


@attrs.frozen
class Call:
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
class Arrival:
    """A request that arrives: the number of requests before it, in all, at its host and to its endpoint, and when."""

    number: int
    at_host: int
    host: int
    now: float
    at_endpoint: int = 0
    call: Call | None = None

    @property
    def endpoint(self) -> str:
        """The endpoint's name in `plans`, or empty where there is none."""
        endpoint = self.call.endpoint if self.call else None
        return endpoint.name if endpoint else ""

    def asks(self, params: Mapping[str, str]) -> bool:
        """Whether the request has all these parameters, compared as text."""
        if not params:
            return True
        sent = self.call.params if self.call else {}
        return all(str(sent.get(name, "")) == value for name, value in params.items())


def _values(body: bytes | None) -> dict[str, Any]:
    try:
        values = json.loads(body or b"{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
