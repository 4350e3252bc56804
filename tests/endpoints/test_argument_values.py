"""Values are sent as the caller means them: numbers of any class, any `Enum`, user IDs as Android shows them."""

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
START, END = NOW - 2 * HOUR, NOW - HOUR
DAY, NOON = NOW - 86_400, NOW - 50_000
CALL = Call(call_id="c1", created_ts=START, destroyed_ts=END, finished=True)


class TextEnum(str, Enum):  # noqa: UP042 - this kind of enum is tested
    """A common kind of `Enum`, whose `str()` is the name of the member."""

    USERS = "userCount"
    NATIVE = "Native"
    OS = "os"
    ANDROID = "Android"
    CALL = "c1"
    PREMIUM = "premium"


class PlainEnum(Enum):
    """An `Enum` whose members are not text themselves."""

    USERS = "userCount"
    SIZE = 20


class RecordingTransport:
    """Returns an empty response to every request, and records the requests."""

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


async def sent_params(invoke):
    """Return the parameters that a method sends, in its query and its body."""
    transport = RecordingTransport()
    result = invoke(
        AnalyticsClient("id", "the-secret", plan=TextEnum.PREMIUM, app_id="app", transport=transport, clock=lambda: NOW)
    )
    if hasattr(result, "__await__"):
        await result
    else:
        async for _ in result:
            pass
    request = transport.requests[0]
    query = {name: values[0] for name, values in parse_qs(request.query).items()}
    return query | (json.loads(request.body) if request.body else {})


@pytest.mark.parametrize(
    ("invoke", "expected"),
    [
        (lambda c: c.insights.usage(TextEnum.USERS, DAY, NOON), {"metric": "userCount"}),
        (lambda c: c.insights.usage(PlainEnum.USERS, DAY, NOON), {"metric": "userCount"}),
        (
            lambda c: c.insights.usage_total(
                TextEnum.USERS, DAY, NOON, dimension=TextEnum.OS, dimension_values=[TextEnum.ANDROID]
            ),
            {"metric": "userCount", "dimension": "os", "dimensionValues": ["Android"]},
        ),
        (
            lambda c: c.insights.usage_total("userCount", DAY, NOON, dimension="os", dimension_values=['a"b', "c,d"]),
            {"dimensionValues": ['a"b', "c,d"]},
        ),
        (
            lambda c: c.realtime.usage(
                TextEnum.USERS,
                NOW - 600,
                NOW - 90,
                product=TextEnum.NATIVE,
                dimension=TextEnum.OS,
                dimension_values=[TextEnum.ANDROID],
            ),
            {"metric": "userCount", "productType": "Native", "dimension": "os", "dimensionValues": '"Android"'},
        ),
        (
            lambda c: c.realtime.usage_top(TextEnum.OS, NOW - 100, product=TextEnum.NATIVE, metric=TextEnum.USERS),
            {"dimension": "os", "productType": "Native", "metric": "userCount"},
        ),
        (lambda c: c.calls.sessions(TextEnum.CALL, START, END), {"call_id": "c1"}),
        (lambda c: c.calls.page(START, END, page_size=PlainEnum.SIZE), {"page_size": "20"}),
        (
            lambda c: c.calls.page(numpy.int64(START), numpy.uint32(END), page_no=numpy.int8(2)),
            {"start_ts": str(START), "end_ts": str(END), "page_no": "2"},
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
async def test_an_argument_is_sent_as_the_caller_means_it(invoke, expected):
    query = await sent_params(invoke)
    assert {name: query[name] for name in expected} == expected


def test_values_are_normalized_when_they_are_created():
    series = Series(TextEnum.USERS, product=TextEnum.NATIVE, dimension=TextEnum.OS, dimension_values=[TextEnum.ANDROID])
    assert series == Series("userCount", product="Native", dimension="os", dimension_values=["Android"])
    assert str(series) == "userCount Native os Android"
    assert Series("x", product="Native", cname="c", uids=[-1]).uids == (4_294_967_295,)
    span = Span(numpy.int64(START), numpy.int32(END))
    assert (span, type(span.start), type(span.end)) == (Span(START, END), int, int)
    assert Selection(START, END, mids=numpy.array([1, 2])).mids == frozenset({1, 2})
    assert Span.of(datetime.fromtimestamp(START, UTC), END) == span


@pytest.mark.parametrize(
    ("invoke", "message"),
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
async def test_an_argument_that_would_change_its_meaning_raises(invoke, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        await sent_params(invoke)
