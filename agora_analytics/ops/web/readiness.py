"""The two probes: whether the server is alive, and whether it has data to show."""

from __future__ import annotations

from typing import Literal

import attrs

from agora_analytics.ops.web.state import LiveState


@attrs.frozen(kw_only=True)
class Reason:
    """Why a probe says what it says: a word for programs, and a text."""

    code: Literal["failed", "starting", "windows", "calls", "ledger", "quota", "fleet"]
    text: str


@attrs.frozen(kw_only=True)
class ProbeView:
    """The answer of a probe as JSON.

    `status` is `ok`; `starting` before the first window; `degraded` if something is wrong that a restart would not
    mend; or `failed`. `reasons` says what is wrong, `notes` what is worth knowing, such as a wait for quota.
    """

    status: Literal["ok", "degraded", "starting", "failed"]
    ready: bool
    reasons: tuple[Reason, ...] = ()
    notes: tuple[Reason, ...] = ()


def probe(state: LiveState) -> ProbeView:
    """Return the state of the server."""
    reasons = tuple(_reasons(state))
    notes = tuple(_notes(state))
    codes = {reason.code for reason in reasons}
    if "failed" in codes:
        return ProbeView(status="failed", ready=False, reasons=reasons, notes=notes)
    # Not failed: a restart would cost requests and lose the last hour, and mend nothing.
    if codes - {"starting"}:
        # A fleet is another program's work: this server has its own data to show.
        return ProbeView(status="degraded", ready=codes == {"fleet"}, reasons=reasons, notes=notes)
    return ProbeView(status="starting" if codes else "ok", ready=not codes, reasons=reasons, notes=notes)


def _reasons(state: LiveState) -> list[Reason]:
    found: list[Reason] = []
    if state.started is None:
        found.append(Reason(code="starting", text="the server has not started"))
    if state.failed:
        found.append(Reason(code="failed", text="a part of the server has ended by a fault: see its log"))
    found += [Reason(code=view.name, text=view.trouble) for view in state.streams if view.trouble]
    if state.monitor.quota is not None and state.monitor.quota.ledger:
        found.append(Reason(code="ledger", text=state.monitor.quota.ledger))
    if state.fleet is not None and state.fleet.trouble:
        found.append(Reason(code="fleet", text=state.fleet.trouble))
    if state.series and not state.board.has_windows():
        found.append(Reason(code="starting", text="no window has come yet"))
    return found


def _notes(state: LiveState) -> list[Reason]:
    waiting = [view for view in state.streams if view.waits]
    return [Reason(code="quota", text=f"{view.name}: {view.health}") for view in waiting]
