"""RLDS files broken on purpose: each recording is rejected with a reason, or lands with exactly what the broken file says.

What it says is asked of the protobuf library, which shares no code with the reader.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from tests.support.child import EpisodeDigest, Outcome, Reading, array_digest, items_digest, run_over, run_reader, tally
from tests.support.mutate import mutants
from tests.support.tfds_folder import (
    blobs,
    dataset_info,
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
)

SHARD = "d-train.tfrecord-00000-of-00001"
READ = partial(run_reader, "dataengine.sources.rlds.reader")
STEPS = {
    "observation": features_dict({"image_0": image(8, 8, 3), "state": tensor("float32", 2), "points": sequence(tensor("float32"))}),
    "action": tensor("float64", 2),
    "code": tensor("int32"),
    "raw": tensor("uint8", 4, encoding="zlib"),
    "is_first": tensor("bool"),
    "is_last": tensor("bool"),
    "language_instruction": text(),
}
FEATURES = rlds_features(STEPS, {"episode_metadata": features_dict({"file_path": text(), "id": tensor("int64")})})
BESIDE = {"features.json": json.dumps(FEATURES).encode(), "dataset_info.json": json.dumps(dataset_info("d", {"train": [4]})).encode()}


def payload(number: int, steps: int = 5) -> bytes:
    import zlib

    rng = np.random.default_rng(number)
    return record(
        {
            "steps/observation/image_0": blobs([b"\xff\xd8\xff\xe0" + rng.bytes(40) for _ in range(steps)]),
            "steps/observation/state": floats(rng.random(2 * steps).tolist()),
            "steps/observation/points/ragged_flat_values": floats(rng.random(7).tolist()),
            "steps/observation/points/ragged_row_lengths_0": ints([3, 0, 1, 2, 1]),
            "steps/action": floats(rng.random(2 * steps).tolist(), packed=number % 2 == 0),
            "steps/code": ints(rng.integers(-300, 300, steps).tolist()),
            "steps/raw": blobs([zlib.compress(rng.bytes(4)) for _ in range(steps)]),
            "steps/is_first": ints([1, 0, 0, 0, 0]),
            "steps/is_last": ints([0, 0, 0, 0, 1]),
            "steps/language_instruction": texts([f"pick {number}"] * steps),
            "episode_metadata/file_path": texts(["/a/b"]),
            "episode_metadata/id": ints([number]),
        }
    )


PAYLOADS = [payload(number) for number in range(4)]


@cache
def example_class() -> Any:
    """Return tf.train.Example as the protobuf library knows it."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str], parent: Any = file.message_type, label: int = 1) -> Any:
        made = parent.add(name=name)
        for field, number, kind, of in fields:
            made.field.add(name=field, number=number, type=kind, label=3 if field == "value" and not of else label, type_name=of or None)
        return made

    message("BytesList", ("value", 1, 12, ""))
    message("FloatList", ("value", 1, 2, ""))
    message("Int64List", ("value", 1, 3, ""))
    feature = message("Feature", ("bytes_list", 1, 11, ".t.BytesList"), ("float_list", 2, 11, ".t.FloatList"), ("int64_list", 3, 11, ".t.Int64List"))
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", 1, 11, ".t.Features.FeatureEntry"), label=3)
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, label=1, type_name=".t.Feature")
    message("Example", ("features", 1, 11, ".t.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


PLAIN = {
    "observation.state": ("steps/observation/state", "float32"),
    "action": ("steps/action", "float64"),
    "code": ("steps/code", "int32"),
    "is_first": ("steps/is_first", "bool"),
    "is_last": ("steps/is_last", "bool"),
}


def asked_of_protobuf(data: bytes) -> dict[str, Any] | None:
    """Return what a record holds by key, None where protobuf refuses it."""
    from google.protobuf.message import DecodeError

    try:
        example = example_class().FromString(data)
    except DecodeError:
        return None
    found = {}
    for key, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[key] = list(getattr(feature, kind).value) if kind else []
    return found


def differences(episode: EpisodeDigest, data: bytes) -> list[str]:
    """Return the streams of an episode that are not what protobuf reads in its record."""
    says = asked_of_protobuf(data)
    if says is None:
        return ["landed although protobuf refuses it"]
    wrong = []
    for name, (key, dtype) in PLAIN.items():
        if name in episode.streams and episode.streams[name].values != array_digest(
            np.array(says[key], "int64" if dtype in ("int32", "bool") else "float32").astype(dtype)
        ):
            wrong.append(name)
    for name, key, encoding in (
        ("language_instruction", "steps/language_instruction", "utf-8"),
        ("observation.images.image_0", "steps/observation/image_0", "jpeg"),
    ):
        known = all(item.startswith(b"\xff\xd8\xff") for item in says.get(key, [])) if encoding == "jpeg" else not episode.problems
        if name in episode.streams and known and episode.streams[name].values != items_digest((encoding, item) for item in says[key]):
            wrong.append(name)
    return wrong


def faults(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.status in ("died", "hung", "memory", "error")]


def original() -> dict[str, EpisodeDigest]:
    """Return the episodes of the file as it was, by the digest of their actions."""
    (outcome,) = run_over(READ, [("whole", b"".join(map(framed, PAYLOADS)))], file_name=SHARD, beside=BESIDE)
    assert outcome.status == "ok", outcome.detail
    assert len(outcome.result.episodes) == 4
    assert [differences(episode, data) for episode, data in zip(outcome.result.episodes, PAYLOADS, strict=True)] == [[]] * 4
    return {episode.streams["action"].values: episode for episode in outcome.result.episodes}


def check_files(count: int) -> None:
    """Break whole shards: what lands is one of the records as they were, and each of the four is accounted for."""
    known = original()
    whole = b"".join(map(framed, PAYLOADS))
    starts = [0]
    for data in PAYLOADS:
        starts.append(starts[-1] + len(data) + 16)
    hot = [(start, start + 12) for start in starts[:-1]] + [(start - 4, start) for start in starts[1:]]
    outcomes = run_over(READ, mutants(whole, count, 11, hot), file_name=SHARD, beside=BESIDE)
    assert not faults(outcomes), tally(outcomes)
    for outcome in outcomes:
        reading: Reading = outcome.result
        assert len(reading.episodes) + len(reading.rejected) >= 4, outcome.name
        for episode in reading.episodes:
            assert episode.streams == known[episode.streams["action"].values].streams, outcome.name
    assert sum(len(outcome.result.episodes) for outcome in outcomes) > count


def reframed(count: int) -> Iterator[tuple[str, bytes]]:
    for name, data in mutants(PAYLOADS[1], count, 12):
        yield name, framed(PAYLOADS[0]) + framed(data) + framed(PAYLOADS[2]) + framed(PAYLOADS[3])


def check_records(count: int) -> None:
    """Break one record under right checksums: the others land, and it is rejected or lands as protobuf reads it."""
    known = original()
    broken = dict(mutants(PAYLOADS[1], count, 12))
    outcomes = run_over(READ, reframed(count), file_name=SHARD, beside=BESIDE)
    assert not faults(outcomes), tally(outcomes)
    landed = 0
    for outcome in outcomes:
        episodes = {episode.key: episode for episode in outcome.result.episodes}
        assert [key for key, _ in outcome.result.rejected] == ([] if "1" in episodes else ["1"]), outcome.name
        assert all(episodes[key].streams == list(known.values())[int(key)].streams for key in ("0", "2", "3")), outcome.name
        if "1" in episodes:
            landed += 1
            assert differences(episodes["1"], broken[outcome.name]) == [], outcome.name
    assert 0 < landed < count


def check_side_files(count: int) -> None:
    """Break features.json and dataset_info.json."""
    whole = b"".join(map(framed, PAYLOADS))
    for seed, name in ((13, "features.json"), (14, "dataset_info.json")):
        beside = {**BESIDE, SHARD: whole}
        content = beside.pop(name)
        outcomes = run_over(READ, mutants(content, count, seed), file_name=name, beside=beside)
        assert not faults(outcomes), tally(outcomes)
        assert all(outcome.result.episodes or outcome.result.rejected for outcome in outcomes if outcome.status == "ok")
        if name == "dataset_info.json":
            assert all(len(outcome.result.episodes) == 4 for outcome in outcomes), tally(outcomes)


def test_broken_files() -> None:
    check_files(96)


def test_broken_records_under_right_checksums() -> None:
    check_records(96)


def test_broken_side_files() -> None:
    check_side_files(32)


@pytest.mark.slow
def test_many_broken_files() -> None:
    check_files(600)
    check_records(2000)
    check_side_files(300)
