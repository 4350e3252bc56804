"""What a simulated service remembers of the requests it got, for tests to look at."""

from __future__ import annotations

from collections import Counter, deque

import attrs


@attrs.frozen
class LogEntry:
    """One request and its outcome.

    `at` is the service's time in seconds, `endpoint` the endpoint's name in `plans` or empty, `code` the body's code or
    None, and `refused` one word (`qps`, `qpm`, `qpd`, `latency`, `range`, `length`, `access`, `parameter`, `app`,
    `milliseconds`, `credentials`, `path`, `unknown`, `fault`), empty where it was accepted.
    """

    at: float
    host: int
    endpoint: str
    method: str
    path: str
    query: str
    body: bytes | None
    status: int
    code: int | None
    refused: str = ""


class RequestLog:
    """Counts of all requests, and the latest of them."""

    def __init__(self, size: int) -> None:
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.log: deque[LogEntry] = deque(maxlen=size)

    def add(self, entry: LogEntry) -> None:
        """Remember a request."""
        if entry.endpoint:
            self.counts[entry.endpoint] += 1
        if entry.refused:
            self.refusals[entry.refused] += 1
        self.log.append(entry)
