"""Names and values of attributes: the HTTP semantic conventions, and this library's own below `agora.`.

Each has few values: nothing names an App ID, a channel or a user, and there is no `url.full`.
"""

from __future__ import annotations

from typing import Final

from agora_analytics.plans import Endpoint
from agora_analytics.protocols import Attempt, AttemptResult

Attributes = dict[str, str | int | float]

SCHEMA: Final = "https://opentelemetry.io/schemas/1.30.0"
"""The version of the semantic conventions whose names are used here."""

_FIRST_ERROR: Final = 400


def of_request(endpoint: Endpoint, priority: str) -> Attributes:
    """Return the attributes of a request that starts."""
    return {"agora.endpoint": endpoint.name, "agora.priority": priority}


def of_attempt(endpoint: Endpoint, attempt: Attempt) -> Attributes:
    """Return the attributes of an attempt that is sent, for its span and for `http.client.request.duration`."""
    found: Attributes = {"http.request.method": endpoint.method, "url.template": endpoint.path}
    if attempt.address:
        found["server.address"] = attempt.address
    if attempt.port is not None:
        found["server.port"] = attempt.port
    return found


def of_span(attempt: Attempt) -> Attributes:
    """Return the attributes that only the span of an attempt has; `agora.waited` is in seconds."""
    found: Attributes = {"agora.counter": attempt.counter, "agora.waited": attempt.waited}
    # The convention counts resends, and leaves the attribute out for the first attempt.
    if attempt.number > 1:
        found["http.request.resend_count"] = attempt.number - 1
    return found


def of_result(result: AttemptResult) -> Attributes:
    """Return the status of the response, and the type of the error."""
    found: Attributes = {} if result.status is None else {"http.response.status_code": result.status}
    # The convention has the status as the type where there is one; the service also reports errors with 200.
    if result.status is not None and result.status >= _FIRST_ERROR:
        found["error.type"] = str(result.status)
    elif result.error is not None:
        found["error.type"] = class_name(result.error)
    return found


def class_name(error: type[BaseException]) -> str:
    """Return the full name of an exception's class."""
    module = error.__module__
    return error.__qualname__ if module == "builtins" else f"{module}.{error.__qualname__}"
