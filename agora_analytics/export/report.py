"""What an export reports: progress while it runs, and a report at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from agora_analytics.spans import Span

__all__ = ["ExportProgress", "ExportReport", "ShardsReport", "Skipped"]


@attrs.frozen(kw_only=True)
class Skipped:
    """What was selected and is not in the export, and why.

    Attributes:
        app_id: the App ID, empty for several.
        what: one of

            - `app`: all of an App ID;
            - a source (the list of calls, a series): a span of it;
            - `details`: details of calls;
            - an endpoint: `rows` of its answers do not fit the API reference. `reason` is that of the first; each is
              counted whenever it comes;
            - a dataset: in `rows` of it a time that is no date is null, or its file is gone or was altered;
            - `database`: the file of all datasets is gone or was altered.

        reason: why, in words.
        span: when; None if unknown.
        calls: the number of calls; None if unknown.
        rows: the number of rows; None if unknown.
        call_ids: the first of the calls.
        again: whether the next run tries it again, since the service refused it or truncated a list.

    """

    app_id: str
    what: str
    reason: str
    span: Span | None = None
    calls: int | None = None
    rows: int | None = None
    call_ids: tuple[str, ...] = ()
    again: bool = False


@attrs.frozen(kw_only=True)
class ExportProgress:
    """How far a run is.

    Attributes:
        rows: rows fetched so far, by dataset.
        written: rows of them that are in files.
        requests: requests of this run that were answered, or failed.
        slices: slices of time still pending.
        calls: calls whose details are still pending.
        left: requests left today, by quota counter.
        waiting: requests that wait for quota.
        early: calls of `calls` that ended so recently that the service has no details yet.
        done_at: when the run will be done, as far as known.
        skipped: calls without details, and spans, that were selected and that the service refused or no longer has.
        expires_at: when the plan lets the service drop the oldest data that is still pending; None if nothing is.

    """

    rows: Mapping[str, int]
    written: int
    requests: int
    slices: int
    calls: int
    left: Mapping[str, int]
    waiting: int
    early: int = 0
    done_at: datetime | None = None
    skipped: int = 0
    expires_at: datetime | None = None


@attrs.frozen(kw_only=True)
class ExportReport:
    """What a run did, and what the export holds now.

    Attributes:
        to: the folder or URL.
        rows: rows of the whole export, by dataset.
        parts: files of the whole export, or parts of its database.
        requests: requests of this run.
        unfinished: calls that were open; the next run fetches them again.
        provisional: rows that may still change; the next run fetches them again.
        pending: calls and slices that were not requested because of `max_requests` or `drain`.
        skipped: what is missing, and why.
        below_min_users: calls whose details were not fetched because of `min_users`.
        narrowed: requests of this run made because the service truncated a list, which was then read in narrower spans.
        unmeasured: sessions for which the service sent none of the requested metrics. It may have none, as for users
            who stayed for seconds; they do not make an export incomplete.

    """

    to: str
    rows: Mapping[str, int]
    parts: int
    requests: int
    unfinished: int
    provisional: int
    pending: int
    skipped: tuple[Skipped, ...]
    below_min_users: int = 0
    narrowed: int = 0
    unmeasured: int = 0

    @property
    def complete(self) -> bool:
        """Whether the export holds everything selected that the service has now: nothing is skipped or pending."""
        return not self.skipped and not self.pending


@attrs.frozen(kw_only=True)
class ShardsReport:
    """What the shards of a selection hold together.

    Attributes:
        to: the folder or URL of all shards.
        rows: rows by dataset.
        parts: files of all shards, or parts of their databases.
        missing: names of shards of which no run has ended, or only one of a shorter selection.
        incomplete: names of shards whose last run left something pending or skipped it.
        skipped: what is missing in the `incomplete` ones, and why.

    """

    to: str
    rows: Mapping[str, int]
    parts: int
    missing: tuple[str, ...]
    incomplete: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    @property
    def complete(self) -> bool:
        """Whether every shard is complete, and so the whole selection."""
        return not self.missing and not self.incomplete


ProgressCallback = Callable[[ExportProgress], None]
"""Called with the progress about once a second; an exception from it ends the export."""
