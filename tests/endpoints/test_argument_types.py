"""Every public method rejects arguments of the wrong kind: one short line names it, and nothing is sent."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from helpers.alert_arguments import ALERTS
from helpers.argument_kinds import CLIENT, METHODS, Method
from helpers.export_arguments import EXPORTS
from helpers.ledger_arguments import LEDGERS
from helpers.operation_arguments import OPERATIONS
from helpers.reader_arguments import READERS
from helpers.store_arguments import STORES
from helpers.strange_values import INVALID, SECRET
from hypothesis import given, settings
from hypothesis import strategies as st

import agora_analytics
from agora_analytics import AnalyticsClient

pytestmark = pytest.mark.real_time

TABLES = (METHODS, OPERATIONS, ALERTS, LEDGERS, STORES, EXPORTS, READERS)
CASES = [(method, name) for table in TABLES for method in table for name in method.kinds]


async def run(method: Method, arguments: dict[str, Any]) -> None:
    """Call a method, and await or iterate what it returns."""
    result = method.call(**arguments)
    if inspect.isawaitable(result):
        await result
    elif inspect.isasyncgen(result):
        async for _ in result:
            pass


@pytest.mark.parametrize(("method", "name"), CASES, ids=[f"{method.name}-{name}" for method, name in CASES])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
async def test_an_argument_of_the_wrong_kind_raises_with_its_name_and_nothing_is_sent(method, name, data):
    value = data.draw(INVALID[method.kinds[name]])
    arguments = method.valid | {name: value}
    with pytest.raises((TypeError, ValueError)) as caught:
        await run(method, arguments)
    message = str(caught.value)
    assert type(caught.value) in {TypeError, ValueError}
    assert message.startswith((name, name.split("_")[0])), message
    assert len(message) < 400
    assert message.isprintable()
    assert SECRET not in message


@pytest.mark.parametrize(
    "group", [AnalyticsClient, type(CLIENT.calls), type(CLIENT.insights), type(CLIENT.realtime), type(CLIENT.export)]
)
def test_every_argument_of_every_method_is_in_the_table(group):
    table = {method.name: set(method.kinds) for method in (*METHODS, *EXPORTS)}
    missing = {}
    for name, method in inspect.getmembers(group, inspect.isfunction):
        name_in_table = group.__name__ if name == "__init__" else f"{group.__name__}.{name}"
        if name.startswith("_") and (name != "__init__" or group is not AnalyticsClient):
            continue
        expected = set(inspect.signature(method).parameters) - {"self", "settings"}
        if expected - table.get(name_in_table, set()):
            missing[name_in_table] = expected - table.get(name_in_table, set())
    assert missing == {}


def test_every_exported_function_is_in_the_table():
    functions = {name for name in agora_analytics.__all__ if inspect.isfunction(getattr(agora_analytics, name))}
    assert functions <= {method.name for method in (*METHODS, *EXPORTS)}
