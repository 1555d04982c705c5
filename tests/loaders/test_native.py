"""Windows of native samples: by hand on an irregular clock, against a plain loop, and in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.errors import UsageError
from dataengine.core.objects import LocalObjects
from dataengine.loaders.native import NativeStream
from dataengine.store import arrays
from dataengine.store.arrays import ArrayWriter, FileLog
from dataengine.store.store import Store
from tests.support.stores import Made, land, new_store

ROW = {"dataset": "lab", "shard": "s", "episode_id": "e" * 32, "flags": []}
MS = 1_000_000


def stored(root: Path, times_ns: np.ndarray, values: np.ndarray, before: int = 0, after: int = 0) -> Mapping[str, Any]:
    """Write a stream between rows of other episodes, and return its entry of the index."""
    log = FileLog()
    for name, rows in (("timestamps_ns", times_ns), ("values", values)):
        writer = ArrayWriter(root / "streams/lab/s/arrays.zarr/force" / name, name, rows.dtype, rows.shape[1:])
        writer.append(np.full((before, *rows.shape[1:]), 77, rows.dtype))
        writer.append(rows)
        writer.append(np.full((after, *rows.shape[1:]), 99, rows.dtype))
        writer.close(log)
    return {"stream": "force", "kind": "array", "array": "arrays.zarr/force", "row_start": before, "row_end": before + len(times_ns), "clock": "stamp"}


def stream(root: Path, times_ns: np.ndarray, values: np.ndarray, **how: int) -> NativeStream:
    return NativeStream(LocalObjects(root), ROW, stored(root, times_ns, values, **how))


def test_an_irregular_clock_by_hand(tmp_path: Path) -> None:
    """Samples at 0, 3, 4, 10, 10, 12 and 30 ms with the values 1, 2, 4, 8, 16, 32, 64 and their negatives."""
    times = np.array([0, 3, 4, 10, 10, 12, 30]) * MS
    numbers = np.array([1, 2, 4, 8, 16, 32, 64], dtype=np.int16)
    force = stream(tmp_path, times, np.stack([numbers, -numbers], axis=1), before=5, after=3)
    t_ns = np.array([10, 4, 31, 0, -5, 13]) * MS
    values, is_pad, offset_ns = force.window(t_ns, -7 * MS, 0, 3)
    assert (values.dtype, values.shape, force.width, len(force)) == (np.int16, (6, 3, 2), 2, 7)
    assert values[:, :, 0].tolist() == [
        [4, 8, 16],  # (3, 10]: the sample at 3 ms is out, that at 10 ms is in, and so is its twin
        [1, 2, 4],  # (-3, 4]
        [0, 0, 64],  # (24, 31]
        [0, 0, 1],  # (-7, 0]: the sample at the step itself is seen
        [0, 0, 0],  # (-12, -5]
        [8, 16, 32],  # (6, 13]
    ]
    assert (values[:, :, 1] == -values[:, :, 0]).all()
    assert is_pad.tolist() == [[False] * 3, [False] * 3, [True, True, False], [True, True, False], [True] * 3, [False] * 3]
    assert (offset_ns // MS).tolist() == [[-6, 0, 0], [-4, -1, 0], [0, 0, -1], [0, 0, 0], [0, 0, 0], [-3, -3, -1]]


def test_of_more_samples_than_rows_the_latest_and_windows_that_look_ahead(tmp_path: Path) -> None:
    force = stream(tmp_path, np.arange(10, dtype=np.int64) * 5 * MS, np.arange(10, dtype=np.float32))
    values, is_pad, offset_ns = force.window(np.array([20 * MS]), -100 * MS, 0, 2)
    assert (values.tolist(), is_pad.tolist(), (offset_ns // MS).tolist()) == ([[[3], [4]]], [[False, False]], [[-5, 0]])
    values, is_pad, _ = force.window(np.array([20 * MS, 40 * MS]), 0, 10 * MS, 3)
    assert (values[:, :, 0].tolist(), is_pad.tolist()) == ([[0, 5, 6], [0, 0, 9]], [[True, False, False], [True, True, False]])
    later = force.window(np.array([20 * MS]), 5 * MS, 10 * MS, 3)[0]
    assert later[0, :, 0].tolist() == [0, 0, 6], "windows that follow each other share no sample"


def test_half_a_second_of_200_hz_is_a_hundred_samples(tmp_path: Path) -> None:
    force = stream(tmp_path, np.arange(1000, dtype=np.int64) * 5 * MS, np.zeros((1000, 6)))
    is_pad = force.window(np.arange(20, dtype=np.int64) * 100 * MS + 500 * MS, -500 * MS, 0, 101)[1]
    assert (~is_pad).sum(axis=1).tolist() == [100] * 20


def loop(times: list[int], numbers: list[int], t_ns: list[int], start_ns: int, stop_ns: int, rows: int) -> tuple[list[Any], list[Any], list[Any]]:
    """The same, one sample after the other."""
    pairs = sorted(zip(times, range(len(times)), numbers, strict=True))
    values, pads, offsets = [], [], []
    for t in t_ns:
        seen = [(number, time - t) for time, _, number in pairs if t + start_ns < time <= t + stop_ns][-rows:]
        room = rows - len(seen)
        values.append([0] * room + [number for number, _ in seen])
        pads.append([True] * room + [False] * len(seen))
        offsets.append([0] * room + [offset for _, offset in seen])
    return values, pads, offsets


@settings(max_examples=150, deadline=None)
@given(
    times=st.lists(st.integers(-20, 200), max_size=60),
    t_ns=st.lists(st.integers(-50, 260), max_size=12),
    start=st.integers(-40, 20),
    length=st.integers(1, 60),
    rows=st.integers(1, 8),
    ordered=st.booleans(),
    chunk=st.sampled_from([8, 32, 1 << 18]),
    before=st.integers(0, 7),
)
def test_as_a_plain_loop_has_it(  # type: ignore[no-untyped-def]
    tmp_path_factory, times: list[int], t_ns: list[int], start: int, length: int, rows: int, ordered: bool, chunk: int, before: int
) -> None:
    times = sorted(times) if ordered else times
    numbers = list(range(1, len(times) + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CHUNK_BYTES", chunk)
        root = tmp_path_factory.mktemp("native")
        entry = stored(root, np.array(times, dtype=np.int64), np.array(numbers, dtype=np.int64), before, 2)
    flags = [] if ordered else ["clock_not_monotonic"]
    got = NativeStream(LocalObjects(root), ROW | {"flags": flags}, entry).window(np.array(t_ns, dtype=np.int64), start, start + length, rows)
    values, pads, offsets = loop(times, numbers, t_ns, start, start + length, rows)
    assert got[0].reshape(len(t_ns), rows).tolist() == values
    assert got[1].tolist() == pads
    assert got[2].tolist() == offsets


def test_a_stream_of_a_store_reads_as_the_episode_has_it(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1), Made(2, rows=20)])
    store = Store(objects)
    row = store.episodes().filter(steps=20).collect().row(0, named=True)
    entry = next(entry for entry in store.index(row) if entry["stream"] == "observation.state")
    whole = store.read_episode(row["episode_id"]).streams["observation.state"]
    values, is_pad, offset_ns = NativeStream(objects, row, entry).window(whole.timestamps_ns, -250 * MS, 0, 3)
    assert values[19].tolist() == whole.values[17:20].tolist()
    assert is_pad[:3].tolist() == [[True, True, False], [True, False, False], [False] * 3]
    assert (offset_ns[19] // MS).tolist() == [-200, -100, 0]


def test_what_has_no_numbers_or_no_clock_or_no_room(tmp_path: Path) -> None:
    entry = stored(tmp_path, np.zeros(1, np.int64), np.zeros((1, 2)))
    with pytest.raises(UsageError, match=r"stream 'force' of episode e+: must hold numbers for a window in seconds, and holds video"):
        NativeStream(LocalObjects(tmp_path), ROW, {**entry, "kind": "video"})
    with pytest.raises(UsageError, match="must have a clock for a window in seconds, got none; ask for it by steps"):
        NativeStream(LocalObjects(tmp_path), ROW, {**entry, "clock": None})
    force = NativeStream(LocalObjects(tmp_path), ROW, entry)
    for start, stop, rows, says in ((0, 0, 1, "must start before it stops"), (-1, 0, 0, "must have room for a sample")):
        with pytest.raises(ValueError, match=says):
            force.window(np.zeros(1, np.int64), start, stop, rows)
    with pytest.raises(ValueError, match=r"must be \(N,\) int64"):
        force.window(np.zeros(1), -1, 0, 1)
    assert [part.shape for part in force.window(np.zeros(0, np.int64), -1, 0, 4)] == [(0, 4, 2), (0, 4), (0, 4)]


def test_an_hour_at_1_khz_costs_what_the_clip_needs(tmp_path: Path) -> None:
    samples = 3_600_000
    times = np.arange(samples, dtype=np.int64) * MS
    numbers = np.arange(samples, dtype=np.float32)[:, None].repeat(3, axis=1)
    entry = stored(tmp_path, times, numbers)
    whole_bytes = times.nbytes + numbers.nbytes
    del times, numbers
    tracemalloc.start()
    force = NativeStream(LocalObjects(tmp_path), ROW, entry)
    clip = np.arange(100, dtype=np.int64) * 100 * MS + 1_800_000 * MS  # ten seconds in the middle, at 10 Hz
    values, is_pad, _ = force.window(clip, -500 * MS, 0, 500)
    _, peak = tracemalloc.get_traced_memory()
    assert not is_pad.any()
    assert values[99, :, 1].tolist() == list(range(1_809_401, 1_809_901))
    assert whole_bytes > 70_000_000
    assert peak < 6_000_000, "the batch has 1 MB; the rest are a few chunks of 256 KiB"
    far = np.arange(0, 3_600_000, 36_000, dtype=np.int64) * MS  # steps all over the hour
    tracemalloc.reset_peak()
    assert force.window(far, -20 * MS, 0, 20)[0][:, -1, 0].tolist() == (far // MS).tolist()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6_000_000
