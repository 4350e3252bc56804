"""An examination of an account over the simulator: what it finds, what it costs, and what it keeps."""

from __future__ import annotations

import json

import pytest
from helpers.streaming import simulated

from agora_analytics import AnalyticsClient, MemoryLedger, Plan
from agora_analytics.ops import doctor
from agora_analytics.simulator import Fault, Faults, World

# Enough calls that the newest page has a long one.
WORLD = World(seed=7)


def status_of(report: doctor.DoctorReport) -> dict[str, str]:
    return {finding.check: finding.status for finding in report.findings}


def finding(report: doctor.DoctorReport, check: str) -> doctor.Finding:
    return next(one for one in report.findings if one.check == check)


@pytest.mark.parametrize(("plan", "requests"), [("standard", 5), ("premium", 9), ("enterprise", 9)])
async def test_an_examination_sends_exactly_the_requests_that_the_checklist_names(plan, requests):
    simulation = simulated(plan, world=WORLD)
    async with simulation.client() as client:
        planned = doctor.checklist(client)
        assert sum(check.requests for check in planned) == requests
        assert simulation.service.counts.total() == 0
        report = await doctor.examine(client)
    assert report.ok
    assert report.requests == simulation.service.counts.total() == requests
    assert [(check.name, check.requests) for check in planned] == [(one.check, one.requests) for one in report.findings]
    assert not simulation.service.refusals


async def test_the_default_service_has_no_warning_and_one_open_question():
    simulation = simulated(world=WORLD)
    async with simulation.client() as client:
        report = await doctor.examine(client)
    assert {check for check, status in status_of(report).items() if status != "ok"} == {"shared_counters"}
    assert report.shared_counters is None
    assert [(one.planned, one.named) for one in report.limits if one.counter == "realtime"] == [(3, None), (480, None)]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("inclusive", [True, False])
async def test_open_questions_of_the_reference_are_answered_as_the_service_behaves(overlap, inclusive):
    simulation = simulated(world=WORLD, calls_overlap=overlap, end_inclusive=inclusive)
    async with simulation.client() as client:
        report = await doctor.examine(client)
    assert report.selection == ("overlap" if overlap else "start")
    assert report.end_inclusive is inclusive
    assert (report.profile.selection, report.profile.end_inclusive) == (report.selection, inclusive)


async def test_only_accepted_names_of_peak_metrics_are_reported():
    refusal = Fault("refusal", code=400, message="unknown metric")
    faults = Faults.always(refusal).only("insight_usage", metric="peakConcurrentUsers")
    simulation = simulated(world=WORLD, faults=faults)
    async with simulation.client() as client:
        report = await doctor.examine(client)
    assert report.peak_metrics == ("peakCurrentUsers",)
    assert report.ok


async def test_wrong_credentials_cost_one_request_a_host_and_nothing_else():
    simulation = simulated(world=WORLD, faults=Faults.always(Fault("status", status=401)))
    async with simulation.client() as client:
        report = await doctor.examine(client)
    statuses = status_of(report)
    assert (statuses["hosts"], statuses["account"]) == ("ok", "failed")
    assert {statuses[check] for check in ("retention", "insights", "realtime", "selection")} == {"skipped"}
    assert finding(report, "realtime").answer == "not checked, because the account was refused"
    assert statuses["limits"] == "unknown"
    assert report.requests == 2
    assert not report.ok
    assert "Customer" in finding(report, "account").hint


async def test_no_answer_from_any_host_ends_the_examination_after_one_request_a_host():
    simulation = simulated(world=WORLD, faults=Faults.always(Fault("refused")))
    async with simulation.client() as client:
        report = await doctor.examine(client)
    statuses = status_of(report)
    assert (statuses["hosts"], statuses["account"], statuses["clock"]) == ("failed", "skipped", "unknown")
    assert report.requests == 2
    assert [host.seconds for host in report.hosts] == [None, None]
    assert report.profile.hosts == ()


async def test_a_host_that_fails_is_a_warning_and_not_in_the_profile():
    simulation = simulated(world=WORLD, faults=Faults.always(Fault("reset")).only(host=0))
    transport = simulation.transport(latency=(0.2, 0.2))
    transport.base_urls = ("https://one.example", "https://two.example")
    async with simulation.client(transport=transport) as client:
        report = await doctor.examine(client)
    assert status_of(report)["hosts"] == "warning"
    assert [(host.host, host.seconds is None) for host in report.hosts] == [
        ("https://one.example", True),
        ("https://two.example", False),
    ]
    assert report.profile.hosts == ("https://two.example",)


async def test_hosts_are_timed_without_the_wait_for_the_quota_and_kept_fastest_first():
    simulation = simulated("standard", world=WORLD, faults=Faults.always(Fault("slow", seconds=3.0)).only(host=0))
    transport = simulation.transport()
    transport.base_urls = ("https://one.example", "https://two.example")
    async with simulation.client(transport=transport) as client:
        await client.calls.page(*client.calls.recent(60))  # the second is used up
        report = await doctor.examine(client)
    slow, fast = (host.seconds for host in report.hosts)
    assert slow == pytest.approx(3.0, abs=0.01)
    assert fast == pytest.approx(0.0, abs=0.01)
    assert report.profile.hosts == ("https://two.example", "https://one.example")


@pytest.mark.parametrize("off", [-7_200.0, -30.0, 30.0, 7_200.0])
async def test_a_wrong_clock_of_the_host_is_measured_and_costs_no_further_request(off):
    simulation = simulated(world=WORLD)
    simulation.host_clock.wrong = off
    async with simulation.client() as client:
        report = await doctor.examine(client)
    assert status_of(report)["clock"] == "warning"
    least, most = report.clock.offset, report.clock.offset + report.clock.uncertainty
    assert least <= -off <= most
    assert ("behind" if off < 0 else "ahead of") in finding(report, "clock").answer
    assert report.requests == simulation.service.counts.total() == 9
    assert report.ok


@pytest.mark.parametrize(
    ("claimed", "failed"), [("enterprise", {"account", "retention", "realtime"}), ("standard", set())]
)
async def test_a_plan_that_promises_more_than_the_account_has_fails(claimed, failed):
    simulation = simulated("premium", world=WORLD)
    async with simulation.client(plan=claimed) as client:
        report = await doctor.examine(client)
    assert {check for check, status in status_of(report).items() if status == "failed"} == failed
    assert report.requests <= sum(check.requests for check in doctor.checklist(client))


async def test_a_spent_day_is_unknown_and_sends_nothing():
    simulation = simulated(world=WORLD)
    ledger = MemoryLedger()
    plan = Plan.of("premium").with_limits("realtime", per_day=1)
    async with simulation.client(plan=plan, ledger=ledger, max_wait=1.0) as client:
        span = client.realtime.recent(60)
        await client.realtime.usage("userCount", *span, product="Native")
        report = await doctor.examine(client)
    assert status_of(report)["realtime"] == "unknown"
    assert simulation.service.counts["realtime_usage"] == 1
    assert finding(report, "realtime").requests == 0


async def test_a_limit_that_the_service_named_is_reported_and_kept_in_the_profile():
    named = Fault("refusal", code=300, message="Service package limit check error, qps limit = 2")
    simulation = simulated(world=WORLD, faults=Faults.script([named]))
    async with simulation.client() as client:
        await client.calls.page(*client.calls.recent(60))
        report = await doctor.examine(client)
    assert status_of(report)["limits"] == "warning"
    assert report.profile.plan.rates("call_lists")["second"] == 2
    assert report.profile.plan.rates("call_details")["second"] == 3


async def test_a_profile_survives_its_file_and_makes_a_client(tmp_path):
    simulation = simulated(world=WORLD)
    transport = simulation.transport()
    transport.base_urls = ("https://one.example", "https://two.example")
    async with simulation.client(transport=transport) as client:
        report = await doctor.examine(client)
    path = tmp_path / "profile.json"
    report.profile.save(path)
    loaded = doctor.AccountProfile.load(path)
    assert loaded == report.profile
    text = path.read_text()
    assert simulation.app_id not in text
    assert simulation.service.customer_secret not in text
    async with AnalyticsClient("id", "secret", **loaded.settings()) as client:
        assert client.plan == report.profile.plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document | {"version": 2}, "version 1 of a profile is needed"),
        (lambda document: document | {"hosts": "https://one.example"}, "hosts"),
        (lambda document: document | {"end_inclusive": "yes"}, "end_inclusive"),
        (lambda document: document | {"selection": "both"}, "selection='both'"),
        (lambda document: {key: value for key, value in document.items() if key != "plan"}, "plan"),
        (lambda document: [document], "version 1 of a profile is needed"),
    ],
)
def test_a_file_that_is_not_a_profile_is_refused_with_its_name(tmp_path, change, message):
    path = tmp_path / "profile.json"
    doctor.AccountProfile(plan=Plan.of("premium")).save(path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match="cannot be used") as caught:
        doctor.AccountProfile.load(path)
    assert message in str(caught.value)
