"""The contract of all checkpoint stores: who saves under a name, what is loaded, and what a cancelled call leaves."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from helpers.checkpoints import store_checkpoint

from agora_analytics import Checkpoint, CheckpointError, Span
from agora_analytics.protocols import Lease
from agora_analytics.streams.position import Position

pytestmark = pytest.mark.real_time

CHECKPOINT = Checkpoint(stream="watch 0", done=(Span(20, 60), Span(100, 120)), open={"call": {"created_ts": 3}})
OTHER = Checkpoint(stream="watch 0", done=(Span(20, 400),))


async def taken_over(stores, name: str, epoch: int) -> Lease:
    """Return the lease of another process that took the name over, whose holder is gone or was only stopped."""
    try:
        return await stores[1].acquire(name)
    except CheckpointError as error:
        assert error.kind == "in_use"  # noqa: PT017 - any other exception fails the test
    await stores[0].release(name, epoch)
    return await stores[1].acquire(name)


@pytest.fixture
def stores(new_store):
    """Two stores with the same checkpoints, as two processes have them."""
    return new_store(), new_store()


async def test_the_last_saved_checkpoint_is_loaded(stores):
    lease = await stores[0].acquire("prod")
    assert (lease.checkpoint, await stores[1].load("prod")) == (None, None)
    for checkpoint in (Checkpoint(stream="watch 0"), CHECKPOINT):
        await stores[0].save("prod", checkpoint, lease.epoch)
        assert await stores[1].load("prod") == checkpoint
    await store_checkpoint(stores[0], "other", OTHER)
    assert await stores[1].load("prod") == CHECKPOINT


async def test_each_takeover_has_a_greater_epoch_and_the_last_checkpoint(stores):
    epochs = []
    for number in range(6):
        lease = await stores[number % 2].acquire("prod")
        epochs.append(lease.epoch)
        assert (lease.checkpoint is None) == (number == 0)
        assert number == 0 or lease.checkpoint.done == (Span(0, number),)
        await stores[number % 2].save("prod", Checkpoint(stream="s", done=(Span(0, number + 1),)), lease.epoch)
        await stores[number % 2].release("prod", lease.epoch)
    assert epochs[0] > 0
    assert all(one < other for one, other in pairwise(epochs))


async def test_a_save_after_a_takeover_is_refused_and_changes_nothing(stores):
    old = await stores[0].acquire("prod")
    await stores[0].save("prod", CHECKPOINT, old.epoch)
    new = await taken_over(stores, "prod", old.epoch)
    assert new.checkpoint == CHECKPOINT
    for _ in range(2):
        with pytest.raises(CheckpointError, match="another process took this stream over") as caught:
            await stores[0].save("prod", OTHER, old.epoch)
        assert caught.value.kind == "taken_over"
    assert await stores[1].load("prod") == CHECKPOINT
    await stores[1].save("prod", OTHER, new.epoch)
    assert await stores[0].load("prod") == OTHER


async def test_a_name_that_was_taken_over_is_not_released_by_its_former_holder(stores):
    old = await stores[0].acquire("prod")
    new = await taken_over(stores, "prod", old.epoch)
    await stores[0].release("prod", old.epoch)
    await stores[1].save("prod", OTHER, new.epoch)
    third = await taken_over((stores[1], stores[0]), "prod", new.epoch)
    assert third.checkpoint == OTHER


async def test_looking_at_a_checkpoint_takes_nothing_over(stores):
    lease = await stores[0].acquire("prod")
    await stores[0].save("prod", CHECKPOINT, lease.epoch)
    assert await stores[1].load("prod") == CHECKPOINT
    await stores[0].save("prod", OTHER, lease.epoch)


async def test_names_are_apart_also_where_they_differ_in_case_alone(stores):
    names = ("prod", "Prod", "PROD", "prod.alerts", "prod@2")
    leases = {name: await stores[0].acquire(name) for name in names}
    for name in names:
        await stores[0].save(name, Checkpoint(stream=name), leases[name].epoch)
    assert [(await stores[1].load(name)).stream for name in names] == list(names)


async def test_of_concurrent_takeovers_only_the_last_one_saves(new_store):
    found = await asyncio.gather(*(new_store().acquire("prod") for _ in range(12)), return_exceptions=True)
    leases = sorted((lease for lease in found if isinstance(lease, Lease)), key=lambda lease: lease.epoch)
    assert leases
    assert {error.kind for error in found if isinstance(error, CheckpointError)} <= {"in_use"}
    assert len({lease.epoch for lease in leases}) == len(leases)
    store = new_store()
    for lease in leases[:-1]:
        with pytest.raises(CheckpointError, match="took this stream over"):
            await store.save("prod", CHECKPOINT, lease.epoch)
    await store.save("prod", OTHER, leases[-1].epoch)
    assert await store.load("prod") == OTHER


async def test_saves_of_two_holders_at_once_leave_that_of_the_later(stores):
    for number in range(5):
        old = await stores[0].acquire(f"prod{number}")
        saves = [stores[0].save(f"prod{number}", CHECKPOINT, old.epoch) for _ in range(5)]
        new, *results = await asyncio.gather(
            taken_over(stores, f"prod{number}", old.epoch), *saves, return_exceptions=True
        )
        await stores[1].save(f"prod{number}", OTHER, new.epoch)
        assert {getattr(result, "kind", None) for result in results} <= {None, "taken_over"}
        with pytest.raises(CheckpointError, match="took this stream over"):
            await stores[0].save(f"prod{number}", CHECKPOINT, old.epoch)
        assert await stores[0].load(f"prod{number}") == OTHER


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_a_cancelled_save_is_whole_or_not_there_and_the_next_one_counts(store, turns):
    lease = await store.acquire("prod")
    await store.save("prod", CHECKPOINT, lease.epoch)
    saving = asyncio.create_task(store.save("prod", OTHER, lease.epoch))
    for _ in range(turns):
        await asyncio.sleep(0)
    saving.cancel()
    await asyncio.wait([saving])
    assert await store.load("prod") in (CHECKPOINT, OTHER)
    for checkpoint in (OTHER, CHECKPOINT):
        await store.save("prod", checkpoint, lease.epoch)
        assert await store.load("prod") == checkpoint


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_a_cancelled_takeover_keeps_nobody_away(store, turns):
    await store_checkpoint(store, "prod", CHECKPOINT)
    acquiring = asyncio.create_task(store.acquire("prod"))
    for _ in range(turns):
        await asyncio.sleep(0)
    acquiring.cancel()
    await asyncio.wait([acquiring])
    if not acquiring.cancelled():
        await store.release("prod", acquiring.result().epoch)
    lease = await store.acquire("prod")
    assert lease.checkpoint == CHECKPOINT
    await store.save("prod", OTHER, lease.epoch)


async def test_a_checkpoint_of_a_megabyte_is_kept(stores):
    windows = {str(ts): {"0": {"at": float(ts), "rows": [[None, None, 40]] * 100}} for ts in range(700)}
    large = Checkpoint(stream="watch 0", open=windows)
    assert len(large.encode()) > 1_000_000
    await store_checkpoint(stores[0], "prod", large)
    assert await stores[1].load("prod") == large


async def test_a_stream_with_the_name_of_another_ends_and_does_not_take_it_over(stores):
    lease = await stores[0].acquire("prod")
    await stores[0].save("prod", CHECKPOINT, lease.epoch)
    with pytest.raises(CheckpointError, match="belongs to another stream"):
        await Position("watch 1", store=stores[1], name="prod").resume()
    await stores[0].save("prod", OTHER, lease.epoch)
