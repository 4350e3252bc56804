"""The files in `deploy/`: valid for their own linters, and right about the command, its paths and its probes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.prometheus import MISSING, PROMETHEUS, prometheus
from helpers.streaming import USERS
from helpers.web_server import site

from agora_analytics.ops import LiveState, routes
from agora_analytics.simulator import Simulation

yaml = pytest.importorskip("yaml", reason="PyYAML is missing")

DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "systemd/agora-analytics.service").read_text(encoding="utf-8")
CONTAINER = (DEPLOY / "container/Containerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SCRAPING = (DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs/guides/deploy.md").read_text(encoding="utf-8")
TOKEN = "correct-horse-battery-staple"

ANALYZE, PROMTOOL = shutil.which("systemd-analyze"), shutil.which("promtool")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is missing (Debian's package systemd)")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=MISSING)


def ran(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(list(map(str, arguments)), check=False, capture_output=True, text=True, env=environment)


def options_of(section: str) -> dict[str, str]:
    """Return the settings of a section of the unit; of repeated ones the last."""
    text = re.search(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", UNIT, re.MULTILINE | re.DOTALL)
    assert text
    return dict(re.findall(r"^(\w+)=(.*)$", text[1], re.MULTILINE))


@pytest.fixture
def unit(tmp_path) -> Path:
    """The unit with a program that is there."""
    program = shlex.split(options_of("Service")["ExecStart"])[0]
    path = tmp_path / "agora-analytics.service"
    path.write_text(UNIT.replace(program, "/bin/true"))
    return path


@pytest.mark.process
@needs_systemd
def test_the_unit_is_valid(unit):
    found = ran(ANALYZE, "verify", "--man=no", unit)
    assert (found.returncode, found.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in ran(ANALYZE, "verify", "--man=no", unit).stderr


@pytest.mark.process
@needs_systemd
def test_the_unit_exposes_little(unit):
    found = ran(ANALYZE, "security", "--offline=true", "--threshold=20", "--no-pager", unit)
    assert found.returncode == 0, found.stdout[-300:]


@pytest.mark.slow
@pytest.mark.process
def test_the_unit_runs_a_command_that_the_program_has_with_the_settings_of_the_guide(tmp_path):
    service = options_of("Service")
    _, *arguments = shlex.split(service["ExecStart"])
    config = tmp_path / "config.toml"
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    config.write_text(blocks[0].replace('"…"', f'"{"a" * 32}"').replace("…", TOKEN))
    # With an access list, as systemd makes it, the bits of the group show the mask.
    config.chmod(0o440)
    arguments = [one.replace("${CREDENTIALS_DIRECTORY}", str(tmp_path)) for one in arguments]
    command = sys.executable, "-m", "agora_analytics.cli", *arguments, "--check", "--json"
    refused = ran(*command)
    assert (refused.returncode, "others can read it" in refused.stderr) == (2, True)
    found = ran(*command, CREDENTIALS_DIRECTORY=str(tmp_path), XDG_STATE_HOME=str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["token"]
    config.chmod(0o444)
    assert ran(*command, CREDENTIALS_DIRECTORY=str(tmp_path)).returncode == 2
    assert service["RestartPreventExitStatus"] == "2"


def test_the_state_is_where_the_program_writes_it():
    assert options_of("Service")["StateDirectory"] == "agora-analytics"
    assert "XDG_STATE_HOME=%S" in UNIT
    assert "XDG_STATE_HOME=/var/lib " in CONTAINER
    assert "VOLUME /var/lib/agora-analytics\n" in CONTAINER
    assert COMPOSE["services"]["agora-analytics"]["volumes"] == ["state:/var/lib/agora-analytics"]


def test_the_image_is_built_from_what_the_clone_has_and_runs_without_root():
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", CONTAINER, re.MULTILINE)
    assert [name for _, name in stages] == ["build", ""]
    sources = [
        source for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINER, re.MULTILINE) for source in line.split()
    ]
    assert {"pyproject.toml", "README.md", "LICENSE", "agora_analytics"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    (user,) = re.findall(r"^USER (\d+):(\d+)$", CONTAINER, re.MULTILINE)
    assert all(int(one) > 0 for one in user)
    assert not re.search(r"(?i)(secret|token)=", CONTAINER)


@pytest.mark.process
@pytest.mark.real_time
@pytest.mark.parametrize(("answer", "code"), [("/healthz", 0), ("none", 1)])
async def test_the_health_check_of_the_image_asks_the_probe(answer, code):
    (command,) = re.findall(r"^\s+CMD (\[.*\])$", CONTAINER, re.MULTILINE)
    _, *arguments = json.loads(command)
    simulation = Simulation(plan="enterprise")
    async with simulation.client() as client, site(routes(LiveState(client, USERS), token=TOKEN)) as here:
        port = here.port if answer == "/healthz" else 1
        more = {"AGORA_SERVE_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
        found = await asyncio.to_thread(ran, sys.executable, *arguments, **more)
        assert found.returncode == code, found.stderr


def test_the_composition_is_as_narrow_as_it_can_be():
    assert set(COMPOSE) <= {"name", "services", "secrets", "volumes"}
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["cap_drop"] == ["ALL"]
        assert "privileged" not in service
    page = COMPOSE["services"]["agora-analytics"]
    assert page["read_only"]
    assert all(value.startswith(("${", "agora-analytics,")) for value in page["environment"].values())
    build = (DEPLOY / page["build"]["context"]).resolve()
    assert (build / page["build"]["dockerfile"]).is_file()


def test_prometheus_reaches_the_page_under_a_name_that_it_knows_and_with_its_token():
    scraping = yaml.safe_load(SCRAPING)
    (job,) = scraping["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, port = target.split(":")
    page = COMPOSE["services"][name]
    assert page["environment"]["AGORA_SERVE_HOSTS"].split(",")[0] == name
    assert f"AGORA_SERVE_PORT={port}\n" in CONTAINER
    (secret,) = COMPOSE["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert COMPOSE["secrets"][secret]["environment"] in page["environment"]
    assert scraping["global"]["scrape_interval"] == "20s"
    assert scraping["storage"]["tsdb"]["out_of_order_time_window"] == "2h"


@pytest.mark.process
@needs_promtool
def test_the_configuration_of_prometheus_is_valid(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    shutil.copy(DEPLOY / "prometheus/agora.rules.yml", tmp_path)
    config = tmp_path / "prometheus.yml"
    config.write_text(SCRAPING.replace("/run/secrets/agora_token", str(tmp_path / "token")))
    found = ran(PROMTOOL, "check", "config", config)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "rules found" in found.stdout


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.real_time
@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
async def test_prometheus_scrapes_the_page_with_the_token(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    authorization = {"authorization": {"credentials_file": str(tmp_path / "token")}}
    simulation = Simulation(plan="enterprise")
    async with (
        simulation.client() as client,
        LiveState(client, USERS) as state,
        site(routes(state, token=TOKEN)) as here,
        prometheus(f"127.0.0.1:{here.port}", tmp_path, job=authorization) as server,
    ):
        assert await server.until('up{job="agora"} == 1')
        assert await server.until("agora_realtime_users")
