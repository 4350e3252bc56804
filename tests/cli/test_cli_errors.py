"""Errors: one or two lines on standard error, and an exit code by who has to fix it."""

from __future__ import annotations

import socket
from pathlib import Path
from random import Random

import pytest

from agora_analytics.simulator import CUSTOMER_ID, CUSTOMER_SECRET, Fault, Faults

SEARCH = ("calls", "search", "--last", "1h")


def assert_failed(result, code: int, *words: str) -> None:
    """Assert the exit code, and one or two lines on standard error that have these words and no secret."""
    assert result.code == code, result
    assert result.out == ""
    assert 1 <= len(result.err.splitlines()) <= 2
    assert "Traceback" not in result.err
    assert CUSTOMER_SECRET not in result.err
    assert all(word in result.err for word in words), result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--start", "2026-11-24T12:00:00"), ("--start", "has no time zone")),
        (("--start", "yesterday"), ("--start", "ISO 8601")),
        (("--start", "1795521600000"), ("1795521600000", "milliseconds")),
        (("--last", "3 hours"), ("--last", "durations like")),
        (("--last", "1h", "--start", "2026-11-24T12:00:00Z"), ("exclude each other",)),
        (("--end", "2026-11-24T12:00:00Z"), ("--end needs --start",)),
        (("--page-size", "101"), ("page_size=101", "100")),
        (
            ("--start", "2026-11-24T12:00:00Z", "--end", "2026-11-24T11:00:00Z"),
            ("end=2026-11-24T11:00:00Z must be after start=2026-11-24T12:00:00Z",),
        ),
        (("--plan", "gold"), ("plan='gold'", "premium")),
        (("--plan", "starter"), ("does not include", "standard")),
        (("--max-wait", "-1"), ("max_wait=-1.0", "from 0")),
        (("--limit", "0"), ("--limit",)),
        (("--nonsense",), ("--nonsense", "--help")),
        (("--secret", "x"), ("--secret",)),
        (("--secret-file", "nowhere.txt"), ("nowhere.txt", "cannot be read")),
        (("--secret-file", "nowhere.txt", "--secret-stdin"), ("exclude each other",)),
        (("--config", "nowhere.toml"), ("nowhere.toml", "does not exist")),
        (("--base-url", "http://api.agora.io"), ("https is needed", "http://api.agora.io")),
    ],
    ids=" ".join,
)
def test_wrong_options_are_reported_before_a_request_is_sent(run, served, arguments, words):
    before = sum(served.service.counts.values())
    assert_failed(run("calls", "search", *arguments), 2, *words)
    assert sum(served.service.counts.values()) == before


@pytest.mark.parametrize(
    "command", [("calls", "search"), ("watch", "--windows", "1"), ("follow", "--events", "1")], ids=lambda one: one[0]
)
@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("0w", "--last='0w': allowed are durations from 1s to 36525d"),
        ("0h0s", "--last='0h0s': allowed are durations"),
        ("99999999999999w", "--last='99999999999999w': allowed are durations"),
        ("9" * 5_000 + "h", "has more than 20 digits"),
        ("9" * 5_000, "': allowed are durations like"),
    ],
    ids=["zero", "zeros", "long", "digits", "no unit"],
)
def test_a_duration_out_of_range_is_refused_by_the_name_of_the_option(run, served, command, last, words):
    before = served.service.counts.total()
    result = run(*command, "--last", last)
    assert_failed(result, 2, "--last", words)
    assert len(result.err) < 300
    assert served.service.counts.total() == before


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("calls", "search", "--start", "DIGITS"), "--start"),
        (("calls", "search", "--start", "1795521600", "--end", "DIGITS"), "--end"),
        (("calls", "metrics", "id", "--mids", "DIGITS"), "--mids"),
        (("calls", "sessions", "id", "--uids", "7,DIGITS"), "--uids"),
    ],
    ids=["start", "end", "mids", "uids"],
)
def test_a_number_with_thousands_of_digits_is_refused_by_the_name_of_the_option(run, arguments, option):
    result = run(*(one.replace("DIGITS", "9" * 5_000) for one in arguments))
    assert_failed(result, 2, f"error: {option}: ", "has more than 20 digits")
    assert len(result.err) < 300


@pytest.mark.parametrize("command", ["search", "statistics"])
def test_a_name_that_looks_like_a_time_is_quoted_as_it_is(run, served, monkeypatch, command):
    message = "start=1795521600 is unknown"
    monkeypatch.setattr(served.service, "faults", Faults.always(Fault("refusal", code=404, message=message)))
    what = ("search", "--last", "1h") if command == "search" else (command, "id", "--last", "1h")
    assert_failed(run("calls", *what), 1, message)


@pytest.mark.parametrize(
    ("start", "words"), [("1000000000", ("query time range limit",)), ("4000000000", ("query latency limit",))]
)
def test_a_span_outside_the_retention_is_refused_by_the_service(run, start, words):
    assert_failed(run("calls", "search", "--start", start, "--end", str(int(start) + 3_600)), 1, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), ("nonsense", "--help")),
        (("calls", "sessions"), ("CALL_ID",)),
        (("plans", "gold"), ("gold",)),
        (("metrics", "colours"), ("colours", "metric_id")),
        (("quota",), ("plan", "AGORA_PLAN")),
        (("simulate", "--port", "0", "--fault-rate", "0.5", "--fault-kinds", "fire"), ("fire", "reset")),
        (SEARCH, ("customer_id", "AGORA_CUSTOMER_SECRET", "--secret-file", "--app-id", "config.toml")),
    ],
    ids=" ".join,
)
def test_the_error_names_the_missing_settings_and_allowed_values(bare, arguments, words):
    assert_failed(bare(*arguments), 2, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("calls", "metrics", "id", "--mids", "loudness"), ("loudness",)),
        (("insights", "usage-total", "--filters", "country"), ("country", "NAME=VALUE")),
        (("realtime", "quality", "--uids", "1"), ("uids", "cname")),
    ],
    ids=" ".join,
)
def test_arguments_are_validated(run, arguments, words):
    assert_failed(run(*arguments), 2, *words)


def test_without_a_command_the_help_is_printed(bare):
    result = bare()
    assert "Usage" in result.out + result.err


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AGORA_CUSTOMER_ID", "somebody-else", ("Customer ID",)),
        ("AGORA_CUSTOMER_SECRET", "not-the-secret", ("Customer Secret",)),
        ("AGORA_APP_ID", "another", ("App ID",)),
    ],
)
def test_refused_credentials_exit_with_1(run, monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    result = run(*SEARCH)
    assert_failed(result, 1, *words)
    assert value not in result.err or name != "AGORA_CUSTOMER_SECRET"


def test_a_plan_other_than_the_accounts_is_refused_by_the_service(run, served, monkeypatch):
    plan = served.service.plan
    monkeypatch.setattr(served.service, "plan", plan.of("standard"))
    assert_failed(run("realtime", "usage"), 1, "no auth", "plan")


def test_an_unreachable_server_exits_with_1(run, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(Random, "uniform", lambda *_: 0.0)  # no wait before the next attempt
    assert_failed(run(*SEARCH, "--base-url", url), 1, "127.0.0.1")


@pytest.mark.parametrize(("fault", "word"), [(Fault("html"), "HTTP 502: <html>"), (Fault("garbage"), "not JSON")])
def test_an_unexpected_response_exits_with_1(run, served, monkeypatch, fault, word):
    monkeypatch.setattr(served.service, "faults", Faults.chance(1.0, [fault]))
    monkeypatch.setattr(Random, "uniform", lambda *_: 0.0)  # no wait before the next attempt
    assert_failed(run(*SEARCH), 1, word)


def test_options_take_precedence_over_the_environment_and_that_over_the_file(run, tmp_path: Path, monkeypatch):
    config = tmp_path / "agora-analytics" / "config.toml"
    config.parent.mkdir()
    config.write_text('plan = "starter"\napp_id = "of-the-file"\n')
    monkeypatch.delenv("AGORA_PLAN")
    assert run("quota", "--json").out == ""  # starter has no counters
    monkeypatch.setenv("AGORA_PLAN", "standard")
    assert {line["limit"] for line in run("quota", "--json").lines if line["unit"] == "day"} == {1_000}
    assert {line["limit"] for line in run("quota", "--plan", "premium", "--json").lines} > {2_000}
    assert run(*SEARCH).code == 0  # with the App ID of the environment
    monkeypatch.delenv("AGORA_APP_ID")
    assert_failed(run(*SEARCH), 1, "App ID")


@pytest.mark.parametrize("key", ["customer_secret", "customer_secret_file"])
def test_the_secret_can_be_read_from_a_file(run, tmp_path: Path, monkeypatch, key):
    monkeypatch.delenv("AGORA_CUSTOMER_SECRET")
    (tmp_path / "secret").write_text(f"  {CUSTOMER_SECRET}\n")
    (tmp_path / "secret").chmod(0o600)
    config = tmp_path / "settings.toml"
    config.write_text(f'{key} = "{CUSTOMER_SECRET if key == "customer_secret" else "secret"}"\n')
    config.chmod(0o600)
    assert run(*SEARCH, "--config", str(config)).code == 0
    assert run(*SEARCH, "--secret-file", str(tmp_path / "secret")).code == 0


def test_the_secret_can_be_read_from_standard_input(run, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("AGORA_CUSTOMER_SECRET")
    (tmp_path / "secret").write_text(CUSTOMER_SECRET + "\n")
    with (tmp_path / "secret").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert run(*SEARCH, "--secret-stdin").code == 0
        assert_failed(run(*SEARCH, "--secret-stdin"), 2, "standard input", "empty")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'customer_secret = "{CUSTOMER_SECRET}"', ("others can read it", "chmod 600")),
        ("colour = 1", ("unknown colour", "allowed are")),
        ("plan = 7", ("plan must be text",)),
        ("base_url = [7]", ("base_url must be text",)),
        ("plan = ", ("cannot be read",)),
    ],
)
def test_an_invalid_settings_file_is_refused(run, tmp_path: Path, text, words):
    config = tmp_path / "settings.toml"
    config.write_text(text)
    config.chmod(0o644)
    assert_failed(run(*SEARCH, "--config", str(config)), 2, *words)


def test_a_settings_file_with_two_secrets_is_refused(run, tmp_path: Path):
    config = tmp_path / "settings.toml"
    config.write_text('customer_secret = "a"\ncustomer_secret_file = "b"\n')
    config.chmod(0o600)
    assert_failed(run(*SEARCH, "--config", str(config)), 2, "one is enough")


def test_a_settings_file_can_list_several_hosts(run, tmp_path: Path, served, monkeypatch):
    config = tmp_path / "settings.toml"
    config.write_text(f'customer_id = "{CUSTOMER_ID}"\nbase_url = ["{served.url}", "{served.url}"]\n')
    monkeypatch.delenv("AGORA_BASE_URL")
    assert run(*SEARCH, "--config", str(config)).code == 0
