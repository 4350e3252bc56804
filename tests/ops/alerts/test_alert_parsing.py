"""Rules as text: what is read, and what an error says about the place and what is allowed there."""

from __future__ import annotations

import pytest

from agora_analytics import Series
from agora_analytics.ops import alerts

VIDEO = Series("videoFreezeRate", product="WebRTC")


def rule(series=VIDEO, comparison=">", threshold=0.05, **more) -> alerts.Rule:
    return alerts.Rule(series=series, comparison=comparison, threshold=threshold, **more)


READ = {
    "videoFreezeRate:WebRTC > 5%": rule(),
    "videoFreezeRate:WebRTC>5%": rule(),
    "videoFreezeRate:WebRTC > 0.05 for 2": rule(windows=2),
    "videoFreezeRate:WebRTC > 5%, for 2, with 20 users": rule(windows=2, min_users=20),
    "videoFreezeRate:WebRTC with 1 user for 2 > 5%": rule(windows=2, min_users=1),
    "videoFreezeRate:WebRTC > 5% recover 3%": rule(recovery=0.03),
    "videoFreezeRate:WebRTC > 5% recover 3% for 4": rule(recovery=0.03, recovery_windows=4),
    "videoFreezeRate:WebRTC > 5% silent 1h30m no data 10m max 5": rule(silence=5_400, no_data=600, max_values=5),
    "userCount < 10": rule(Series("userCount", product="Native"), "<", 10),
    "joinSuccessRate:WebRTC <= 99.5%": rule(Series("joinSuccessRate", product="WebRTC"), "<=", 0.995),
    "networkDelay in room-7 > 7%": rule(Series("networkDelay", product="Native", cname="room-7"), threshold=0.07),
    'networkDelay in "for \\"us\\", all" > 7%': rule(
        Series("networkDelay", product="Native", cname='for "us", all'), threshold=0.07
    ),
    "videoFreezeRate:WebRTC by country > 5%": rule(Series("videoFreezeRate", product="WebRTC", dimension="country")),
    'videoFreezeRate:WebRTC by country of China "Hong Kong" > 5%': rule(
        Series("videoFreezeRate", product="WebRTC", dimension="country", dimension_values=("China", "Hong Kong"))
    ),
    "videoFreezeRate:WebRTC in room uids 1 bob > 5%": rule(
        Series("videoFreezeRate", product="WebRTC", cname="room", uids=(1, "bob"))
    ),
}


@pytest.mark.parametrize("text", READ)
def test_a_text_is_read_as_a_rule_and_written_as_one(text):
    found = alerts.parse(text)
    assert found == READ[text]
    assert alerts.parse(str(found)) == found


WRONG = {
    "videoFreezRate > 5%": "at column 1 ('videoFreezRate'): 'videoFreezRate' is no known metric: did you mean",
    "video_freeze_rate > 5%": "did you mean videoFreezeRate?",
    "videoFreezeRate:Webrtc > 5%": "did you mean WebRTC? known are Native, WebRTC",
    "videoFreezeRate by contry > 5%": "column 20 ('contry'): 'contry' is no known dimension: did you mean country?",
    "> 5%": "column 1 ('>'): allowed is METRIC:PRODUCT, or METRIC for Native",
    "videoFreezeRate": "at its end: a comparison is missing: allowed are >, >=, < and <=",
    "videoFreezeRate >": "at its end: allowed is a number, like 5% or 0.05",
    "videoFreezeRate > much": "column 19 ('much'): allowed is a number, like 5% or 0.05",
    "videoFreezeRate > -1": "column 19 ('-1'): allowed is a number",
    "videoFreezeRate > 1e3": "column 19 ('1e3'): allowed is a number",
    "videoFreezeRate > 5": "the metric is a fraction: did you mean 5%?",
    "videoFreezeRate > 101%": "is a fraction: 0.05 is 5 %",
    "userCount > 5%": "the metric is a count: allowed is a number without %",
    "videoFreezeRate > 5% fr 2": "column 22 ('fr'): did you mean for? allowed are in, by, of",
    "videoFreezeRate > 5% for two": "column 26 ('two'): allowed is the number of windows, like 2",
    "videoFreezeRate > 5% for 0": "windows=0: allowed are 1 to 4320",
    "videoFreezeRate > 5% for 2 for 3": "column 28 ('for'): it is there twice",
    "videoFreezeRate > 5% with 20": "at its end: allowed is the word users",
    "videoFreezeRate > 5% no 10m": "column 25 ('10m'): allowed is the word data, as in: no data 10m",
    "videoFreezeRate > 5% no data 10": "column 30 ('10'): allowed are durations like 45s, 20m",
    "videoFreezeRate > 5% silent 99w": "silence=59875200: allowed are 0 to 2592000",
    "videoFreezeRate > 5% no data 5s": "no_data=5: allowed are 20 to 2592000",
    "videoFreezeRate > 5% recover 7%": "recovery=0.07: a value that recovers is not > threshold=0.05",
    "userCount < 5 with 3 users": "min_users=3: allowed for a metric of quality",
    "videoFreezeRate in by > 5%": "column 20 ('by'): allowed is the name of a channel; a word of",
    'videoFreezeRate in "room > 5%': "column 20 ('\"'): a quote that does not end",
    "videoFreezeRate of CN > 5%": "column 17 ('of'): ",
    "videoFreezeRate uids 1 > 5%": "uids=(1,) need a cname",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_text_is_refused_with_its_place_and_what_is_allowed_there(text):
    with pytest.raises(ValueError, match="alert ") as caught:
        alerts.parse(text)
    assert WRONG[text] in str(caught.value)


def test_unknown_names_are_read_if_allowed():
    found = alerts.parse("newMetric:Flutter by planet > 50", allow_unknown=True)
    assert found.series == Series("newMetric", product="Flutter", dimension="planet")
    assert alerts.parse(str(found), allow_unknown=True) == found


@pytest.mark.parametrize("text", ["", "   ", "x" * 1_001, 5, None])
def test_what_is_no_text_of_a_rule_is_refused(text):
    with pytest.raises((ValueError, TypeError), match="alert"):
        alerts.parse(text)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"comparison": "=="}, "comparison='==': allowed are >, >=, <, <="),
        ({"threshold": 5}, "is a fraction"),
        ({"threshold": "5%"}, "threshold='5%'"),
        ({"series": "videoFreezeRate"}, "series='videoFreezeRate'"),
        ({"windows": 0}, "windows=0"),
        ({"max_values": 1_001}, "max_values=1001: allowed are 1 to 1000"),
    ],
)
def test_a_rule_that_can_never_hold_is_refused(more, says):
    with pytest.raises((ValueError, TypeError), match=says):
        rule(**more)


def test_the_series_of_rules_are_watched_once_each_with_the_users_that_they_need():
    rules = [rule(min_users=5), rule(windows=3, min_users=7), rule(Series("userCount", product="WebRTC"), "<", 1)]
    assert alerts.watched(rules) == (VIDEO, Series("userCount", product="WebRTC"))
