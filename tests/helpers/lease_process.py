"""A process that acquires the lease of a checkpoint and prints the result; with `fork`, its child tries the same.

With `release`, the child also releases the lease that it inherited. Each line on standard input makes the process, or
the child if there is one, try again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from agora_analytics import CheckpointError, FileCheckpoints

EPOCHS: list[int] = []


def attempt(store: FileCheckpoints, who: str) -> None:
    try:
        EPOCHS.append(asyncio.run(store.acquire("prod")).epoch)
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
        asyncio.run(store.release("prod", EPOCHS[0]))
    print("ready", flush=True)
    for _ in sys.stdin:
        attempt(store, "child" if fork else "parent")


main(*sys.argv[1:])
