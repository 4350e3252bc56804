"""What is sent is what the caller means: numbers of any class, texts of any `Enum`, users as Android shows them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import formatdate
from enum import Enum
from urllib.parse import parse_qs

import pytest

from agora_analytics import AnalyticsClient, Call, Selection, Series, Span
from agora_analytics.protocols import Response

pytestmark = pytest.mark.real_time

numpy = pytest.importorskip("numpy")

NOW = 1_795_521_600
HOUR = 3_600
A, B = NOW - 2 * HOUR, NOW - HOUR
DAY, NOON = NOW - 86_400, NOW - 50_000
CALL = Call(call_id="c1", created_ts=A, destroyed_ts=B, finished=True)


class Text(str, Enum):  # noqa: UP042 - which is what it is about
    """An `Enum` as many have it, whose `str()` is the member's name."""

    USERS = "userCount"
    NATIVE = "Native"
    OS = "os"
    ANDROID = "Android"
    CALL = "c1"
    PREMIUM = "premium"


class Plain(Enum):
    """An `Enum` of values that are no texts by themselves."""

    USERS = "userCount"
    SIZE = 20


class Recording:
    """Answers everything with nothing, and keeps what was asked."""

    hosts = 1

    def __init__(self):
        self.requests = []

    def scrub(self, body):
        return body

    async def send(self, request, host=0):
        self.requests.append(request)
        body = b'{"code":200,"data":[],"call_lists":[],"call_info":[],"metrics":[]}'
        return Response(200, {"Date": formatdate(NOW, usegmt=True)}, body)

    async def close(self):
        pass


async def sent(ask):
    """What a method sends: the query's parameters, and the body's."""
    wire = Recording()
    result = ask(
        AnalyticsClient("id", "the-secret", plan=Text.PREMIUM, app_id="app", transport=wire, clock=lambda: NOW)
    )
    if hasattr(result, "__await__"):
        await result
    else:
        async for _ in result:
            pass
    request = wire.requests[0]
    query = {name: values[0] for name, values in parse_qs(request.query).items()}
    return query | (json.loads(request.body) if request.body else {})


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda c: c.insights.usage(Text.USERS, DAY, NOON), {"metric": "userCount"}),
        (lambda c: c.insights.usage(Plain.USERS, DAY, NOON), {"metric": "userCount"}),
        (
            lambda c: c.insights.usage_total(Text.USERS, DAY, NOON, dimension=Text.OS, dimension_values=[Text.ANDROID]),
            {"metric": "userCount", "dimension": "os", "dimensionValues": ["Android"]},
        ),
        (
            lambda c: c.insights.usage_total("userCount", DAY, NOON, dimension="os", dimension_values=['a"b', "c,d"]),
            {"dimensionValues": ['a"b', "c,d"]},
        ),
        (
            lambda c: c.realtime.usage(
                Text.USERS,
                NOW - 600,
                NOW - 90,
                product=Text.NATIVE,
                dimension=Text.OS,
                dimension_values=[Text.ANDROID],
            ),
            {"metric": "userCount", "productType": "Native", "dimension": "os", "dimensionValues": '"Android"'},
        ),
        (
            lambda c: c.realtime.usage_top(Text.OS, NOW - 100, product=Text.NATIVE, metric=Text.USERS),
            {"dimension": "os", "productType": "Native", "metric": "userCount"},
        ),
        (lambda c: c.calls.sessions(Text.CALL, A, B), {"call_id": "c1"}),
        (lambda c: c.calls.page(A, B, page_size=Plain.SIZE), {"page_size": "20"}),
        (
            lambda c: c.calls.page(numpy.int64(A), numpy.uint32(B), page_no=numpy.int8(2)),
            {"start_ts": str(A), "end_ts": str(B), "page_no": "2"},
        ),
        (
            lambda c: c.calls.sessions_page(CALL, uids=numpy.array([-1_085_958_910, 7], dtype="int32")),
            {"uids": "3209008386,7"},
        ),
        (
            lambda c: c.calls.sessions(CALL, uids=[-1_085_958_910, 3_209_008_386, "-1085958910", "7", 7, "-x"]),
            {"uids": "3209008386,7,-x"},
        ),
        (
            lambda c: c.calls.sessions(CALL, uids=["-2147483648", "-2147483649"]),
            {"uids": "2147483648,-2147483649"},
        ),
        (lambda c: c.calls.sessions(CALL, uids=[-(2**31), -1]), {"uids": "2147483648,4294967295"}),
        (lambda c: c.calls.sessions(CALL, exclude_server_user=False), {"exclude_server_user": "false"}),
    ],
)
async def test_an_argument_is_sent_as_it_is_meant(ask, expected):
    query = await sent(ask)
    assert {name: query[name] for name in expected} == expected


def test_values_keep_what_is_sent():
    series = Series(Text.USERS, product=Text.NATIVE, dimension=Text.OS, dimension_values=[Text.ANDROID])
    assert series == Series("userCount", product="Native", dimension="os", dimension_values=["Android"])
    assert str(series) == "userCount Native os Android"
    assert Series("x", product="Native", cname="c", uids=[-1]).uids == (4_294_967_295,)
    span = Span(numpy.int64(A), numpy.int32(B))
    assert (span, type(span.start), type(span.end)) == (Span(A, B), int, int)
    assert Selection(A, B, mids=numpy.array([1, 2])).mids == frozenset({1, 2})
    assert Span.of(datetime.fromtimestamp(A, UTC), B) == span


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda c: c.insights.quality_total("x", DAY, NOON, dimension="country", dimension_values="China"),
            "dimension_values='China': allowed is a list of str, not one",
        ),
        (lambda c: c.calls.metrics(CALL, ["a,b"]), "sids: 'a,b' contains a comma"),
        (lambda c: c.calls.sessions(CALL, uids=[7.0]), r"uids\[0\]=7\.0: allowed is a user ID"),
        (
            lambda c: c.insights.usage("x", DAY, NOON, granularity="0h"),
            "granularity='0h': allowed are buckets of at least 1h",
        ),
        (
            lambda c: c.insights.usage_total("x", DAY, NOON, dimension="region", filters=[{"name": "country"}]),
            r"filters\[0\]=\{'name': 'country'\}: allowed is a Filter",
        ),
    ],
)
async def test_what_would_be_sent_as_something_else_is_refused(ask, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        await sent(ask)
