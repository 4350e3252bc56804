"""Errors of a ledger in Redis show no credential: in texts, causes, variables of tracebacks, and logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from helpers.error_reports import report_of
from helpers.ledger_changes import increment
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics import LedgerError
from agora_analytics.quota import RedisLedger, shared_account
from agora_analytics.streams import RedisCheckpoints

pytestmark = [pytest.mark.real_time, pytest.mark.process, pytest.mark.skipif(REDIS is None, reason=MISSING)]

PASSWORD, WRONG = "pass-word-of-the-store", "wrong-secret-word"
ACL = f"user reader on >{PASSWORD} ~* +get +hello +auth +client\nuser default on >{PASSWORD} ~* +@all\n"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis with a password, and a user `reader` who may run no script."""
    server = RedisServer(tmp_path_factory.mktemp("locked"))
    acl = server.folder / "users.acl"
    acl.write_text(ACL)
    server.start("--aclfile", str(acl))
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch) -> None:
    monkeypatch.setattr(shared_account, "_PATIENCE", 0.3)


FAULTS = {
    "wrong password": (f"redis://:{WRONG}@HERE/0", "invalid username-password pair"),
    "no password": ("redis://HERE/0", "already authenticated|Authentication required"),
    "unknown user": (f"redis://{WRONG}:{PASSWORD}@HERE/0", "invalid username-password pair"),
    "no permission": (f"redis://reader:{PASSWORD}@HERE/0", "no permissions"),
    "password in the query": (f"redis://HERE/0?password={WRONG}", "invalid username-password pair"),
    "closed port": (f"redis://user:{PASSWORD}@127.0.0.1:1/0", "127.0.0.1:1"),
    "no such host": (f"redis://user:{PASSWORD}@no-such-host.invalid/0", "no-such-host.invalid"),
    "no TLS": (f"rediss://user:{PASSWORD}@HERE/0", "cannot be used"),
    "no such socket": (f"unix://user:{PASSWORD}@/no/such/socket", "/no/such/socket"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_error_of_the_store_shows_no_credential(locked, caplog, fault):
    caplog.set_level(logging.DEBUG)
    url, text = FAULTS[fault]
    ledger = RedisLedger(url.replace("HERE", f"127.0.0.1:{locked.port}"))
    with pytest.raises(LedgerError, match=text) as caught:
        await ledger.change("a", increment)
    await ledger.close()
    report = report_of(caught.value) + repr(ledger) + caplog.text
    assert PASSWORD not in report
    assert WRONG not in report
    assert "reader" not in report


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}/{WRONG}@host/0",
        f"redis://user:{PASSWORD}@[host",
        f"redis://user:{PASSWORD}@host:{WRONG}/0",
        f"redis://host/0?{WRONG}={PASSWORD}",
        f"redis://host/0?socket_timeout={WRONG}",
        f"redis://user:{PASSWORD}@host/0?protocol={WRONG}",
        f"redis://user:{PASSWORD}@host/{WRONG}",
        f"redis://user:{PASSWORD}@host/{WRONG}?db=1",
        f"redis://user:1/{WRONG}@host/0",
        f"rediss://user:{PASSWORD}@host/1/0",
        f"postgres://user:{PASSWORD}@host/{WRONG}",
        WRONG,
    ],
)
@pytest.mark.parametrize("store", [RedisLedger, RedisCheckpoints])
def test_a_url_that_is_not_of_redis_is_refused_at_once_and_shown_nowhere(store, url):
    with pytest.raises(ValueError, match="begins with redis, rediss, unix") as caught:
        store(url)
    report = report_of(caught.value)
    assert PASSWORD not in report
    assert WRONG not in report


@pytest.mark.parametrize("path", ["", "/", "/0", "/0/", "/15?socket_timeout=1"])
def test_a_url_may_name_a_database_by_its_number(path):
    RedisLedger(f"redis://host:6379{path}")


async def test_a_client_that_was_passed_shows_no_credential(locked, caplog):
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    caplog.set_level(logging.DEBUG)
    once = Retry(NoBackoff(), 0)
    async with Redis(port=locked.port, username="somebody", password=WRONG, retry=once) as client:
        ledger = RedisLedger(client)
        with pytest.raises(LedgerError, match="invalid username-password pair") as caught:
            await ledger.change("a", increment)
        await ledger.close()
    assert WRONG not in report_of(caught.value) + repr(ledger) + caplog.text


async def test_an_error_of_a_credential_provider_shows_only_its_class(locked):
    from redis.asyncio import Redis
    from redis.credentials import CredentialProvider

    class Broken(CredentialProvider):
        def get_credentials(self):
            raise LookupError(f"no token for {WRONG}")

    async with Redis(port=locked.port, credential_provider=Broken()) as client:
        ledger = RedisLedger(client)
        with pytest.raises(LedgerError, match="cannot be used: LookupError") as caught:
            await ledger.change("a", increment)
        await ledger.close()
    assert WRONG not in report_of(caught.value)
