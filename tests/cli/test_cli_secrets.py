"""Sources of the secret and of certificate authorities, and the permissions of their files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from agora_analytics.simulator import CUSTOMER_SECRET

SEARCH = ("calls", "search", "--last", "1h")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
@pytest.mark.parametrize("by", ["flag", "settings"])
def test_a_secret_file_that_others_can_read_is_refused(run, tmp_path: Path, monkeypatch, mode, by):
    monkeypatch.delenv("AGORA_CUSTOMER_SECRET")
    secret, config = tmp_path / "secret", tmp_path / "settings.toml"
    secret.write_text(CUSTOMER_SECRET)
    secret.chmod(mode)
    config.write_text('customer_secret_file = "secret"\n')
    result = run(*SEARCH, *(("--secret-file", str(secret)) if by == "flag" else ("--config", str(config))))
    assert result.code == 2
    assert f"others can read it (mode {mode:04o})" in result.err
    assert "--secret-stdin" in result.err
    assert CUSTOMER_SECRET not in result.err


@pytest.mark.parametrize("kind", ["secret file", "settings"])
def test_the_error_about_a_readable_secret_has_a_command_that_fixes_it(run, tmp_path: Path, monkeypatch, kind):
    monkeypatch.delenv("AGORA_CUSTOMER_SECRET")
    file = tmp_path / "my file"
    file.write_text(CUSTOMER_SECRET if kind == "secret file" else f'customer_secret = "{CUSTOMER_SECRET}"\n')
    file.chmod(0o644)
    flag = "--secret-file" if kind == "secret file" else "--config"
    result = run(*SEARCH, flag, str(file))
    assert result.code == 2
    assert "others can read it (mode 0644)" in result.err
    [command] = re.findall(r"chmod 600 '[^']+'", result.err)
    subprocess.run(shlex.split(command), check=True)
    assert run(*SEARCH, flag, str(file)).code == 0


def test_the_secret_can_be_read_from_a_pipe(run, monkeypatch):
    monkeypatch.delenv("AGORA_CUSTOMER_SECRET")
    reading, writing = os.pipe()
    os.write(writing, CUSTOMER_SECRET.encode())
    os.close(writing)
    try:
        assert run(*SEARCH, "--secret-file", f"/dev/fd/{reading}").code == 0
    finally:
        os.close(reading)


@pytest.mark.parametrize(("text", "says"), [(None, "No such file"), ("no certificate", "cannot be used")])
def test_a_file_without_certificate_authorities_is_refused(run, tmp_path: Path, text, says):
    file = tmp_path / "authorities.pem"
    if text:
        file.write_text(text)
    result = run(*SEARCH, "--ca-file", str(file))
    assert result.code == 2
    assert "authorities.pem" in result.err
    assert says in result.err
