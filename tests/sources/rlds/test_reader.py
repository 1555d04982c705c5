"""The RLDS reader on records written by hand."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.episode import Episode, Noticed, Rejected, episodes_of
from dataengine.core.errors import BadRecording, UsageError
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Frames, Items
from dataengine.sources.listing import list_source
from dataengine.sources.rlds import reader as rlds
from dataengine.sources.rlds.tfrecord import frame_bytes
from tests.support.tfds_folder import (
    blobs,
    dataset_info,
    delimited,
    features_dict,
    floats,
    framed,
    image,
    ints,
    record,
    rlds_features,
    sequence,
    tensor,
    text,
    texts,
    write_dataset,
)

JPEG = [b"\xff\xd8\xff\xe0 first", b"\xff\xd8\xff\xe0 second one", b"\xff\xd8\xff\xe0 3"]
PNG = b"\x89PNG\r\n\x1a\n rest"

STEPS: dict[str, Any] = {
    "observation": features_dict({"image_0": image(64, 64, 3), "state": tensor("float32", 2)}),
    "action": tensor("float32", 2),
    "reward": tensor("float32"),
    "is_first": tensor("bool"),
    "is_last": tensor("bool"),
    "is_terminal": tensor("bool"),
    "language_instruction": text(),
}
EPISODE = {"episode_metadata": features_dict({"file_path": text(), "episode_id": tensor("int32"), "weights": tensor("float32", 2)})}
RECORD = {
    "steps/observation/image_0": blobs(JPEG),
    "steps/observation/state": floats([0, 1, 2, 3, 4, 5]),
    "steps/action": floats([0.5, -0.5, 1, 2, 3, 4]),
    "steps/reward": floats([0, 0, 1]),
    "steps/is_first": ints([1, 0, 0]),
    "steps/is_last": ints([0, 0, 1]),
    "steps/is_terminal": ints([0, 0, 0]),
    "steps/language_instruction": texts(["pick", "pick", "place"]),
    "episode_metadata/file_path": texts(["/a/b.npy"]),
    "episode_metadata/episode_id": ints([-7]),
    "episode_metadata/weights": floats([0.25, float("nan")]),
}


def outcomes(folder: Path, options: ReadOptions | None = None) -> list[Episode | Rejected | Noticed]:
    listing = list_source(str(folder))
    found = rlds.find(listing)
    return [outcome for item in found.items for outcome in episodes_of(rlds.read(item, listing.opener, options or ReadOptions()))]


def read_one(folder: Path, steps: Mapping[str, Any], values: Mapping[str, bytes], episode: Mapping[str, Any] | None = None) -> Episode:
    """Write one record of three steps and read it; what it rejects is raised as an assertion."""
    counted = {"is_first": tensor("bool"), **steps}
    write_dataset(folder, "d", {"train": [[record({"steps/is_first": ints([1, 0, 0]), **values})]]}, rlds_features(counted, episode))
    (outcome,) = outcomes(folder)
    assert isinstance(outcome, Episode), outcome
    return outcome


def reject_one(folder: Path, steps: Mapping[str, Any], values: Mapping[str, bytes]) -> str:
    """Write one record of three steps and return why it is rejected."""
    write_dataset(folder, "d", {"train": [[record({"steps/is_first": ints([1, 0, 0]), **values})]]}, rlds_features({"is_first": tensor("bool"), **steps}))
    (outcome,) = outcomes(folder)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.key == "0"
    return f"{outcome.problem.check}: {outcome.problem.message}"


def checks(episode: Episode) -> list[str]:
    return [problem.check for problem in episode.info.problems]


def test_a_record_becomes_an_episode_with_names_types_and_bytes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "kitchen" / "1.0.0", "Kitchen", {"train": [[record(RECORD)]]}, rlds_features(STEPS, EPISODE))
    listing = list_source(str(tmp_path))
    found = rlds.find(listing)
    (item,) = found.items
    assert (item.dataset, item.splits, item.recordings, found.problems) == ("kitchen", ("train",), 1, ())
    assert found.claimed == set(listing.files)
    assert [file.path.rpartition("/")[2] for file in item.files] == ["Kitchen-train.tfrecord-00000-of-00001", "features.json", "dataset_info.json"]
    (episode,) = outcomes(tmp_path)
    assert isinstance(episode, Episode)
    info = episode.info
    assert set(episode.streams) == {
        "observation.images.image_0", "observation.state", "action", "reward", "is_first", "is_last", "is_terminal", "language_instruction",
    }  # fmt: skip
    images = episode.streams["observation.images.image_0"]
    assert isinstance(images.values, Items)
    assert [bytes(item) for item in images.values.data] == JPEG
    assert (images.values.encodings, images.column.kind, images.column.shape, images.column.camera is not None) == ("jpeg", "image", (64, 64, 3), True)
    action = episode.streams["action"]
    assert isinstance(action.values, np.ndarray)
    assert (action.values.dtype, action.values.tolist(), action.column.meaning) == (np.float32, [[0.5, -0.5], [1, 2], [3, 4]], "action")
    state = episode.streams["observation.state"]
    assert (np.asarray(state.values).tolist(), state.column.meaning, state.column.extra) == (
        [[0, 1], [2, 3], [4, 5]],
        "state",
        {"source": "steps/observation/state"},
    )
    first = episode.streams["is_first"]
    assert isinstance(first.values, np.ndarray)
    assert (first.values.dtype, first.values.tolist(), first.column.meaning) == (np.bool_, [True, False, False], "flag")
    assert (info.key, info.clock, info.rate_hz, info.tasks, info.success, info.splits) == ("0", "unknown", None, ("pick", "place"), None, ("train",))
    assert info.stream_clocks == {}
    assert images.timestamps_ns is None
    assert info.metadata == {"file_path": "/a/b.npy", "episode_id": -7, "weights": [0.25, "nan"]}
    json.dumps(info.metadata, allow_nan=False)
    assert checks(episode) == []


def test_a_rate_makes_a_nominal_clock_and_the_description_wins(tmp_path: Path) -> None:
    write_dataset(tmp_path, "d", {"train": [[record(RECORD)]]}, rlds_features(STEPS, EPISODE))
    (asked,) = outcomes(tmp_path, ReadOptions(rate_hz=3))
    assert isinstance(asked, Episode)
    assert (asked.info.clock, asked.info.rate_hz, asked.info.follow) == ("nominal", 3.0, "action")
    times = asked.streams["observation.images.image_0"].timestamps_ns
    assert times is not None
    assert times.tolist() == [0, 333_333_333, 666_666_666]
    assert set(asked.info.stream_clocks) == set(asked.streams)
    described = {"rate_hz": 5, "embodiment": "widowx", "origin": "policy", "licence": "CC-BY-4.0"}
    (known,) = outcomes(tmp_path, ReadOptions(rate_hz=3, description=described))
    assert isinstance(known, Episode)
    assert (known.info.rate_hz, known.info.embodiment, known.info.origin, known.info.licence) == (5.0, "widowx", "policy", "CC-BY-4.0")
    assert checks(known) == ["rate_differs"]
    with pytest.raises(UsageError, match="--rate: must be a rate above 0"):
        outcomes(tmp_path, ReadOptions(rate_hz=0))


def test_splits_shards_and_keys(tmp_path: Path) -> None:
    def numbered(number: int) -> bytes:
        return record({**RECORD, "episode_metadata/episode_id": ints([number])})

    write_dataset(tmp_path, "d", {"train": [[numbered(1), numbered(2)], [numbered(3)]], "val": [[numbered(4)]]}, rlds_features(STEPS, EPISODE))
    found = [outcome.info for outcome in outcomes(tmp_path) if isinstance(outcome, Episode)]
    assert [(info.metadata["episode_id"], info.key, info.splits) for info in found] == [
        (1, "0", ("train",)),
        (2, "1", ("train",)),
        (3, "0", ("train",)),
        (4, "0", ("val",)),
    ]


def test_types_are_the_declared_ones(tmp_path: Path) -> None:
    steps = {
        "a": tensor("float64", 1),
        "b": tensor("uint8", 2),
        "c": tensor("float16"),
        "d": tensor("bfloat16"),
        "e": tensor("uint64"),
        "f": tensor("int32", 1, 2),
    }
    values = {
        "steps/a": floats([0.1, 0.2, 0.3]),
        "steps/b": ints([0, 255, 1, 2, 3, 4]),
        "steps/c": floats([0.5, float("nan"), 65504]),
        "steps/d": floats([1.5, 2, 3]),
        "steps/e": ints([-1, 0, 5]),
        "steps/f": ints([-(2**31), 1, 2, 3, 4, 2**31 - 1]),
    }
    streams = read_one(tmp_path, steps, values).streams
    arrays = {name: np.asarray(stream.values) for name, stream in streams.items()}
    assert arrays["a"].dtype == np.float64
    assert arrays["a"].tolist() == [[float(np.float32(value))] for value in (0.1, 0.2, 0.3)]  # what the file holds, not what was meant
    assert (arrays["b"].dtype, arrays["b"].tolist()) == (np.uint8, [[0, 255], [1, 2], [3, 4]])
    assert (arrays["c"].dtype, arrays["c"][2]) == (np.float16, 65504)
    assert (arrays["d"].dtype, streams["d"].column.extra["declared_dtype"]) == (np.float32, "bfloat16")
    assert (arrays["e"].dtype, arrays["e"].tolist()) == (np.uint64, [2**64 - 1, 0, 5])
    assert (arrays["f"].shape, arrays["f"].tolist()[2]) == ((3, 1, 2), [[4, 2**31 - 1]])


@pytest.mark.parametrize(
    ("node", "value", "reason"),
    [
        (tensor("float32", 2), floats([1] * 5), r"wrong_count: .*record 0, key 'steps/x': expected 6 values, found 5;"),
        (tensor("float32", 2), ints([1] * 6), r"wrong_type: .*expected a float list, as features.json says, found an int64 list;"),
        (tensor("int64"), floats([1] * 3), "wrong_type"),
        (tensor("uint8"), ints([1, 2, 256]), "out_of_range: .*expected uint8 values in .0, 255., found 256"),
        (tensor("bool"), ints([1, 0, 2]), "out_of_range"),
        (tensor("float16"), floats([1, 2, 1e6]), "out_of_range"),
        (tensor("float16"), floats([1, 2, 0.1]), "out_of_range"),
        (tensor("float32", 10**9, 10**9), floats([1] * 3), r"expected 3000000000000000000 values, found 3"),
        (image(64, 64, 3), blobs(JPEG[:2]), "wrong_count: .*expected 3 entries, found 2"),
        (text(), texts(["a"] * 4), "wrong_count"),
        (tensor("int64"), ints([]), "wrong_count: .*expected 3 values, found 0"),
        (tensor("uint8", 2, encoding="bytes"), blobs([b"12", b"34", b"567"]), "expected 2 bytes at step 2 .* found more"),
        (tensor("uint8", 2, encoding="zlib"), blobs([zlib.compress(b"12")] * 2 + [b"nonsense"]), "bad_zlib"),
        (tensor("uint8", 2, encoding="zlib"), blobs([zlib.compress(b"12")[:-3]] * 3), "bad_zlib: .*cut off"),
        (tensor("uint8", 2, encoding="zlib"), blobs([zlib.compress(bytes(10**7))] * 3), "expected 2 bytes at step 0 .* found more"),
        (tensor("uint8", 10**6, 10**6, encoding="zlib"), blobs([zlib.compress(b"")] * 3), "too_large"),
        (tensor("bool", encoding="bytes"), blobs([b"\x00", b"\x01", b"\x02"]), "out_of_range"),
    ],
)
def test_what_is_not_as_declared_is_rejected(tmp_path: Path, node: dict[str, Any], value: bytes, reason: str) -> None:
    found = reject_one(tmp_path, {"x": node}, {"steps/x": value})
    assert re.search(reason, found), found


def test_tensors_in_bytes_and_zlib_are_decoded(tmp_path: Path) -> None:
    values = np.arange(12, dtype="<i2").reshape(3, 2, 2) - 5
    steps = {"b": tensor("int16", 2, 2, encoding="bytes"), "z": tensor("int16", 2, 2, encoding="zlib"), "h": tensor("bfloat16", 1, encoding="bytes")}
    wire = {
        "steps/b": blobs([row.tobytes() for row in values]),
        "steps/z": blobs([zlib.compress(row.tobytes()) for row in values]),
        "steps/h": blobs([b"\xc0\x3f", b"\x00\x40", b"\x40\xc0"]),  # 1.5, 2, -3 cut to 16 bits
    }
    streams = read_one(tmp_path, steps, wire).streams
    for name in ("b", "z"):
        found = np.asarray(streams[name].values)
        assert (found.dtype, found.tolist()) == (np.int16, values.tolist())
    assert np.asarray(streams["h"].values).tolist() == [[1.5], [2], [-3]]


def test_empty_shapes_land_empty(tmp_path: Path) -> None:
    steps = {"a": tensor("float32", 0), "b": tensor("uint8", 0, 2, encoding="bytes"), "c": sequence(tensor("int64"), length=0)}
    wire = {"steps/a": floats([]), "steps/b": blobs([b""] * 3), "steps/c/ragged_flat_values": ints([]), "steps/c/ragged_row_lengths_0": ints([0] * 3)}
    streams = read_one(tmp_path, steps, wire).streams
    assert [np.asarray(streams[name].values).shape for name in "abc"] == [(3, 0), (3, 0, 2), (3, 0)]


def test_an_absurd_number_of_steps_is_rejected(tmp_path: Path) -> None:
    write_dataset(tmp_path, "d", {"train": [[record({"steps/is_first": ints([0])})]]}, rlds_features({"is_first": tensor("bool")}))
    zeros = delimited(3, delimited(1, bytes((1 << 20) + 1)))
    (tmp_path / "d-train.tfrecord-00000-of-00001").write_bytes(frame_bytes(record({"steps/is_first": zeros})))
    (outcome,) = outcomes(tmp_path)
    assert isinstance(outcome, Rejected)
    assert (outcome.problem.check, outcome.problem.found) == ("too_large", "1048577")


def test_sizes_that_vary_are_kept_as_bytes_of_each_step(tmp_path: Path) -> None:
    steps = {
        "points": sequence(tensor("float32", 2)),
        "fixed": sequence(tensor("uint8"), length=2),
        "deep": sequence(sequence(tensor("int32"))),
        "words": sequence(text()),
        "blob": tensor("float32", None, encoding="zlib"),
        "dynamic": tensor("uint16", None, None, encoding="bytes"),
    }
    packed = [zlib.compress(np.float32(row).tobytes()) for row in ([1], [2, 3], [])]
    wire = {
        "steps/points/ragged_flat_values": floats([1, 2, 3, 4, 5, 6]),
        "steps/points/ragged_row_lengths_0": ints([2, 0, 1]),
        "steps/fixed/ragged_flat_values": ints([1, 2, 3, 4, 5, 255]),
        "steps/fixed/ragged_row_lengths_0": ints([2, 2, 2]),
        "steps/deep/ragged_flat_values": ints([-1, 2, 3, 4]),
        "steps/deep/ragged_row_lengths_0": ints([1, 2, 0]),
        "steps/deep/ragged_row_lengths_1": ints([2, 0, 2]),
        "steps/words/ragged_flat_values": texts(["a", "ü", "c"]),
        "steps/words/ragged_row_lengths_0": ints([0, 2, 1]),
        "steps/blob": blobs(packed),
        "steps/dynamic/value": blobs([b"\1\0", b"\1\0\2\0", b""]),
        "steps/dynamic/shape": ints([1, 1, 1, 2, 0, 0]),
    }
    episode = read_one(tmp_path, steps, wire)

    def items(name: str) -> tuple[list[bytes], str]:
        values = episode.streams[name].values
        assert isinstance(values, Items)
        assert isinstance(values.encodings, str)
        return [bytes(item) for item in values.data], values.encodings

    assert items("points") == ([np.float32([1, 2, 3, 4]).tobytes(), b"", np.float32([5, 6]).tobytes()], "raw/float32")
    assert episode.streams["points"].column.extra == {"source": "steps/points", "row_dtype": "float32", "row_shape": [None, 2]}
    assert np.asarray(episode.streams["fixed"].values).tolist() == [[1, 2], [3, 4], [5, 255]]
    assert items("deep") == ([np.int32([-1, 2]).tobytes(), np.int32([3, 4]).tobytes(), b""], "raw/int32")
    assert items("deep.row_lengths_1") == ([np.int64([2]).tobytes(), np.int64([0, 2]).tobytes(), b""], "raw/int64")
    assert items("words") == ([b"[]", '["a", "ü"]'.encode(), b'["c"]'], "json")
    assert items("blob") == (packed, "zlib/float32")
    assert items("dynamic") == ([b"\1\0", b"\1\0\2\0", b""], "raw/uint16")
    assert np.asarray(episode.streams["dynamic.shape"].values).tolist() == [[1, 1], [1, 2], [0, 0]]
    assert checks(episode) == []


@pytest.mark.parametrize(
    ("lengths", "reason"),
    [
        ([2, 0], "expected 3 values, found 2"),
        ([2, 0, 2], "expected 8 values, found 6"),
        ([4, 0, -1], "expected lengths of rows, found -1"),
        ([2**62] * 3, "found 4611686018427387904"),
    ],
)
def test_row_lengths_must_add_up(tmp_path: Path, lengths: list[int], reason: str) -> None:
    wire = {"steps/p/ragged_flat_values": floats([1] * 6), "steps/p/ragged_row_lengths_0": ints(lengths)}
    assert reason in reject_one(tmp_path, {"p": sequence(tensor("float32", 2))}, wire)
    assert "expected an int64 list, found nothing" in reject_one(
        tmp_path, {"p": sequence(tensor("float32", 2))}, {"steps/p/ragged_flat_values": floats([1] * 6)}
    )


def test_several_pictures_a_step(tmp_path: Path) -> None:
    steps = {"pair": sequence(image(8, 8, 3), length=2), "some": sequence(image(8, 8, 3))}
    many = [b"\xff\xd8\xff%d" % number for number in range(6)]
    wire = {
        "steps/pair/ragged_flat_values": blobs(many),
        "steps/pair/ragged_row_lengths_0": ints([2, 2, 2]),
        "steps/some/ragged_flat_values": blobs(many[:4]),
        "steps/some/ragged_row_lengths_0": ints([3, 0, 1]),
    }
    episode = read_one(tmp_path, steps, wire)
    held = {name: [bytes(item) for item in stream.values.data] for name, stream in episode.streams.items() if isinstance(stream.values, Items)}
    assert held == {"pair.0": many[::2], "pair.1": many[1::2], "some": many[:4]}
    assert np.asarray(episode.streams["some.row_lengths"].values).tolist() == [3, 0, 1]
    assert "pair" not in episode.info.columns


def test_pictures_that_are_not_what_is_declared_land_with_a_problem(tmp_path: Path) -> None:
    steps = {"observation": features_dict({"a": image(8, 8, 3), "b": image(8, 8, 3), "c": image(None, None, 3, encoding="png")})}
    wire = {
        "steps/observation/a": blobs([JPEG[0], PNG, JPEG[1]]),
        "steps/observation/b": blobs([JPEG[0], b"", JPEG[1]]),
        "steps/observation/c": blobs([b"?"] * 3),
    }
    episode = read_one(tmp_path, steps, wire)
    values = {name: stream.values for name, stream in episode.streams.items() if isinstance(stream.values, Items)}
    assert list(values["observation.images.a"].encodings) == ["jpeg", "png", "jpeg"]
    assert [len(item) for item in values["observation.images.b"].data] == [len(JPEG[0]), 0, len(JPEG[1])]
    assert (values["observation.images.b"].encodings, values["observation.images.c"].encodings) == ("jpeg", "unknown")
    assert checks(episode) == ["encoding_differs", "missing_frames", "encoding_differs"]
    assert "found none at 1 rows, first 1" in episode.info.problems[1].message


def test_depth_and_raw_pictures(tmp_path: Path) -> None:
    raw = np.arange(3 * 16 * 16 * 3).astype(np.uint8).reshape(3, 16, 16, 3)
    depth = np.arange(3 * 16 * 20, dtype="<f4").reshape(3, 16, 20)
    observation = {
        "depth_0": image(8, 8, 1, dtype="uint16", encoding="png"),
        "float_depth": image(8, 8, 1, dtype="float32", encoding="png"),
        "raw": tensor("uint8", 16, 16, 3),
        "raw_depth": tensor("float32", 16, 20, encoding="zlib"),
        "table": tensor("uint8", 3, 3, 3),
    }
    wire = {
        "steps/observation/depth_0": blobs([PNG] * 3),
        "steps/observation/float_depth": blobs([PNG] * 3),
        "steps/observation/raw": ints(raw.reshape(-1).tolist()),
        "steps/observation/raw_depth": blobs([zlib.compress(row.tobytes()) for row in depth]),
        "steps/observation/table": ints(list(range(81))),
    }
    streams = read_one(tmp_path, {"observation": features_dict(observation)}, wire).streams
    kinds = {name: (stream.column.kind, stream.column.dtype) for name, stream in streams.items()}
    assert kinds == {
        "is_first": ("numeric", "bool"),
        "observation.images.depth_0": ("depth", "uint16"),
        "observation.images.float_depth": ("depth", "float32"),
        "observation.images.raw": ("image", "uint8"),
        "observation.images.raw_depth": ("depth", "float32"),
        "observation.table": ("numeric", "uint8"),
    }
    assert streams["observation.images.float_depth"].column.extra["packing"] == "float32_in_rgba8"
    frames, depths = streams["observation.images.raw"].values, streams["observation.images.raw_depth"].values
    assert isinstance(frames, Frames)
    assert isinstance(depths, Frames)
    assert np.array_equal(frames.pixels, raw)
    assert np.array_equal(depths.pixels, depth)


def test_every_language_field_gives_tasks(tmp_path: Path) -> None:
    steps = {
        "language_instruction": text(),
        "language_instruction_2": text(),
        "language_instruction_3": text(),
        "observation": features_dict({"natural_language_instruction": tensor("string"), "note": text()}),
    }
    wire = {
        "steps/language_instruction_2": texts(["b", "b", "b"]),
        "steps/language_instruction": texts(["a", "", "a"]),
        "steps/language_instruction_3": texts(["", " ", "a"]),
        "steps/observation/natural_language_instruction": texts(["ü", "b", "ü"]),
        "steps/observation/note": texts(["n", "n", "n"]),
        "episode_metadata/language_instruction": texts(["whole"]),
    }
    episode = read_one(tmp_path, steps, wire, {"episode_metadata": features_dict({"language_instruction": text()})})
    assert episode.info.tasks == ("a", "b", "ü", "whole")
    third = episode.streams["language_instruction_3"]
    assert isinstance(third.values, Items)
    assert [bytes(item) for item in third.values.data] == [b"", b" ", b"a"]
    assert (third.column.kind, third.column.meaning, episode.streams["observation.note"].column.meaning) == ("text", "language", "other")


def test_texts_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    episode = read_one(tmp_path, {"note": text()}, {"steps/note": blobs([b"a", b"\xff\xfe", b"a"])})
    values = episode.streams["note"].values
    assert isinstance(values, Items)
    assert [(values.encoding(row), bytes(values.data[row])) for row in range(3)] == [("utf-8", b"a"), ("binary", b"\xff\xfe"), ("utf-8", b"a")]
    assert checks(episode) == ["text_not_utf8"]


def test_absent_and_undeclared_features_are_named(tmp_path: Path) -> None:
    wire = {
        "steps/new": floats([1, 2, 3, 4, 5, 6]),
        "steps/shot": blobs(JPEG),
        "steps/odd": ints([1, 2]),
        "steps/said": texts(["x", "y", "z"]),
        "extra/number": ints([-3]),
    }
    episode = read_one(tmp_path, {"gone": tensor("float32", 7)}, wire)
    assert checks(episode) == ["missing_key", "undeclared_key"]
    assert "'steps/gone'" in episode.info.problems[0].message
    assert np.asarray(episode.streams["new"].values).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert episode.streams["shot"].column.kind == "image"
    assert episode.streams["said"].column.kind == "text"
    assert "gone" in episode.info.columns
    assert "gone" not in episode.streams
    assert episode.info.metadata == {"steps/odd": [1, 2], "extra/number": [-3]}


def test_metadata_of_the_episode(tmp_path: Path) -> None:
    declared = features_dict(
        {
            "success": tensor("bool"),
            "goal": image(8, 8, 3),
            "long": tensor("float32", 2000),
            "names": sequence(text()),
            "pairs": sequence(tensor("int64", 2)),
            "raw": text(),
        }
    )
    wire = {
        "episode_metadata/success": ints([1]),
        "episode_metadata/goal": blobs(JPEG[:1]),
        "episode_metadata/long": floats([0.5] * 2000),
        "episode_metadata/names": texts(["a", "b"]),
        "episode_metadata/pairs": ints([1, 2, 3, 4]),
        "episode_metadata/raw": blobs([b"\xff"]),
    }
    episode = read_one(tmp_path, {}, wire, {"episode_metadata": declared})
    assert episode.info.success is True
    assert episode.info.metadata == {"success": True, "names": ["a", "b"], "pairs": [[1, 2], [3, 4]], "raw": {"base64": "/w=="}}
    goal, long = episode.streams["episode_metadata.goal"], episode.streams["episode_metadata.long"]
    assert isinstance(goal.values, Items)
    assert (bytes(goal.values.data[0]), goal.column.kind, goal.column.steps, goal.timestamps_ns) == (JPEG[0], "image", False, None)
    assert np.asarray(long.values).shape == (1, 2000)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"is_first": [1, 0, 0], "is_last": [0, 0, 1], "is_terminal": [0, 0, 1]}, []),
        ({"is_first": [0, 1, 0], "is_last": [0, 0, 1], "is_terminal": [0, 0, 0]}, [("step_flags", "warning")]),
        ({"is_first": [1, 0, 0], "is_last": [0, 0, 0], "is_terminal": [0, 0, 0]}, [("step_flags", "info")]),
        ({"is_first": [1, 0, 0], "is_last": [0, 1, 0], "is_terminal": [0, 1, 0]}, [("step_flags", "warning")] * 2),
    ],
)
def test_flags_that_contradict_each_other_are_problems(tmp_path: Path, flags: dict[str, list[int]], expected: list[tuple[str, str]]) -> None:
    episode = read_one(tmp_path, {name: tensor("bool") for name in flags}, {f"steps/{name}": ints(values) for name, values in flags.items()})
    assert [(problem.check, problem.severity) for problem in episode.info.problems] == expected


def test_names_are_made_safe_and_differ(tmp_path: Path) -> None:
    steps = {"..": tensor("float32"), "__": tensor("float32"), "ä b": tensor("float32"), "observation": features_dict({"../x": tensor("float32")})}
    wire = {"steps/..": floats([1, 2, 3]), "steps/__": floats([4, 5, 6]), "steps/ä b": floats([0] * 3), "steps/observation/../x": floats([7, 8, 9])}
    streams = read_one(tmp_path, steps, wire).streams
    assert set(streams) == {"is_first", "__", "___2", "__b", "observation.__.x"}
    assert np.asarray(streams["___2"].values).tolist() == [4, 5, 6]


def test_an_episode_without_steps_is_rejected(tmp_path: Path) -> None:
    write_dataset(tmp_path, "d", {"train": [[record({"steps/is_first": ints([])}), record(RECORD), b""]]}, rlds_features(STEPS, EPISODE))
    found = outcomes(tmp_path)
    assert [
        (type(outcome).__name__, outcome.problem.check if isinstance(outcome, Rejected) else outcome.info.key)
        for outcome in found
        if not isinstance(outcome, Noticed)
    ] == [
        ("Rejected", "no_steps"),
        ("Episode", "1"),
        ("Rejected", "no_steps"),
    ]


def shard_outcomes(tmp_path: Path, damage: Any, declared: int = 5) -> list[tuple[str, str]]:
    """Write five records, damage the shard's bytes, and return (key, "" or check) of what comes."""
    paths = write_dataset(tmp_path, "d", {"train": [[record(RECORD)] * 5]}, rlds_features(STEPS, EPISODE))
    (tmp_path / "dataset_info.json").write_text(json.dumps(dataset_info("d", {"train": [declared]})))
    paths["train/0"].write_bytes(damage(paths["train/0"].read_bytes()))
    return [
        ("notice", outcome.problem.check)
        if isinstance(outcome, Noticed)
        else (outcome.key, outcome.problem.check)
        if isinstance(outcome, Rejected)
        else (outcome.info.key, "")
        for outcome in outcomes(tmp_path)
    ]


SIZE = len(framed(record(RECORD)))


def flip(at: int) -> Any:
    return lambda data: data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


def test_damage_costs_what_it_must_and_every_declared_recording_is_accounted_for(tmp_path: Path) -> None:
    ok = [(str(number), "") for number in range(5)]
    assert shard_outcomes(tmp_path, lambda data: data) == ok
    assert shard_outcomes(tmp_path, flip(SIZE + 40)) == [ok[0], ("1", "bad_crc"), *ok[2:]]
    assert shard_outcomes(tmp_path, flip(SIZE + 2)) == [ok[0], *((str(number), "bad_crc") for number in range(1, 5))]
    assert shard_outcomes(tmp_path, lambda data: data[: SIZE * 3 + 50]) == [*ok[:3], ("3", "cut_file"), ("4", "cut_file")]
    assert shard_outcomes(tmp_path, lambda data: data[: SIZE * 3]) == [*ok[:3], ("3", "missing_record"), ("4", "missing_record")]
    assert shard_outcomes(tmp_path, lambda data: data, declared=4) == [*ok, ("notice", "extra_records")]
    assert shard_outcomes(tmp_path, lambda data: data + b"tail") == [*ok, ("notice", "cut_file")]
    assert shard_outcomes(tmp_path, lambda data: b"", declared=0) == [("notice", "empty_file")]
    assert shard_outcomes(tmp_path, lambda data: b"", declared=2) == [("0", "missing_record"), ("1", "missing_record")]


def test_an_absurd_declared_count_is_not_listed_one_by_one(tmp_path: Path) -> None:
    found = shard_outcomes(tmp_path, lambda data: data, declared=10**14)
    assert len(found) == 5 + rlds.MAX_REJECTIONS + 1


def test_missing_and_undeclared_shards_are_named(tmp_path: Path) -> None:
    paths = write_dataset(tmp_path, "d", {"train": [[record(RECORD)]] * 3, "val": [[record(RECORD)]]}, rlds_features(STEPS, EPISODE))
    paths["train/1"].unlink()
    paths["val/0"].rename(tmp_path / "d-test.tfrecord-00000-of-00001")
    listing = list_source(str(tmp_path))
    found = rlds.find(listing)
    assert [(item.path, item.splits, item.recordings) for item in found.items] == [
        ("d-test.tfrecord-00000-of-00001", ("test",), None),
        ("d-train.tfrecord-00000-of-00003", ("train",), 1),
        ("d-train.tfrecord-00002-of-00003", ("train",), 1),
    ]
    assert sorted((problem.check, problem.where) for problem in found.problems) == [
        ("missing_shard", "d-train.tfrecord-00001-of-00003"),
        ("missing_shard", "d-val.tfrecord-00000-of-00001"),
        ("undeclared_shard", "d-test.tfrecord-00000-of-00001"),
    ]
    assert sum(isinstance(outcome, Episode) for outcome in outcomes(tmp_path)) == 3


def test_many_missing_shards_are_summed_up(tmp_path: Path) -> None:
    paths = write_dataset(tmp_path, "d", {"train": [[record(RECORD)]] * 30}, rlds_features(STEPS, EPISODE))
    for name, path in paths.items():
        if name != "train/4":
            path.unlink()
    problems = rlds.find(list_source(str(tmp_path))).problems
    assert len(problems) == 21
    assert "and 8 more (9 recordings)" in problems[-1].message


def test_shards_are_recognised_by_content(tmp_path: Path) -> None:
    paths = write_dataset(tmp_path, "d", {"train": [[record(RECORD)]]}, rlds_features(STEPS, EPISODE))
    paths["train/0"].rename(tmp_path / "renamed.mp4")
    (tmp_path / "readme.txt").write_text("hello, this is no record at all")
    found = rlds.find(list_source(str(tmp_path)))
    assert [item.path for item in found.items] == ["renamed.mp4"]
    assert "readme.txt" not in found.claimed
    assert [type(outcome).__name__ for outcome in outcomes(tmp_path)] == ["Episode"]


@pytest.mark.parametrize(
    ("name", "content", "check"),
    [
        ("d-train.array_record-00000-of-00001", b"whatever", "unsupported_format"),
        ("d-train.riegeli-00000-of-00001", b"whatever", "unsupported_format"),
        ("d-train.tfrecord.gz", b"\x1f\x8bwhatever", "unsupported_format"),
    ],
)
def test_other_formats_of_tfds_are_refused_by_name(tmp_path: Path, name: str, content: bytes, check: str) -> None:
    write_dataset(tmp_path, "d", {}, rlds_features(STEPS, EPISODE))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadRecording) as caught:
        outcomes(tmp_path)
    assert caught.value.check == check


def test_records_without_features_are_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "some.tfrecord").write_bytes(b"not even framed")
    (tmp_path / "lab" / "data.bin").write_bytes(framed(record(RECORD)))
    (tmp_path / "lab" / "other.bin").write_bytes(b"something else entirely")
    listing = list_source(str(tmp_path))
    found = rlds.find(listing)
    assert [(item.path, item.dataset) for item in found.items] == [("lab/data.bin", "lab"), ("lab/some.tfrecord", "lab")]
    for item in found.items:
        with pytest.raises(BadRecording, match=r"expected features\.json of TFDS in the same folder, .*; put the dataset's features\.json"):
            list(rlds.read(item, listing.opener, ReadOptions()))


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"featuresDict": 3}', "[" * 100_000, '{"featuresDict": {"features": {"steps": {"sequence": {"feature": {"tensor": {"dtype": "complex64"}}}}}}}',
     '{"featuresDict": {"features": {"steps": {"tensor": {"dtype": "float32"}}}}}', '{"featuresDict": {"features": {"\\ud800": {"text": {}}}}}',
     '{"featuresDict": {"features": {"steps": {"sequence": {"feature": {"tensor": {"dtype": "int8", "shape": {"dimensions": ["9e9"]}}}}}}}}'],
)  # fmt: skip
def test_features_that_are_none_reject_the_shard(tmp_path: Path, content: str) -> None:
    write_dataset(tmp_path, "d", {"train": [[record(RECORD)]]}, rlds_features(STEPS, EPISODE))
    (tmp_path / "features.json").write_text(content)
    with pytest.raises(BadRecording) as caught:
        outcomes(tmp_path)
    assert caught.value.check in ("bad_features", "not_rlds")
    assert caught.value.where.startswith("features.json")


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"splits": {"a": 1}}', '{"splits": [{"shardLengths": ["-1"]}]}', '{"name": "../../x", "splits": [{"name": "a", "shardLengths": ["1"]}]}'],
)
def test_a_broken_dataset_info_is_a_problem_and_the_shards_land(tmp_path: Path, content: str) -> None:
    write_dataset(tmp_path, "d", {"train": [[record(RECORD)]]}, rlds_features(STEPS, EPISODE))
    (tmp_path / "dataset_info.json").write_text(content)
    found = rlds.find(list_source(str(tmp_path)))
    assert [problem.check for problem in found.problems] in (["bad_dataset_info"], ["path_escapes"])
    assert [(item.dataset, item.recordings) for item in found.items] == [("d", None)]
    assert [type(outcome).__name__ for outcome in outcomes(tmp_path)] == ["Episode"]


def test_one_shard_given_alone_finds_what_lies_beside_it(tmp_path: Path) -> None:
    paths = write_dataset(tmp_path / "d" / "1.0.0", "kitchen", {"train": [[record(RECORD)] * 2] * 3}, rlds_features(STEPS, EPISODE))
    found = rlds.find(list_source(str(paths["train/1"])))
    assert [(item.dataset, item.splits, item.recordings, len(item.files)) for item in found.items] == [("kitchen", ("train",), 2, 1)]
    assert found.problems == ()
    assert [type(outcome).__name__ for outcome in outcomes(paths["train/1"])] == ["Episode", "Episode"]


def test_several_datasets_below_one_root(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_dataset(tmp_path / name / "0.1.0", name, {"train": [[record(RECORD)]]}, rlds_features(STEPS, EPISODE))
    (tmp_path / "two" / "0.1.0" / "dataset_info.json").write_text(json.dumps(dataset_info("two", {"train": [1]}, configName="left")))
    found = rlds.find(list_source(str(tmp_path)))
    assert [item.dataset for item in found.items] == ["one", "two-left"]


def test_features_written_by_older_tfds(tmp_path: Path) -> None:
    old = {
        "type": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "content": {
            "steps": {
                "type": "tensorflow_datasets.core.features.dataset_feature.Dataset",
                "content": {
                    "feature": {
                        "type": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
                        "content": {
                            "action": {"type": "tensorflow_datasets.core.features.tensor_feature.Tensor", "content": {"shape": [2], "dtype": "float64", "encoding": "none"}},
                            "shot": {"type": "tensorflow_datasets.core.features.image_feature.Image", "proto_cls": "tensorflow_datasets.ImageFeature",
                                     "content": '{"shape": {"dimensions": ["8", "8", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}'},
                        },
                    },
                    "length": None,
                },
            }
        },
    }  # fmt: skip
    write_dataset(tmp_path, "d", {"train": [[record({"steps/action": floats([1] * 6), "steps/shot": blobs(JPEG)})]]}, old)
    (episode,) = outcomes(tmp_path)
    assert isinstance(episode, Episode)
    assert {name: stream.column.dtype for name, stream in episode.streams.items()} == {"action": "float64", "shot": "uint8"}
    assert np.asarray(episode.streams["action"].values).shape == (3, 2)
