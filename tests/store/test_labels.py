"""Labels are read as they were written, and tools that are not ours read them by the words of the format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.column import Column
from dataengine.core.errors import CorruptStore, UsageError
from dataengine.core.labels import Labels, LabelSet
from dataengine.core.objects import LocalObjects
from dataengine.schema.schema import validate
from dataengine.store.labels import LabelledEpisode, LabelPlace, describe_labels, label_key, read_label_group, write_label_shard
from tests.support.labels import ACTION, label_set, made_labels

JOB = "20260101t000000-00000000"
PLACE = LabelPlace(JOB, f"{JOB}-00000-aaaaaaaa", "lab", 7)
KEY = f"labels/idm-small/{PLACE.shard}/labels.parquet"
IDS = [f"{number:032x}" for number in (1, 2, 3)]


def write(root: Path, episodes: list[tuple[str, Labels]], of: LabelSet | None = None) -> list[dict[str, object]]:
    return write_label_shard(LocalObjects(root), of or label_set(), PLACE, [LabelledEpisode(name, "d" * 32, labels) for name, labels in episodes])


def hand_made() -> Labels:
    """Labels of four steps worked out by hand: abstained at step 1, silent about its confidence at step 3."""
    action = np.array([[1, 2], [3, 4], [5, 6], [-7, 8]], dtype=np.float32)
    nan = np.float32("nan")
    return Labels(
        {"action": action, "phase": np.array([0, 0, 2, 1], dtype=np.int64)},
        {"action": ACTION, "phase": Column("phase", dtype="int64")},
        {"action": np.array([True, False, True, True])},
        {"action": action - 1},
        {"action": action + np.float32(0.25)},
        {"action": np.array([0.5, 0.125, 1.0, nan], dtype=np.float32)},
    )


def test_hand_made_labels_in_the_words_of_the_format(tmp_path: Path) -> None:
    rows = write(tmp_path, [(IDS[1], hand_made())], label_set(window_s=0.5))
    file = pq.ParquetFile(tmp_path / KEY)
    assert file.schema_arrow.names == ["episode_id", "step", "action", "action.low", "action.high", "action.confidence", "phase"]
    assert [str(file.schema_arrow.field(name).type) for name in ("action", "action.confidence", "phase")] == [
        "fixed_size_list<element: float>[2]",
        "float",
        "int64",
    ]
    assert file.read_row_group(0).to_pylist() == [
        {"episode_id": IDS[1], "step": 0, "action": [1, 2], "action.low": [0, 1], "action.high": [1.25, 2.25], "action.confidence": 0.5, "phase": 0},
        {"episode_id": IDS[1], "step": 1, "action": None, "action.low": None, "action.high": None, "action.confidence": 0.125, "phase": 0},
        {"episode_id": IDS[1], "step": 2, "action": [5, 6], "action.low": [4, 5], "action.high": [5.25, 6.25], "action.confidence": 1, "phase": 2},
        {"episode_id": IDS[1], "step": 3, "action": [-7, 8], "action.low": [-8, 7], "action.high": [-6.75, 8.25], "action.confidence": None, "phase": 1},
    ]
    document = json.loads(file.schema_arrow.metadata[b"labels"])
    assert validate("labels", document) == []
    assert (document["read"], document["parameters"], document["model"], [column["name"] for column in document["columns"]]) == (
        7,
        {"window_s": 0.5},
        "c" * 32,
        ["action", "phase"],
    )
    shard = json.loads((tmp_path / KEY).with_name("shard.json").read_text())
    assert validate("shard", shard) == []
    assert (shard["episodes"], [entry["path"] for entry in shard["files"]]) == (1, ["labels.parquet"])
    (row,) = rows
    assert (row["address"], row["reading"], row["trained_on"]) == (f"{PLACE.shard}/0", "d" * 32, f"{'5' * 32}@1")
    assert json.loads(str(row["summary"])) == {
        "recipe": label_set(window_s=0.5).recipe,
        "read": 7,
        "steps": 4,
        "columns": {
            "action": {"labelled": 3, "source": "idm", "confidence_mean": 0.541667, "confidence_min": 0.125},
            "phase": {"labelled": 4, "source": None},
        },
    }


def test_labels_come_back_with_zeros_where_the_model_abstained(tmp_path: Path) -> None:
    write(tmp_path, [(IDS[1], hand_made())])
    read = read_label_group(LocalObjects(tmp_path), KEY, 0, IDS[1])
    assert read.columns["action"].tolist() == [[1, 2], [0, 0], [5, 6], [-7, 8]]
    assert (read.columns["phase"].dtype, read.columns["phase"].tolist()) == (np.int64, [0, 0, 2, 1])
    assert {name: mask.tolist() for name, mask in read.valid.items()} == {"action": [True, False, True, True], "phase": [True] * 4}
    assert read.low["action"].tolist() == [[0, 1], [0, 0], [4, 5], [-8, 7]]
    assert read.high["action"].tolist() == [[1.25, 2.25], [0, 0], [5.25, 6.25], [-6.75, 8.25]]
    np.testing.assert_array_equal(read.confidence["action"], np.array([0.5, 0.125, 1.0, np.nan], dtype=np.float32))
    assert (read.specs["action"], read.label_set, read.read) == (ACTION, label_set(), 7)
    only = read_label_group(LocalObjects(tmp_path), KEY, 0, IDS[1], ["phase"])
    assert (list(only.columns), dict(only.low), dict(only.confidence)) == (["phase"], {}, {})


def test_equal_labels_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, [(episode_id, made_labels(episode_id, 50)) for episode_id in IDS])
    assert (tmp_path / "a" / KEY).read_bytes() == (tmp_path / "b" / KEY).read_bytes()


def test_what_one_episode_lacks_is_null_there_and_an_episode_may_have_no_step(tmp_path: Path) -> None:
    bare = Labels({"action": np.ones((2, 2), np.float32)}, {"action": ACTION})
    sure = Labels({"action": np.zeros((3, 2), np.float32)}, {"action": ACTION}, confidence={"action": np.full(3, 0.5, np.float32)})
    none = Labels({"action": np.zeros((0, 2), np.float32)}, {"action": ACTION})
    rows = write(tmp_path, list(zip(IDS, (bare, none, sure), strict=True)))
    objects = LocalObjects(tmp_path)
    assert np.isnan(read_label_group(objects, KEY, 0, IDS[0]).confidence["action"]).all()
    assert read_label_group(objects, KEY, 1, IDS[1]).columns["action"].shape == (0, 2)
    assert read_label_group(objects, KEY, 2, IDS[2]).confidence["action"].tolist() == [0.5] * 3
    assert [json.loads(str(row["summary"]))["steps"] for row in rows] == [2, 0, 3]


def test_abstaining_everywhere_and_shapes_of_several_axes(tmp_path: Path) -> None:
    specs = {"pose": Column("pose", dtype="float64", shape=(2, 3)), "flag": Column("flag", dtype="bool")}
    pose = np.arange(12, dtype=np.float64).reshape(2, 2, 3)
    made = Labels({"pose": pose, "flag": np.array([True, False])}, specs, {"flag": np.zeros(2, np.bool_)})
    write(tmp_path, [(IDS[0], made)])
    read = read_label_group(LocalObjects(tmp_path), KEY, 0, IDS[0])
    assert read.columns["pose"].tolist() == pose.tolist()
    assert (read.columns["flag"].dtype, read.columns["flag"].tolist(), read.valid["flag"].tolist()) == (np.bool_, [False, False], [False, False])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.sampled_from(["float16", "float32", "float64", "int8", "uint16", "int64"]), st.sampled_from([(1,), (3,), (2, 2)]), st.randoms())
def test_any_numbers_come_back(tmp_path_factory: pytest.TempPathFactory, steps: int, dtype: str, shape: tuple[int, ...], random) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(random.getrandbits(32))
    values = rng.integers(0, 100, (steps, *shape)).astype(dtype)
    valid = rng.random(steps) < 0.6
    made = Labels({"a": values}, {"a": Column("a", dtype=dtype, shape=shape)}, {"a": valid}, {"a": values}, {"a": values})
    root = tmp_path_factory.mktemp("labels")
    write(root, [(IDS[0], made)])
    read = read_label_group(LocalObjects(root), KEY, 0, IDS[0])
    expected = np.where(valid.reshape(-1, *[1] * len(shape)), values, 0)
    for got in (read.columns["a"], read.low["a"], read.high["a"]):
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(read.valid["a"], valid)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold an episode"):
        write(tmp_path, [])
    other = Labels({"action": np.zeros((3, 1), np.float32)}, {"action": Column("action", shape=(1,), meaning="action", action_source="idm")})
    with pytest.raises(ValueError, match=f"labels of episode {IDS[1]}: must have the columns of the shard, action, progress"):
        write(tmp_path, [(IDS[0], made_labels(IDS[0], 3)), (IDS[1], other)])
    with pytest.raises(UsageError, match="parameters must be JSON"):
        write(tmp_path, [(IDS[0], made_labels(IDS[0], 3))], label_set(window_s=float("nan")))
    assert not (tmp_path / "labels").exists()


def test_what_is_damaged_or_elsewhere_is_named(tmp_path: Path) -> None:
    write(tmp_path, [(IDS[0], hand_made()), (IDS[1], hand_made())])
    objects = LocalObjects(tmp_path)
    assert describe_labels(objects, KEY).columns["action"] == ACTION
    with pytest.raises(CorruptStore, match=f"expected labels of {IDS[0]} in row group 1, found those of {IDS[1]}"):
        read_label_group(objects, KEY, 1, IDS[0])
    with pytest.raises(CorruptStore, match="expected a row group 5, found 2 of them"):
        read_label_group(objects, KEY, 5, IDS[0])
    with pytest.raises(UsageError, match="has no column 'actoin'; columns: action, phase"):
        read_label_group(objects, KEY, 0, IDS[0], ["actoin"])
    data = (tmp_path / KEY).read_bytes()
    (tmp_path / KEY).write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])  # in the first page, which is that of the ids
    with pytest.raises(CorruptStore, match=r"labels\.parquet: expected labels, found something else"):
        read_label_group(objects, KEY, 0, IDS[0])
    (tmp_path / KEY).unlink()
    with pytest.raises(CorruptStore, match=r"labels\.parquet: expected labels, found none; restore it from a copy"):
        describe_labels(objects, KEY)
    pq.write_table(pa.table({"step": [1]}), tmp_path / KEY)
    with pytest.raises(CorruptStore, match=r"expected a description as in schemas/v1/labels\.schema\.json"):
        describe_labels(objects, KEY)


@pytest.mark.parametrize("address", ["0", "/0", "a/b/0", "../0", "a/", "a/-1", "a/x"])
def test_addresses_that_lead_nowhere(address: str) -> None:
    with pytest.raises(CorruptStore, match="expected an address"):
        label_key("s", address)


def test_an_address() -> None:
    assert label_key("s", "job-00001-ab/12") == ("labels/s/job-00001-ab/labels.parquet", 12)
