"""Mutated responses: in their structure, by replacing parts of the document, or in their bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any, Final

import msgspec

from agora_analytics.protocols import Response
from benchmarks.fuzz.doors import DOORS, Door

_RAW: Final = "\x00raw"
_TOKENS: Final = (
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "1e308",
        "5e-324",
        "-0",
        "-0.0",
        "1.0",
        "00",
        "01",
        "+1",
        ".5",
    ),
    *("1.", "0x10", "1_0", "9" * 19, "9" * 40, "-" + "9" * 4_400, "9" * 5_000, "0." + "3" * 5_000, "1e" + "9" * 400),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "2.5", "1e3"),
    *("nul", "tru", "undefined", "'a'", '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"a\nb"', '"\\u12"'),
    *("[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300, "[[[[[", "{}{}", "/**/1", "[1,]", '{"a":1,}', "{,}"),
)
"""Values that JSON's types cannot express, written as they stand."""

_VALUES: Final = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**31), 2**32 - 1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30),
    *(0.1, -0.5, 2.5, 1e300, 1e-300, 1_795_521_600, 1_795_521_600_000, "", " ", "0", "1", "-1", "2.5", "1_0", "1e5"),
    *(
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "1e999",
        "null",
        "true",
        "false",
        "TRUE",
        "٣",
        "²",
        "\uff11",
        "Ⅷ",
        "--1",
        "0x1",
    ),
    *("\ud800", "a\udc00b", "\x00", "\x1b[31m", "\u2028", "\u202e", "\ufeff", "é", "😀", "\r\nSet-Cookie: a", "%s{}"),
    *("qps limit = 10", "qpd limit error = 0", "no auth", "query latency limit = 20s", "limit" * 40, "9" * 400),
    *("[3%,5%)", "[", "[" + "1" * 400, "<html>", " " * 3_000, "x" * 3_000, [], {}, [[]], [{}], {"a": []}, [None]),
    *([1], [1, 2], [1, 2, 3], ["1", "2"], {"list": []}, {"list": None}, {"ts": 1}, [0] * 50, ["a"] * 50),
)
_CODES: Final = (None, 0, 200, "200", 200.0, "0", 300, 400, 401, 403, 404, 429, 500, 503, 999, -1, 2**70, "x", True, [])
_MESSAGES: Final = (
    *(None, "", "null", "success", 0, [], "Service package limit check error, qps limit error", "qps limit = 10"),
    *("qpm limit = 3", "qpd limit = 9999999999999", "no auth", "query time range limit = 3d", "x" * 32_000),
    *("limit" + " " * 32_000, "qps limit" + " " * 16_000 + "=" + " " * 16_000, "limit = " + "1" * 32_000),
)
_BITS: Final = (
    *(b"\xef\xbb\xbf", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b'"', b"\\", b"\\u", b"\\ud800", b"{", b"}", b"["),
    *(b"]", b",", b":", b" ", b"\t", b"\n", b"\r", b"-", b".", b"e", b"e999", b"0", b"9" * 30, b"null", b"NaN", b"//"),
    *(b"<html>", b"\xe2\x80\xa8", b'"":0,', b"[[[[", b"{}," * 9, b'"code":300,', b'"message":"qps limit",'),
)
# Mostly 200, since a client does not read the body of most others.
_STATUSES: Final = (200,) * 30 + (201, 204, 206, 302, 400, 401, 403, 404, 429, 500, 502, 503)
_DATES: Final = (
    *("Sat, 28 Nov 2026 01:33:02 GMT", "Sat, 28 Nov 2026 01:33:02 +9999", "Sat, 28 Nov 2026 01:33:02 -0000", "x", ""),
    *("Sat, 28 Nov 0001 01:33:02 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", "28 Nov 26 1:1", "9" * 5_000, "٣", "²"),
    *("Sat, 28 Nov 2026 25:61:61 GMT", "Sat, 28 Nov 2026 01:33:02 EST", "Sat, 00 Nov 2026 01:33:02 GMT", ", " * 999),
)
_HEADERS: Final[tuple[dict[str, str], ...]] = (
    *({},) * len(_DATES) * 4,
    *({"date": date} for date in _DATES),
    *({"Date": _DATES[0], "Retry-After": date} for date in _DATES),
    *({"Date": date, "retry-after": _DATES[0]} for date in _DATES),
    *({"X-Request-ID": text} for text in ("r" * 9_000, "a\x1b[31m", "\ud800", "a\r\nb")),
)

Place = tuple[Any, Any]
"""A list or an object, and the index or key of one of its parts."""


def mutated(random: Random) -> tuple[Door, Response]:
    """Return an endpoint and a response: two thirds wrong in structure, one third in bytes, a few in both."""
    door = random.choice(DOORS)
    document = json.loads(_seeds[door.name])
    how = random.random()
    if how < 0.7:  # noqa: PLR2004 - about two thirds
        for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
            document = _changed(random, document, door)
    body = _written(random, document)
    if how > 0.65:  # noqa: PLR2004 - and a few in both
        for _ in range(random.choice((1, 1, 1, 2, 4, 12))):
            body = random.choice(_BY_BYTES)(random, body)
    return door, Response(random.choice(_STATUSES), random.choice(_HEADERS), body)


def _changed(random: Random, document: Any, door: Door) -> Any:
    if not isinstance(document, dict) or not document or random.random() < 0.01:  # noqa: PLR2004 - seldom
        return _value(random)
    chance = random.random()
    if chance < 0.06:  # noqa: PLR2004 - each of these is one kind of answer in twenty
        return {**document, "code": random.choice(_CODES), "message": random.choice(_MESSAGES)}
    if chance < 0.064:  # noqa: PLR2004 - and large ones are slow to make
        return _large(random, document, door)
    holder, key = random.choice(_places(document))
    random.choice(_BY_STRUCTURE)(random, holder, key)
    return document


def _large(random: Random, document: dict[str, Any], door: Door) -> dict[str, Any]:
    """Repeat the rows until there are up to a megabyte of them, one of which may be wrong."""
    rows = document.get(door.rows)
    found = rows.get("list") if isinstance(rows, dict) else rows
    if not isinstance(found, list) or not found:
        return document
    size = len(json.dumps(found))
    found *= max(1, 2 ** random.randrange(12, 20) // (size + 1))
    if random.random() < 0.5:  # noqa: PLR2004 - one of two
        found[random.randrange(len(found))] = _value(random)
    return document


def _places(document: Any) -> list[Place]:
    found: list[Place] = []
    waiting = [document]
    while waiting:
        here = waiting.pop()
        parts = here.items() if isinstance(here, dict) else enumerate(here)
        for key, part in parts:
            found.append((here, key))
            if isinstance(part, dict | list):
                waiting.append(part)
    return found


def _replace(random: Random, holder: Any, key: Any) -> None:
    holder[key] = _value(random)


def _value(random: Random) -> Any:
    return deepcopy(random.choice(_VALUES))


def _raw(random: Random, holder: Any, key: Any) -> None:
    holder[key] = f"{_RAW}{random.randrange(len(_TOKENS))}"


def _remove(_: Random, holder: Any, key: Any) -> None:
    del holder[key]


def _as_text(_: Random, holder: Any, key: Any) -> None:
    value = holder[key]
    holder[key] = value if isinstance(value, str) else json.dumps(value)


def _wrap(random: Random, holder: Any, key: Any) -> None:
    for _ in range(random.choice((1, 1, 2, 40, 200))):
        holder[key] = [holder[key]] if random.random() < 0.5 else {"a": holder[key]}  # noqa: PLR2004 - one of two


def _repeat(random: Random, holder: Any, key: Any) -> None:
    holder[key] = [holder[key]] * random.choice((2, 3, 30))


def _rename(random: Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        value = holder.pop(key)
        holder[random.choice((key.upper(), f" {key}", "", "ts", "uid", "code", "x" * 500, "\ud800", "a\x00"))] = value


def _add(random: Random, holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.insert(key, _value(random))
    else:
        holder[random.choice(("code", "message", "requestId", "data", "ts", "uid", "zz"))] = _value(random)


_BY_STRUCTURE: Final[tuple[Callable[[Random, Any, Any], None], ...]] = (
    *(_replace, _replace, _replace, _raw, _raw, _remove, _as_text, _wrap, _repeat, _rename, _add),
)


def _written(random: Random, document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=random.random() < 0.8)  # noqa: PLR2004 - most escape
    if "\\u0000raw" in text:
        for number, token in enumerate(_TOKENS):
            text = text.replace(f'"\\u0000raw{number}"', token)
    return text.encode(errors="surrogatepass")


def _flip(random: Random, body: bytes) -> bytes:
    at = random.randrange(len(body) or 1)
    return body[:at] + bytes((random.randrange(256),)) + body[at + 1 :]


def _insert(random: Random, body: bytes) -> bytes:
    at = random.choice((0, len(body), random.randrange(len(body) + 1)))
    return body[:at] + random.choice(_BITS) + body[at:]


def _cut(random: Random, body: bytes) -> bytes:
    return body[: random.randrange(len(body) + 1)]


def _drop(random: Random, body: bytes) -> bytes:
    at = random.randrange(len(body) + 1)
    return body[:at] + body[at + random.choice((1, 1, 2, 8, 40)) :]


def _double(random: Random, body: bytes) -> bytes:
    at, size = random.randrange(len(body) + 1), random.choice((1, 4, 30, 200))
    return body[:at] + body[at : at + size] * random.choice((2, 3, 9)) + body[at + size :]


def _splice(random: Random, body: bytes) -> bytes:
    other = _seeds[random.choice(DOORS).name]
    return body[: random.randrange(len(body) + 1)] + other[random.randrange(len(other)) :]


_BY_BYTES: Final[tuple[Callable[[Random, bytes], bytes], ...]] = (_flip, _flip, _insert, _cut, _drop, _double, _splice)
_seeds: Final = {door.name: msgspec.json.encode(door.answer) for door in DOORS}
