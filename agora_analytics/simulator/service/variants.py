"""What the reference leaves open or contradicts, and what a service may do besides, as settings.

A client has to live with either reading, and with all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal

import attrs

from agora_analytics._core import validation
from agora_analytics.simulator.service import settings
from agora_analytics.simulator.service.other_programs import Spender
from agora_analytics.simulator.world.entities import CallChange

DateStyle = Literal["exact", "timer", "lazy", "absent"]
UnfinishedEnd = Literal["null", "zero", "last_seen"]
Beyond = Literal["empty", "refused", "repeated", "ended"]
Turning = Literal["right", "never", "alternating"]
NoFreeze = Literal["null", "zero", "absent"]


def _all_changes(changes: object) -> tuple[CallChange, ...]:
    return validation.instances("changes", changes, CallChange)


def _all_spenders(spenders: object) -> tuple[Spender, ...]:
    return validation.instances("others", spenders, Spender)


@attrs.frozen(cache_hash=True)
class Odds:
    """How often chance changes calls, and by how much; false where it changes none."""

    deleted: float
    endless: float
    moved: float
    moved_by: int

    def __bool__(self) -> bool:
        return bool(self.deleted or self.endless or self.moved)


@attrs.frozen(kw_only=True)
class Quirks:
    """How a simulated service reads the open points of the reference; the defaults follow its examples.

    Attributes:
        success_code: `code` of a success: 200, 0, or None for no such field.
        message: `message` of a success.
        calls_overlap: a search selects calls that overlap the time frame, not those that start in it.
        sessions_overlap: session details select sessions that overlap the time frame, not those that start in it.
        unfinished_end: what `destroyed_ts` and `leave_ts` are before the end: null, 0, or the last moment seen.
        has_more: whether pages carry `has_more`.
        totals: whether pages carry `total_size`, `page_no` and `page_size`.
        most_rows: rows of a list of calls or sessions that can be had at most, whatever it says of more.
        beyond: what a page further on is: empty, refused (400), the last page before it, or empty where the page before
            it says that none follows.
        turning: which page is shown: the one that is asked for, the first whichever is asked for, or the first and the
            second in turn.
        always_more: `has_more` is true on every page.
        total_off: how much too large `total_size` is.
        arriving: new rows before all others that come between two pages of a list, so that the others move on.
        arriving_pages: pages before which new rows come; None: before every one.
        late_calls: fraction of calls that appear in searches only `late_by` seconds after the plan's delay.
        uid_as_text: user IDs are text.
        roles_as_text: `roles` is one text.
        untold_ends: whether `destroyed_ts` of calls that are over stays what `unfinished_end` says.
        web_audio_freeze: what the audio freeze rate of a web user is.
        echo_other_name: rows name the dimension, or a peak metric, by its other spelling.
        day_starts_at: second of the UTC day at which days of Data Insights begin and are stamped, such as 57,600.
        end_inclusive: Data Insights include the bucket that starts at `endTs`.
        settles_after: seconds after which Data Insights are final; before, counts are up to 3 % low.
        total_as_object: an aggregate without dimension is one object, not a list of one.
        late_windows: fraction of real-time windows that are missing until `late_by` seconds after the plan's delay.
        revised_windows: fraction of real-time windows that are low until `late_by` seconds after the plan's delay.
        late_by: seconds; see above.
        bare_top_list: top lists are a list, not an object with a `list`.
        aligned_echo: `windowStartTs` is rounded to its window instead of echoing `ts`.
        date: the `Date` header: of the moment, renewed on a timer of half a second, renewed by the first request
            more than a second after the last renewal, or absent.
        date_ahead: seconds by which the clock that dates answers is ahead of the one that counts requests.
        refusals_count: requests refused for frequency are counted too.
        whole_seconds: the service compares times with its clock in whole seconds, which never allows more than the
            documented inequalities do; otherwise with the fraction too.
        shuffled_rows: rows of real-time answers (not of top lists) come in another order each time.
        vanishing_rows: fraction of real-time rows that no answer has any more from twice `late_by` seconds after the
            plan's delay on, single groups of a window among them.
        deleted_calls: fraction of calls that are deleted at some moment, as often while they go on as after their end.
        endless_calls: fraction of calls that never end.
        moved_calls: fraction of calls whose `created_ts` moves, within ten minutes of their start.
        moved_by: seconds by which it moves at most, to either side.
        changes: what befalls single calls.
        unknown_call: `code` with which details of a call are refused that the service does not know; None: they are
            answered, with nothing in them. A deleted call's are refused in any case, then with 404.
        others: other programs that spend from the same counters.

    """

    success_code: Literal[0, 200] | None = 200
    message: str | None = "success"
    calls_overlap: bool = False
    sessions_overlap: bool = True
    unfinished_end: UnfinishedEnd = "null"
    has_more: bool = True
    totals: bool = True
    most_rows: int | None = None
    beyond: Beyond = "empty"
    turning: Turning = "right"
    always_more: bool = False
    total_off: int = 0
    arriving: int = 0
    arriving_pages: int | None = None
    late_calls: float = 0.0
    uid_as_text: bool = False
    roles_as_text: bool = False
    untold_ends: bool = False
    web_audio_freeze: NoFreeze = "null"
    echo_other_name: bool = False
    day_starts_at: int = 0
    end_inclusive: bool = True
    settles_after: int = 172_800
    total_as_object: bool = False
    late_windows: float = 0.0
    revised_windows: float = 0.0
    late_by: int = 60
    bare_top_list: bool = False
    aligned_echo: bool = False
    date: DateStyle = "exact"
    date_ahead: float = 0.0
    refusals_count: bool = True
    whole_seconds: bool = True
    shuffled_rows: bool = False
    vanishing_rows: float = 0.0
    deleted_calls: float = 0.0
    endless_calls: float = 0.0
    moved_calls: float = 0.0
    moved_by: int = 120
    changes: tuple[CallChange, ...] = attrs.field(default=(), converter=_all_changes)
    unknown_call: int | None = None
    others: tuple[Spender, ...] = attrs.field(default=(), converter=_all_spenders)
    _by_call: Mapping[str, tuple[CallChange, ...]] = attrs.field(init=False, repr=False, eq=False)
    odds: Odds = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, **_RULES)

    @odds.default
    def _odds_of_changes(self) -> Odds:
        return Odds(self.deleted_calls, self.endless_calls, self.moved_calls, self.moved_by)

    @_by_call.default
    def _changes_by_call(self) -> Mapping[str, tuple[CallChange, ...]]:
        found: dict[str, tuple[CallChange, ...]] = {}
        for change in self.changes:
            found[change.call_id] = (*found.get(change.call_id, ()), change)
        return found

    @property
    def changes_calls(self) -> bool:
        """Whether the service tells of any call otherwise than it happened."""
        return bool(self.changes or self.odds)

    def changes_of(self, call_id: str) -> tuple[CallChange, ...]:
        """Return the changes named for one call."""
        return self._by_call.get(call_id, ())

    @classmethod
    def rough(cls) -> Quirks:
        """Return the other reading of every open point: what a client must survive all the same."""
        return cls(
            success_code=0,
            message=None,
            calls_overlap=True,
            sessions_overlap=False,
            unfinished_end="last_seen",
            has_more=False,
            late_calls=0.1,
            uid_as_text=True,
            roles_as_text=True,
            web_audio_freeze="absent",
            echo_other_name=True,
            day_starts_at=57_600,
            end_inclusive=False,
            total_as_object=True,
            late_windows=0.1,
            revised_windows=0.1,
            bare_top_list=True,
            aligned_echo=True,
            date="lazy",
            whole_seconds=False,
            shuffled_rows=True,
            vanishing_rows=0.1,
            unknown_call=404,
            date_ahead=0.3,
        )


def _success_code(name: str, value: object) -> int | None:
    if value is not None and validation.int_in_range(name, value, -(2**31)) not in {0, 200}:
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are 200, 0 and None")
    return None if value is None else validation.as_int(value)


_BY_ANNOTATION: Final[Mapping[str, Any]] = {
    "bool": validation.boolean,
    "int": settings.count,
    "int | None": settings.or_none(settings.count),
    "float": settings.fraction,
    "DateStyle": partial(settings.one_of, DateStyle),
    "UnfinishedEnd": partial(settings.one_of, UnfinishedEnd),
    "Beyond": partial(settings.one_of, Beyond),
    "Turning": partial(settings.one_of, Turning),
    "NoFreeze": partial(settings.one_of, NoFreeze),
}

_OWN: Final[Mapping[str, Any]] = {
    "success_code": _success_code,
    "message": settings.or_none(settings.words),
    "total_off": settings.whole,
    "unknown_call": settings.or_none(settings.whole),
    "date_ahead": settings.seconds,
    "day_starts_at": partial(validation.int_in_range, least=0, most=86_399),
}
"""Rules of fields of which the annotation does not say enough."""

_CONVERTED: Final = frozenset({"changes", "others"})

_RULES: Final[Mapping[str, Any]] = {
    field.name: _OWN.get(field.name) or _BY_ANNOTATION[str(field.type)]
    for field in attrs.fields(Quirks)
    if field.init and field.name not in _CONVERTED
}
