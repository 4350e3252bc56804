"""The protocol of the service: how requests are encoded, and which error each error response becomes."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics._core import wire
from agora_analytics._core.decoding import codec
from agora_analytics.errors import (
    BadRequest,
    NotFound,
    PlanRefused,
    RateLimited,
    ResponseError,
    ServerError,
    Unauthorized,
)
from agora_analytics.models import Answer
from agora_analytics.plans import CALL_LISTS, INSIGHT_USAGE_TOTAL
from agora_analytics.protocols import Request, Response

REQUEST = Request(CALL_LISTS, "appid=app&start_ts=1&cname=a%20b")
DATE = "Tue, 24 Nov 2026 12:00:00 GMT"

# Text that UTF-8 can encode, and so a query.
valid_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


# Requests.


@given(st.dictionaries(valid_text, valid_text | st.integers()), valid_text)
def test_every_parameter_survives_query_encoding(params, app_id):
    request = wire.build_request(
        CALL_LISTS, app_id, {"appid": None} | {k: v for k, v in params.items() if k != "appid"}
    )
    assert request.query.isascii()
    assert dict(parse_qsl(request.query, keep_blank_values=True)) == {"appid": app_id} | {
        name: str(value) for name, value in params.items() if name != "appid"
    }
    assert request.body is None


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, "appid=a"),
        ({"start_ts": 1, "cname": None, "page_no": 0}, "appid=a&start_ts=1&page_no=0"),
        ({"exclude_server_user": True, "x": False}, "appid=a&exclude_server_user=true&x=false"),
        ({"cname": "a b+c&d=e/f"}, "appid=a&cname=a%20b%2Bc%26d%3De%2Ff"),
        ({"cname": "频道"}, "appid=a&cname=%E9%A2%91%E9%81%93"),
        ({"sids": wire.comma_separated(["s1", "s2"])}, "appid=a&sids=s1%2Cs2"),
        ({"uids": wire.comma_separated([1, "two"])}, "appid=a&uids=1%2Ctwo"),
        ({"uids": wire.comma_separated([])}, "appid=a"),
        ({"dimensionValues": wire.quoted_list(["3.6", "4,1"])}, "appid=a&dimensionValues=%223.6%22%2C%224%2C1%22"),
        ({"dimensionValues": wire.quoted_list([])}, "appid=a"),
    ],
)
def test_a_query_is_encoded_as_the_service_expects(params, query):
    assert wire.build_request(CALL_LISTS, "a", params).query == query


def test_a_json_body_omits_none_and_the_app_id_stays_in_the_query():
    body = {"startTs": 1, "dimension": None, "dimensionValues": ("a", "b"), "filters": [{"name": "x", "value": "y"}]}
    request = wire.build_request(INSIGHT_USAGE_TOTAL, "a", {}, body)
    assert request.query == "appid=a"
    assert json.loads(request.body) == {
        "startTs": 1,
        "dimensionValues": ["a", "b"],
        "filters": [{"name": "x", "value": "y"}],
    }


@given(valid_text.filter(lambda text: len(text) > 8))
def test_the_text_of_a_request_omits_the_app_id(app_id):
    request = wire.build_request(CALL_LISTS, app_id, {"start_ts": 1})
    assert str(request) == "GET /beta/analytics/call/lists start_ts=1"


def test_the_text_of_a_request_includes_its_body():
    assert str(wire.build_request(INSIGHT_USAGE_TOTAL, "a", {}, {"metric": "m"})) == (
        'POST /beta/insight/usage/aggregation {"metric":"m"}'
    )


# Error responses.


def make_response(status: int = 200, code: object = None, message: object = "", **headers: str) -> Response:
    body = {"message": message} if code is None else {"code": code, "message": message, "requestId": "r-1"}
    return Response(status, headers, json.dumps(body).encode())


def error_of(response: Response) -> ResponseError | None:
    """The error that a response becomes: by its status first, then by its code."""
    try:
        wire.raise_for_status(REQUEST, response)
        wire.raise_for_code(REQUEST, response, wire.read_envelope(response.body))
    except ResponseError as error:
        return error
    return None


@pytest.mark.parametrize("status", [200, 201, 204, 299])
@pytest.mark.parametrize("code", [None, 0, 200, "0", "200", 200.0, "success"])
@pytest.mark.parametrize("message", ["", "success", None, "null", "Success request: /beta/x", "qps limit error", 7])
def test_a_successful_response_raises_nothing_whatever_its_message(status, code, message):
    assert error_of(make_response(status, code, message)) is None


SERVICE = "Service package limit check error, "
ACCESS = "you have no auth to access this service, please buy or upgrade your service package"

# Status, code, message; the error and its attributes.
ERROR_RESPONSES = [
    (200, 300, "qps limit error", RateLimited, {"unit": "second", "limit": None}),
    (200, 300, SERVICE + "qps limit error", RateLimited, {"unit": "second", "limit": None}),
    (200, 300, SERVICE + "QPS Limit = 10", RateLimited, {"unit": "second", "limit": 10}),
    (200, 300, "qps limit error: 3", RateLimited, {"unit": "second", "limit": 3}),
    (200, 300, "qpm limit error", RateLimited, {"unit": "minute", "limit": None}),
    (200, 300, "qpm limit=3, current qpm=4", RateLimited, {"unit": "minute", "limit": 3}),
    (200, 300, "qpd limit error", RateLimited, {"unit": "day", "limit": None}),
    (200, 300, "If qpd limit = 10000, ensure that current qpd < 10000", RateLimited, {"unit": "day", "limit": 10_000}),
    (200, 400, "qps limit error", RateLimited, {"unit": "second"}),
    (200, 500, "qpd limit error", RateLimited, {"unit": "day"}),
    (429, None, "qpd limit error", RateLimited, {"unit": "day"}),
    (429, None, "API rate limit exceeded", RateLimited, {"unit": "second", "limit": None}),
    (200, 429, "", RateLimited, {"unit": "second", "limit": None}),
    (200, 300, "query latency limit error", PlanRefused, {"kind": "latency", "limit": None}),
    (
        200,
        300,
        "query latency limit = 10s and current time = 1623316864",
        PlanRefused,
        {"kind": "latency", "limit": 10},
    ),
    (200, 300, "query time range limit error", PlanRefused, {"kind": "range", "limit": None}),
    (200, 300, "query time range limit = 3d", PlanRefused, {"kind": "range", "limit": 259_200}),
    (200, 300, "query time length limit error", PlanRefused, {"kind": "length", "limit": None}),
    (200, 300, "query time length limit = 3h, ensure that", PlanRefused, {"kind": "length", "limit": 10_800}),
    (200, 300, "query duration limit = 40m", PlanRefused, {"kind": "length", "limit": 2_400}),
    (200, 300, ACCESS, PlanRefused, {"kind": "access", "limit": None}),
    (403, None, ACCESS, PlanRefused, {"kind": "access"}),
    (200, 300, "something else", PlanRefused, {"kind": "unknown", "limit": None}),
    (200, 400, "Invalid parameters.", BadRequest, {"code": 400}),
    (400, None, "bad", BadRequest, {"code": None, "status": 400}),
    (401, None, "Invalid authentication credentials", Unauthorized, {"status": 401}),
    (401, None, "no auth, qps limit", Unauthorized, {"status": 401}),
    (200, 401, "Unauthorized", Unauthorized, {"status": 200, "code": 401}),
    (200, 403, "no authentication given", Unauthorized, {}),
    (403, None, "Forbidden", Unauthorized, {}),
    (404, None, "no Route matched with those values", NotFound, {}),
    (200, 404, "Wrong API", NotFound, {}),
    (200, 500, "Unknown Error", ServerError, {"status": 200, "code": 500}),
    (500, None, "An invalid response was received from the upstream server", ServerError, {"status": 500}),
    (502, None, "bad gateway", ServerError, {}),
    (599, None, "", ServerError, {}),
    (200, 1, "", ResponseError, {"code": 1}),
    (200, -1, "", ResponseError, {"code": -1}),
    (200, "300", "qps limit error", RateLimited, {"code": 300}),
    (302, None, "", ResponseError, {}),
    (418, None, "teapot", ResponseError, {}),
    (600, None, "", ResponseError, {}),
]


@pytest.mark.parametrize(("status", "code", "message", "kind", "details"), ERROR_RESPONSES)
def test_each_error_response_raises_its_own_error(status, code, message, kind, details):
    error = error_of(make_response(status, code, message))
    assert type(error) is kind
    assert {name: getattr(error, name) for name in details} == details
    assert error.retryable is (kind is ServerError)
    assert error.request == "GET /beta/analytics/call/lists start_ts=1&cname=a b"
    assert error.hint
    assert message[:200] in str(error)


def test_the_text_of_an_error_has_request_response_fault_and_hint():
    error = error_of(make_response(200, 300, "qps limit = 3"))
    assert str(error) == (
        "GET /beta/analytics/call/lists start_ts=1&cname=a b: HTTP 200, code 300: qps limit = 3 (request id r-1)"
        " [fault: plan] Other programs may use the same account: wait for the next second, minute or UTC day."
    )
    assert (error.request_id, error.message) == ("r-1", "qps limit = 3")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no message"),
        (b"<html>\n <h1>502   Bad Gateway</h1>", "<html> <h1>502 Bad Gateway</h1>"),
        (b'["x"]', '["x"]'),
        (b'{"message": null}', '{"message": null}'),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'{"message": "' + b"m" * 5_000 + b'"}', "m" * 499 + "\u2026"),
    ],
)
def test_the_body_of_a_gateway_error_is_quoted_whatever_it_is(body, message):
    error = error_of(Response(502, {}, body))
    assert type(error) is ServerError
    assert str(error).startswith(f"{REQUEST}: HTTP 502: {message} [fault: service]")


def test_the_request_id_comes_from_the_body_or_else_from_the_headers():
    assert error_of(make_response(500, None, "", **{"x-request-ID": "h-1"})).request_id == "h-1"
    assert error_of(make_response(200, 500, "", **{"X-Request-ID": "h-1"})).request_id == "r-1"
    assert wire.request_id(Response(200, {}, b""), Answer()) is None


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Fri, 01 Jan 2100 00:00:00 GMT", None),
        ("Thu, 31 Dec 2099 23:59:59 GMT", 4_102_444_799),
        ("Sun, 09 Sep 2001 01:46:40 GMT", 1_000_000_000),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 GMT", None),
    ],
)
def test_an_impossible_date_header_is_ignored(text, second):
    assert wire.server_date(Response(200, {"Date": text}, b"")) == second


@pytest.mark.parametrize("zone", ["+9999", "-9999", "+99999999999999999999", "+2300"])
@pytest.mark.parametrize("day", ["Mon, 01 Jan 2024", "Mon, 01 Jan 0001", "Fri, 31 Dec 9999"])
def test_a_date_header_of_any_time_zone_is_parsed_or_ignored(day, zone):
    text = f"{day} 00:00:00 {zone}"
    second = wire.server_date(Response(200, {"Date": text}, b""))
    assert second is None or isinstance(second, int)
    for date, after in ((text, DATE), (DATE, text), (text, text)):
        seconds_to_wait = error_of(make_response(503, None, "", **{"Date": date, "Retry-After": after})).retry_after
        assert seconds_to_wait is None or 0 <= seconds_to_wait <= 86_400


@pytest.mark.parametrize(
    "message",
    [
        "limit" + " " * 32_000,
        "query latency limit" * 2_000,
        "limit = " + "1" * 50_000,
        "no auth" + "h" * 50_000,
        "x\n\x1b[31m\u202e",
    ],
)
def test_a_long_error_message_is_parsed_and_quoted_within_limits(message):
    error = error_of(make_response(200, 300, message))
    assert len(error.message) <= 500
    assert len(str(error)) < 900
    assert str(error).isprintable()
    assert error.limit is None


def test_a_long_request_id_or_redirect_is_quoted_within_limits():
    error = error_of(Response(502, {"X-Request-ID": "a\nFORGED " + "r" * 10**6, "Location": "\x1b" + "l" * 10**6}, b""))
    assert str(error).isprintable()
    assert len(str(error)) < 700
    assert len(error.request_id) == 100


def test_a_redirect_is_quoted_in_the_error():
    assert "redirect to 'https://x' not followed" in str(error_of(make_response(302, None, "", location="https://x")))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "99999999"}, 86_400.0),
        ({"Retry-After": "9" * 5_000}, 86_400.0),
        ({"Retry-After": "Tue, 24 Nov 2099 12:01:30 GMT", "Date": DATE}, 86_400.0),
        ({"Retry-After": "Tue, 24 Nov 99999 12:01:30 GMT", "Date": DATE}, None),
        ({"Retry-After": "Tue, 24 Nov 2026 12:01:30 GMT", "Date": DATE}, 90.0),
        ({"Retry-After": "Tue, 24 Nov 2026 11:00:00 GMT", "date": DATE}, 0.0),
        ({"Retry-After": "Tue, 24 Nov 2026 12:01:30 GMT"}, None),
        ({"Retry-After": "Tue, 24 Nov 2026 12:01:30 GMT", "Date": "today"}, None),
        ({"Retry-After": "Tue, 24 Nov 2026 12:01:30 -0000", "Date": DATE}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_relative_to_the_date_header(headers, seconds):
    assert error_of(make_response(503, None, "", **headers)).retry_after == seconds


@given(st.text(st.characters(max_codepoint=255), min_size=1), st.sampled_from([DATE, "", "x"]))
def test_no_header_breaks_error_handling(value, date):
    error = error_of(make_response(503, None, "", **{"Retry-After": value, "Date": date, "X-Request-ID": value}))
    assert error.retry_after is None or error.retry_after >= 0


@given(st.integers(0, 999), st.binary() | st.text().map(lambda text: json.dumps({"code": text}).encode()))
def test_any_response_raises_its_error_or_is_accepted(status, body):
    error = error_of(Response(status, {}, body))
    assert error is not None or 200 <= status < 300
    assert isinstance(wire.read_envelope(body), Answer)


@pytest.mark.parametrize(
    ("document", "envelope"),
    [
        ({"code": "300", "message": "x", "requestId": "y"}, Answer(code=300, message="x", request_id="y")),
        ({"code": 0.0, "message": 3, "requestId": 4}, Answer(code=0)),
        ({"code": True}, Answer()),
        ({"code": 1.5}, Answer()),
        ({"code": "9" * 30}, Answer()),
        ([], Answer()),
        (None, Answer()),
    ],
)
def test_invalid_members_of_an_envelope_are_ignored(document, envelope):
    assert codec.envelope(document) == envelope
