"""Handmade responses, each the worst of its kind; `%` stands for the rows of an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from benchmarks.fuzz.doors import Door

_MIB: Final = 2**20
_DEEP: Final = (1, 50, *range(100, 850, 50), *range(850, 1_010), 1_100, 5_000, 100_000)
"""Closest near Python's recursion limit: the parser may manage a depth at which quoting the body fails."""


def monsters(door: Door) -> Iterator[tuple[str, int, bytes]]:
    """Yield name, status and body of every monster for one endpoint."""
    for name, make in _WHOLE.items():
        yield name, 200, make()
    for name, rows in _ROWS.items():
        yield name, 200, _answer(door, rows())
    for name, code, message in _refusals():
        yield name, 200, b'{"code":%s,"message":"%s"}' % (code, message)
        yield f"{name}, HTTP 500", 500, b'{"code":%s,"message":"%s"}' % (code, message)
    for depth in _DEEP:
        for name, body in _nested(door, depth):
            yield f"{name} {depth} deep", 200, body
    for status in (204, 301, 400, 429, 500, 503):
        for name, body in (("spaces", b" " * _MIB), ("HTML", b"<html>" + b"<p>" * 99_999), ("nothing", b"")):
            yield f"{name}, HTTP {status}", status, body
        yield f"lists, HTTP {status}", status, b"[" * 100_000


def _answer(door: Door, rows: bytes) -> bytes:
    inside = b'{"list":%s}' % rows if isinstance(door.answer[door.rows], dict) else rows
    return b'{"code":200,"message":"","%s":%s}' % (door.rows.encode(), inside)


def _many(item: bytes, size: int = _MIB) -> bytes:
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


def _refusals() -> Iterator[tuple[str, bytes, bytes]]:
    size = 2**15
    for code in (b"300", b"429", b'"x"', b"9" * 4_000):
        for name, message in (
            ("spaces", b"limit" + b" " * size),
            ("spaces about =", b"qps limit" + b" " * (size // 2) + b"=" + b" " * (size // 2)),
            ("limits", b"limit " * (size // 6)),
            ("digits", b"limit = " + b"1" * size),
            ("controls", b"\\u001b[31m" * (size // 9)),
            ("line ends", b"\\r\\n" * (size // 4)),
            ("surrogates", b"\\ud800" * (size // 6)),
            ("words", b"qps qpm qpd no auth " * (size // 20)),
        ):
            yield f"code {code[:6].decode()}, {name}", code, message


def _nested(door: Door, depth: int) -> Iterator[tuple[str, bytes]]:
    lists, objects = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
    rows = door.answer[door.rows]
    row = (rows["list"] if isinstance(rows, dict) else rows)[0]
    for kind, nest in (("lists", lists), ("objects", objects)):
        yield f"{kind} whole", nest
        yield f"{kind} as rows", _answer(door, nest)
        yield f"{kind} beside", b'{"code":200,"zz":%s,"%s":[]}' % (nest, door.rows.encode())
        yield f"{kind} as code", b'{"code":%s,"message":%s}' % (nest, nest)
        for key in row:
            yield f"{kind} as {key}", _answer(door, b'[{"%s":%s}]' % (key.encode(), nest))


_WHOLE: Final[dict[str, Callable[[], bytes]]] = {
    "nothing": lambda: b"",
    "spaces": lambda: b" " * _MIB,
    "NUL": lambda: b"\0" * _MIB,
    "digits": lambda: b"9" * _MIB,
    "a text": lambda: b'"' + b"x" * _MIB + b'"',
    "backslashes": lambda: b'"' + b"\\" * _MIB,
    "half a text": lambda: b'{"code":200,"message":"' + b"x" * _MIB,
    "byte order mark": lambda: b'\xef\xbb\xbf{"code":200,"data":[]}',
    "UTF-16": lambda: '{"code":200,"data":[]}'.encode("utf-16"),
    "UTF-32": lambda: '{"code":200,"data":[]}'.encode("utf-32"),
    "HTML": lambda: b"<!DOCTYPE html><html>" + b"<br>" * 2**17,
    "XML": lambda: b'<?xml version="1.0"?><Error/>',
    "gzip": lambda: b"\x1f\x8b\x08\x00" + b"\x00" * 999,
    "half the documents": lambda: b"{" * _MIB,
    "two documents": lambda: b'{"code":200,"data":[]}{"code":300}',
    "a thousand codes": lambda: b"{" + b'"code":200,' * 2**15 + b'"code":300}',
    "many keys": lambda: b"{" + b",".join(b'"k%d":0' % at for at in range(2**16)) + b"}",
    "many rows of nothing beside": lambda: b'{"code":"200","z":' + _many(b"{}") + b"}",
    "a request id of a mebibyte": lambda: b'{"code":400,"requestId":"' + b"r" * _MIB + b'","message":"no"}',
    "a request id with a line end": lambda: b'{"code":400,"requestId":"a\\r\\nb\\u001b","message":"no"}',
    "alphabet of controls": lambda: b'{"code":400,"message":"' + b"".join(b"\\u%04x" % at for at in range(32)) + b'"}',
    "true": lambda: b"true",
    "a list": lambda: _many(b"{}"),
    "NaN": lambda: b"NaN",
}
"""Bodies that are the same for every endpoint."""

_FIELDS: Final = (
    *("call_id", "created_ts", "destroyed_ts", "call_pcu", "call_acu", "sid", "uid", "account", "roles", "join_ts"),
    *("finished", "dimension_value", "user_count", "value", "bucket", "ts", "country", "userCount", "audioFreezeRate"),
    *("refUsage", "mid", "peer_uid", "data"),
)
_KEYED: Final = (b'"call_id":"a"', b'"sid":"a"', b'"bucket":"[1%,2%)"', b'"ts":1', b'"dimension_value":"a"')


def _with(value: bytes) -> bytes:
    """Return rows that have a value in each field in turn, with as few other fields as possible."""
    always = b",".join(_KEYED)
    return b"[" + b",".join(b"{%s,%s}" % (always, b'"%s":%s' % (name.encode(), value)) for name in _FIELDS) + b"]"


def _every(value: bytes) -> Callable[[], bytes]:
    return lambda: _with(value)


_ROWS: Final[dict[str, Callable[[], bytes]]] = {
    "{} for a mebibyte": lambda: _many(b"{}"),
    "[] for a mebibyte": lambda: _many(b"[]"),
    "null for a mebibyte": lambda: _many(b"null"),
    "0 for a mebibyte": lambda: _many(b"0"),
    '"" for a mebibyte': lambda: _many(b'""'),
    "rows with a key alone": lambda: _many(b"{%s}" % b",".join(_KEYED)),
    "rows with numbers as text": lambda: _many(b'{%s,"userCount":"7","uid":"8","call_pcu":"1"}' % b",".join(_KEYED)),
    "rows with one bad spot": lambda: _many(b'{%s,"uid":"\\ud83d"}' % b",".join(_KEYED)),
    "tracks of nothing": lambda: b'[{"sid":"a","data":' + _many(b"{}") + b"}]",
    "points of nothing": lambda: b'[{"sid":"a","data":[{"mid":1,"kvs":' + _many(b"[]") + b"}]}]",
    "points as text": lambda: b'[{"sid":"a","data":[{"mid":1,"kvs":' + _many(b'["1","2"]') + b"}]}]",
    "points of one": lambda: b'[{"sid":"a","data":[{"mid":1,"kvs":[[1]]}]}]',
    "points of three": lambda: b'[{"sid":"a","data":[{"mid":1,"kvs":[[1,2,3]]}]}]',
    "points in an object": lambda: b'[{"sid":"a","data":[{"mid":1,"kvs":{"1":2}}]}]',
    "a bucket of digits": lambda: b'[{"bucket":"[' + b"1" * 2**15 + b'"}]',
    "a bucket of spaces": lambda: b'[{"bucket":"[' + b" " * 2**15 + b'"}]',
    "a bucket of points": lambda: b'[{"bucket":"[' + b"1." * 2**14 + b'"}]',
    "buckets of digits": lambda: b"[" + b",".join([b'{"bucket":"[' + b"1" * 999 + b'"}'] * 999) + b"]",
    "a text of a mebibyte": lambda: _with(b'"' + b"x" * 2**16 + b'"'),
    "digits as text": lambda: _with(b'"' + b"1" * 2**15 + b'"'),
    "spaces as text": lambda: _with(b'"' + b" " * 2**15 + b'"'),
    "signs as text": lambda: _with(b'"' + b"-" * 2**15 + b'"'),
    "digits and points as text": lambda: _with(b'"' + b"1." * 2**14 + b'"'),
    "lone surrogates": _every(b'"\\ud800"'),
    "NUL in text": _every(b'"a\\u0000b"'),
    "5,000 digits": _every(b"9" * 5_000),
    "-5,000 digits": _every(b"-" + b"9" * 5_000),
    "a fraction of 5,000 digits": _every(b"0." + b"9" * 5_000),
    "2**63": _every(b"9223372036854775808"),
    "2**64": _every(b"18446744073709551616"),
    "-2**63 - 1": _every(b"-9223372036854775809"),
    "2**70": _every(b"1180591620717411303424"),
    "2**70 as text": _every(b'"1180591620717411303424"'),
    "1e30": _every(b"1e30"),
    "1e308": _every(b"1e308"),
    "1e999": _every(b"1e999"),
    "-1e999": _every(b"-1e999"),
    "1e999 as text": _every(b'"1e999"'),
    "nan as text": _every(b'"nan"'),
    "NaN as it stands": _every(b"NaN"),
    "inf as text": _every(b'"inf"'),
    "1_0 as text": _every(b'"1_0"'),
    "Arabic digits": _every('"٣"'.encode()),
    "superscript": _every('"²"'.encode()),
    "a year": _every(b'"2026-11-28"'),
    "true": _every(b"true"),
    "an object": _every(b"{}"),
    "a list": _every(b"[[[]]]"),
    "year 9999": _every(b"253402300799"),
    "year 10000": _every(b"253402300800"),
    "year 0": _every(b"-62135596801"),
    "-1": _every(b"-1"),
}
"""Bodies in place of the rows."""
