"""Every public method refuses what is not of an argument's kind, by name and in one short line, and sends nothing."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from helpers.argument_kinds import METHODS, C, Method
from helpers.strange_values import REFUSED, SECRET
from hypothesis import given, settings
from hypothesis import strategies as st

import agora_analytics
from agora_analytics import AnalyticsClient

pytestmark = pytest.mark.real_time

CASES = [(method, name) for method in METHODS for name in method.kinds]


async def run(method: Method, arguments: dict[str, Any]) -> None:
    """Do what a method asks for, whether it is awaited or iterated."""
    result = method.call(**arguments)
    if inspect.isawaitable(result):
        await result
    elif inspect.isasyncgen(result):
        async for _ in result:
            pass


@pytest.mark.parametrize(("method", "name"), CASES, ids=[f"{method.name}-{name}" for method, name in CASES])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
async def test_what_is_not_of_its_kind_is_refused_by_name_and_nothing_is_sent(method, name, data):
    value = data.draw(REFUSED[method.kinds[name]])
    arguments = method.good | {name: value}
    with pytest.raises((TypeError, ValueError)) as caught:
        await run(method, arguments)
    said = str(caught.value)
    assert type(caught.value) in {TypeError, ValueError}
    assert said.startswith((name, name.split("_")[0])), said
    assert len(said) < 400
    assert said.isprintable()
    assert SECRET not in said


@pytest.mark.parametrize("group", [AnalyticsClient, type(C.calls), type(C.insights), type(C.realtime), type(C.export)])
def test_every_argument_of_every_method_is_in_the_table(group):
    table = {method.name: set(method.kinds) for method in METHODS}
    missing = {}
    for name, method in inspect.getmembers(group, inspect.isfunction):
        label = group.__name__ if name == "__init__" else f"{group.__name__}.{name}"
        if name.startswith("_") and (name != "__init__" or group is not AnalyticsClient):
            continue
        wanted = set(inspect.signature(method).parameters) - {"self", "settings"}
        if wanted - table.get(label, set()):
            missing[label] = wanted - table.get(label, set())
    assert missing == {}


def test_every_function_of_the_front_door_is_in_the_table():
    functions = {name for name in agora_analytics.__all__ if inspect.isfunction(getattr(agora_analytics, name))}
    assert functions <= {method.name for method in METHODS}
