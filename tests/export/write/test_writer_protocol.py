"""The protocol between an export and its writer process, where the two run different versions of the library."""

from __future__ import annotations

import pytest

from agora_analytics.export.write.subprocess_writer import SubprocessWriter
from agora_analytics.export.write.writer import WriterError

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("held", (), "does not know the command 'held': was the library updated meanwhile?"),
        ("copy", ("export.sqlite",), "cannot read a path: was the library updated meanwhile?"),
    ],
)
def test_a_command_of_another_version_is_answered_by_an_error(tmp_path, command, arguments, message):
    writer = SubprocessWriter("sqlite", tmp_path, tmp_path / "state" / "writing")
    try:
        writer.ready()
        with pytest.raises(WriterError) as caught:
            writer._call(command, *arguments)
        assert message in str(caught.value)
    finally:
        with pytest.raises(WriterError):
            writer.close()
