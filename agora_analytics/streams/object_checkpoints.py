"""Checkpoints in an object store: an object for each name, replaced only if it is still the one that was read."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs

from agora_analytics._core import validation
from agora_analytics._core.extras import MissingExtraError, install_command
from agora_analytics._core.redaction import Hidden
from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.streams.checkpoint_contract import MAX_BYTES, next_epoch, split_epoch
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.shared_checkpoints import SharedCheckpoints, StoredCheckpoint

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["ObjectCheckpoints"]

T = TypeVar("T")

_SCHEMES: Final = ("s3", "gs", "az", "abfs", "abfss", "https")

_TRIES: Final = 20
"""How often an object that others change at the same moment is read again."""

_SECRETS: Final = re.compile(r"\?\S*|(?<=//)[^/\s]*@")
"""Parts of a URL that may hold credentials: query, user and password."""


class ObjectCheckpoints(SharedCheckpoints):
    """Keeps checkpoints in S3, a store that speaks its protocol, Google Cloud Storage or Azure, for many hosts.

    ```python
    async with (
        ObjectCheckpoints("s3://my-bucket/checkpoints", every=60) as checkpoints,
        AnalyticsClient.from_env(checkpoints=checkpoints) as client,
        client.calls.follow(checkpoint="calls") as calls,  # resumes where the last process stopped, on any host
    ):
        async for event in calls:
            print(event)
            break
    ```

    A stream takes its name over at once, also from one that runs: that is refused with its next save, and ends. The
    store must support conditional writes (`If-Match`, `If-None-Match`), as S3 does.

    `store` is a URL, with credentials from the environment, or a store of obstore, such as `S3Store(bucket,
    endpoint=…)`. Each save is one request that the store bills: `every` spaces them out, and a crash repeats what was
    delivered since. While the store cannot be used, calls are repeated for 30 seconds and then raise `CheckpointError`.
    Needs `obstore` (extra `obstore`).
    """

    def __init__(self, store: str | ObjectStore, *, every: float = 0.0) -> None:
        given = Hidden(store)
        # Tracebacks of the errors below show the variables of this frame.
        del store
        super().__init__(_Objects(given), every)


@attrs.frozen
class _Seen:
    """An object as it was read or written: its epoch, and the ETag or generation that a change must find."""

    epoch: int
    version: dict[str, str]


class _Objects:
    """The objects, and the client that reads and writes them."""

    def __init__(self, given: Hidden) -> None:
        if find_spec("obstore") is None:
            raise MissingExtraError(f"ObjectCheckpoints needs obstore: {install_command('obstore')}")
        is_url = isinstance(given.value, str)
        self.name: str = _checked(given) if is_url else type(given.value).__name__
        self._store: ObjectStore = _opened(given) if is_url else given.value
        self._seen: dict[str, _Seen] = {}

    async def load(self, name: str) -> StoredCheckpoint:
        found, _ = await self._get(name)
        return found

    async def acquire(self, name: str, lease: float, *, watched: bool) -> StoredCheckpoint:  # noqa: ARG002 - no leases
        for _ in range(_TRIES):
            found, version = await self._get(name)
            if found.size > MAX_BYTES:
                return found
            if found.text:
                # Before it is written again: what is none of ours stays as it is.
                await asyncio.to_thread(Checkpoint.decode, found.text, source=f"{name!r} in {self.name}")
            epoch = next_epoch(found.epoch, time.time())
            if await self._put(name, found.text, _Seen(epoch, version)):
                return attrs.evolve(found, epoch=epoch)
        raise StoreFailedError("others change it at the same time")

    async def save(self, name: str, text: str, epoch: int, number: int, lease: float) -> bool:  # noqa: ARG002
        """Store a checkpoint. A call that arrives late finds another version than the one that it has seen."""
        for _ in range(_TRIES):
            seen = self._seen.get(name)
            if seen is None or seen.epoch != epoch:
                found, version = await self._get(name)
                seen = _Seen(epoch, version)
                if found.epoch > epoch:
                    return False
            if await self._put(name, text.encode(), seen):
                return True
        raise StoreFailedError("others change it at the same time")

    async def renew(self, name: str, epoch: int, lease: float) -> bool:  # noqa: ARG002 - there are no leases
        return True

    async def release(self, name: str, epoch: int) -> None:
        """Nobody waits for it."""

    async def close(self) -> None:
        self._seen.clear()

    def forget_connections(self) -> None:
        """Its connections belong to no event loop."""

    async def _get(self, name: str) -> tuple[StoredCheckpoint, dict[str, str]]:
        """Return an object, of one that is too large its size alone, and its version, empty if there is none."""
        import obstore  # noqa: PLC0415 - an extra

        try:
            answer = await _call(lambda: obstore.get_async(self._store, _path(name)))
        except FileNotFoundError:
            return StoredCheckpoint(0), {}
        size = answer.meta["size"]
        if size > MAX_BYTES:
            return StoredCheckpoint(0, size=size), {}
        epoch, text = split_epoch(bytes(await _call(answer.bytes_async)))
        return StoredCheckpoint(epoch, text, len(text)), _version(answer.meta)

    async def _put(self, name: str, text: bytes, seen: _Seen) -> bool:
        """Replace an object, or create it; False if it is another one than was seen."""
        import obstore  # noqa: PLC0415 - an extra
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415

        body = b'{"epoch":%d%s' % (seen.epoch, b"," + text[1:] if text else b"}")
        mode: Any = seen.version or "create"
        self._seen.pop(name, None)
        try:
            answer = await _call(lambda: obstore.put_async(self._store, _path(name), body, mode=mode))
        except (AlreadyExistsError, PreconditionError):
            return False
        except FileNotFoundError as error:
            why = _text(error)
        else:
            self._seen[name] = _Seen(seen.epoch, _version(answer))
            return True
        raise StoreFailedError(why, refused=True)


def _path(name: str) -> str:
    return f"{name}.json"


def _version(found: Any) -> dict[str, str]:
    """Return what identifies this version of an object: its ETag, or its generation."""
    return {key: found[key] for key in ("e_tag", "version") if found[key] is not None}


async def _call(work: Callable[[], Awaitable[T]]) -> T:
    """Return what a call returns; raises `StoreFailedError`, and what says that an object is not as expected."""
    from obstore.exceptions import (  # noqa: PLC0415 - an extra
        AlreadyExistsError,
        BaseError,
        NotFoundError,
        NotSupportedError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )

    try:
        return await work()
    except NotFoundError as error:
        raise FileNotFoundError(_text(error)) from None
    except (AlreadyExistsError, PreconditionError, FileNotFoundError):
        raise
    except (NotSupportedError, NotImplementedError, PermissionDeniedError, UnauthenticatedError) as error:
        why, refused = _text(error), True
    except (BaseError, OSError) as error:
        why, refused = _text(error), False
    # Not inside `except`: its text goes on with the answer of the store, which quotes access keys.
    raise StoreFailedError(why, refused=refused)


def _text(error: BaseException) -> str:
    """Return the first line of an error, without the body of an answer and the secrets of a URL."""
    line = str(error).partition("\n")[0].partition(": <")[0]
    return validation.printable(_SECRETS.sub("", line)) or type(error).__name__


def _opened(url: Hidden) -> ObjectStore:
    from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
    from obstore.store import from_url  # noqa: PLC0415

    # Its errors quote the URL.
    with suppress(BaseError, ValueError, TypeError):
        return from_url(url.value)
    raise ValueError("store: obstore cannot use this URL: (value not shown)")


def _checked(url: Hidden) -> str:
    """Return what errors may show of a URL: no user, password or query; raises `ValueError` for another kind of URL."""
    # Errors quote what they cannot read, which may be half a password.
    with suppress(ValueError):
        if shown := _shown(url.value):
            return shown
    allowed = f"a URL that begins with {', '.join(_SCHEMES)}, without user and password"
    raise ValueError(f"store: allowed is {allowed}: (value not shown)")


def _shown(url: str) -> str:
    parts = urlsplit(url)
    allowed = parts.scheme in _SCHEMES and parts.username is None and parts.port is None
    return validation.printable(f"{parts.scheme}://{parts.hostname or ''}{parts.path}") if allowed else ""
