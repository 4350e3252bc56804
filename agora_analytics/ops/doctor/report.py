"""What an examination found, as values."""

from __future__ import annotations

from typing import Literal

import attrs

from agora_analytics.ops.doctor.profile import AccountProfile
from agora_analytics.plans import Unit
from agora_analytics.quota.snapshot import ClockState

__all__ = ["DoctorReport", "Finding", "HostTiming", "LimitFinding"]

Status = Literal["ok", "warning", "failed", "unknown", "skipped"]
"""`warning`: it works, but look at it; `unknown`: the answers do not show it; `skipped`: it would only have failed."""


@attrs.frozen(kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the name of the check, as in `checklist`.
        status: `ok`, `warning`, `failed`, `unknown` or `skipped`.
        answer: what was found, in a sentence.
        hint: what to do about it; empty if there is nothing to do.
        requests: the requests that it cost.

    """

    check: str
    status: Status
    answer: str
    hint: str = ""
    requests: int = 0


@attrs.frozen(kw_only=True)
class HostTiming:
    """How one host answered: seconds from the permit to the whole answer, or None and the `error`."""

    host: str
    seconds: float | None
    error: str = ""


@attrs.frozen(kw_only=True)
class LimitFinding:
    """One rate limit of the account: the plan's number, and the service's own where one of its refusals named it."""

    counter: str
    unit: Unit
    planned: int
    named: int | None


@attrs.frozen(kw_only=True)
class DoctorReport:
    """What is known after an examination; None stands for what the answers did not show.

    Attributes:
        findings: one for each check of `checklist`, in its order.
        hosts: every host, in the client's order.
        clock: the service's clock beside the host's; None if no answer arrived.
        limits: every rate limit of the plan.
        end_inclusive: whether Data Insights include the bucket that starts at `endTs`.
        selection: whether a search for calls selects those that `start` in the time range or those that `overlap` it.
        peak_metrics: the names of peak metrics that the service accepts.
        shared_counters: whether endpoints of one table share a counter; always None, as only a refusal would tell.
        requests: all requests that the examination sent.
        profile: the settings that follow from it, for `AccountProfile.save`.

    """

    findings: tuple[Finding, ...]
    hosts: tuple[HostTiming, ...]
    clock: ClockState | None
    limits: tuple[LimitFinding, ...]
    end_inclusive: bool | None
    selection: Literal["start", "overlap"] | None
    peak_metrics: tuple[str, ...]
    shared_counters: bool | None
    requests: int
    profile: AccountProfile

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(finding.status != "failed" for finding in self.findings)
