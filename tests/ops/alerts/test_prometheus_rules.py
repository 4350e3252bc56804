"""The rules for Prometheus: valid, and firing when they should, as Prometheus itself evaluates them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from helpers.paths import ROOT

PROMTOOL = shutil.which("promtool")
RULES = ROOT / "deploy/prometheus/agora.rules.yml"
CASES = ROOT / "tests/ops/alerts/agora.rules.test.yml"

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        PROMTOOL is None, reason="promtool is missing: apt-get install --no-install-recommends prometheus"
    ),
]


def promtool(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([PROMTOOL, *map(str, arguments)], check=False, capture_output=True, text=True)


def test_the_rules_are_valid():
    ran = promtool("check", "rules", RULES)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_the_rules_fire_and_stay_silent_as_the_cases_say():
    ran = promtool("test", "rules", CASES)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_rule_has_a_case_in_which_it_fires():
    names = re.findall(r"- alert: (\w+)", RULES.read_text())
    firing = re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", CASES.read_text())
    assert len(names) == 15
    assert set(firing) == set(names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("[25s]) > 0.05", "[40s]) > 0.05"),
        (">= 20", ">= 21"),
        ("> 0.03", "> 0.05"),
        ("-0.05 *", "-9 *"),
        ("2700", "9000"),
        ('{kind="watch"}) > 2700', '{kind="watch"}) > 9000'),
        ('state!="done"', 'state!="lost"'),
        ("(agora_fleet_up) == 0", "(agora_fleet_up) == 2"),
        ("max by (fleet) (agora_fleet_unheld_jobs)", "min by (fleet) (agora_fleet_unheld_jobs)"),
    ],
)
def test_a_wrong_rule_is_noticed(tmp_path, right, wrong):
    text = RULES.read_text()
    assert right in text
    rules, cases = tmp_path / "rules.yml", tmp_path / "cases.yml"
    cases.write_text(re.sub(r"^  - .*agora\.rules\.yml$", "  - rules.yml", CASES.read_text(), flags=re.MULTILINE))
    rules.write_text(text)
    assert promtool("test", "rules", cases).returncode == 0
    rules.write_text(text.replace(right, wrong))
    assert promtool("test", "rules", cases).returncode == 1


def test_every_metric_of_the_rules_is_one_of_the_collector():
    modules = [
        pytest.importorskip(
            f"agora_analytics.ops.metrics.{name}", reason="the collector or prometheus-client is missing"
        )
        for name in ("quota_metrics", "realtime_metrics", "export_metrics", "stream_metrics", "fleet_metrics")
    ]
    exported = {f"{family.name}{family.suffix}" for module in modules for family in module.FAMILIES}
    used = set(re.findall(r"\bagora_(?!analytics)\w+", RULES.read_text()))
    assert len(used) > 10
    assert used <= exported
