"""What can go wrong between a client and the service.

A fault is a value; the transport or the server that carries the request acts it out. `schedules` says when.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Literal

import attrs

from agora_analytics._core import validation
from agora_analytics.protocols import Response
from agora_analytics.simulator.service import settings

Kind = Literal[
    "status", "html", "busy", "garbage", "refused", "reset", "reset_after", "cut", "slow", "huge", "bomb",
    "refusal", "date",
]  # fmt: skip

_COUNTED = frozenset({"reset_after", "cut", "slow", "garbage", "refusal", "date"})
_GATEWAY = frozenset({"status", "html", "busy"})
_PAGE = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr>nginx</body></html>\r\n"
_GARBAGE = b'{"code":200,"data" [{"ts":17900\xff\xfe}]}'


def _usual_status(fault: Fault) -> int:
    return 200 if fault.kind == "refusal" else 502


@attrs.frozen
class Fault:
    """One thing that goes wrong with one request.

    Kinds:
        status: HTTP `status` with a JSON `message`, from a gateway.
        html: HTTP `status` (200: a captive proxy) with a page.
        busy: HTTP 429 with `Retry-After: retry_after`.
        garbage: a body that is no JSON.
        refused: no connection; over sockets it is a `reset`, for a port cannot refuse one request.
        reset: the connection breaks before the service has counted the request.
        reset_after: the connection breaks after that.
        cut: the body ends early.
        slow: the answer comes `seconds` later.
        huge: a body of `size` bytes.
        bomb: a small body that unpacks to `size` bytes.
        refusal: the service counts the request and refuses it, with `code`, `message` and null data in the body;
            the HTTP `status` is 200 unless another is given.
        date: nothing but `date_off`.

    Attributes:
        date_off: seconds that the `Date` header is ahead, with a fault of any kind whose answer has one.

    """

    kind: Kind
    status: int = attrs.field(default=attrs.Factory(_usual_status, takes_self=True))
    retry_after: int = 1
    seconds: float = 5.0
    size: int = 2**31
    code: int = 400
    message: str = "simulated fault"
    date_off: float = 0.0

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(
            self,
            kind=partial(settings.one_of, Kind),
            status=partial(validation.int_in_range, least=100, most=599),
            retry_after=settings.count,
            seconds=validation.number_in_range,
            size=partial(validation.int_in_range, least=0, most=2**40),
            code=settings.whole,
            message=settings.words,
            date_off=settings.seconds,
        )

    @property
    def counted(self) -> bool:
        """Whether the request reaches the service, which counts and answers it."""
        return self.kind in _COUNTED

    @property
    def delay(self) -> float:
        """Seconds by which the answer is late."""
        return self.seconds if self.kind == "slow" else 0.0

    def instead(self) -> Response | None:
        """Return the gateway's answer that takes the place of the service's, or None where the fault is none such."""
        if self.kind not in _GATEWAY:
            return None
        if self.kind == "html":
            return Response(self.status, {"Content-Type": "text/html"}, _PAGE % (self.status, self.status))
        status = 429 if self.kind == "busy" else self.status
        headers = {"Content-Type": "application/json"}
        headers |= {"Retry-After": str(self.retry_after)} if self.kind == "busy" else {}
        return Response(status, headers, json.dumps({"message": self.message}).encode())

    def spoil(self, response: Response) -> Response:
        """Return the service's answer as this fault leaves it."""
        return attrs.evolve(response, body=_GARBAGE) if self.kind == "garbage" else response
