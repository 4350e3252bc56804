from __future__ import annotations

from typing import Any

import attrs
import pytest
from helpers.service_harness import NOON, Harness

from agora_analytics import plans
from agora_analytics.simulator import Variants
from agora_analytics.simulator.service.date_header import DateHeader

HOUR, DAY = 3_600, 86_400
RECENT = {"start_ts": NOON - HOUR, "end_ts": NOON - 21, "page_size": 100}
REALTIME = {"startTs": NOON - 1_200, "endTs": NOON - 21, "productType": "Native", "metric": "userCount"}
TOP = {"ts": NOON - 55, "productType": "Native", "metric": "userCount", "dimension": "net"}
USAGE = {"startTs": NOON - 5 * DAY, "endTs": NOON - 2 * DAY, "metric": "peakCurrentUsers"}


def rows(harness: Harness, **params: object) -> Any:
    return harness.get(plans.REALTIME_USAGE, **{**REALTIME, **params})["data"]


def test_success_may_have_another_code_or_none_and_any_message():
    assert Harness(success_code=0, message=None).get(plans.CALL_LISTS, **RECENT)["code"] == 0
    answer = Harness(success_code=None, message="null").get(plans.CALL_LISTS, **RECENT)
    assert "code" not in answer
    assert answer["message"] == "null"


def test_a_search_may_select_by_overlap():
    frame = {**RECENT, "start_ts": NOON - 60}
    by_start = {row["call_id"] for row in Harness().get(plans.CALL_LISTS, **frame)["call_lists"]}
    by_overlap = {row["call_id"] for row in Harness(calls_overlap=True).get(plans.CALL_LISTS, **frame)["call_lists"]}
    assert by_start < by_overlap


def test_sessions_may_be_selected_by_their_start():
    harness = Harness()
    call = max(harness.world.calls(NOON - 12 * HOUR, NOON - 6 * HOUR), key=lambda call: call.users)
    frame = {"call_id": call.call_id, "start_ts": call.created + 60, "end_ts": call.created + 120}
    overlapping = harness.get(plans.CALL_SESSIONS, **frame)["total_size"]
    assert 0 < Harness(sessions_overlap=False).get(plans.CALL_SESSIONS, **frame)["total_size"] < overlapping


@pytest.mark.parametrize(("unfinished", "end"), [("null", None), ("zero", 0), ("last_seen", NOON - 20)])
def test_an_open_call_may_have_several_kinds_of_end(unfinished: str, end: int | None):
    found = Harness(unfinished_end=unfinished).get(plans.CALL_LISTS, **RECENT)["call_lists"]
    assert {row["destroyed_ts"] for row in found if not row["finished"]} == {end}


def test_pages_may_lack_their_counts():
    page = Harness(has_more=False, totals=False).get(plans.CALL_LISTS, **RECENT)
    assert set(page) == {"code", "message", "requestId", "call_lists"}


def test_late_calls_shift_the_pages():
    harness = Harness(late_calls=0.5, late_by=600)
    frame = {**RECENT, "start_ts": NOON - 1_200}
    first = harness.get(plans.CALL_LISTS, **frame)["call_lists"]
    harness.clock.now += 600
    later = harness.get(plans.CALL_LISTS, **frame)["call_lists"]
    ids = [[row["call_id"] for row in page] for page in (first, later)]
    assert set(ids[0]) < set(ids[1])
    assert len(later) == len(harness.world.calls(NOON - 1_200, NOON - 21))


def test_users_and_roles_may_be_text():
    harness = Harness(uid_as_text=True, roles_as_text=True)
    call = max(harness.world.calls(NOON - 12 * HOUR, NOON - 6 * HOUR), key=lambda call: call.users)
    frame = {"call_id": call.call_id, "start_ts": call.created, "end_ts": call.created + 3_000}
    found = harness.get(plans.CALL_SESSIONS, page_size=100, **frame)["call_info"]
    assert all(isinstance(row["uid"], str) and isinstance(row["roles"], str) for row in found)
    assert "Host,Screen Share" in {row["roles"] for row in found}
    sids = ",".join(row["sid"] for row in found[:20])
    (track, *_) = harness.get(plans.CALL_METRICS, sids=sids, **frame)["metrics"][0]["data"]
    assert track["peer_uid"] == "0"


@pytest.mark.parametrize(("style", "value"), [("null", None), ("zero", 0), ("absent", "absent")])
def test_web_users_may_have_no_audio_freeze_rate(style: str, value: object):
    harness = Harness(web_audio_freeze=style)
    call = max(harness.world.calls(NOON - 12 * HOUR, NOON - 6 * HOUR), key=lambda call: call.users)
    frame = {"call_id": call.call_id, "start_ts": call.created, "end_ts": call.created + 3_000}
    found = harness.get(plans.CALL_SESSIONS, page_size=100, **frame)["call_info"]
    web = [row for row in found if row["platform"] == "Web"]
    assert {row.get("user_audio_freeze_rate", "absent") for row in web} == {value}
    assert all(row["user_audio_freeze_rate"] is not None for row in found if row["platform"] == "iOS")


@pytest.mark.parametrize(("sent", "echoed"), [("sdk", "sdkVersion"), ("network", "net"), ("os", "os")])
def test_rows_may_use_the_other_name_of_a_dimension(sent: str, echoed: str):
    assert sent in rows(Harness(), dimension=sent)[0]
    assert echoed in rows(Harness(echo_other_name=True), dimension=sent)[0]


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("peakCurrentUsers", "peakConcurrentUsers"),
        ("peakConcurrentChannels", "peakCurrentChannels"),
        ("userCount", "userCount"),
    ],
)
def test_rows_may_use_the_other_name_of_a_peak(sent: str, echoed: str):
    harness = Harness(echo_other_name=True)
    params = {**USAGE, "metric": sent}
    assert set(harness.get(plans.INSIGHT_USAGE, **params, aggregateGranularity="1h")["data"][0]) == {echoed, "ts"}


def test_days_may_start_at_16_00_utc_and_the_end_may_be_exclusive():
    days = Harness(day_starts_at=57_600).get(plans.INSIGHT_USAGE, **USAGE, aggregateGranularity="1d")["data"]
    assert [row["ts"] % DAY for row in days] == [57_600] * 3
    hours = {**USAGE, "startTs": NOON - 5 * DAY, "endTs": NOON - 5 * DAY + 2 * HOUR}
    for inclusive, count in ((True, 3), (False, 2)):
        harness = Harness(end_inclusive=inclusive)
        assert len(harness.get(plans.INSIGHT_USAGE, **hours, aggregateGranularity="1h")["data"]) == count


def test_counts_settle_after_two_days():
    harness = Harness()
    params = {"startTs": NOON - 2 * DAY, "endTs": NOON - DAY, "metric": "userCount", "aggregateGranularity": "1h"}
    early = [row["userCount"] for row in harness.get(plans.INSIGHT_USAGE, **params)["data"]]
    harness.clock.now += 2 * DAY
    late = [row["userCount"] for row in harness.get(plans.INSIGHT_USAGE, **params)["data"]]
    assert all(first <= second for first, second in zip(early, late, strict=True))
    assert 0.97 * sum(late) < sum(early) < sum(late)


def test_a_total_may_be_one_object():
    params = {**USAGE, "metric": "userCount"}
    (row,) = Harness().get(plans.INSIGHT_USAGE_TOTAL, **params)["data"]
    assert Harness(total_as_object=True).get(plans.INSIGHT_USAGE_TOTAL, **params)["data"] == row


def test_late_windows_are_missing_and_filled_in():
    harness = Harness(late_windows=0.5, late_by=600)
    whole = {row["ts"]: row["userCount"] for row in rows(Harness())}
    first = {row["ts"]: row["userCount"] for row in rows(harness)}
    assert first.items() < whole.items()
    assert all(ts + 20 > NOON - 20 - 600 for ts in whole.keys() - first.keys())
    harness.clock.now += 600
    assert {row["ts"]: row["userCount"] for row in rows(harness)} == whole


@pytest.mark.parametrize("metric", ["userCount", "networkDelay"])
def test_revised_windows_are_low_at_first(metric: str):
    endpoint = plans.REALTIME_USAGE if metric == "userCount" else plans.REALTIME_QUALITY
    harness = Harness(revised_windows=0.5, late_by=600)

    def values() -> list[float]:
        return [row[metric] for row in harness.get(endpoint, **{**REALTIME, "metric": metric})["data"]]

    first = values()
    harness.clock.now += 600
    pairs = list(zip(first, values(), strict=True))
    assert any(early < late for early, late in pairs)
    assert all(early <= late for early, late in pairs)
    assert type(pairs[0][0]) is type(pairs[0][1])


def test_top_lists_may_be_bare_and_aligned():
    bare = Harness(bare_top_list=True, aligned_echo=True).get(plans.REALTIME_USAGE_TOP, **TOP)["data"]
    assert (bare[0]["windowStartTs"], bare[0]["windowEndTs"]) == (NOON - 60, NOON - 40)


def grouped(harness: Harness, **params: object) -> list[tuple[int, str, int]]:
    found = rows(harness, dimension="os", **params)
    return [(row["ts"], row["os"], row["userCount"]) for row in found]


def test_rows_are_shuffled_in_each_answer_reproducibly():
    runs = [
        [grouped(harness) for _ in range(3)] for harness in (Harness(shuffled_rows=True), Harness(shuffled_rows=True))
    ]
    assert runs[0] == runs[1]
    first, second, third = runs[0]
    assert first != second != third != first
    assert sorted(first) == sorted(second) == sorted(grouped(Harness()))
    assert grouped(Harness()) == sorted(grouped(Harness()), key=lambda row: row[0])


def test_rows_of_users_are_shuffled_too():
    harness = Harness(shuffled_rows=True)
    call = max(harness.world.calls_during(NOON - 600, NOON - 300), key=lambda call: call.users)
    uids = [session.uid for session in harness.world.sessions(call)][:8]
    params = {**REALTIME, "metric": "networkDelay", "cname": call.cname, "uids": ",".join(map(str, uids))}
    orders = [[row["uid"] for row in harness.get(plans.REALTIME_QUALITY, **params)["data"]] for _ in range(3)]
    assert orders[0] != orders[1] or orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(uids)
    values = [row["values"] for row in harness.get(plans.REALTIME_QUALITY, **params)["data"] if len(row["values"]) > 9]
    assert any(found != sorted(found, key=lambda row: row["ts"]) for found in values)


def test_top_lists_keep_their_order():
    tops = [Harness(shuffled_rows=shuffled).get(plans.REALTIME_USAGE_TOP, **TOP)["data"] for shuffled in (False, True)]
    assert tops[0] == tops[1]


@pytest.mark.parametrize("dimension", [None, "os"])
def test_rows_vanish_from_later_answers(dimension: str | None):
    harness = Harness(vanishing_rows=0.3, late_by=300)

    def row_values() -> dict[tuple[int, str], int]:
        return {(row["ts"], row.get("os", "")): row["userCount"] for row in rows(harness, dimension=dimension)}

    first = row_values()
    harness.clock.now += 600
    later = row_values()
    assert later.items() < first.items()
    assert 0.5 * len(first) < len(later) < 0.9 * len(first)
    young = {key for key in first if key[0] + 20 > NOON - 20 - 600}
    assert young <= set(first)
    if dimension:
        assert {ts for ts, _ in later} == {ts for ts, _ in first}


def test_late_revised_shuffled_and_vanishing_rows_can_be_combined():
    harness = Harness(late_windows=0.3, revised_windows=0.3, shuffled_rows=True, vanishing_rows=0.2, late_by=200)
    whole = {row[:2]: row[2] for row in grouped(Harness())}
    final = {}
    for _ in range(3):
        shown = {row[:2]: row[2] for row in grouped(harness)}
        assert shown.keys() <= whole.keys()
        assert all(count <= whole[key] for key, count in shown.items())
        final |= shown
        harness.clock.now += 200
    assert set(grouped(harness)) < {(*key, count) for key, count in whole.items()}
    assert {key: final[key] for key in whole if key[0] > NOON - 440} == {
        key: count for key, count in whole.items() if key[0] > NOON - 440
    }


@pytest.mark.parametrize("fraction", [0.0, 0.4])
def test_limits_are_the_documented_inequalities_and_by_default_never_wider(fraction: float):
    limits = plans.ENTERPRISE.limits["realtime"]
    now = NOON + fraction
    frames = [
        (start, end) for end in range(NOON - 23, NOON - 17) for start in (NOON - 3_601, NOON - 3_600, NOON - 3_599)
    ]
    allowed = {}
    for whole in (True, False):
        harness = Harness(whole_seconds=whole)
        harness.clock.now = now
        allowed[whole] = {
            frame
            for frame in frames
            if harness.get(plans.REALTIME_USAGE, **{**REALTIME, "startTs": frame[0], "endTs": frame[1]})["code"] == 200
        }
    literal = {
        (start, end)
        for start, end in frames
        if end < now - limits.delay and start > now - limits.retention and end - start < (limits.longest or end)
    }
    assert allowed[False] == literal
    assert allowed[True] <= literal
    assert allowed[True] == {frame for frame in literal if frame[1] < NOON - limits.delay}


def test_the_date_may_be_ahead_of_the_clock_that_counts():
    harness = Harness("standard", date_ahead=0.3)
    harness.clock.now = NOON - 0.2
    assert harness.send(plans.CALL_LISTS, **RECENT).headers["Date"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    harness.clock.now = NOON
    assert harness.send(plans.CALL_LISTS, **RECENT).headers["Date"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert harness.service.spent("call_lists", "second") == 1
    assert "qps" not in harness.service.refusals


def test_the_hostile_variants_change_every_other_setting():
    default, hostile = (attrs.asdict(one, recurse=False) for one in (Variants(), Variants.hostile()))
    same = {name for name in default if default[name] == hostile[name] and not name.startswith("_")}
    assert same == {
        *("totals", "settles_after", "late_by", "refusals_count"),  # other values show a client nothing new
        *("max_rows", "beyond", "turning", "always_more", "unreported_ends", "total_off", "arriving", "arriving_pages"),
        *("others", "changes", "odds", "deleted_calls", "endless_calls", "moved_calls", "moved_by"),
    }


def test_dates_are_never_ahead_and_as_old_as_their_style_allows():
    moments = [NOON + 0.1 * step for step in range(40)]
    ages = {}
    for style in ("exact", "timer", "lazy"):
        header = DateHeader(style)
        written = [(now, header._updated_at(now)) for now in moments]
        assert all(then <= now for now, then in written)
        ages[style] = max(now - then for now, then in written)
    assert ages["exact"] == 0
    assert 0.3 < ages["timer"] < 0.5
    assert 0.9 < ages["lazy"] <= 1.0
    assert DateHeader("exact").at(NOON + 0.9) == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert DateHeader("absent").at(NOON) is None
    assert "Date" not in Harness(date="absent").send(plans.CALL_LISTS, **RECENT).headers


def test_the_clock_of_the_date_header_may_be_ahead_or_behind():
    harness = Harness(plans.ENTERPRISE.with_limits("call_lists", per_second=1), date_ahead=0.7)
    harness.clock.now = NOON + 0.2
    assert harness.send(plans.CALL_LISTS, **RECENT).headers["Date"][-12:-4] == "12:00:00"
    harness.clock.now = NOON + 0.4
    late = harness.send(plans.CALL_LISTS, **RECENT)
    assert late.headers["Date"][-12:-4] == "12:00:01"
    assert b"qps limit" in late.body
