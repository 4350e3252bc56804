from __future__ import annotations

import pytest
from helpers.service_harness import AUTHORIZATION, NOON, Harness

from agora_analytics import plans
from agora_analytics.simulator import Service
from agora_analytics.simulator.service.rate_limits import RateLimits

LISTED = {"start_ts": NOON - 3_600, "end_ts": NOON - 100}
PREFIX = "Service package limit check error, "
USAGE = {"metric": "userCount", "aggregateGranularity": "1d", "startTs": NOON - 200_000, "endTs": NOON - 100_000}


def code(harness: Harness, endpoint: plans.Endpoint = plans.CALL_LISTS, **params: object) -> int:
    value: int = harness.get(endpoint, **(params or LISTED))["code"]
    return value


def test_seconds_are_fixed_utc_seconds():
    harness = Harness("premium")
    harness.clock.now = NOON + 0.99
    assert [code(harness) for _ in range(3)] == [200] * 3
    assert harness.error(plans.CALL_LISTS, **LISTED) == (300, PREFIX + "qps limit error, qps limit = 3")
    harness.clock.now = NOON + 1.0
    assert [code(harness) for _ in range(4)] == [200] * 3 + [300]
    assert harness.service.refusals == {"qps": 2}
    assert harness.service.spent("call_lists", "second") == 4
    assert harness.service.spent("call_lists", "day") == 8


def test_minutes_are_fixed_utc_minutes():
    harness = Harness("premium")
    harness.clock.now = NOON + 59.9
    assert [code(harness, plans.INSIGHT_USAGE, **USAGE) for _ in range(3)] == [200] * 3
    message = PREFIX + "qpm limit error, qpm limit = 3"
    assert harness.error(plans.INSIGHT_USAGE, **USAGE) == (300, message)
    harness.clock.now = NOON + 60
    assert code(harness, plans.INSIGHT_USAGE, **USAGE) == 200


def test_days_are_fixed_utc_days_and_refusals_count():
    harness = Harness("premium")
    midnight = NOON + 43_200
    for number in range(40):
        harness.clock.now = midnight - 2_400 + 60 * number
        assert code(harness, plans.INSIGHT_USAGE, **USAGE) == 200
    harness.clock.now = midnight - 0.001
    assert harness.error(plans.INSIGHT_USAGE, **USAGE)[1] == PREFIX + "qpd limit error, qpd limit = 40"
    assert harness.service.spent("insight_usage", "day") == 41
    harness.clock.now = midnight
    assert code(harness, plans.INSIGHT_USAGE, **USAGE) == 200
    assert harness.service.spent("insight_usage", "day") == 1


def test_refusals_may_be_set_not_to_count():
    harness = Harness("standard", refusals_count=False)
    assert [code(harness) for _ in range(3)] == [200, 300, 300]
    assert harness.service.spent("call_lists", "day") == 1


def test_endpoints_of_one_table_share_a_counter_unless_the_plan_splits_them():
    harness = Harness("standard")
    detail = {"call_id": "x", "sids": "x", "start_ts": NOON - 3_000, "end_ts": NOON - 600}
    assert code(harness, plans.CALL_SESSIONS, **detail) == 200
    assert code(harness, plans.CALL_METRICS, **detail) == 300
    harness.service.plan = harness.service.plan.split("call_details")
    assert code(harness, plans.CALL_METRICS, **detail) == 200


def test_wrong_requests_count_unless_the_gateway_refuses_them():
    harness = Harness("premium")
    assert harness.error(plans.CALL_LISTS, start_ts=1)[0] == 400
    assert harness.error(plans.CALL_LISTS, appid="other", **LISTED)[0] == 403
    harness.service.answer("GET", plans.CALL_LISTS.path, "", None, None)
    assert harness.service.spent("call_lists", "second") == 2
    assert harness.service.counts == {"call_lists": 2}


def test_hosts_with_different_clocks_count_in_the_same_windows():
    harness = Harness("standard")
    query = f"appid={harness.service.app_id}"
    for skew in (0.0, 1.0, -1.0, 0.0):
        harness.service.answer("GET", plans.CALL_LISTS.path, query, None, AUTHORIZATION, skew=skew)
    assert harness.service.refusals == {"parameter": 3, "qps": 1}


def test_memory_does_not_grow():
    limits = RateLimits()
    for second in range(100):
        assert limits.count("a", {"second": 1}, second) is None
    assert [len(windows) for windows in limits._counted.values()] == [3]


@pytest.mark.parametrize("size", [1, 3])
def test_the_log_keeps_the_latest(size: int):
    service = Service(log_size=size)
    for number in range(5):
        service.answer("GET", f"/{number}", "a=b", None, None, host=1)
    assert [entry.path for entry in service.log] == [f"/{number}" for number in range(5)][-size:]
    assert (service.log[-1].query, service.log[-1].status, service.log[-1].host) == ("a=b", 404, 1)
