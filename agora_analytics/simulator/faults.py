"""Fault injection: what goes wrong with one request. `fault_schedule.Faults` says which requests.

A `Fault` is a value. The in-process transport and the HTTP server inject it.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Literal

import attrs

from agora_analytics._core import validation
from agora_analytics.protocols import Response
from agora_analytics.simulator import validators

FaultKind = Literal[
    "status", "html", "busy", "garbage", "refused", "reset", "reset_after", "cut", "slow", "huge", "bomb",
    "refusal", "date",
]  # fmt: skip

# What fails on the way back, or in the service itself, was counted.
_COUNTED = frozenset({"reset_after", "cut", "slow", "garbage", "refusal", "date"})
_GATEWAY = frozenset({"status", "html", "busy"})
_PAGE = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr>nginx</body></html>\r\n"
# Broken both as JSON and as UTF-8: neither the fast nor the lenient decoder may accept it.
_GARBAGE = b'{"code":200,"data" [{"ts":17900\xff\xfe}]}'


def _usual_status(fault: Fault) -> int:
    # The service reports errors in the body of an HTTP 200; other statuses are a gateway's.
    return 200 if fault.kind == "refusal" else 502


@attrs.frozen
class Fault:
    """One failure of one request.

    ```python
    from agora_analytics.simulator import Fault

    assert Fault("status", status=503).counted is False  # a gateway answers; the service never sees the request
    assert Fault("slow", seconds=40).delay == 40
    ```

    Kinds:
        status: a gateway answers with HTTP `status` and a JSON `message`.
        html: a gateway answers with HTTP `status` and an HTML page; with status 200 it is a captive portal.
        busy: a gateway answers with HTTP 429 and `Retry-After: retry_after` (seconds).
        garbage: the body is not JSON.
        refused: the connection is refused. Over sockets this is a `reset`, because a port cannot refuse one request.
        reset: the connection is reset before the service counts the request.
        reset_after: the connection is reset after the service has counted the request.
        cut: the connection is closed in the middle of the body.
        slow: the answer is delayed by `seconds`.
        huge: the body has `size` bytes.
        bomb: the body is small and decompresses to `size` bytes.
        refusal: the service counts the request and answers with an error: `code`, `message` and null data in the body,
            HTTP status 200 unless `status` is given.
        date: only the `Date` header is wrong, see `date_off`.

    Attributes:
        date_off: seconds by which the `Date` header is ahead; applies to every kind whose answer has that header.

    """

    kind: FaultKind
    status: int = attrs.field(default=attrs.Factory(_usual_status, takes_self=True))
    retry_after: int = 1
    seconds: float = 5.0
    # More than a client may take into memory: one that reads a body without a bound fails visibly.
    size: int = 2**31
    code: int = 400
    message: str = "simulated fault"
    date_off: float = 0.0

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(
            self,
            kind=partial(validators.literal, FaultKind),
            status=partial(validation.int_in_range, least=100, most=599),
            retry_after=validators.non_negative,
            seconds=validation.number_in_range,
            size=partial(validation.int_in_range, least=0, most=2**40),
            code=validators.integer,
            message=validators.string,
            date_off=validators.finite,
        )

    @property
    def counted(self) -> bool:
        """Whether the request reaches the service, which counts it against its rate limits and answers."""
        return self.kind in _COUNTED

    @property
    def delay(self) -> float:
        """Seconds by which the answer is delayed."""
        return self.seconds if self.kind == "slow" else 0.0

    def gateway_response(self) -> Response | None:
        """Return the answer of a gateway in front of the service, or None if no gateway answers for this kind."""
        if self.kind not in _GATEWAY:
            return None
        if self.kind == "html":
            return Response(self.status, {"Content-Type": "text/html"}, _PAGE % (self.status, self.status))
        status = 429 if self.kind == "busy" else self.status
        headers = {"Content-Type": "application/json"}
        headers |= {"Retry-After": str(self.retry_after)} if self.kind == "busy" else {}
        return Response(status, headers, json.dumps({"message": self.message}).encode())

    def corrupted(self, response: Response) -> Response:
        """Return the service's answer with the body corrupted, if this kind corrupts it."""
        return attrs.evolve(response, body=_GARBAGE) if self.kind == "garbage" else response
