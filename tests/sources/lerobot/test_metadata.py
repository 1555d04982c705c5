"""Side files of a dataset: safetensors without torch, entries of episodes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.sources.lerobot.metadata import VideoRange, episode_record, task_lines, tensors


def safetensors(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def test_tensors_of_a_file() -> None:
    numbers = np.array([0, 5, 5, 9], dtype="<i8")
    header = {
        "__metadata__": {"format": "pt"},
        "from": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
        "to": {"dtype": "I64", "shape": [2], "data_offsets": [16, 32]},
        "half": {"dtype": "F16", "shape": [1], "data_offsets": [32, 34]},
    }
    found = tensors(safetensors(header, numbers.tobytes() + b"\0\0"), "here")
    assert {name: values.tolist() for name, values in found.items()} == {"from": [0, 5], "to": [5, 9]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (1 << 40).to_bytes(8, "little") + b"{}",
        safetensors(b"{", b""),
        safetensors({"from": {"dtype": "I64", "shape": [2], "data_offsets": [0, 1 << 60]}}, bytes(16)),
        safetensors({"from": {"dtype": "I64", "shape": [1 << 50], "data_offsets": [0, 16]}}, bytes(16)),
        safetensors({"from": {"dtype": "I64", "shape": [-2], "data_offsets": [0, 16]}}, bytes(16)),
        safetensors({"from": {"dtype": "I64", "shape": None, "data_offsets": None}}, bytes(16)),
    ],
)
def test_tensors_that_are_none(data: bytes) -> None:
    with pytest.raises(BadRecording):
        tensors(data, "here")


def test_an_entry_of_the_episodes_table() -> None:
    record = episode_record(
        {
            "episode_index": 3,
            "length": 7.0,
            "tasks": ["a", 1, "b"],
            "data/chunk_index": 0,
            "data/file_index": 2,
            "videos/cam/chunk_index": 1,
            "videos/cam/file_index": 4,
            "videos/cam/from_timestamp": 0.5,
            "videos/cam/to_timestamp": None,
            "videos/bad/from_timestamp": float("nan"),
            "meta/episodes/chunk_index": 0,
            "operator": "x",
        }
    )
    assert record is not None
    assert (record.index, record.length, record.tasks, record.data_file, record.rows) == (3, 7, ("a", "b"), (0, 2), None)
    assert record.videos == {"cam": VideoRange((1, 4), 0.5, None)}
    assert record.rest == {"operator": "x"}
    assert episode_record({"length": 3}) is None


def test_tasks_of_lines() -> None:
    found, bad = task_lines(b'{"task_index": 1, "task": "a"}\n\n[]\n{"task_index": 1, "task": "b"}\n{"task_index": "2", "task": "c"}\n')
    assert (dict(found), bad) == ({1: "a"}, 2)
