"""What an export says of itself: while it runs, and in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from agora_analytics.spans import Span

__all__ = ["ExportProgress", "ExportReport", "Skipped"]


@attrs.frozen(kw_only=True)
class Skipped:
    """What was asked for and is not there, and why.

    `what` is `app` (all of an App ID), a source (the list of calls, a series), `details`, or an endpoint some of whose
    `rows` do not fit the reference (`reason` is of the first, and each is counted whenever it comes), or a dataset some
    of whose `rows` have null for a time that is no date, or whose file is gone or was altered (`database`: the file of
    all); `calls` is how many calls are meant, None where it is not
    known, and `call_ids` names the first of them; `span` is when. `again` says that the next run asks for it again,
    since the service refused it or cut it off.
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

    `rows` that came by dataset, `written` rows of them that are in files, `requests` that were answered or failed;
    `slices` of time and `calls` whose details are still to be asked for; `left` is the requests left today by counter,
    `waiting` the requests that wait for quota, `early` those that wait for what the service has later, as details of
    calls that have just ended; `done_at` is when it will be done, as far as is known.
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


@attrs.frozen(kw_only=True)
class ExportReport:
    """What a run did, and what the export holds now.

    `rows` by dataset and the number of `parts` are of the whole export, `requests` of this run. `unfinished` calls go
    on: they are asked for again by the next run, as is what is `provisional` (rows). `pending` calls and slices were
    not asked for, since `max_requests` did not allow it; what was refused is in `skipped` instead. `narrowed` of the
    requests were made since the service cut a list off, so that it was asked for again over less time; the details of
    `too_small` calls were not wanted (`min_users`). Of `unmeasured` sessions the service told none of the metrics
    that were asked for: it may have none, as of users who were there for seconds, so they are no reason not to be
    `complete`.
    """

    to: str
    rows: Mapping[str, int]
    parts: int
    requests: int
    unfinished: int
    provisional: int
    pending: int
    skipped: tuple[Skipped, ...]
    too_small: int = 0
    narrowed: int = 0
    unmeasured: int = 0

    @property
    def complete(self) -> bool:
        """Whether all that was asked for is there, as far as the service can tell it now."""
        return not self.skipped and not self.pending


ProgressCallback = Callable[[ExportProgress], None]
"""Is told how far an export is, about once a second; what it raises ends the export."""
