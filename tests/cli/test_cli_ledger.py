"""Commands share a ledger in the user's state folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.redis_server import MISSING, REDIS, RedisServer

HOUR = ("--last", "1h", "--limit", "1", "--json")


@pytest.fixture(autouse=True)
def _default_ledger(monkeypatch):
    monkeypatch.delenv("AGORA_LEDGER")


def test_commands_share_a_ledger_and_the_quota_shows_it(run, tmp_path):
    assert {line["used"] for line in run("quota", "--json").lines} == {0}
    for _ in range(3):
        assert run("calls", "search", *HOUR).code == 0
    *states, clock = run("quota", "--json").lines
    (day,) = [one for one in states if (one["counter"], one["unit"]) == ("call_lists", "day")]
    assert (day["used"], day["left"]) == (3, 9_997)
    assert (day["waiting"], day["refusals"], day["expected"]) == (0, 0, 0)
    assert -2 < clock["offset"] < 1
    assert 0 < clock["uncertainty"] < 3
    table = run("quota")
    assert "9,997" in table.out
    assert re.search(r"the service's clock is (between )?\d+\.\d\d .* this machine's$", table.err, re.MULTILINE)
    assert (tmp_path / "agora-analytics" / "quota.db").is_file()


def test_only_the_counters_that_a_command_spends_from_are_named_at_its_end(run):
    run("calls", "search", *HOUR)
    err = run("realtime", "usage").err
    assert "spent today: 1 of the day's 1,440 realtime requests" in err
    assert "call_lists" not in err
    assert "spent today" not in run("serve", "--check").err


def test_each_customer_is_counted_separately(run):
    run("calls", "search", *HOUR)
    assert {line["used"] for line in run("quota", "--customer-id", "another", "--json").lines} == {0}


def test_a_ledger_can_be_another_file_or_memory(run, tmp_path, monkeypatch):
    path = tmp_path / "mine" / "count.db"
    run("calls", "search", *HOUR, "--ledger", str(path))
    assert path.is_file()
    monkeypatch.setenv("AGORA_LEDGER", ":memory:")
    assert run("calls", "search", *HOUR).code == 0
    assert {line["used"] for line in run("quota", "--json").lines} == {0}
    assert not (tmp_path / "agora-analytics").exists()


@pytest.mark.parametrize("url", ["redis://user:geheim@127.0.0.1/0", "postgresql://user:geheim@127.0.0.1/agora"])
def test_a_password_of_a_ledger_is_no_flag_and_in_no_file_of_others(run, tmp_path, url):
    refused = run("quota", "--ledger", url)
    assert (refused.code, "set AGORA_LEDGER instead" in refused.err) == (2, True)
    config = tmp_path / "config.toml"
    config.write_text(f"ledger = '{url}'\n")
    config.chmod(0o644)
    exposed = run("quota", "--config", str(config))
    assert (exposed.code, "others can read it" in exposed.err) == (2, True)
    assert "geheim" not in refused.err + exposed.err


def test_a_url_of_another_store_is_no_file(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = run("quota", "--ledger", "mysql://127.0.0.1/agora")
    assert ran.code == 2
    assert "a URL of Redis or PostgreSQL" in ran.err
    assert not (tmp_path / "mysql:").exists()


@pytest.mark.process
@pytest.mark.real_time
@pytest.mark.skipif(REDIS is None, reason=MISSING)
@pytest.mark.parametrize(("part", "used"), [("", 1), ("#other", 0)])
def test_commands_of_many_hosts_share_a_ledger_in_redis(run, tmp_path, part, used):
    pytest.importorskip("redis", reason="needs the extra redis")
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        assert run("calls", "search", *HOUR, "--ledger", redis.url).code == 0
        found = run("quota", "--json", "--ledger", redis.url + part).lines
        assert {one["used"] for one in found if (one.get("counter"), one.get("unit")) == ("call_lists", "day")} == {
            used
        }
    finally:
        redis.kill()


def test_an_unusable_ledger_is_reported_in_two_lines(run, tmp_path):
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear all, " * 200)
    result = run("calls", "search", *HOUR, "--ledger", str(letter))
    assert (result.code, result.out) == (1, "")
    assert str(letter) in result.err
    assert len(result.err.splitlines()) == 2
    assert Path(letter).read_text() == "Dear all, " * 200
