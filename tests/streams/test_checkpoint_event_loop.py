"""A checkpoint may have megabytes: the thread that writes it also encodes it, not the event loop."""

from __future__ import annotations

import asyncio
import threading

from agora_analytics import Checkpoint, FileCheckpoints


def test_a_checkpoint_is_encoded_on_another_thread(tmp_path, monkeypatch):
    threads = []
    encode = Checkpoint.encode

    def recorded(checkpoint):
        threads.append(threading.current_thread())
        return encode(checkpoint)

    monkeypatch.setattr(Checkpoint, "encode", recorded)
    asyncio.run(FileCheckpoints(tmp_path).save("one", Checkpoint(stream="watch"), 1))
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    assert asyncio.run(FileCheckpoints(tmp_path).load("one")) == Checkpoint(stream="watch")
