"""The URL of a fleet's store: each kind that is documented works, and no error about it shows a password."""

from __future__ import annotations

import pytest
from helpers.error_reports import report_of
from helpers.fleet_workers import Seen, fleet_of, until, working
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics.fleet import Fleet

pytestmark = pytest.mark.real_time


@pytest.mark.process
@pytest.mark.skipif(REDIS is None, reason=MISSING)
async def test_the_store_can_be_on_a_unix_socket(service, tmp_path):
    server, socket = RedisServer(tmp_path), tmp_path / "redis.sock"
    server.start("--unixsocket", str(socket))
    fleet, seen = fleet_of(service, store=f"unix://{socket}?db=1"), Seen()
    async with working(fleet, seen, "one"):
        await until(lambda: len(seen.jobs) == 4)
    server.kill()


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:pass-word/of-the-store@host:6379/0",
        "redis://user:pass-word#of-the-store@host:6379/0",
        "redis://user:pass-word[of-the-store@host:6379/0",
        "redis://user:pass-word-of-the-store@host:6379/xyz",
        "http://user:pass-word-of-the-store@host",
    ],
)
async def test_a_url_that_cannot_be_read_is_refused_and_not_shown(url):
    with pytest.raises(ValueError, match="store: allowed is a URL") as caught:
        await Fleet(store=url).status()
    assert "pass-word" not in report_of(caught.value)
