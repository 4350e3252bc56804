"""The worst calls behind an alert: one request for the list, a few for details, and never more than a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import attrs

from agora_analytics._core import validation
from agora_analytics._core.retry import Retry
from agora_analytics.client import AnalyticsClient, service_time, with_options
from agora_analytics.errors import AgoraError, PlanRefused
from agora_analytics.models import Call, Session
from agora_analytics.ops.alerts.alert import Alert, WorstCall, WorstUser
from agora_analytics.ops.alerts.ranking import freeze_impact, rate_of
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS, Endpoint
from agora_analytics.spans import DAY, WINDOW, Span, iso

__all__ = ["CallsInUse", "WorstCalls", "calls_in_use"]

_MARGIN: Final = 60
"""Seconds kept from the end of the plan's retention: time passes before a request is sent."""

_PAGE: Final = validation.PAGE_SIZE
_MAX_FOUND: Final = 8
"""Windows whose worst calls are kept for further alerts."""

_WORST_USERS: Final = 3
_PLACE: Final = "{call_id}"
_DAYS: Final = 3
"""Days whose spent requests are remembered; see `_forget`."""


@attrs.frozen(kw_only=True)
class CallsInUse:
    """The calls that were in use in a `span` and have frozen, worst first.

    If more calls were listed than one request returns, only those that began from `since_ts` on (UTC seconds) were
    looked at.
    """

    span: Span
    calls: tuple[Call, ...]
    since_ts: int | None = None

    @property
    def note(self) -> str:
        """What there is to know about the list; empty if it is complete."""
        return "" if self.since_ts is None else f"only calls that began since {iso(self.since_ts)} were looked at"


async def calls_in_use(
    client: AnalyticsClient, span: Span | None = None, *, metric: str = "", cname: str | None = None
) -> CallsInUse:
    """Return the calls that were in use in a span and have frozen, worst first, in one request.

    Without a span it is the newest window that the plan gives access to.

    Worst is the freeze rate of the call so far times its peak of users: of video or of audio if that is the `metric`.
    The request goes back as far as one may, since the service may list a call only where it began; a call that began
    even before that is left out. `GET /beta/analytics/call/lists`.

    Raises `ValueError` for a span that lies in the future, or that the plan does not keep any more, as soon as the
    service's clock is known; until then an answer decides.
    """
    limits = client.plan.of_endpoint(CALL_LISTS)
    queried = client.calls.recent(limits.longest_query) if span is None else _listed_span(client, span)
    try:
        page = await client.calls.page(*queried, cname=cname, page_size=_PAGE)
    except PlanRefused:
        if span is not None:
            _check_kept(client, span)  # by the date of the refusal
        raise
    # Only now the service's time is known for certain.
    if span is None:
        newest = limits.queryable(service_time(client).utc_second()).end // WINDOW * WINDOW
        span = Span(newest - WINDOW, newest)
    _check_kept(client, span)
    frozen = [call for call in page.items if _in_use(call, span) and freeze_impact(call, metric)]
    # The id as tie-breaker, so that alerts that are sent again name the same calls.
    frozen.sort(key=lambda call: (-(freeze_impact(call, metric) or 0), call.call_id))
    # Either may be missing: an answer without both is taken for whole.
    cut = page.has_more or (page.total_size or 0) > len(page.items)
    oldest = min((call.created_ts for call in page.items if call.created_ts), default=None)
    return CallsInUse(span=span, calls=tuple(frozen), since_ts=oldest if cut else None)


class WorstCalls:
    """Adds the worst calls to alerts, with links, within a budget of requests.

    ```python
    from agora_analytics.ops import alerts

    worst = alerts.WorstCalls(client, details=1, requests_per_day=50, link="https://ops.example.com/calls/{call_id}")
    print(worst.left_today)
    ```

    A window costs one request for the list of calls, however many alerts it has, and one for each of the `details`
    worst calls, whose worst users they then name. Each is sent once, without retries. The budget lasts over restarts
    if the watch has a named checkpoint. If the day's budget is spent, or a request fails or takes too long, the alerts
    say so in their `note` and are sent without.

    Args:
        client: for the App ID that is watched.
        limit: calls that an alert names at most.
        details: calls of a window whose sessions are fetched.
        requests_per_day: requests that alerts may cost in a day of the service (UTC).
        link: URL of a page about a call, with `{call_id}` in it; empty for none.
        timeout: seconds by which the alerts of a window may be held up.

    """

    def __init__(
        self,
        client: AnalyticsClient,
        *,
        limit: int = 3,
        details: int = 1,
        requests_per_day: int = 50,
        link: str = "",
        timeout: float = 20.0,
    ) -> None:
        own = validation.instance("client", client, AnalyticsClient)
        # A retry would cost more than the budget allows.
        self._client = with_options(own, retry=Retry(attempts=1), max_rate_limited=0)
        self._limit = validation.int_in_range("limit", limit, 1, _PAGE)
        self._details = validation.int_in_range("details", details, 0, _PAGE)
        self._requests_per_day = validation.int_in_range("requests_per_day", requests_per_day, 0)
        if link and _PLACE not in validation.non_empty_str("link", link):
            raise ValueError(f"link={validation.short_repr(link)}: allowed is a URL with {_PLACE} in it")
        self._link = link
        self._timeout = validation.number_in_range("timeout", timeout, above=True)
        self._time = service_time(client)
        self._spent: dict[int, int] = {}
        self._found: dict[tuple[Span, str, str | None], tuple[tuple[WorstCall, ...], str]] = {}

    @property
    def left_today(self) -> int:
        """The number of requests that alerts may still cost today."""
        return self._requests_per_day - self._spent.get(self._today, 0)

    @property
    def spent(self) -> dict[int, int]:
        """The requests that alerts have cost, by the newest days, in days since 1970: for a checkpoint."""
        return dict(self._spent)

    def add_spent(self, spent: Mapping[int, int]) -> None:
        """Count what alerts have cost before a restart, as `spent` said then; what is counted already is not added."""
        for day in sorted(spent):
            self._spent[day] = max(spent[day], self._spent.get(day, 0))
        self._forget()

    @property
    def _today(self) -> int:
        return self._time.utc_second() // DAY

    def _forget(self) -> None:
        """Keep three days: until the service's clock is known it may be either of two."""
        for day in list(self._spent)[:-_DAYS]:
            del self._spent[day]

    async def added_to(self, alert: Alert, *, cname: str | None = None) -> Alert:
        """Return the alert with the worst calls that were in use in the window that decided, and a note about them."""
        # By window and metric: several rules that fire together share one request.
        key = Span(alert.ts, alert.ts + WINDOW), alert.series.partition(" ")[0], cname
        if key not in self._found:
            self._found[key] = await self._look_up(*key)
            if len(self._found) > _MAX_FOUND:
                del self._found[next(iter(self._found))]
        calls, note = self._found[key]
        return attrs.evolve(alert, calls=calls, note=note)

    async def _look_up(self, span: Span, metric: str, cname: str | None) -> tuple[tuple[WorstCall, ...], str]:
        """Return the worst calls, as far as they could be looked up, and the note about them."""
        found: list[WorstCall] = []
        try:
            async with asyncio.timeout(self._timeout):
                note = await self._collect(found, span, metric, cname)
        except TimeoutError:
            note = f"the worst calls took longer than {self._timeout:g} s"
        except (AgoraError, ValueError) as error:
            note = f"the worst calls could not all be looked up: {error.args[0]}"
        return tuple(found), note

    async def _collect(self, found: list[WorstCall], span: Span, metric: str, cname: str | None) -> str:
        """Put the worst calls into a list, each as soon as it is known; return the note about them."""
        if not self._take():
            return self._spent_note("the worst calls were not looked up")
        in_use = await calls_in_use(self._client, span, metric=metric, cname=cname)
        worst = in_use.calls[: self._limit]
        found += map(self._worst_call, worst)
        for place, call in enumerate(worst[: self._details]):
            if not self._take():
                return self._spent_note("users were not looked up")
            found[place] = attrs.evolve(found[place], worst_users=await self._users(call, span, metric))
        nothing = "" if worst else "no call that was in use has frozen"
        return "; ".join(filter(None, (nothing, in_use.note)))

    async def _users(self, call: Call, span: Span, metric: str) -> tuple[WorstUser, ...]:
        queried = _queryable_span(self._client, CALL_SESSIONS, call.created_ts or 0, span.end)
        page = await self._client.calls.sessions_page(call.call_id, *queried)
        users = [user for user in map(_user, page.items) if _rate(user, metric)]
        users.sort(key=lambda user: (-_rate(user, metric), str(user.uid)))
        return tuple(users[:_WORST_USERS])

    def _take(self) -> bool:
        """Take a request of the day's budget, if there is one."""
        if self.left_today <= 0:
            return False
        # Before it is sent: a request that fails was counted by the service too.
        self._spent[self._today] = self._spent.get(self._today, 0) + 1
        self._forget()
        return True

    def _spent_note(self, what: str) -> str:
        return f"{what}: the {self._requests_per_day} requests that alerts may cost a day are used up"

    def _worst_call(self, call: Call) -> WorstCall:
        return WorstCall(
            call_id=call.call_id,
            cname=call.cname,
            started_ts=call.created_ts,
            users=call.call_pcu,
            audio_freeze_rate=call.call_audio_freeze_rate,
            video_freeze_rate=call.call_video_freeze_rate,
            link=self._link.replace(_PLACE, quote(call.call_id, safe="")),
        )


def _in_use(call: Call, span: Span) -> bool:
    ended = call.destroyed_ts if call.is_over else None
    return (call.created_ts or 0) < span.end and (ended is None or ended >= span.start)


def _listed_span(client: AnalyticsClient, span: Span) -> Span:
    """Return the span to list for the calls of another; raises `ValueError` if that is not kept, or of the future."""
    if service_time(client).confirmed:
        _check_kept(client, span)
    elif span.end <= _kept_from(client):
        # By a clock that no answer has confirmed: an answer decides.
        return Span(span.end - client.plan.of_endpoint(CALL_LISTS).longest_query, span.end)
    return _queryable_span(client, CALL_LISTS, 0, span.end)


def _kept_from(client: AnalyticsClient) -> int:
    return client.plan.of_endpoint(CALL_LISTS).oldest(service_time(client).utc_second()) + _MARGIN


def _check_kept(client: AnalyticsClient, span: Span) -> None:
    """Raise `ValueError` for a span of the future, or that the plan keeps nothing of."""
    now, kept_from = service_time(client).utc_second(), _kept_from(client)
    if span.end <= kept_from or span.start > now:
        raise ValueError(
            f"moment {iso(span.start)}: at least {iso(kept_from)}, which the plan {client.plan.name!r} keeps, and at"
            f" most {iso(now)}, which is now"
        )


def _queryable_span(client: AnalyticsClient, endpoint: Endpoint, start: int, end: int) -> Span:
    """Return the longest span of one request that ends at `end` and does not begin before `start`."""
    limits = client.plan.of_endpoint(endpoint)
    kept = limits.queryable(service_time(client).utc_second())
    end = min(end, kept.end)
    return Span(max(start, end - limits.longest_query, kept.start + _MARGIN), end)


def _user(session: Session) -> WorstUser:
    return WorstUser(
        uid=session.uid,
        network=session.network,
        platform=session.platform,
        audio_freeze_rate=session.user_audio_freeze_rate,
        video_freeze_rate=session.user_video_freeze_rate,
    )


def _rate(user: WorstUser, metric: str) -> float:
    return rate_of(metric, audio=user.audio_freeze_rate, video=user.video_freeze_rate) or 0.0
