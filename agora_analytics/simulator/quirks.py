"""What the reference leaves open or contradicts, as settings: a client has to live with either reading."""

from __future__ import annotations

from typing import Literal

import attrs

DateStyle = Literal["exact", "timer", "lazy", "absent"]


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
        late_calls: fraction of calls that appear in searches only `late_by` seconds after the plan's delay.
        uid_as_text: user IDs are text.
        roles_as_text: `roles` is one text.
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

    """

    success_code: Literal[0, 200] | None = 200
    message: str | None = "success"
    calls_overlap: bool = False
    sessions_overlap: bool = True
    unfinished_end: Literal["null", "zero", "last_seen"] = "null"
    has_more: bool = True
    totals: bool = True
    late_calls: float = 0.0
    uid_as_text: bool = False
    roles_as_text: bool = False
    web_audio_freeze: Literal["null", "zero", "absent"] = "null"
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

    @classmethod
    def rough(cls) -> Quirks:
        """Return the opposite of every default: what a client must survive all the same."""
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
            date_ahead=0.3,
        )
