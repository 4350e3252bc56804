from __future__ import annotations

from itertools import pairwise

import pytest
from helpers.service_harness import NOON

from agora_analytics.catalogue import MetricId, Product
from agora_analytics.simulator import World
from agora_analytics.simulator.world import calls, concurrency, participants, usage
from agora_analytics.simulator.world.population import COUNTRIES, pick, shares

HOUR, DAY = 3_600, 86_400
WORLD = World(seed=7)
PINNED = ("5AC44A61DB886740C18F5C2A82494986", "room-27")


def test_the_same_seed_is_the_same_world_on_every_machine():
    first = World(seed=7).calls(NOON, NOON + HOUR)[0]
    assert (first.call_id, first.cname) == PINNED
    assert World(seed=8).calls(NOON, NOON + HOUR)[0].call_id != first.call_id


def test_spans_may_be_queried_in_any_order():
    middle = NOON + 1_234
    later, earlier = WORLD.calls(middle, NOON + DAY), WORLD.calls(NOON, middle)
    assert earlier + later == WORLD.calls(NOON, NOON + DAY)
    assert all(NOON <= call.created < NOON + DAY for call in earlier + later)


def test_calls_per_hour_are_as_set_and_higher_in_the_afternoon_than_at_night():
    day = WORLD.calls(NOON - DAY // 2, NOON + DAY // 2)
    assert 0.9 < len(day) / (24 * WORLD.calls_per_hour) < 1.1
    midnight = NOON - DAY // 2
    at_two, at_fourteen = (len(WORLD.calls(midnight + h * HOUR, midnight + (h + 1) * HOUR)) for h in (2, 14))
    assert at_fourteen > 2 * at_two


def test_calls_during_a_span_include_those_that_began_long_before():
    during = WORLD.calls_during(NOON, NOON + 60)
    expected = [c for c in WORLD.calls(NOON - 2 * DAY, NOON + 60) if c.destroyed > NOON]
    assert list(during) == expected
    assert any(call.duration > 6 * HOUR for call in WORLD.calls(NOON - DAY, NOON))
    assert any(call.destroyed > NOON for call in WORLD.calls(NOON - DAY, NOON))


def test_a_call_is_found_by_its_id():
    calls = WORLD.calls(NOON, NOON + HOUR)
    assert [WORLD.call(call.call_id) for call in calls] == list(calls)
    assert WORLD.call("no such id") is None
    assert WORLD.call(calls[0].call_id[:-4] + "0000") is None
    assert World(seed=8).call(calls[0].call_id) is None


def test_sessions_match_the_counts_of_their_call():
    for call in WORLD.calls(NOON, NOON + HOUR):
        sessions = WORLD.sessions(call)
        people = [session for session in sessions if not session.server]
        assert len({session.sid for session in sessions}) == len(sessions)
        assert len({session.uid for session in people}) == call.users
        assert len(people) == call.users + call.rejoins
        assert len(sessions) - len(people) == call.recorded
        assert all(call.created <= s.join < s.leave <= call.destroyed for s in sessions)
        assert [s.join for s in sessions] == sorted(s.join for s in sessions)


def test_sessions_have_every_oddity_that_a_client_must_take():
    sessions = [s for call in WORLD.calls(NOON, NOON + HOUR) for s in WORLD.sessions(call)]
    assert any(s.uid > 2**31 for s in sessions)
    assert any(s.account for s in sessions)
    assert any(s.account is None for s in sessions)
    assert any(s.profile.product is Product.WEBRTC and s.audio_freeze is None for s in sessions)
    assert any(len(s.roles) > 1 for s in sessions)
    assert any(not s.measured for s in sessions)
    assert max(call.users for call in WORLD.calls(NOON - DAY, NOON)) > 100


def test_users_who_come_back_were_away_in_between():
    call = next(c for c in WORLD.calls(NOON, NOON + DAY) if c.rejoins)
    by_uid: dict[int, list[tuple[int, int]]] = {}
    for session in WORLD.sessions(call):
        by_uid.setdefault(session.uid, []).append((session.join, session.leave))
    twice = [stays for stays in by_uid.values() if len(stays) == 2]
    assert len(twice) == call.rejoins
    assert all(stays[0][1] + 20 <= stays[1][0] for stays in twice)


def test_samples_are_two_seconds_apart_with_gaps_and_may_be_queried_in_parts():
    call = next(c for c in WORLD.calls(NOON, NOON + DAY) if c.duration > 2 * HOUR)
    session = next(s for s in WORLD.sessions(call) if s.measured)
    start, middle, end = call.created, call.created + 1_001, call.created + HOUR
    mid, peer = WORLD.tracks(call, session)[0]
    whole = WORLD.samples(session, mid, peer, start, end)
    assert WORLD.samples(session, mid, peer, start, middle) + WORLD.samples(session, mid, peer, middle, end) == whole
    steps = {later[0] - earlier[0] for earlier, later in pairwise(whole)}
    assert min(steps) == 2
    assert max(steps) > 2
    assert all(step % 2 == 0 for step in steps)
    assert all(max(start, session.join) <= ts < end for ts, _ in whole)


def test_tracks_follow_from_what_a_session_does():
    call = next(c for c in WORLD.calls(NOON, NOON + DAY) if c.video and c.users > 20)
    sessions = WORLD.sessions(call)
    uids = {session.uid for session in sessions}
    for session in sessions:
        tracks = WORLD.tracks(call, session)
        assert bool(tracks) is session.measured
        assert {peer for _, peer in tracks} <= (uids - {session.uid}) | {0}
        mids = {mid for mid, _ in tracks}
        assert not (session.profile.product is Product.WEBRTC and MetricId.APP_CPU in mids)
        assert (MetricId.AUDIO_UP_BITRATE in mids) is (session.measured and session.speaker)


def test_every_metric_id_of_the_catalogue_occurs_and_has_values():
    seen: dict[int, int] = {}
    for call in WORLD.calls(NOON, NOON + 2 * HOUR):
        for session in WORLD.sessions(call):
            for mid, peer in WORLD.tracks(call, session):
                if seen.get(mid, 0) < 3:
                    seen[mid] = seen.get(mid, 0) + len(WORLD.samples(session, mid, peer, NOON, NOON + DAY))
    assert {mid for mid, count in seen.items() if count} == set(MetricId)


def test_users_at_a_window_are_those_of_the_sessions():
    window = NOON + 7 * 20
    expected = [
        s
        for call in WORLD.calls_during(window, window + 20)
        for s in WORLD.sessions(call)
        if s.overlaps(window, window + 20) and not s.server and s.profile.product is Product.NATIVE
    ]
    assert WORLD.users(Product.NATIVE, window) == {"": len(expected)}
    by_country = WORLD.users(Product.NATIVE, window, "country")
    assert by_country == {
        country: sum(s.profile.country == country for s in expected)
        for country in {s.profile.country for s in expected}
    }
    calls = {call.call_id for call in WORLD.calls_during(window, window + 20)}
    assert 0 < WORLD.channels(Product.NATIVE, window) <= len(calls)


def test_an_interval_counts_in_each_window_that_it_overlaps():
    def counts(start: int, end: int) -> tuple[int, ...]:
        return concurrency.count_concurrent([concurrency.Interval(NOON + start, NOON + end)], NOON, 3)

    assert counts(0, 20) == (1, 0, 0)
    assert counts(0, 21) == (1, 1, 0)
    assert counts(19, 20) == (1, 0, 0)
    assert counts(20, 60) == (0, 1, 1)
    assert counts(-50, 500) == (1, 1, 1)
    assert counts(-50, 0) == counts(60, 70) == (0, 0, 0)


def test_concurrency_and_peak_cover_the_whole_hour():
    hour = NOON // HOUR
    channels = [WORLD.channels(Product.NATIVE, NOON + 20 * number) for number in range(180)]
    assert min(channels[-10:]) > 10
    calls = WORLD.calls_during(NOON, NOON + HOUR)
    in_use = [sum(c.created < ts + 20 and c.destroyed > ts for c in calls) for ts in range(NOON, NOON + HOUR, 20)]
    assert usage.peak(WORLD, hour).channels == max(in_use)
    assert max(channels) <= max(in_use)


def test_freezes_last_between_a_fifth_of_a_second_and_two():
    frozen = [
        value
        for call in WORLD.calls(NOON, NOON + HOUR)
        for session in WORLD.sessions(call)[:3]
        for mid, peer in WORLD.tracks(call, session)
        if mid == MetricId.VIDEO_FREEZE_TIME
        for _, value in WORLD.samples(session, mid, peer, NOON, NOON + HOUR)
        if value
    ]
    assert 200 <= min(frozen) < max(frozen) <= 2_000


@pytest.mark.slow
def test_a_session_that_never_froze_has_no_freeze_times():
    for call in WORLD.calls(NOON, NOON + HOUR)[:20]:
        for session in WORLD.sessions(call):
            for mid, peer in WORLD.tracks(call, session):
                values = [value for _, value in WORLD.samples(session, mid, peer, NOON, NOON + DAY)]
                assert all(value >= 0 for value in values)
                if mid == MetricId.AUDIO_FREEZE_TIME and not session.audio_freeze:
                    assert not any(values)


def test_sessions_freeze_more_during_incidents():
    bad = next(one for one in WORLD.incidents(NOON - 30 * DAY, NOON) if one.severity > 0.7 and not one.country)

    def freeze(start: int, end: int) -> float:
        sessions = [s for call in WORLD.calls(start, end) for s in WORLD.sessions(call)]
        rates = [s.audio_freeze for s in sessions if s.audio_freeze is not None]
        return sum(rates) / len(rates)

    assert freeze(bad.start, bad.end) > 2 * freeze(bad.start - 2 * HOUR, bad.start)


def test_an_empty_world_has_windows_of_zero():
    empty = World(calls_per_hour=0)
    assert empty.users(Product.NATIVE, NOON) == {"": 0}
    assert empty.users(Product.NATIVE, NOON, "sdk") == {}
    assert empty.channels(Product.WEBRTC, NOON) == 0


@pytest.mark.parametrize("metric", ["audioFreezeRate", "videoFreezeRate", "networkDelay"])
def test_an_incident_shows_in_quality(metric: str):
    incident = next(one for one in WORLD.incidents(NOON - 30 * DAY, NOON) if one.severity > 0.5 and not one.country)
    during = WORLD.rate(metric, Product.NATIVE, incident.start + 60)
    assert during > WORLD.rate(metric, Product.NATIVE, incident.start - 60) + 0.05


def test_success_rates_fall_in_an_incident_and_stay_fractions():
    incident = next(one for one in WORLD.incidents(NOON - 30 * DAY, NOON) if one.severity > 0.5 and not one.country)
    during = WORLD.rate("joinSuccessRate", Product.WEBRTC, incident.start)
    assert 0 < during < WORLD.rate("joinSuccessRate", Product.WEBRTC, incident.start - 60) <= 1


def test_a_countrys_incident_is_its_own():
    incident = next(one for one in WORLD.incidents(NOON - 30 * DAY, NOON) if one.country)
    other = next(country for country in COUNTRIES if country != incident.country)
    assert WORLD.severity(incident.start, incident.country) == incident.severity
    assert WORLD.severity(incident.start, other) == 0
    assert 0 < WORLD.severity(incident.start) < incident.severity
    assert WORLD.severity(incident.end, incident.country) == 0


def test_usage_counts_the_sessions_of_its_hour():
    hour = NOON // HOUR
    tally = WORLD.usage(hour)
    sessions = [s for c in WORLD.calls(NOON, NOON + HOUR) for s in WORLD.sessions(c) if not s.server]
    assert tally.joins == len(sessions)
    assert tally.users < tally.joins < tally.attempts
    assert tally.channels == len(WORLD.calls(NOON, NOON + HOUR))
    peak = usage.peak(WORLD, hour)
    assert 0 < peak.channels < peak.users


def test_shares_add_up_to_one_for_each_product_and_both():
    for product in (*Product, None):
        for dimension in ("country", "region", "net", "sdk", "os", "device", "channelSize"):
            assert sum(shares(product, dimension).values()) == pytest.approx(1)
    assert len(shares(Product.NATIVE, "device")) > 50
    assert len(shares(Product.NATIVE, "sdk")) > 20


def test_drawn_profiles_are_among_the_shares():
    rng = calls.rng_for("any")
    for profile in (pick(rng, 0.5) for _ in range(500)):
        assert profile.sdk in shares(profile.product, "sdk")
        assert profile.device in shares(profile.product, "device")
        assert profile.region in shares(profile.product, "region")
        assert profile.os in shares(profile.product, "os")


def test_caches_are_bounded():
    cached = (
        calls.of_hour, calls._incidents_of_day, participants.sessions, usage.of_hour, usage.peak,
        concurrency._users_of_hour, concurrency._channels_of_hour,
    )  # fmt: skip
    for function in cached:
        assert 0 < (function.cache_info().maxsize or 0) <= 4_096


def test_a_product_may_be_a_string_and_the_order_of_queries_changes_nothing():
    ts = 1_795_521_600
    as_text, as_value = World(seed=11), World(seed=12)
    assert as_text.users("Native", ts) == as_text.users(Product.NATIVE, ts) != {"": 0}
    assert as_value.users(Product.NATIVE, ts) == as_value.users("Native", ts) != {"": 0}
    assert as_text.channels("Native", ts) == as_text.channels(Product.NATIVE, ts) > 0
