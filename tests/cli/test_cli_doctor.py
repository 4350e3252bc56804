"""`doctor` shows what it will cost, what it found, and writes a profile."""

from __future__ import annotations

import pytest

from agora_analytics import Plan
from agora_analytics.ops.doctor import AccountProfile


def test_a_dry_run_lists_the_checks_and_their_price_and_sends_nothing(run, served):
    before = served.service.counts.total()
    ran = run("doctor", "--dry-run")
    assert ran.code == 0, ran.err
    assert "at most 8 requests: 4 of 10,000 left today for call_lists" in ran.err
    assert "Which hosts answer" in ran.out
    assert served.service.counts.total() == before


def test_an_examination_shows_a_finding_for_each_check_and_writes_a_profile(run, served, tmp_path):
    path = tmp_path / "profile.json"
    ran = run("doctor", "--write", str(path))
    assert ran.code == 0, ran.err
    assert "are accepted" in ran.out
    assert f"profile written to {path}" in ran.err
    assert AccountProfile.load(path).hosts == (served.url,)
    assert AccountProfile.load(path).plan == Plan.of("enterprise")


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_plan_without_api_access_is_refused_as_by_other_commands(run, arguments):
    ran, searched = run("doctor", "--plan", "starter", *arguments), run("calls", "search", "--plan", "starter")
    assert (ran.code, ran.out, ran.err) == (2, "", searched.err)
    assert "plan='starter' does not include" in ran.err


def test_a_failed_check_ends_with_exit_code_1_and_names_what_to_do(run):
    ran = run("doctor", "--app-id", "0" * 32)
    assert ran.code == 1
    assert "failed" in ran.out
    assert "skipped" in ran.out
