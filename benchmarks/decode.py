"""Decoding of a response, against typed msgspec on the same classes, orjson + cattrs, and pydantic."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

import attrs
import msgspec
import orjson
import pydantic
from cattrs.preconf.orjson import make_converter

from agora_analytics._core.decoding import codec
from agora_analytics.models import CallPage, MetricsAnswer, Rows, SessionPage, shape
from benchmarks import _answers
from benchmarks._measure import Row, compare, cpu, interleaved

_NOW = 1_795_521_600


@attrs.frozen
class Case:
    """A response: its name, its class, its bytes, and how the library decodes it."""

    name: str
    kind: Any
    body: bytes
    decode: Callable[[bytes], object]


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure every response."""
    for case in cases():
        yield from _compare(case, rounds=7 if quick else 31)


def cases() -> Iterator[Case]:
    """Yield the responses to decode, with values like those that the service sends."""
    random = Random(7)  # noqa: S311 - the same answers at every run
    yield _case("100 calls", CallPage, {"call_lists": [_answers.call(random) for _ in range(100)], **_answers.paging()})
    yield _case(
        "100 sessions", SessionPage, {"call_info": [_answers.session(random) for _ in range(100)], **_answers.paging()}
    )
    metrics = [_answers.metrics(random) for _ in range(20)]
    yield _case("20 x 30 x 1,800 metrics", MetricsAnswer, {"metrics": metrics})
    rows = [
        {"userCount": random.randrange(900), "sdk": f"4.{value}.1", "ts": _NOW + 20 * window}
        for window in range(180)
        for value in range(20)
    ]
    kind = Rows[shape("userCount", "sdk")]  # type: ignore[misc]  # made at run time
    yield _case("180 x 20 windows", kind, {"data": rows}, codec.points_decoder("userCount", "sdk"))


def _compare(case: Case, rounds: int) -> Iterator[Row]:
    wire = _answers.wire_class(case.kind)
    converter, model = make_converter(), _pydantic(wire)
    ways: dict[str, Callable[[], object]] = {
        "ours": partial(case.decode, case.body),
        "typed msgspec": partial(msgspec.json.Decoder(wire).decode, case.body),
        "orjson + cattrs": lambda: converter.structure(orjson.loads(case.body), wire),
        "pydantic": partial(model.model_validate_json, case.body),
    }
    # Short responses are decoded repeatedly, because the clock of CPU time is coarse.
    times = max(1, 400_000 // len(case.body))
    jobs = {name: partial(_timed, way, times) for name, way in ways.items()}
    found = interleaved(jobs, rounds if times > 1 else max(5, rounds // 4))
    what = f"decode {case.name}"
    yield compare(what, found["ours"], "typed msgspec", found["typed msgspec"], target=1.15)
    yield compare(what, found["ours"], "orjson + cattrs", found["orjson + cattrs"], target=4, inverse=True)
    yield compare(what, found["ours"], "pydantic", found["pydantic"], inverse=True)


def _timed(way: Callable[[], object], times: int) -> float:
    def repeat() -> None:
        for _ in range(times):
            way()

    return cpu(repeat) / times


def _case(name: str, kind: Any, document: dict[str, Any], decode: Callable[[bytes], object] | None = None) -> Case:
    body = orjson.dumps({"code": 200, "message": "success", **document})
    return Case(name, kind, body, decode or codec.decoder(kind))


def _pydantic(kind: Any) -> type[pydantic.BaseModel]:
    """Return a pydantic model with the fields of one of our classes."""
    origin = typing.get_origin(kind) or kind
    (row,) = typing.get_args(kind) or (None,)
    hints = typing.get_type_hints(origin)
    fields: dict[str, Any] = {
        field.name: (_translated(hints[field.name], row), ... if field.default is attrs.NOTHING else field.default)
        for field in attrs.fields(origin)
    }
    return pydantic.create_model(origin.__name__, __config__=pydantic.ConfigDict(extra="ignore"), **fields)


def _translated(kind: Any, row: Any) -> Any:
    """Return a type with models in place of our classes."""
    if isinstance(kind, typing.TypeVar):
        return _pydantic(row)
    if attrs.has(kind):
        return _pydantic(kind)
    parts = typing.get_args(kind)
    if not parts:
        return kind
    inner = tuple(part if part in {Ellipsis, type(None)} else _translated(part, row) for part in parts)
    return tuple[inner] if typing.get_origin(kind) is tuple else typing.Union[inner]  # type: ignore[valid-type]  # noqa: UP007
