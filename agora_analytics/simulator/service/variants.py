"""Variants of the service's behaviour: where the API reference is silent or contradicts itself, and misbehaviour.

A client has to work with all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal

import attrs

from agora_analytics._core import validation
from agora_analytics.simulator import validators
from agora_analytics.simulator.service.other_programs import OtherProgram
from agora_analytics.simulator.world.entities import CallChange

DateStyle = Literal["exact", "timer", "lazy", "absent"]
UnfinishedEnd = Literal["null", "zero", "last_seen"]
Beyond = Literal["empty", "refused", "repeated", "ended"]
Turning = Literal["right", "never", "alternating"]
NoFreeze = Literal["null", "zero", "absent"]


def _call_changes(changes: object) -> tuple[CallChange, ...]:
    return validation.instances("changes", changes, CallChange)


def _other_programs(programs: object) -> tuple[OtherProgram, ...]:
    return validation.instances("others", programs, OtherProgram)


# A key of caches, and hashed for each row.
@attrs.frozen(cache_hash=True)
class Odds:
    """Probabilities of random changes of calls; false if there are none."""

    deleted: float
    endless: float
    moved: float
    moved_by: int

    def __bool__(self) -> bool:
        return bool(self.deleted or self.endless or self.moved)


@attrs.frozen(kw_only=True)
class Variants:
    """How the simulated service behaves; the defaults follow the examples of the API reference.

    ```python
    from agora_analytics.simulator import Simulation, Variants, World

    simulation = Simulation(world=World(seed=7), variants=Variants(late_windows=0.1, shuffled_rows=True))
    simulation.variants = Variants.hostile()  # other readings of the reference; may be replaced at any time
    ```

    Attributes:
        success_code: `code` of a success: 200, 0, or None to leave the field out.
        message: `message` of a success.
        calls_overlap: a search selects calls that overlap the time range, instead of those that start in it.
        sessions_overlap: session details select sessions that overlap the time range, instead of those that start in
            it.
        unfinished_end: `destroyed_ts` and `leave_ts` before the end: `null`, `zero`, or `last_seen`, the latest second
            that the service knows.
        has_more: pages contain `has_more`.
        totals: pages contain `total_size`, `page_no` and `page_size`.
        max_rows: lists of calls or sessions are truncated after this many rows, though `total_size` and `has_more`
            count all of them; None: never.
        beyond: pages after `max_rows` are `empty`, `refused` with code 400, `repeated` (the last rows again), or
            `ended`: empty, and `has_more` of the page before is false.
        turning: `right`: the requested page is served; `never`: always the first; `alternating`: the first for odd page
            numbers, the second for even ones.
        always_more: `has_more` is true on every page.
        total_off: how much `total_size` is too large (negative: too small).
        arriving: new rows that arrive at the front of a list before each further page, so that all others move back.
        arriving_pages: how many pages new rows arrive before; None: before every one.
        late_calls: fraction of calls that appear in searches only `late_by` seconds after the plan's delay.
        uid_as_text: user IDs are strings.
        roles_as_text: `roles` is one comma-separated string.
        unreported_ends: `destroyed_ts` of finished calls stays what `unfinished_end` says.
        web_audio_freeze: the audio freeze rate of web users: `null`, `zero` or `absent`.
        echo_other_name: rows use the alternative name of a dimension or of a peak metric.
        day_starts_at: second of the UTC day at which days of Data Insights start, such as 57,600.
        end_inclusive: Data Insights include the bucket that starts at `endTs`.
        settles_after: seconds after which Data Insights are final; before, counts are up to 3 % low.
        total_as_object: a total without dimension is an object instead of a list of one object.
        late_windows: fraction of real-time windows (late data) missing until `late_by` seconds after the plan's delay.
        revised_windows: fraction of real-time windows that are too low until `late_by` seconds after the plan's delay.
        late_by: seconds, for `late_calls`, `late_windows`, `revised_windows` and `vanishing_rows`.
        bare_top_list: top lists are a list instead of an object with a `list`.
        aligned_echo: `windowStartTs` is rounded down to its window instead of echoing `ts`.
        date: the `Date` header: `exact`, updated by a `timer` of half a second, `lazy` (updated by the first request
            more than a second after the last update), or `absent`.
        date_ahead: seconds by which the clock of the `Date` header is ahead of the one that counts requests.
        refusals_count: requests rejected by a rate limit count against it too.
        whole_seconds: the service compares time ranges with its clock in whole seconds, which is never more permissive
            than the documented inequalities; otherwise with fractions.
        shuffled_rows: rows of real-time answers (except top lists) are in a different order each time.
        vanishing_rows: fraction of real-time rows (single groups of a window) that disappear from answers twice
            `late_by` seconds after the plan's delay.
        deleted_calls: fraction of calls that are deleted at a random time, half of them before their end.
        endless_calls: fraction of calls that never end.
        moved_calls: fraction of calls whose `created_ts` changes once, within ten minutes of their start.
        moved_by: the largest change in seconds, in either direction.
        changes: changes of single calls.
        unknown_call: `code` of the error for details of an unknown call; None: the answer is empty. Details of a
            deleted call are always refused, then with 404.
        others: other programs that use up the same quota.

    """

    success_code: Literal[0, 200] | None = 200
    message: str | None = "success"
    calls_overlap: bool = False
    sessions_overlap: bool = True
    unfinished_end: UnfinishedEnd = "null"
    has_more: bool = True
    totals: bool = True
    max_rows: int | None = None
    beyond: Beyond = "empty"
    turning: Turning = "right"
    always_more: bool = False
    total_off: int = 0
    arriving: int = 0
    arriving_pages: int | None = None
    late_calls: float = 0.0
    uid_as_text: bool = False
    roles_as_text: bool = False
    unreported_ends: bool = False
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
    changes: tuple[CallChange, ...] = attrs.field(default=(), converter=_call_changes)
    unknown_call: int | None = None
    others: tuple[OtherProgram, ...] = attrs.field(default=(), converter=_other_programs)
    _by_call: Mapping[str, tuple[CallChange, ...]] = attrs.field(init=False, repr=False, eq=False)
    odds: Odds = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, **_VALIDATORS)

    @odds.default
    def _odds_of_changes(self) -> Odds:
        return Odds(self.deleted_calls, self.endless_calls, self.moved_calls, self.moved_by)

    @_by_call.default
    def _changes_by_call(self) -> Mapping[str, tuple[CallChange, ...]]:
        by_call: dict[str, tuple[CallChange, ...]] = {}
        for change in self.changes:
            by_call[change.call_id] = (*by_call.get(change.call_id, ()), change)
        return by_call

    @property
    def changes_calls(self) -> bool:
        """Whether the service reports any call differently from what happened."""
        return bool(self.changes or self.odds)

    def changes_of(self, call_id: str) -> tuple[CallChange, ...]:
        """Return the changes of one call that are named in `changes`."""
        return self._by_call.get(call_id, ())

    @classmethod
    def hostile(cls) -> Variants:
        """Return variants that differ from the defaults wherever the API reference leaves a choice: a stress test."""
        # One line for each variant: longer than 25 lines for that.
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
    "int": validators.non_negative,
    "int | None": validators.optional(validators.non_negative),
    "float": validators.fraction,
    "DateStyle": partial(validators.literal, DateStyle),
    "UnfinishedEnd": partial(validators.literal, UnfinishedEnd),
    "Beyond": partial(validators.literal, Beyond),
    "Turning": partial(validators.literal, Turning),
    "NoFreeze": partial(validators.literal, NoFreeze),
}

_BY_NAME: Final[Mapping[str, Any]] = {
    "success_code": _success_code,
    "message": validators.optional(validators.string),
    "total_off": validators.integer,
    "unknown_call": validators.optional(validators.integer),
    "date_ahead": validators.finite,
    "day_starts_at": partial(validation.int_in_range, least=0, most=86_399),
}
"""Validators of fields whose annotation does not say enough."""

_CONVERTED: Final = frozenset({"changes", "others"})

_VALIDATORS: Final[Mapping[str, Any]] = {
    field.name: _BY_NAME.get(field.name) or _BY_ANNOTATION[str(field.type)]
    for field in attrs.fields(Variants)
    if field.init and field.name not in _CONVERTED
}
