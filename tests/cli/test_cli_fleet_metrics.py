"""`serve --fleet`, and `fleet worker --metrics-port`: settings, what is refused, and a scrape of a worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from helpers.paths import ROOT
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics.cli.worker_metrics import parse_address

pytest.importorskip("docket", reason="needs the extra fleet")


def checked_fleet(ran) -> str | None:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)["fleet"]


def test_a_fleet_is_a_flag_a_variable_or_a_setting_beside_the_file(run, described, tmp_path, monkeypatch):
    assert checked_fleet(run("serve", "userCount", "--check", "--json")) is None
    assert checked_fleet(run("serve", "userCount", "--fleet", str(described), "--check", "--json")) == "europe"
    config = tmp_path / "config.toml"
    config.write_text("[serve]\nfleet = 'fleet.toml'\n")
    config.chmod(0o600)
    found = run("serve", "userCount", "--config", str(config), "--check", "--json")
    assert checked_fleet(found) == "europe"
    monkeypatch.setenv("AGORA_SERVE_FLEET", str(described))
    assert checked_fleet(run("serve", "userCount", "--check", "--json")) == "europe"
    assert "fleet: europe" in run("serve", "userCount", "--check").out


def test_a_description_that_cannot_work_is_found_by_a_check(run, described, tmp_path):
    described.write_text(described.read_text().replace("enterprise", "gold"))
    ran = run("serve", "userCount", "--fleet", str(described), "--check")
    assert ran.code == 2
    assert "gold" in ran.err
    assert run("serve", "userCount", "--fleet", str(tmp_path / "none.toml"), "--check").code != 0


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),  # noqa: S104 - only parsed
        ("[::1]:9464", ("::1", 9464)),
        ("host.example:65535", ("host.example", 65535)),
    ],
)
def test_the_address_of_the_metrics_is_a_port_or_a_host_and_a_port(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "x", ":9464", "-1", "65536", "9" * 5_000, "host:", "²", "host:1.5"])
def test_another_address_is_refused(text):
    with pytest.raises(ValueError, match="must be a port"):
        parse_address(text)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.skipif(os.name == "nt", reason="processes are ended in another way here")
@pytest.mark.skipif(REDIS is None, reason=MISSING)
def test_a_worker_serves_its_metrics_until_it_ends(described, tmp_path):
    redis = RedisServer(tmp_path)
    redis.start()
    process = subprocess.Popen(
        [sys.executable, "-m", "agora_analytics.cli", "fleet", "worker", str(described), "--metrics-port", "0"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "FLEET_STORE": redis.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = re.search(r"http://127\.0\.0\.1:\d+/metrics", process.stderr.readline())[0]
        with urllib.request.urlopen(url, timeout=10) as response:
            text = response.read().decode()
        assert f'-{process.pid}"' in text
        assert 'agora_fleet_up{fleet="europe"}' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()
        redis.kill()
