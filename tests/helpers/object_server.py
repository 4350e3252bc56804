"""An S3 server of the test's own, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import attrs
import boto3
from helpers.redis_server import free_port
from obstore.store import S3Store

ACCESS_KEY = "AKIAACCESSKEY"
SECRET_KEY = "secret-word"

_SCRIPT = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
sys.stdin.read()
"""


@attrs.define
class ObjectServer:
    """A server with the bucket `bucket`; it keeps nothing when it is killed."""

    port: int = attrs.field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=self.url, **keys).create_bucket(Bucket="bucket")

    def store(self, prefix: str, bucket: str = "bucket") -> S3Store:
        return S3Store(
            bucket,
            prefix=prefix,
            endpoint=self.url,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/moto-api/", timeout=5) as answer:
                return answer.status == 200
        except (URLError, OSError):
            return False
