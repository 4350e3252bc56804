"""Every HTTP request of the reference, built by the client, and every parameter of every endpoint."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from helpers.recording import Recorder, body, make_client, query, run

from agora_analytics import Filter, catalogue
from agora_analytics.plans import ENDPOINTS

pytestmark = pytest.mark.real_time

APP, CALL, SIDS = (
    "axxxxxxxxxxxxxxxxxxxx",
    "cxxxxxxxxxxxxxxxxxxxx",
    ["sxxxxxxxxxxxxxxxx1", "sxxxxxxxxxxxxxxxx2", "sxxxxxxxxxxxxxxxx3"],
)
JULY = (1625097600, 1625184000)
CHINA = [Filter("country", "China")]
VERSIONS = ["3.6.1.1", "4.1.1"]
USAGE_TOTAL, QUALITY_TOTAL = "/beta/insight/usage/aggregation", "/beta/insight/quality/aggregation"
USAGE_20, QUALITY_20 = "/beta/realtime/usage/by_time_20sec", "/beta/realtime/quality/by_time_20sec"

# The example as the page prints it, corrections, the call that sends it, and parameters that only the client sends.
# Where a quality example names the usage path by mistake, `path` is that of its heading.
GETS = [
    (
        "/beta/analytics/call/lists?start_ts=1550024508&end_ts=1550025508&appid=xxxxxxxxxxxxxxxxxxxx&page_no=1&page_size=20",
        {},
        lambda c: c.calls.page(1550024508, 1550025508, page_no=1, page_size=20),
        {},
    ),
    (
        (
            "/beta/analytics/call/sessions?start_ts=1548665345&end_ts=1548670821&appid=axxxxxxxxxxxxxxxxxxxx"
            "&call_id=cxxxxxxxxxxxxxxxxxxxx&page_no=1&page_size=20&uids=uxx1,uxx2"
        ),
        {},
        lambda c: c.calls.sessions_page(CALL, 1548665345, 1548670821, uids=["uxx1", "uxx2"], page_size=20),
        {"exclude_server_user": "true"},
    ),
    (
        (
            "/beta/analytics/call/metrics?start_ts=1548665345&end_ts=1548670821&appid=axxxxxxxxxxxxxxxxxxxx"
            "&call_id=cxxxxxxxxxxxxxxxxxxxx&sids=sxxxxxxxxxxxxxxxx1,sxxxxxxxxxxxxxxxx2,sxxxxxxxxxxxxxxxx3"
        ),
        {},
        lambda c: c.calls.metrics(CALL, SIDS, 1548665345, 1548670821),
        {},
    ),
    (
        (
            "/beta/insight/usage/by_time?startTs=1625097600&endTs=1625270400&appid=axxxxxxxxxxxxxxxxxxxx&metric=userCount"
            "&aggregateGranularity=1d"
        ),
        {},
        lambda c: c.insights.usage("userCount", 1625097600, 1625270400, granularity="1d"),
        {},
    ),
    (
        (
            "/beta/insight/quality/by_time?startTs=1625097600&endTs=1625184000&appid=axxxxxxxxxxxxxxxxxxxx"
            "&metric=networkDelay&aggregateGranularity=1h&productType=Native"
        ),
        {},
        lambda c: c.insights.quality("networkDelay", *JULY, granularity="1h", product="Native"),
        {},
    ),
    (
        (
            "/beta/realtime/usage/by_time_20sec?startTs=1631837410&endTs=1631837470&appid=your_app_id&productType=Native"
            '&metric=userCount&dimension=sdk&dimensionValues="3.6.1.1","4.1.1"'
        ),
        {},
        lambda c: c.realtime.usage(
            "userCount", 1631837410, 1631837470, product="Native", dimension="sdk", dimension_values=VERSIONS
        ),
        {},
    ),
    (
        (
            "/beta/realtime/usage/by_time_20sec?startTs=1631837410&endTs=1631837470&appid=axxxxxxxxxxxxxxxxxxxx"
            "&productType=Native&metric=networkDelay"
        ),
        {"path": QUALITY_20},
        lambda c: c.realtime.quality("networkDelay", 1631837410, 1631837470, product="Native"),
        {},
    ),
    (
        (
            "/beta/realtime/usage/by_time_20sec?startTs=1631837410&endTs=1631837470&appid=axxxxxxxxxxxxxxxxxxxx"
            "&productType=Native&metric=networkDelay&cname=demoChannel&uids=2303692334,2963430861"
        ),
        {"path": QUALITY_20},
        lambda c: c.realtime.quality(
            "networkDelay", 1631837410, 1631837470, product="Native", cname="demoChannel", uids=[2303692334, 2963430861]
        ),
        {},
    ),
    (
        (
            "/beta/realtime/quality/by_time_20sec?startTs=1631837410&endTs=1631837470&appid=your_app_id&productType=Native"
            '&metric=networkDelay&dimension=sdk&dimensionValues="3.6.1.1","4.1.1"'
        ),
        {},
        lambda c: c.realtime.quality(
            "networkDelay", 1631837410, 1631837470, product="Native", dimension="sdk", dimension_values=VERSIONS
        ),
        {},
    ),
    (
        (
            "/beta/realtime/usage/dimension/top20?ts=1631837410&appid=your_app_id&productType=Native&metric=userCount"
            "&dimension=sdk"
        ),
        {},
        lambda c: c.realtime.usage_top("sdk", 1631837410, product="Native"),
        {},
    ),
    (
        (
            "/beta/realtime/quality/dimension/top20?ts=1671624000&appid=your_app_id&productType=Native"
            "&metric=audioFreezeRate&dimension=device&extraMetrics=userCount"
        ),
        {},
        lambda c: c.realtime.quality_top(
            "audioFreezeRate", "device", 1671624000, product="Native", extra_metrics="userCount"
        ),
        {},
    ),
]


@pytest.mark.parametrize(("example", "errata", "invoke", "added"), GETS, ids=range(len(GETS)))
async def test_a_get_example_of_the_reference_is_built_by_the_client(example, errata, invoke, added):
    parts = urlsplit(example)
    expected = dict(parse_qsl(parts.query, strict_parsing=True))
    # A time after the end at which the data is queryable on every plan.
    end = max(int(value) for name, value in expected.items() if name.lower().replace("_", "") in {"endts", "ts"})
    now = end + (30_000 if "insight" in parts.path else 45 if "realtime" in parts.path else 3_600)
    recorder = Recorder()
    await run(invoke(make_client(recorder, app_id=expected["appid"], now=now)))
    request = recorder.only_request
    assert (request.endpoint.method, request.endpoint.path) == ("GET", errata.get("path", parts.path))
    assert query(request) == expected | added
    assert request.body is None


POSTS = [
    (
        USAGE_TOTAL,
        lambda i: i.usage_total("userCount", *JULY, dimension="country"),
        {"metric": "userCount", "dimension": "country"},
    ),
    (
        USAGE_TOTAL,
        lambda i: i.usage_total("userCount", *JULY, dimension="sdkVersion", dimension_values=VERSIONS),
        {"metric": "userCount", "dimension": "sdkVersion", "dimensionValues": ["3.6.1.1", "4.1.1"]},
    ),
    (
        USAGE_TOTAL,
        lambda i: i.usage_total("userCount", *JULY, dimension="region", filters=CHINA),
        {"metric": "userCount", "dimension": "region", "filters": [{"name": "country", "value": "China"}]},
    ),
    (
        QUALITY_TOTAL,
        lambda i: i.quality_total("audioFreezeRate", *JULY, dimension="country"),
        {"metric": "audioFreezeRate", "dimension": "country"},
    ),
    (
        QUALITY_TOTAL,
        lambda i: i.quality_total("audioFreezeRate", *JULY, dimension="sdkVersion", dimension_values=VERSIONS),
        {"metric": "audioFreezeRate", "dimension": "sdkVersion", "dimensionValues": ["3.6.1.1", "4.1.1"]},
    ),
    (
        QUALITY_TOTAL,
        lambda i: i.quality_total("audioFreezeRate", *JULY, dimension="region", filters=CHINA),
        {"metric": "audioFreezeRate", "dimension": "region", "filters": [{"name": "country", "value": "China"}]},
    ),
]


@pytest.mark.parametrize(("path", "invoke", "expected"), POSTS, ids=range(len(POSTS)))
async def test_a_post_example_of_the_reference_is_built_by_the_client(path, invoke, expected):
    recorder = Recorder()
    await invoke(make_client(recorder, app_id=APP, now=JULY[1] + 30_000).insights)
    request = recorder.only_request
    assert (request.endpoint.method, request.endpoint.path) == ("POST", path)
    assert query(request) == {"appid": APP}
    assert body(request) == {"startTs": 1625097600, "endTs": 1625184000} | expected


NOW = 1_631_900_000
S, E = NOW - 40_000, NOW - 30_000  # start and end of calls and insights
R, T = NOW - 600, NOW - 100  # start and end of real-time windows
CALLS = {"appid": "app", "call_id": "c1", "start_ts": f"{S}", "end_ts": f"{E}"}
TIMES = {"appid": "app", "startTs": f"{S}", "endTs": f"{E}"}
WINDOWS = {"appid": "app", "startTs": f"{R}", "endTs": f"{T}", "productType": "WebRTC"}
BODY = {"startTs": S, "endTs": E}

# Endpoint, a call with every parameter or only the required ones, and the query and body that it sends.
CASES = [
    (
        "call_lists",
        lambda c: c.calls.page(S, E, cname="a b&ü", page_no=3, page_size=100),
        {"appid": "app", "start_ts": f"{S}", "end_ts": f"{E}", "cname": "a b&ü", "page_no": "3", "page_size": "100"},
        None,
    ),
    (
        "call_lists",
        lambda c: c.calls.page(S, E),
        {"appid": "app", "start_ts": f"{S}", "end_ts": f"{E}", "page_no": "1", "page_size": "100"},
        None,
    ),
    (
        "call_lists",
        lambda c: c.calls.search(S, E, cname="x", page_size=7),
        {"appid": "app", "start_ts": f"{S}", "end_ts": f"{E}", "cname": "x", "page_no": "1", "page_size": "7"},
        None,
    ),
    (
        "call_sessions",
        lambda c: c.calls.sessions_page("c1", S, E, uids=[1, "two"], exclude_server_user=False, page_no=2, page_size=9),
        CALLS | {"uids": "1,two", "exclude_server_user": "false", "page_no": "2", "page_size": "9"},
        None,
    ),
    (
        "call_sessions",
        lambda c: c.calls.sessions_page("c1", S, E),
        CALLS | {"exclude_server_user": "true", "page_no": "1", "page_size": "100"},
        None,
    ),
    (
        "call_sessions",
        lambda c: c.calls.sessions("c1", S, E, uids=[4294967295], exclude_server_user=False),
        CALLS | {"uids": "4294967295", "exclude_server_user": "false", "page_no": "1", "page_size": "100"},
        None,
    ),
    ("call_metrics", lambda c: c.calls.metrics("c1", ["s1", "s2"], S, E), CALLS | {"sids": "s1,s2"}, None),
    (
        "call_statistics",
        lambda c: c.calls.statistics("c1", "audio_freeze_rate", "net", S, E),
        CALLS | {"metric": "audio_freeze_rate", "dimension": "net"},
        None,
    ),
    (
        "call_freeze",
        lambda c: c.calls.freeze_buckets("c1", catalogue.FreezeMetric.VIDEO, S, E),
        CALLS | {"metric": "video_freeze_rate"},
        None,
    ),
    (
        "call_timeline",
        lambda c: c.calls.timeline("c1", catalogue.TimelineMetric.USER_COUNT, S, E),
        CALLS | {"metric": "user_count"},
        None,
    ),
    (
        "insight_usage",
        lambda c: c.insights.usage(catalogue.UsageMetric.TOTAL_DURATION, S, E, granularity="1h"),
        TIMES | {"metric": "totalDuration", "aggregateGranularity": "1h"},
        None,
    ),
    (
        "insight_quality",
        lambda c: c.insights.quality("networkDelay", S, E, product=catalogue.Product.WEBRTC, granularity="1m"),
        TIMES | {"metric": "networkDelay", "aggregateGranularity": "1m", "productType": "WebRTC"},
        None,
    ),
    (
        "insight_usage_total",
        lambda c: c.insights.usage_total(
            "userCount", S, E, dimension="region", dimension_values=["a,b", "c"], filters=CHINA
        ),
        {"appid": "app"},
        BODY
        | {
            "metric": "userCount",
            "dimension": "region",
            "dimensionValues": ["a,b", "c"],
            "filters": [{"name": "country", "value": "China"}],
        },
    ),
    (
        "insight_usage_total",
        lambda c: c.insights.usage_total("peakCurrentUsers", S, E),
        {"appid": "app"},
        BODY | {"metric": "peakCurrentUsers"},
    ),
    (
        "insight_quality_total",
        lambda c: c.insights.quality_total(
            "audioFreezeRate",
            S,
            E,
            dimension=catalogue.Dimension.REGION,
            dimension_values=["x"],
            filters=CHINA,
            product=catalogue.Product.NATIVE,
        ),
        {"appid": "app"},
        BODY
        | {
            "metric": "audioFreezeRate",
            "dimension": "region",
            "dimensionValues": ["x"],
            "filters": [{"name": "country", "value": "China"}],
            "productType": "Native",
        },
    ),
    (
        "insight_quality_total",
        lambda c: c.insights.quality_total("audioFreezeRate", S, E, dimension="channelSize"),
        {"appid": "app"},
        BODY | {"metric": "audioFreezeRate", "dimension": "channelSize"},
    ),
    (
        "realtime_usage",
        lambda c: c.realtime.usage(
            "userCount", R, T, product="WebRTC", cname="ch", dimension="os", dimension_values=["iOS", "a b"]
        ),
        WINDOWS | {"metric": "userCount", "cname": "ch", "dimension": "os", "dimensionValues": '"iOS","a b"'},
        None,
    ),
    (
        "realtime_usage",
        lambda c: c.realtime.usage("channelCount", R, T, product="WebRTC"),
        WINDOWS | {"metric": "channelCount"},
        None,
    ),
    (
        "realtime_quality",
        lambda c: c.realtime.quality(
            "videoFreezeRate", R, T, product="WebRTC", cname="ch", dimension="os", dimension_values=["iOS"]
        ),
        WINDOWS | {"metric": "videoFreezeRate", "cname": "ch", "dimension": "os", "dimensionValues": '"iOS"'},
        None,
    ),
    (
        "realtime_quality",
        lambda c: c.realtime.quality("videoFreezeRate", R, T, product="WebRTC", cname="ch", uids=range(10)),
        WINDOWS | {"metric": "videoFreezeRate", "cname": "ch", "uids": "0,1,2,3,4,5,6,7,8,9"},
        None,
    ),
    (
        "realtime_usage_top",
        lambda c: c.realtime.usage_top("device", R, product="WebRTC", metric="userCount"),
        {"appid": "app", "ts": f"{R}", "metric": "userCount", "dimension": "device", "productType": "WebRTC"},
        None,
    ),
    (
        "realtime_quality_top",
        lambda c: c.realtime.quality_top("joinSuccessRate", "net", R, product="Native", extra_metrics="userCount"),
        {
            "appid": "app",
            "ts": f"{R}",
            "metric": "joinSuccessRate",
            "dimension": "net",
            "productType": "Native",
            "extraMetrics": "userCount",
        },
        None,
    ),
    (
        "realtime_quality_top",
        lambda c: c.realtime.quality_top("joinSuccessRate", "net", R, product="Native"),
        {"appid": "app", "ts": f"{R}", "metric": "joinSuccessRate", "dimension": "net", "productType": "Native"},
        None,
    ),
]


@pytest.mark.parametrize(
    ("name", "invoke", "params", "expected_body"), CASES, ids=[f"{at}-{row[0]}" for at, row in enumerate(CASES)]
)
async def test_every_parameter_is_sent_under_its_own_name(name, invoke, params, expected_body):
    recorder = Recorder()
    await run(invoke(make_client(recorder, now=NOW)))
    assert recorder.only_request.endpoint.name == name
    assert query(recorder.only_request) == params
    assert body(recorder.only_request) == expected_body


def test_every_endpoint_has_a_case():
    assert {row[0] for row in CASES} == {endpoint.name for endpoint in ENDPOINTS}


# The curl examples of these three show a path and nothing else.
@pytest.mark.parametrize("name", ["call_statistics", "call_freeze", "call_timeline"])
def test_the_path_of_a_curl_example_belongs_to_its_endpoint(name):
    paths = {
        "call_statistics": "/beta/analytics/call/statistics",
        "call_freeze": "/beta/analytics/call/freeze/bucket",
        "call_timeline": "/beta/analytics/call/statistics/time",
    }
    (endpoint,) = [endpoint for endpoint in ENDPOINTS if endpoint.name == name]
    assert str(endpoint) == f"GET {paths[name]}"
