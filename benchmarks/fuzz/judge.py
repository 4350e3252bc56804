"""The promises for every response, and the check of one."""

from __future__ import annotations

import math
import pickle
import signal
import time
import traceback
import tracemalloc
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import attrs
import msgspec

from agora_analytics import AgoraError, AnalyticsClient, DecodeError, Retry
from agora_analytics.protocols import Request, Response
from benchmarks.fuzz.doors import NOW, Door

_SECONDS: Final = 0.05
_SECONDS_A_BYTE: Final = 20e-9
_BYTES: Final = 16 * 2**20
_BYTES_A_BYTE: Final = 64
_LONG: Final = 1_200
"""Most characters of an error: the request, 500 of the service's message, and the hint."""

_SAID: Final = 500
_TRACEBACK: Final = 20_000
_LARGE: Final = 2**16
"""Bytes of a body from which on its memory is measured: for smaller ones that takes longer than reading."""

_PATIENCE: Final = 2.0
"""Seconds after which reading a body is aborted."""

_BEAT: Final = 0.001
_LOOKED_AT: Final = 5_000
"""Values of a result that are checked: the first ones."""

_MODELS: Final = 3
"""Models whose properties are used."""

ERRORS: Final = "only documented errors"
SHORT: Final = "errors are short, of one line, and can be printed and pickled"
VALUES: Final = "values are of their kind: 64 bits, finite, text that can be encoded"
TIME: Final = "no body takes longer than 50 ms and 20 ns a byte"
MEMORY: Final = "no body takes more than 16 MiB and 64 bytes a byte"
PROMISES: Final = (ERRORS, SHORT, VALUES, TIME, MEMORY)


@attrs.frozen
class Broken:
    """A promise that a body broke, and how; `place` is where in the library, which groups equal breaks."""

    promise: str
    what: str
    place: str = ""


@attrs.frozen
class Verdict:
    """The result for a body: a word, the CPU time as a share of what is allowed, and what is broken."""

    outcome: str
    share: float
    broken: Broken | None = None


class Canned:
    """A transport that answers each request with the response that it was given."""

    hosts = 1

    def __init__(self) -> None:
        self.response = Response(200, {}, b"")

    async def send(self, request: Request, host: int = 0) -> Response:  # noqa: ARG002 - as the seam has it
        """Return the response."""
        return self.response

    def scrub(self, body: bytes) -> bytes:
        """Return the body unchanged."""
        return body

    async def close(self) -> None:
        """Do nothing."""


class TooLongError(BaseException):
    """Reading a body takes so long that it is aborted."""


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """Abort reading; between two iterations of the loop, the reading of the next one."""
    while frame is not None:
        if frame.f_code.co_name == "_timed":
            raise TooLongError
        frame = frame.f_back
    signal.setitimer(signal.ITIMER_REAL, _BEAT)


class Judge:
    """Sends requests, and checks what comes of a response; used in one event loop, in the main thread."""

    def __init__(self) -> None:
        signal.signal(signal.SIGALRM, _interrupt)
        self._transport = Canned()
        self._client = self._new()

    def _new(self) -> AnalyticsClient:
        return AnalyticsClient(
            *("customer", "secret"),
            app_id="app",
            plan="enterprise",
            transport=self._transport,
            quotas=False,
            retry=Retry(attempts=1),
            clock=lambda: NOW,
        )

    async def look(self, door: Door, response: Response, *, thorough: bool = False) -> Verdict:
        """Return the verdict on a response; if `thorough`, errors are printed and pickled, and memory is measured."""
        came, seconds = await self._timed(door, response)
        allowed = _SECONDS + _SECONDS_A_BYTE * len(response.body)
        if allowed < seconds < _PATIENCE / 2:  # another program may have slowed it down
            seconds = min(seconds, *[(await self._timed(door, response))[1] for _ in range(2)])
        broken = _broken(came, thorough=thorough)
        if broken is None and seconds > allowed:
            broken = Broken(TIME, f"{seconds * 1e3:,.0f} ms for {len(response.body):,} bytes")
        if broken is None and thorough and len(response.body) >= _LARGE:
            broken = await self._memory(door, response)
        return Verdict(_word(came), seconds / allowed, broken)

    async def _timed(self, door: Door, response: Response) -> tuple[object, float]:
        self._transport.response = response
        begun = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
            came: object = await door.ask(self._client)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is what is looked for
            signal.setitimer(signal.ITIMER_REAL, 0)
            came = error
        seconds = time.process_time() - begun
        if not isinstance(came, DecodeError | list | tuple):
            self._client = self._new()  # a refusal is remembered
        return came, seconds

    async def _memory(self, door: Door, response: Response) -> Broken | None:
        tracemalloc.start()
        try:
            await self._timed(door, response)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        if peak <= _BYTES + _BYTES_A_BYTE * len(response.body):
            return None
        return Broken(MEMORY, f"{peak / 2**20:,.0f} MiB for {len(response.body):,} bytes")


def _word(came: object) -> str:
    return type(came).__name__ if isinstance(came, BaseException) else "answered"


def _broken(came: object, *, thorough: bool) -> Broken | None:
    if not isinstance(came, BaseException):
        return _of_values(came)
    if isinstance(came, TooLongError):
        return Broken(TIME, f"more than {_PATIENCE} s", _place(came))
    if not isinstance(came, AgoraError):
        return Broken(ERRORS, f"{type(came).__name__}: {str(came)[:120]!a}", _place(came))
    wrong = _of_error(came) or (_of_report(came) if thorough else None)
    return Broken(SHORT, wrong, type(came).__name__) if wrong else None


def _of_error(error: AgoraError) -> str | None:
    text = str(error)
    if len(text) > _LONG:
        return f"{len(text):,} characters"
    if strange := _unprintable(text):
        return f"{strange!a} in its text"
    for name, value in vars(error).items():
        if name != "request" and isinstance(value, str) and len(value) > _SAID:
            return f"{len(value):,} characters in its {name}"
    return None


def _of_report(error: AgoraError) -> str | None:
    """Return what is wrong with an error's traceback or pickle."""
    size = sum(map(len, traceback.format_exception(error)))
    if size > _TRACEBACK:
        return f"{size:,} characters in its traceback"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    return None if str(again) == str(error) else "another after pickling"


def _unprintable(text: str) -> str:
    """Return the first character that is not printable."""
    if text.isascii() and text.isprintable():
        return ""
    return next((one for one in text if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"}), "")


def _place(error: BaseException) -> str:
    """Return where in the library an error came out: its last frame there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "agora_analytics" in frame.filename]
    return f"{Path(frames[-1].filename).name}: {frames[-1].name}" if frames else ""


def _of_values(came: object) -> Broken | None:
    models = 0
    for holder, name, value in _values(came):
        if attrs.has(type(value)) and models < _MODELS:
            models += 1
            if broken := _of_comforts(value):
                return broken
        if wrong := _odd(value):
            return Broken(VALUES, f"{wrong} in {holder}.{name}", f"{holder}.{name}")
    return None


def _of_comforts(model: Any) -> Broken | None:
    """Use the properties and methods of a model."""
    comforts = [
        name for kind in type(model).__mro__ for name, found in vars(kind).items() if isinstance(found, property)
    ]
    try:
        for name in comforts:
            getattr(model, name)
        str(model)
        hash(model)
    except Exception as error:  # noqa: BLE001 - none should come out
        return Broken(ERRORS, f"{type(error).__name__} of a model: {str(error)[:120]!a}", _place(error))
    return None


def _odd(value: object) -> str:
    kind = type(value)
    if kind is int and not -(2**63) <= value < 2**64:  # type: ignore[operator]  # it is an int
        return "more than 64 bits"
    if kind is float and not math.isfinite(value):  # type: ignore[arg-type]  # it is a float
        return str(value)
    if kind is str and not value.isascii():  # type: ignore[attr-defined]  # it is a text
        return "a lone surrogate" if _unprintable(value).isprintable() is False and _lone(value) else ""  # type: ignore[arg-type]
    return ""


def _lone(text: str) -> bool:
    return any(unicodedata.category(one) == "Cs" for one in text)


def _values(came: object) -> Iterator[tuple[str, str, object]]:
    """Yield the values of a result that are checked, with the class and the field that hold them."""
    waiting: list[tuple[str, str, object]] = [("", "", came)]
    for _ in range(_LOOKED_AT):
        if not waiting:
            return
        here = waiting.pop()
        yield here
        holder, name, value = here
        if isinstance(value, tuple | list):
            waiting += [(holder, name, one) for one in reversed(value[:_LOOKED_AT])]
        elif attrs.has(type(value)):
            kind = type(value).__name__
            waiting += [(kind, one.name, getattr(value, one.name)) for one in attrs.fields(type(value))]
        elif isinstance(value, msgspec.Struct):
            kind = type(value).__name__
            waiting += [(kind, one, getattr(value, one)) for one in value.__struct_fields__]
