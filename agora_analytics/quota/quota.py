"""The public view of the quota: what is left, when more can go, and what is reserved for streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.redaction import fingerprint
from agora_analytics.plans import Endpoint, Plan
from agora_analytics.quota.limiters import Limiters, Reserve
from agora_analytics.quota.priority import Priority

if TYPE_CHECKING:
    from agora_analytics.quota.snapshot import Forecast, QuotaSnapshot

__all__ = ["Quota", "fingerprint"]


class Quota:
    """What the plan still allows, as `client.quota` shows it.

    Every request of a client waits for its permit by itself; nothing here has to be called before one. All numbers
    count the requests of everyone who shares the ledger.

    ```python
    async with AnalyticsClient.from_env() as client:
        for state in await client.quota.snapshot():
            print(state.counter, state.unit, f"{state.left} of {state.limit} left")
        forecast = await client.quota.forecast(3_000, "call_details")
        print("3,000 more by", forecast.at)
    ```
    """

    def __init__(self, limiters: Limiters) -> None:
        self._limiters = limiters

    @property
    def plan(self) -> Plan:
        """The plan whose limits are kept."""
        return self._limiters.plan

    @property
    def enforced(self) -> bool:
        """Whether requests wait for the plan; False after `AnalyticsClient(quotas=False)`."""
        return self._limiters.enforced

    @property
    def confirmed(self) -> bool:
        """Whether two sources agree on the service's clock: two answers, or an answer and the host's clock.

        False before the first answer. Until it is true, nothing is given up because of the time.
        """
        return self._limiters.time.confirmed

    async def snapshot(self) -> QuotaSnapshot:
        """Return the state of every counter and unit, in the plan's order, shortest unit first, and of the clock.

        Raises `LedgerError` where the ledger cannot be read.
        """
        return await self._limiters.snapshot()

    async def forecast(
        self, requests: int, counter: str | Endpoint, *, priority: Priority | str = Priority.INTERACTIVE
    ) -> Forecast:
        """Return when so many more requests will have been accepted, after those that wait in this process.

        `counter` is one of the plan's, as `snapshot` names them, or an endpoint. With the priority of exports, each day
        has only what they do not leave to others. Raises `ValueError` for another counter or priority, and for less
        than one request; `LedgerError` where the ledger cannot be read.
        """
        return await self._limiters.forecast(requests, counter, priority)

    def reserve(self, endpoint: Endpoint) -> Reserve:
        """Return a reservation of requests that exports leave to a stream: `async with quota.reserve(…) as kept: …`.

        It reserves nothing until `kept.keep` says how many, and nothing after the block.
        """
        return self._limiters.reserve(endpoint)
