"""A process that leases a checkpoint's name and says so; forked, a child of it tries the same.

The child may also release what it took over from its parent.

Each line on standard input lets the process, or the child if there is one, try once more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from agora_analytics import CheckpointError, FileCheckpoints


def attempt(store: FileCheckpoints, who: str) -> None:
    try:
        asyncio.run(store.acquire("prod"))
    except CheckpointError:
        print(who, "refused", flush=True)
    else:
        print(who, "leased", flush=True)


def main(folder: str, fork: str = "") -> None:
    store = FileCheckpoints(folder)
    attempt(store, "parent")
    if fork and os.fork():
        signal.pause()
    if fork:
        attempt(store, "child")
    if fork == "release":
        asyncio.run(store.release("prod"))
    print("ready", flush=True)
    for _ in sys.stdin:
        attempt(store, "child" if fork else "parent")


main(*sys.argv[1:])
