"""What a type checker sees of operations."""

from __future__ import annotations

from typing import Literal, assert_type

from agora_analytics import AnalyticsClient, Plan
from agora_analytics.ops import doctor


async def examining(client: AnalyticsClient) -> None:
    assert_type(doctor.checklist(client), tuple[doctor.Check, ...])
    report = await doctor.examine(client)
    assert_type(report, doctor.DoctorReport)
    assert_type(report.ok, bool)
    assert_type([host.seconds for host in report.hosts], list[float | None])
    assert_type([finding.answer for finding in report.findings], list[str])
    assert_type([limit.named for limit in report.limits], list[int | None])
    assert_type(report.selection, Literal["start", "overlap"] | None)
    assert_type(report.profile, doctor.AccountProfile)
    assert_type(report.profile.plan, Plan)
    assert_type(doctor.AccountProfile.load("profile.json"), doctor.AccountProfile)
