"""Models are plain attrs classes: `json.dumps(attrs.asdict(model))` makes JSON of any of them."""

from __future__ import annotations

import json

import attrs
import pytest

from agora_analytics import Call, FreezeBucket, Point, Ranked, Session, SessionMetrics, Statistic, Total, Track
from agora_analytics.models import CallPage, SessionPage

MODELS = [
    CallPage(call_lists=(Call(call_id="a", created_ts=1),)),
    SessionPage(call_info=(Session(sid="s", uid=3, roles=("x",)),)),
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


def test_a_point_keeps_the_names_of_the_wire():
    assert attrs.asdict(MODELS[5]) == {"ts": 20, "userCount": 3, "os": "iOS", "uid": 7}
