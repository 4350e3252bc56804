"""The last hour of a series: each window with its state, revisions applied, in bounded memory."""

from __future__ import annotations

from helpers.streaming import NETWORKS, USERS, WEB
from helpers.times import NOON
from helpers.web_server import gap, grouped, revision, window

from agora_analytics.ops.web.history import MAX_GROUPS, WINDOWS, SeriesHistory, WindowBoard


def history(*events) -> SeriesHistory:
    found = SeriesHistory(USERS)
    for event in events:
        found.add(event)
    return found


def test_a_window_is_complete_missing_late_or_a_gap():
    view = history(
        window(NOON, Native=1),
        window(NOON + 20, Native=None),
        window(NOON + 40, Native=None),
        revision(NOON + 40, "Native", None, 7),
        gap(NOON + 60, NOON + 100),
        window(NOON + 100, Native=5),
        revision(NOON + 100, "Native", 5, 6),
        revision(NOON + 100, "Native", 6, 8),
    ).view(NOON + 60)
    assert (view.start, view.final_before) == (NOON, NOON + 60)
    assert view.states == ["complete", "missing", "late", "gap", "gap", "late"]
    assert view.values == [1, None, 7, None, None, 8]
    assert view.reasons == {str(NOON + 20): "no data", str(NOON + 60): "outage", str(NOON + 80): "outage"}
    assert view.revisions == {str(NOON + 40): 1, str(NOON + 100): 2}


def test_windows_of_which_nothing_is_known_have_no_state():
    assert history(window(NOON, Native=1), window(NOON + 60, Native=2)).view(None).states == [
        "complete", None, None, "complete",
    ]  # fmt: skip


def test_an_hour_is_kept_whatever_comes():
    found = history(*(window(NOON + 20 * at, Native=at) for at in range(1_000)))
    assert len(found.cells) == WINDOWS
    assert found.newest() == NOON + 20 * 999
    found.add(gap(NOON, NOON + 10 * 86_400))
    assert len(found.cells) == WINDOWS
    assert {cell.state for cell in found.cells.values()} == {"gap"}
    assert found.newest() is None


def test_a_revision_of_a_window_that_is_gone_changes_nothing():
    found = history(*(window(NOON + 20 * at, Native=at) for at in range(400)))
    assert not found.add(revision(NOON, "Native", 0, 9))
    assert NOON not in found.cells
    assert not found.add(revision(NOON + 20 * 399, "WebRTC", 0, 9))


def test_a_window_that_is_repeated_or_comes_late_is_kept_in_order():
    found = history(window(NOON + 40, Native=3), window(NOON, Native=1), window(NOON + 40, Native=4))
    assert found.view(None).values == [1, None, 4]


def test_a_grouped_series_keeps_the_highest_values():
    found = SeriesHistory(NETWORKS)
    found.add(grouped(NOON, NETWORKS, [(f"net {at}", at) for at in range(200)]))
    found.add(grouped(NOON + 20, NETWORKS, [("net 199", 3), ("5G", 1)]))
    view = found.view(None)
    assert view.values is None
    assert len(view.groups) == MAX_GROUPS + 1
    assert (view.groups["net 199"], view.groups["5G"], view.groups["net 150"]) == ([199, 3], [None, 1], [150, None])
    assert "net 149" not in view.groups


def test_a_change_names_the_series_that_changed():
    board = WindowBoard([USERS, WEB])
    change = board.add(window(NOON, Native=1, WebRTC=2))
    assert (change.start, change.end) == (NOON, NOON + 20)
    assert {one.series: one.cell.value for one in change.changes} == {str(USERS): 1, str(WEB): 2}
    change = board.add(revision(NOON, "WebRTC", 2, 3))
    assert [(one.series, one.cell.value, one.cell.state) for one in change.changes] == [(str(WEB), 3, "late")]
    change = board.add(gap(NOON + 20, NOON + 80))
    assert (change.start, change.end) == (NOON + 20, NOON + 80)
    assert {one.cell.state for one in change.changes} == {"gap"}
    assert board.add(revision(NOON - 20, "WebRTC", 2, 3)) is None
