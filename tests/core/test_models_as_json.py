"""Models are plain attrs classes: `json.dumps(attrs.asdict(model))` makes JSON of any; a window takes a line more."""

from __future__ import annotations

import copy
import json
import pickle
import re

import attrs
import pytest
from helpers.pages import ROOT

from agora_analytics import (
    BadRow,
    Call,
    Found,
    FreezeBucket,
    Point,
    Ranked,
    Series,
    Session,
    SessionMetrics,
    Span,
    Statistic,
    Total,
    Track,
    Window,
)
from agora_analytics.models import CallPage, SessionPage

GUIDE = ROOT / "docs/guides/calls.md"

MODELS = [
    CallPage(calls=(Call(call_id="a", created_ts=1),)),
    SessionPage(sessions=(Session(sid="s", uid=3, roles=("x",)),)),
    SessionMetrics(sid="s", data=(Track(mid=1, kvs=((1, 2.5), (2, None)), peer_uid=0),)),
    Statistic(dimension_value="India", user_count=1, value=0.5),
    FreezeBucket(bucket="[3%,5%)", user_count=1),
    Point.of(20, 3, metric="userCount", dimension="os", dimension_value="iOS", uid=7),
    Total(1.5, "iOS"),
    Ranked("iOS", 2, 0, 20),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_model_goes_through_asdict_and_json_with_its_fields(model):
    told = json.loads(json.dumps(attrs.asdict(model)))
    assert list(told) == [field.name for field in attrs.fields(type(model))]


def test_what_was_found_is_a_list_of_json():
    found = Found([Point.of(20, 3), Point.of(40, 4)], missing=(Span(0, 20),))
    assert json.loads(json.dumps([attrs.asdict(point) for point in found])) == [
        {"ts": 20, "value": 3},
        {"ts": 40, "value": 4},
    ]


def test_a_window_goes_through_json_by_the_line_of_the_guide():
    [line] = re.findall(r"`(json\.dumps\(\{str\(series\).*?)`", GUIDE.read_text(encoding="utf-8").replace("\n", " "))
    users, rates = Series("userCount", product="Native", dimension="os"), Series("videoFreezeRate", product="Native")
    points = (Point.of(20, 3, metric="userCount", dimension="os", dimension_value="iOS"),)
    window = Window(ts=20, values={users: points}, missing={rates: "no data"})
    told = json.loads(eval(line, {"json": json, "attrs": attrs, "window": window}))  # noqa: S307 - our own line
    assert told == {str(users): [{"ts": 20, "userCount": 3, "os": "iOS"}]}


def test_a_point_keeps_the_names_of_the_wire():
    assert attrs.asdict(MODELS[5]) == {"ts": 20, "userCount": 3, "os": "iOS", "uid": 7}


@pytest.mark.parametrize("again", [lambda found: pickle.loads(pickle.dumps(found)), copy.copy, copy.deepcopy])
def test_what_was_found_keeps_what_it_tells_and_is_as_good_as_a_tuple(again):
    found = Found([Point.of(20, 3)], missing=(Span(0, 20),), skipped=(BadRow("$.data[1]", "why"),))
    other = again(found)
    assert (other, other.missing, other.skipped) == (tuple(found), found.missing, found.skipped)
    assert hash(other) == hash(tuple(found))
