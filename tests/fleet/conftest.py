"""Accounts on a port, for the workers of a test."""

from __future__ import annotations

import pytest
from helpers.fleet_service import Accounts, listening, secrets


@pytest.fixture
async def service(monkeypatch):
    accounts = Accounts(4)
    for name, value in secrets(4).items():
        monkeypatch.setenv(name, value)
    async with listening(accounts) as url:
        accounts.url = url
        yield accounts
