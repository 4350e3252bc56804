"""Charts of a report as inline SVG: no script draws them, and a table beside each says the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from agora_analytics.ops.report.markup import Html, figure, is_finite, joined, table, tag, text
from agora_analytics.spans import moment

Points = Sequence[tuple[int, float | None]]
"""UTC second and value, in order of time; None where there is none."""

_WIDTH: Final = 640
_HEIGHT: Final = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 14, 14, 30
_MAX_ROWS: Final = 400
_GAP: Final = 1.5
"""Times the usual step after which a line is broken: nobody knows what was between."""


def bar(value: float | None, highest: float) -> Html:
    """Return a bar beside a figure that says the same."""
    width = 0.0 if not value or not is_finite(value) or highest <= 0 else max(1.0, min(100.0, 100 * value / highest))
    rect = Html(f'<rect width="{width:.1f}" height="8" rx="1"/>')
    return tag("svg", rect, class_="bar", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true")


def lines(title: str, series: Sequence[tuple[str, Points]], unit: str, *, by_day: bool = False) -> Html:
    """Return a line chart of series that share a unit, its legend, and its values as a table that can be opened."""
    shown = [(label, [one for one in points if one[1] is not None and is_finite(one[1])]) for label, points in series]
    stamps = sorted({ts for _, points in shown for ts, _ in points})
    if not stamps:
        return tag("p", text(f"{title}: no values"), class_="none")
    highest = max(value or 0.0 for _, points in shown for _, value in points) or 1.0
    plot = joined(
        [_frame(stamps, highest, unit, by_day=by_day)]
        + [_line(number, points, stamps, highest) for number, (_, points) in enumerate(shown, 1)]
    )
    chart = tag("svg", plot, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=f"{title}; the values are below")
    keys = joined(
        tag("span", joined([tag("i", Html(""), class_=f"line-{number}"), text(label)]), class_="key")
        for number, (label, _) in enumerate(shown, 1)
    )
    caption = tag("figcaption", joined([tag("b", text(title)), Html(" "), keys]))
    return tag("figure", joined([caption, chart, _values(title, shown, stamps, unit, by_day=by_day)]))


def _values(
    title: str, series: Sequence[tuple[str, Points]], stamps: Sequence[int], unit: str, *, by_day: bool
) -> Html:
    found = [dict(points) for _, points in series]
    step = -(-len(stamps) // _MAX_ROWS)
    note = f" (every {step}th)" if step > 1 else ""
    rows = ([text(_stamp(ts, by_day=by_day)), *(figure(one.get(ts), unit) for one in found)] for ts in stamps[::step])
    heads = [text("UTC"), *(text(label) for label, _ in series)]
    listed = table(title, heads, rows, numbers=[False, *(True for _ in series)])
    return tag("details", joined([tag("summary", text(f"Values{note}")), listed]))


def _frame(stamps: Sequence[int], highest: float, unit: str, *, by_day: bool) -> Html:
    """Return the grid, and the labels of both axes."""
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _y(share * highest, highest)
        label = figure(share * highest, unit)
        parts.append(
            Html(
                f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
            )
        )
    ends = ((stamps[0], "start"), (stamps[-1], "end")) if len(stamps) > 1 else ((stamps[0], "middle"),)
    parts += [
        Html(
            f'<text x="{_x(ts, stamps):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">'
            f"{text(_stamp(ts, by_day=by_day))}</text>"
        )
        for ts, anchor in ends
    ]
    return joined(parts)


def _line(number: int, points: Points, stamps: Sequence[int], highest: float) -> Html:
    steps = sorted(later - earlier for (earlier, _), (later, _) in pairwise(points))
    usual = steps[len(steps) // 2] if steps else 0
    runs: list[list[str]] = []
    before = None
    for ts, value in points:
        if before is None or ts - before > _GAP * usual:
            runs.append([])
        runs[-1].append(f"{_x(ts, stamps):.1f} {_y(value or 0.0, highest):.1f}")
        before = ts
    path = "".join(f"M{'L'.join(run)}" for run in runs if len(run) > 1)
    # A value alone between two gaps would be a line of no length.
    alone = (run[0].split() for run in runs if len(run) == 1)
    dots = (Html(f'<circle class="line-{number}" cx="{x}" cy="{y}" r="4"/>') for x, y in alone)
    return joined([Html(f'<path class="line line-{number}" d="{path}"/>') if path else Html(""), *dots])


def _x(ts: int, stamps: Sequence[int]) -> float:
    extent = stamps[-1] - stamps[0]
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((ts - stamps[0]) / extent if extent else 0.5)


def _y(value: float, highest: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (max(0.0, value) / highest)


def _stamp(ts: int, *, by_day: bool) -> str:
    found = moment(ts)
    return f"{found:{'%Y-%m-%d' if by_day else '%m-%d %H:%M:%S'}}" if found else str(ts)
