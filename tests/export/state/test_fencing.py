"""A run that is stopped right before an upload, and comes back when another one has continued the export."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from helpers.export_machines import RemotePlace
from helpers.export_runs import remove_rate_limits, s3_options

from agora_analytics import ExportError
from agora_analytics.export.sinks import ReplacedError, Sink, open_sink
from agora_analytics.export.write.part_writer import PartWriter


@pytest.fixture
def place(s3, tmp_path) -> RemotePlace:
    return RemotePlace(f"s3://bucket/{tmp_path.name}", s3_options(s3), tmp_path)


@pytest.fixture
def put(tmp_path) -> Callable[[Sink, bytes], None]:
    """Return a function that uploads content as the file `part`."""

    def put(sink: Sink, content: bytes) -> None:
        (tmp_path / "file").write_bytes(content)
        sink.put(tmp_path / "file", "part")

    return put


@pytest.mark.slow
async def test_a_run_stopped_after_its_last_check_leaves_the_manifest_of_the_later_one(
    simulation, place, truth, monkeypatch
):
    remove_rate_limits(simulation)
    later: list[dict[str, bytes]] = []
    check = PartWriter._check_before_replacing

    async def stop_after_check(self: PartWriter, *arguments: object) -> None:
        await check(self, *arguments)
        if self._closed and not later:
            later.append({})
            assert (await place.run(simulation, "two")).complete
            later.append(place.contents())

    monkeypatch.setattr(PartWriter, "_check_before_replacing", stop_after_check)
    with pytest.raises(ExportError, match=r"manifest\.json was written or removed by another process") as error:
        await place.run(simulation, "one", max_requests=9)
    assert error.value.kind == "superseded"
    data = {name: content for name, content in place.contents().items() if not name.startswith(".agora-export/")}
    assert data == {name: later[1][name] for name in data}
    assert place.rows() == truth


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [(None, b"theirs"), (b"old", b"theirs"), (b"old", None)],
    ids=["new", "replaced", "removed"],
)
def test_a_file_that_another_process_changed_is_not_replaced(place, put, before, meanwhile):
    mine, other = (open_sink(place.to, place.options) for _ in range(2))
    if before is not None:
        put(other, before)
    mine.expect("part")
    other.remove("part") if meanwhile is None else put(other, meanwhile)
    with pytest.raises(ReplacedError, match="part was written or removed"):
        put(mine, b"mine")
    assert other.read("part") == meanwhile


@pytest.mark.parametrize("meanwhile", [None, b"mine"], ids=["unchanged", "the same rows"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_file_that_is_unchanged_or_the_same_is_written(place, put, before, meanwhile):
    mine, other = (open_sink(place.to, place.options) for _ in range(2))
    if before is not None:
        put(other, before)
    mine.expect("part")
    if meanwhile is not None:
        put(other, meanwhile)
    put(mine, b"mine")
    put(mine, b"newer")  # only the next upload is conditional
    assert other.read("part") == b"newer"


def test_a_store_without_conditions_is_written_to_as_before(place, put, monkeypatch):
    mine = open_sink(place.to, place.options)
    store = type(mine._store)
    upload = store.put_file

    def refuse_conditions(self, file: str, target: str, **conditions: object) -> None:
        if conditions:
            raise OSError(errno.ENOSYS, "A header you provided implies functionality that is not implemented")
        upload(self, file, target)

    monkeypatch.setattr(store, "put_file", refuse_conditions)
    for content in (b"one", b"two"):
        mine.expect("part")
        put(mine, content)
        assert mine.read("part") == content
