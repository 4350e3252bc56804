from __future__ import annotations

import msgspec
import pytest
from helpers.service_harness import AUTHORIZATION, NOON, Harness

from agora_analytics import plans
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, Service
from agora_analytics.simulator.service.service import basic_auth

HOUR, DAY = 3_600, 86_400
PREFIX = "Service package limit check error, "
LISTED = {"start_ts": NOON - HOUR, "end_ts": NOON - 60}
DETAIL = {"call_id": "x", "start_ts": NOON - HOUR, "end_ts": NOON - 600}
INSIGHT = {"startTs": NOON - 3 * DAY, "endTs": NOON - 2 * DAY}
REALTIME = {"startTs": NOON - 600, "endTs": NOON - 60, "productType": "Native"}
TOP = {"ts": NOON - 120, "productType": "Native", "metric": "userCount", "dimension": "sdk"}


def test_wrong_credentials_get_a_real_401_with_only_a_message():
    service = Service()
    for authorization in (None, "", basic_auth(CUSTOMER_ID, "wrong"), "Bearer x"):
        response = service.answer("GET", plans.CALL_LISTS.path, f"appid={APP_ID}", None, authorization)
        assert response.status == 401
        assert msgspec.json.decode(response.body) == {"message": "Invalid authentication credentials"}
    assert service.refusals == {"credentials": 4}
    assert service.counts == {}


@pytest.mark.parametrize(("method", "path"), [("GET", "/beta/nothing"), ("POST", plans.CALL_LISTS.path), ("GET", "/")])
def test_unknown_paths_get_a_real_404(method: str, path: str):
    service = Service()
    response = service.answer(method, path, "", None, AUTHORIZATION)
    assert response.status == 404
    assert list(msgspec.json.decode(response.body)) == ["message"]
    assert service.log[0].refused == "path"


def test_a_wrong_app_id_is_forbidden():
    code, message = Harness().error(plans.CALL_LISTS, appid="other", **LISTED)
    assert (code, "Wrong authorization information" in message) == (403, True)


def test_an_endpoint_outside_of_the_plan_is_refused_and_not_counted():
    harness = Harness("standard")
    params = {**REALTIME, "metric": "userCount"}
    expected = "you have no auth to access this service, please buy or upgrade your service package"
    assert harness.error(plans.REALTIME_USAGE, **params) == (300, expected)
    assert harness.service.spent("realtime", "day") == 0


WRONG = [
    (plans.CALL_LISTS, LISTED | {"start_ts": None}, "start_ts"),
    (plans.CALL_LISTS, LISTED | {"end_ts": "yesterday"}, "end_ts"),
    (plans.CALL_LISTS, LISTED | {"end_ts": "9" * 5_000}, "end_ts"),
    (plans.CALL_LISTS, LISTED | {"end_ts": NOON - HOUR}, "end_ts"),
    (plans.CALL_LISTS, LISTED | {"page_no": 0}, "page_no"),
    (plans.CALL_LISTS, LISTED | {"page_size": -1}, "page_size"),
    (plans.CALL_LISTS, LISTED | {"appid": ""}, "appid"),
    (plans.CALL_SESSIONS, DETAIL | {"call_id": None}, "call_id"),
    (plans.CALL_SESSIONS, DETAIL | {"uids": ",".join("12345678901")}, "uids"),
    (plans.CALL_SESSIONS, DETAIL | {"exclude_server_user": "maybe"}, "exclude_server_user"),
    (plans.CALL_METRICS, DETAIL, "sids"),
    (plans.CALL_METRICS, DETAIL | {"sids": ",".join(map(str, range(21)))}, "sids"),
    (plans.CALL_STATISTICS, DETAIL | {"metric": "audio_freeze_rate"}, "dimension"),
    (plans.CALL_STATISTICS, DETAIL | {"metric": "audio_freeze_rate", "dimension": "channelSize"}, "dimension"),
    (plans.CALL_FREEZE, DETAIL | {"metric": "user_count"}, "metric"),
    (plans.INSIGHT_USAGE, INSIGHT | {"metric": "userCount", "aggregateGranularity": "1m"}, "aggregateGranularity"),
    (plans.INSIGHT_USAGE, INSIGHT | {"aggregateGranularity": "1d"}, "metric"),
    (plans.INSIGHT_QUALITY, INSIGHT | {"metric": "networkDelay", "aggregateGranularity": "1m"}, "productType"),
    (plans.INSIGHT_USAGE_TOTAL, INSIGHT | {"startTs": None, "metric": "userCount"}, "startTs"),
    (plans.INSIGHT_USAGE_TOTAL, INSIGHT | {"metric": 5}, "metric"),
    (plans.INSIGHT_USAGE_TOTAL, INSIGHT | {"startTs": True, "metric": "userCount"}, "startTs"),
    (plans.INSIGHT_USAGE_TOTAL, INSIGHT | {"metric": "userCount", "dimension": "channelSize"}, "dimension"),
    (plans.INSIGHT_QUALITY_TOTAL, INSIGHT | {"metric": "networkDelay", "productType": "Web"}, "productType"),
    (
        plans.INSIGHT_USAGE_TOTAL,
        INSIGHT | {"metric": "userCount", "dimension": "region", "filters": [{"name": "city", "value": "x"}]},
        "filters",
    ),
    (
        plans.REALTIME_USAGE,
        REALTIME | {"metric": "userCount", "dimension": "sdk", "dimensionValues": "4.1.1"},
        "dimensionValues",
    ),
    (
        plans.REALTIME_USAGE,
        REALTIME | {"metric": "userCount", "dimension": "sdk", "dimensionValues": "4"},
        "dimensionValues",
    ),
    (plans.REALTIME_QUALITY, REALTIME | {"metric": "userCount"}, "metric"),
    (plans.REALTIME_QUALITY, REALTIME | {"metric": "networkDelay", "productType": None}, "productType"),
    (plans.REALTIME_USAGE_TOP, TOP | {"metric": "channelCount"}, "metric"),
    (plans.REALTIME_USAGE_TOP, TOP | {"ts": None}, "ts"),
    (plans.REALTIME_QUALITY_TOP, TOP | {"metric": "networkDelay", "extraMetrics": "all"}, "extraMetrics"),
]


@pytest.mark.parametrize(("endpoint", "params", "named"), WRONG)
def test_a_wrong_parameter_is_code_400_and_named(endpoint: plans.Endpoint, params: dict[str, object], named: str):
    harness = Harness()
    code, message = harness.error(endpoint, **params)
    assert (code, named in message) == (400, True)
    assert harness.service.refusals == {"parameter": 1}


@pytest.mark.parametrize("body", [None, b"", b"not json", b"[1]", b"\xff"])
def test_a_body_that_is_no_object_is_a_bad_request(body: bytes | None):
    path = plans.INSIGHT_USAGE_TOTAL.path
    response = Service().answer("POST", path, f"appid={APP_ID}", body, AUTHORIZATION)
    assert msgspec.json.decode(response.body)["code"] == 400


def test_milliseconds_are_an_unknown_error():
    harness = Harness()
    assert harness.error(plans.CALL_LISTS, start_ts=NOON * 1_000, end_ts=NOON * 1_000 + 1) == (500, "Unknown Error")
    assert harness.service.log[-1].code == 500


# For each limit, the last span that is allowed: one second more is refused.
BOUNDS = [
    ("premium", plans.CALL_LISTS, NOON - 21 - HOUR, NOON - 21, "latency", "query latency limit = 20s"),
    ("standard", plans.CALL_LISTS, NOON - 61 - HOUR, NOON - 61, "latency", "query latency limit = 60s"),
    ("premium", plans.CALL_LISTS, NOON - 7 * DAY + 1, NOON - 7 * DAY + 9, "range", "query time range limit = 7d"),
    ("standard", plans.CALL_LISTS, NOON - DAY + 1, NOON - DAY + 9, "range", "query time range limit = 1d"),
    ("premium", plans.CALL_METRICS, NOON - 4 * HOUR + 1, NOON - HOUR, "length", "query time length limit = 3h"),
    ("enterprise", plans.INSIGHT_USAGE, NOON - 8 * DAY + 1, NOON - DAY, "length", "query time length limit = 7d"),
    ("premium", plans.INSIGHT_USAGE_TOTAL, NOON - 13 * DAY, NOON - 43_201, "latency", "query latency limit = 43200s"),
    ("premium", plans.REALTIME_USAGE, NOON - 2_399, NOON - 41, "range", "query time range limit = 40m"),
    ("premium", plans.REALTIME_USAGE, NOON - 2_399, NOON - 41, "latency", "query latency limit = 40s"),
]


@pytest.mark.parametrize(("plan", "endpoint", "start", "end", "kind", "phrase"), BOUNDS)
def test_the_inequalities_are_strict(plan: str, endpoint: plans.Endpoint, start: int, end: int, kind: str, phrase: str):
    harness = Harness(plan)
    names = ("start_ts", "end_ts") if "call" in endpoint.name else ("startTs", "endTs")
    others: dict[str, object] = {"call_id": "x", "sids": "x", "aggregateGranularity": "1d", "productType": "Native"}

    def request(start: int, end: int) -> dict[str, object]:
        others.update({names[0]: start, names[1]: end, "metric": "userCount"})
        answer: dict[str, object] = harness.get(endpoint, **others)
        harness.service.rate_limits = type(harness.service.rate_limits)()
        return answer

    assert request(start, end)["code"] == 200
    refusal = request(start - (kind != "latency"), end + (kind == "latency"))
    assert refusal["code"] == 300
    assert refusal["message"] == f"{PREFIX}{phrase.split(' =', maxsplit=1)[0]} error, {phrase}"
    assert harness.service.refusals == {kind: 1}


def test_a_window_of_a_top_list_must_lie_behind_the_delay():
    harness = Harness("premium")
    assert harness.get(plans.REALTIME_USAGE_TOP, **(TOP | {"ts": NOON - 61}))["code"] == 200
    assert harness.error(plans.REALTIME_USAGE_TOP, **(TOP | {"ts": NOON - 60}))[1].endswith("= 40s")


def test_limits_are_formatted_in_the_largest_unit_that_divides_them():
    harness = Harness()
    harness.service.plan = plans.PREMIUM.with_limits("call_lists", longest=90)
    assert harness.error(plans.CALL_LISTS, **LISTED)[1].endswith("query time length limit = 90s")
    harness.service.plan = plans.PREMIUM.with_limits("call_lists", longest=None)
    assert harness.get(plans.CALL_LISTS, **LISTED)["code"] == 200
