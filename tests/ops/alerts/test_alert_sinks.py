"""Alerts in the log, in a file and on standard output."""

from __future__ import annotations

import asyncio
import json
import logging
import os

import pytest
from helpers.alerting import run

from agora_analytics._core.decoding.json import strict_decoder
from agora_analytics.ops import alerts

FOUND = run("userCount < 5 no data 1m", [3, 9, "gap 3"])


async def test_the_log_has_a_warning_for_an_alert_and_information_for_its_end(caplog):
    sink = alerts.AlertLog()
    with caplog.at_level(logging.INFO, "agora_analytics.alerts"):
        for alert in FOUND:
            await sink.send(alert)
        await sink.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]
    assert [record.agora_alert for record in caplog.records] == FOUND
    assert "firing: userCount Native 3 at 2026-11-24T12:00:00Z, 1 window" in caplog.text
    assert sink.pending() == ()


async def test_a_file_has_a_line_for_each_alert_which_can_be_read_back(tmp_path):
    path = tmp_path / "new" / "alerts.jsonl"
    for alert in FOUND:
        await alerts.AlertFile(path).send(alert)
    lines = path.read_bytes().splitlines()
    assert list(map(strict_decoder(alerts.Alert), lines)) == FOUND
    assert [json.loads(line)["kind"] for line in lines] == ["firing", "recovered", "no_data"]


async def test_the_path_of_a_dash_is_standard_output(capfdbinary):
    await alerts.AlertFile("-").send(FOUND[0])
    assert json.loads(capfdbinary.readouterr().out)["key"] == FOUND[0].key


async def test_what_cannot_be_written_is_kept_and_written_later(tmp_path, caplog):
    path = tmp_path / "alerts.jsonl"
    path.mkdir()
    sink = alerts.AlertFile(path)
    await sink.send(FOUND[0])
    await sink.send(FOUND[1])
    assert sink.pending() == tuple(FOUND[:2])
    assert "cannot be written" in caplog.text
    path.rmdir()
    await sink.send(FOUND[2])
    assert sink.pending() == ()
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.real_time
async def test_a_file_that_several_watches_share_has_each_alert_once(tmp_path):
    sink = alerts.AlertFile(tmp_path / "alerts.jsonl")
    found = run("userCount < 5", [3, 9] * 10)
    await asyncio.gather(*map(sink.send, found))
    assert sink.pending() == ()
    keys = [json.loads(line)["key"] for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert keys == [one.key for one in found]


async def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "alerts.jsonl"
    sink = alerts.AlertFile(path)
    await sink.send(FOUND[0])

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        await sink.send(FOUND[1])
    assert len(path.read_text().splitlines()) == 1
    await sink.flush()
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [one.key for one in FOUND[:2]]


async def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    sink = alerts.AlertFile(tmp_path / "link")
    await sink.send(FOUND[0])
    assert sink.pending() == (FOUND[0],)
    assert not (tmp_path / "elsewhere").exists()


def test_a_path_must_be_one():
    with pytest.raises(TypeError, match="path="):
        alerts.AlertFile(5)
