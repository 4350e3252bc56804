"""What an export will take: the result of `client.export.estimate`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from agora_analytics.export.report import Skipped

__all__ = ["DatasetEstimate", "ExportEstimate"]


@attrs.frozen(kw_only=True)
class DatasetEstimate:
    """Estimated size of one dataset; `bytes` as plain JSON Lines."""

    dataset: str
    rows: int
    bytes: int


@attrs.frozen(kw_only=True)
class ExportEstimate:
    """What an export will take.

    Attributes:
        calls: calls that the selection's filters let through.
        calls_range: with a filter, the least and the most that `calls` may be with about 95 % confidence, since only
            pages of the lists were read. None if all calls were read, or if there is nothing to judge by: no filter
            applies, several channels are selected (only the first is sampled), or the service reports no totals.
        counted: whether `calls` is the service's own count: all slices were sampled, and no filter applies. Otherwise
            it is estimated.
        requests: estimated requests, by quota counter of the plan.
        spent: requests that the estimate itself made.
        estimates: rows and bytes of each dataset about calls.
        done_at: when the export will be done if it has all of the quota but what exports leave to others: what streams
            have reserved, what other programs probably use, and 5 % of each day; None if the client enforces no quota.
        expired: what the export cannot fetch: it has expired, will expire before its turn, or its App ID is refused.

    """

    calls: int
    calls_range: tuple[int, int] | None
    counted: bool
    requests: Mapping[str, int]
    spent: int
    estimates: tuple[DatasetEstimate, ...]
    done_at: datetime | None
    expired: tuple[Skipped, ...]
