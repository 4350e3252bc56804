"""The wire format of Protocol Buffers, compared with the official library."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint

from agora_analytics.ops.push import otlp, protobuf
from agora_analytics.ops.push.remote_write import snappy


@given(st.integers(0, 2**64 - 1), st.floats(allow_nan=False), st.text(max_size=300))
def test_fields_are_encoded_as_the_library_encodes_them(nanoseconds, value, text):
    point = NumberDataPoint(time_unix_nano=nanoseconds, as_double=value)
    point.attributes.add(key=text).value.string_value = text
    # The library leaves out a field without a value, unless it is one of several of which one is set.
    key = protobuf.field(1, text) if text else b""
    encoded = (
        (protobuf.fixed(3, nanoseconds) if nanoseconds else b"")
        + protobuf.double(4, value)
        + protobuf.field(7, key + protobuf.field(2, protobuf.field(1, text)))
    )
    assert encoded == point.SerializeToString(deterministic=True)


@given(st.integers(0, 2**63 - 1), st.text(max_size=300))
def test_numbers_and_texts_are_read_as_the_library_wrote_them(number, text):
    encoded = ExportMetricsPartialSuccess(rejected_data_points=number, error_message=text).SerializeToString()
    found = protobuf.fields(encoded)
    assert found.get(1, 0) == number
    assert found.get(2, b"") == text.encode()
    assert encoded == (protobuf.integer(1, number) if number else b"") + (protobuf.field(2, text) if text else b"")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_with_a_value_error(message):
    with suppress(ValueError):
        protobuf.fields(message)
    number, said = otlp.rejected(message)
    assert number >= 0
    assert isinstance(said, str)
    assert isinstance(otlp.message(message), str)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_message_that_is_cut_off_is_refused(cut):
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = 300
    response.partial_success.error_message = "too old"
    encoded = response.SerializeToString()
    assert len(encoded) > cut
    assert otlp.rejected(encoded) == (300, "too old")
    with pytest.raises(ValueError, match="cut off"):
        protobuf.fields(encoded[:-cut])


@pytest.mark.parametrize("message", [b"\x0b", b"\x08" + b"\xff" * 11, b"\x0a\xff\xff\xff\xff\xff\x0f", b"\x0d\x00"])
def test_what_is_no_message_is_refused(message):
    with pytest.raises(ValueError, match=r"field|number"):
        protobuf.fields(message)


def unsnapped(block: bytes) -> bytes:
    """Read a block of literals, as the format's description has it."""
    size, at, shift, data = 0, 0, 0, b""
    while True:
        size |= (block[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if block[at - 1] < 128:
            break
    while at < len(block):
        assert block[at] & 3 == 0, "not a literal"
        wide = max(0, (block[at] >> 2) - 59)
        length = int.from_bytes(block[at + 1 : at + 1 + wide], "little") if wide else block[at] >> 2
        data += block[at + 1 + wide : at + 2 + wide + length]
        at += 2 + wide + length
    assert len(data) == size
    return data


@pytest.mark.parametrize("size", [0, 1, 59, 60, 61, 127, 128, 65_535, 65_536, 65_537, 200_000])
def test_a_block_of_snappy_is_read_back(size):
    data = bytes(number % 251 for number in range(size))
    assert unsnapped(snappy(data)) == data
