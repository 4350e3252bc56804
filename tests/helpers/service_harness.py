"""A simulated service on a clock set by hand, with requests given as keywords."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import attrs
import msgspec
from helpers.times import NOON

from agora_analytics.plans import ENTERPRISE, Endpoint, Plan
from agora_analytics.protocols import Response
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, Variants, World
from agora_analytics.simulator.service.service import basic_auth

AUTHORIZATION = basic_auth(CUSTOMER_ID, CUSTOMER_SECRET)


def unlimited() -> Plan:
    """The enterprise plan without rate limits."""
    limits = {name: attrs.evolve(table, per_second=None, per_minute=None) for name, table in ENTERPRISE.limits.items()}
    return Plan("unlimited", {name: attrs.evolve(table, per_day=10**6) for name, table in limits.items()})


@attrs.define
class ManualClock:
    now: float = NOON

    def __call__(self) -> float:
        return self.now


class Harness:
    """A service and requests to it."""

    authorization = AUTHORIZATION

    def __init__(self, plan: Plan | str | None = None, **variants: Any) -> None:
        self.clock = ManualClock()
        self.service = Service(World(seed=7), plan or unlimited(), clock=self.clock, variants=Variants(**variants))

    @property
    def world(self) -> World:
        return self.service.world

    @staticmethod
    def query(**params: object) -> str:
        """The query of a GET with the right App ID."""
        return urlencode({"appid": APP_ID, **params})

    def send(self, endpoint: Endpoint, **params: object) -> Response:
        """Send a request with the right credentials and App ID; parameters that are None are left out."""
        app_id = params.pop("appid", APP_ID)
        present = {name: value for name, value in params.items() if value is not None}
        if endpoint.method == "GET":
            query, body = urlencode({"appid": app_id, **present}), None
        else:
            query, body = urlencode({"appid": app_id}), msgspec.json.encode(present)
        return self.service.answer(endpoint.method, endpoint.path, query, body, AUTHORIZATION)

    def get(self, endpoint: Endpoint, **params: object) -> Any:
        return msgspec.json.decode(self.send(endpoint, **params).body)

    def error(self, endpoint: Endpoint, **params: object) -> tuple[int, str]:
        document = self.get(endpoint, **params)
        assert document["data"] is None
        return document["code"], document["message"]
