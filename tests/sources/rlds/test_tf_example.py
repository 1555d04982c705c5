"""The wire format of tf.train.Example, against records written by hand."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.sources.rlds import tf_example, tf_lists
from dataengine.sources.rlds.tf_example import parse_example
from dataengine.sources.rlds.tf_lists import bytes_items, count_values, float_values, int64_values
from tests.support.tfds_folder import blobs, delimited, floats, ints, record, texts, varint

INT64 = np.dtype(np.int64)


def one(feature: bytes) -> tf_example.Feature:
    return parse_example(record({"k": feature}), "r")["k"]


def integers(feature: bytes, dtype: str = "int64") -> list[int]:
    return int64_values(one(feature), np.dtype(dtype), "r").tolist()


def test_a_record_written_out_byte_by_byte() -> None:
    # Example{features{feature{key "a" value{int64_list{value [1, 300]}}}}}
    data = bytes.fromhex("0a0e 0a0c 0a0161 1207 1a05 0a03 01ac02".replace(" ", ""))
    features = parse_example(data, "r")
    assert list(features) == ["a"]
    assert int64_values(features["a"], INT64, "r").tolist() == [1, 300]
    assert count_values(features["a"], "r") == 2


def test_keys_kinds_and_order() -> None:
    features = parse_example(record({"steps/b": blobs([b"x", b""]), "a": floats([0.5]), "c": ints([1]), "é": b""}), "r")
    assert [(name, feature.kind) for name, feature in features.items()] == [("steps/b", "bytes"), ("a", "float"), ("c", "int64"), ("é", "empty")]
    assert parse_example(b"", "r") == {}


def test_bytes_are_views_of_the_record() -> None:
    data = record({"k": blobs([b"x" * 5, b"", b"y" * 127, b"z" * 128, b"w" * 20000])})
    items = bytes_items(parse_example(data, "r")["k"], "r")
    assert [bytes(item) for item in items] == [b"x" * 5, b"", b"y" * 127, b"z" * 128, b"w" * 20000]
    assert all(item.obj is data for item in items)


def test_repeated_texts_and_nearly_repeated_ones() -> None:
    assert [bytes(item) for item in bytes_items(one(texts(["pick"] * 7)), "r")] == [b"pick"] * 7
    assert [bytes(item) for item in bytes_items(one(texts([""] * 3)), "r")] == [b""] * 3
    assert [bytes(item) for item in bytes_items(one(texts(["pick", "pick", "pack"])), "r")] == [b"pick", b"pick", b"pack"]


def test_negative_and_extreme_integers_take_ten_bytes() -> None:
    assert len(varint(-1)) == 10
    values = [0, -1, 127, 128, -(2**63), 2**63 - 1, 300, 2**35, -2]
    assert integers(ints(values)) == values
    assert integers(ints(values, packed=False)) == values
    assert integers(ints([5] * 40)) == [5] * 40
    assert integers(ints([])) == []


def test_floats_packed_and_not() -> None:
    values = [0.5, -1.25, 3e38, float("-inf"), 0.0]
    assert float_values(one(floats(values)), "r").tolist() == np.float32(values).tolist()
    assert float_values(one(floats(values, packed=False)), "r").tolist() == np.float32(values).tolist()
    assert float_values(one(floats([])), "r").tolist() == []


def test_packed_and_unpacked_pieces_of_one_list_merge() -> None:
    mixed = delimited(2, b"\x0d" + struct.pack("<f", 1.0) + delimited(1, struct.pack("<2f", 2.0, 3.0)) + b"\x0d" + struct.pack("<f", 4.0))
    assert float_values(one(mixed), "r").tolist() == [1, 2, 3, 4]
    mixed = delimited(3, b"\x08" + varint(-7) + delimited(1, varint(300) + varint(4)) + b"\x08\x05")
    assert integers(mixed) == [-7, 300, 4, 5]
    assert count_values(one(mixed), "r") == 4
    assert integers(ints([1]) + ints([2])) == [1, 2]  # the list twice in one feature
    assert integers(floats([1.0]) + ints([2])) == [2]  # the last kind of a oneof wins


def test_the_last_entry_of_a_key_wins_and_unknown_fields_are_passed_over() -> None:
    entry = delimited(1, b"k") + delimited(2, ints([1]))
    again = delimited(9, b"what") + delimited(2, ints([2])) + delimited(1, b"k") + varint(10 << 3) + varint(5)
    features = delimited(1, entry) + delimited(7, b"unknown") + delimited(1, again)
    data = varint(3 << 3 | 1) + bytes(8) + delimited(1, features) + varint(4 << 3 | 5) + bytes(4)
    assert int64_values(parse_example(data, "r")["k"], INT64, "r").tolist() == [2]


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # a length is missing
        b"\x0a\x05abc",  # a field leaves the message
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # an absurd length
        b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",  # eleven bytes of varint
        b"\x0b",  # a group
        b"\x02\x00",  # field number 0
        b"\x0f\x00",  # wire type 7
        delimited(1, delimited(1, delimited(1, b"\xff\xfe"))),  # a key that is no UTF-8
        record({"k": b"\x0a\x7fshort"}),
    ],
)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(BadRecording) as caught:
        parse_example(data, "shard: record 3")
    assert (caught.value.where, caught.value.check) == ("shard: record 3", "malformed_example")


@pytest.mark.parametrize(
    ("feature", "read"),
    [
        (delimited(1, b"\x0a\x05abc"), bytes_items),
        (delimited(1, b"\x0a\xff\xff\xff\xff\x0fabc"), bytes_items),
        (delimited(1, b"\x0a\x01a\x0a"), bytes_items),
        (delimited(2, delimited(1, b"12345")), float_values),
        (delimited(2, b"\x0d123"), float_values),
        (delimited(3, delimited(1, b"\x01\x80")), lambda feature, where: int64_values(feature, INT64, where)),
        (delimited(3, delimited(1, b"\x80" * 10 + b"\x01")), lambda feature, where: int64_values(feature, INT64, where)),
        (delimited(3, delimited(1, b"\x01\x80") + b"\x08\x01"), lambda feature, where: int64_values(feature, INT64, where)),
    ],
)
def test_malformed_lists_are_refused_by_key(feature: bytes, read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadRecording, match=r"record 3, key 'k': expected a tf\.train\.Example"):
        read(one(feature), "record 3")


@pytest.mark.parametrize(("dtype", "value"), [("bool", 2), ("bool", -1), ("uint8", 256), ("uint8", -1), ("int8", 128), ("int32", 2**31), ("uint32", -1)])
def test_numbers_that_do_not_fit_are_refused(dtype: str, value: int) -> None:
    with pytest.raises(BadRecording, match=rf"key 'k': expected {dtype} values in .*, found {value};"):
        integers(ints([1, value, 0]), dtype)


def test_numbers_that_fit_take_the_declared_type() -> None:
    assert int64_values(one(ints([0, 1])), np.dtype(bool), "r").tolist() == [False, True]
    assert int64_values(one(ints([255, 0])), np.dtype("uint8"), "r").dtype == np.uint8
    assert integers(ints([-1, 5]), "uint64") == [2**64 - 1, 5]  # TFDS writes the bits of an uint64


def test_long_lists_are_decoded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).integers(-(2**40), 2**40, 500)
    values[::3] = np.arange(167)
    monkeypatch.setattr(tf_lists, "CHUNK_BYTES", 13)
    assert integers(ints(values.tolist())) == values.tolist()
    with pytest.raises(BadRecording):
        integers(delimited(3, delimited(1, b"\x80" * 40 + b"\x01")))


def test_small_integers_stay_small_while_they_are_read() -> None:
    feature = one(ints([7] * 4_000_000))
    tracemalloc.start()
    values = int64_values(feature, np.dtype("uint8"), "r")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.nbytes == 4_000_000
    assert peak < 12_000_000


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf_lists, "MAX_ITEMS", 10)
    monkeypatch.setattr(tf_example, "MAX_FEATURES", 10)
    for feature, read in ((blobs([b""] * 11), bytes_items), (blobs([b"a", b"b"] * 6), bytes_items)):
        with pytest.raises(BadRecording, match="more than 10 entries"):
            read(one(feature), "r")
    with pytest.raises(BadRecording, match="more than 10 numbers"):
        integers(ints([1] * 11, packed=False))
    with pytest.raises(BadRecording, match="more than 10 numbers"):
        float_values(one(delimited(2, delimited(1, b"") * 11)), "r")
    with pytest.raises(BadRecording, match="more than 10"):
        parse_example(record({str(number): b"" for number in range(11)}), "r")
