"""MP4 with NPZ: pairs however they lie, values and times as they were saved, nothing unpickled, broken archives named."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Reader
from dataengine.core.stream import Items
from dataengine.samples.barcode import Barcode, read_barcode
from dataengine.samples.npz_mp4 import EPOCH_S, NpzMp4Options, arrays_of, write_npz_mp4
from dataengine.sources.npz_mp4 import reader as npz_mp4
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants
from tests.support.reading import checks, decoded, episodes, find, trajectory

READER: Reader = npz_mp4
MODULE = "dataengine.sources.npz_mp4.reader"


@pytest.mark.parametrize("layout", ["stem", "aside", "folder"])
def test_pairs_however_they_lie(tmp_path: Path, layout: Any) -> None:
    options = NpzMp4Options(layout=layout, cameras=("front", "wrist"))
    for number in range(2):
        write_npz_mp4(tmp_path / "bridge", options, number)
    if layout == "aside":  # a pair aside has one film of its name
        for film in (tmp_path / "bridge" / "videos").glob("*_front.mp4"):
            film.rename(film.with_name(film.name.replace("_front", "")))
        for film in (tmp_path / "bridge" / "videos").glob("*_wrist.mp4"):
            film.unlink()
    found = find(READER, tmp_path / "bridge")
    assert [item.dataset for item in found.items] == ["bridge", "bridge"]
    for number, episode in enumerate(episodes(READER, tmp_path / "bridge")):
        cameras = {name: len(stream) for name, stream in episode.streams.items() if "images" in name}
        expected = {"observation.images.main"} if layout == "aside" else {"observation.images.front", "observation.images.wrist"}
        assert cameras == dict.fromkeys(expected, 10)
        assert episode.streams["observation.state"].values.tobytes() == arrays_of(options, number)["states"].tobytes()  # type: ignore[union-attr]


def test_values_and_steps(tmp_path: Path) -> None:
    write_npz_mp4(tmp_path / "set", NpzMp4Options(packed=False))
    (episode,) = episodes(READER, tmp_path / "set")
    wrote, info = arrays_of(NpzMp4Options()), episode.info
    assert (info.clock, info.rate_hz, info.tasks, info.problems) == ("nominal", 5.0, ("put the spoon into the pot",), ())
    assert info.metadata["values"] == {"camera_matrix": np.eye(3).tolist()}
    for stream, name in (("observation.state", "states"), ("action", "actions"), ("terminals", "terminals")):
        values = episode.streams[stream].values
        assert isinstance(values, np.ndarray)
        assert (values.dtype, values.tobytes()) == (wrote[name].dtype, wrote[name].tobytes())
    steps = trajectory(episode)
    assert steps.steps == 9  # there is no command after the last frame
    assert np.array_equal(steps.columns["action"], wrote["actions"])
    pictures = decoded(tmp_path / "set", episode, "observation.images.main", steps.frames["observation.images.main"].tolist())
    assert [read_barcode(picture) for picture in pictures] == [Barcode(number, 0, 0) for number in range(9)]
    assert steps.t_ns is not None
    assert steps.t_ns.tolist() == [number * 200_000_000 for number in range(9)]


def test_recorded_times_are_the_clock(tmp_path: Path) -> None:
    write_npz_mp4(tmp_path, NpzMp4Options(times=True))
    (episode,) = episodes(READER, tmp_path)
    assert (episode.info.clock, episode.info.epoch, episode.info.start_ns, episode.info.rate_hz) == ("measured", True, EPOCH_S * 10**9, None)
    for name in ("observation.images.main", "observation.state"):
        times = episode.streams[name].timestamps_ns
        assert times is not None
        assert times[:4].tolist() == [0, 375_000_000, 500_000_000, 875_000_000]
    assert "pts" in episode.streams["observation.images.main"].clocks


@pytest.mark.parametrize(
    ("times", "start_ns"),
    [
        (np.arange(3) + 1_650_000_000_000, 1_650_000_000_000_000_000),
        (np.arange(3) + 1_650_000_000_000_000, 1_650_000_000_000_000_000),
        (np.arange(3), None),
        (np.array([0.0, np.nan, 1.0]), None),
        (np.array([0.0, 0.5, 1.5]), 0),
    ],
)
def test_units_of_times(tmp_path: Path, times: Any, start_ns: int | None) -> None:
    path = write_npz_mp4(tmp_path, NpzMp4Options(frames=3))
    np.savez(path, timestamps=times, states=np.zeros((3, 2)))
    (episode,) = episodes(READER, tmp_path)
    assert (episode.info.clock, checks(episode)) == (("nominal", ["odd_times"]) if start_ns is None else ("measured", []))
    assert start_ns is None or episode.info.start_ns == start_ns
    assert np.array_equal(episode.streams["timestamps"].values, times, equal_nan=times.dtype.kind == "f")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["U", "S"])
@pytest.mark.parametrize("rows", [10, 9])
def test_texts_that_differ_from_frame_to_frame_are_a_stream_too(tmp_path: Path, kind: str, rows: int) -> None:
    path = write_npz_mp4(tmp_path)
    texts = [*["grasp  it"] * 6, "lift", *["grasp  it"] * (rows - 7)]
    np.savez(path, states=np.zeros((10, 2)), language=np.array(texts, kind).reshape((rows, 1) if kind == "S" else (rows,)), task=np.array(["stack"] * rows))
    (episode,) = episodes(READER, tmp_path)
    assert (episode.info.tasks, checks(episode)) == (("grasp it", "lift", "stack"), [])
    stream = episode.streams["language"]
    assert isinstance(stream.values, Items)
    assert list(stream.values.data) == [text.encode() for text in texts]
    assert (stream.column.kind, stream.column.meaning, stream.column.encoding) == ("text", "language", "utf-8")
    assert stream.clocks["nominal"].tolist() == [row * 200_000_000 for row in range(rows)]
    assert "task" not in episode.streams  # one text for all frames is the task alone


def test_every_text_is_looked_at_up_to_a_bound(tmp_path: Path) -> None:
    path = write_npz_mp4(tmp_path)
    np.savez(path, states=np.zeros((10, 2)), language=np.array([*["grasp"] * 9000, "lift"]))
    (episode,) = episodes(READER, tmp_path)
    assert (episode.info.tasks, checks(episode), "language" in episode.streams) == (("grasp", "lift"), [], False)
    np.savez(path, states=np.zeros((10, 2)), language=np.array([str(number) for number in range(1001)]))
    (episode,) = episodes(READER, tmp_path)
    assert (episode.info.tasks, checks(episode)) == (tuple(str(number) for number in range(1000)), ["too_many_tasks"])


def test_texts_of_what_are_no_characters(tmp_path: Path) -> None:
    path = write_npz_mp4(tmp_path, NpzMp4Options(frames=2))
    half = np.frombuffer(np.array([0x61, 0xD800], "<u4").tobytes(), "<U1")
    none = np.frombuffer(np.array([0x61, 0x110000], "<u4").tobytes(), "<U1")
    np.savez(path, states=np.zeros((2, 2)), task=half, text=none)
    (episode,) = episodes(READER, tmp_path)
    assert checks(episode) == ["member_not_kept"]
    assert episode.info.tasks == ("a", "\\ud800")
    assert episode.streams["task"].values.data == [b"a", b"\\ud800"]  # type: ignore[union-attr]


def test_an_object_array_is_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = write_npz_mp4(tmp_path / "set")
    np.savez(path, states=np.zeros((10, 2)), evil=np.array([Bomb()], dtype=object))
    assert pickle.dumps(Bomb())
    (episode,) = episodes(READER, tmp_path / "set")
    assert checks(episode) == ["object_array"]
    assert "pickles, which are never executed" in episode.info.problems[0].message
    assert not (tmp_path / "exploded").exists()


def test_other_counts_are_named(tmp_path: Path) -> None:
    path = write_npz_mp4(tmp_path, NpzMp4Options(cameras=("a", "b")))
    write_npz_mp4(tmp_path / "short", NpzMp4Options(frames=7, cameras=("b",)))
    (tmp_path / "short" / "traj000_b.mp4").replace(tmp_path / "traj000_b.mp4")
    (tmp_path / "short" / "traj000.npz").unlink()
    np.savez(path, states=np.zeros((14, 2)), large=np.zeros((5000, 4)), words=np.array([["a"]] * 10), empty=np.zeros((0, 3)))
    (episode,) = episodes(READER, tmp_path)
    assert checks(episode) == ["frames_differ", "frames_differ", "rows_without_times"]
    assert not episode.info.columns["large"].steps
    assert episode.info.metadata["values"] == {"states": np.zeros((14, 2)).tolist(), "words": [["a"]] * 10, "empty": []}


def test_what_is_not_a_pair_is_left(tmp_path: Path) -> None:
    np.savez(tmp_path / "alone.npz", x=np.zeros(3))
    (tmp_path / "text.npz").write_text("no zip")
    write_npz_mp4(tmp_path / "two")
    np.savez(tmp_path / "two" / "other.npz", x=np.zeros(3))
    found = find(READER, tmp_path)
    assert [item.path for item in found.items] == ["two/traj000.npz"]


def _npy(header: str, body: bytes = b"", magic: bytes = b"\x93NUMPY\x01\0") -> bytes:
    return magic + len(header).to_bytes(2, "little") + header.encode() + body


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (b"", "a NumPy array"),
        (_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"), "values, found"),
        (_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(8)), "16 bytes of values, found 8 bytes for shape"),
        (_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "a shape"),
        (_npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}"), "a structured array"),
        (_npy("__import__('os').getcwd()"), "a header with descr"),
        (_npy("{'descr': '<f8'}"), "a header with descr"),
        (_npy("(" * 3000), "a header with descr"),
        (_npy("{'descr': '<f8,<f8', 'fortran_order': False, 'shape': (1,)}"), "the type"),
        (b"\x93NUMPY\x02\0" + b"\xff\xff\xff\x7f", "a header of at most 10000 bytes"),
    ],
)
def test_damaged_members_are_rejected(tmp_path: Path, member: bytes, expected: str) -> None:
    path = write_npz_mp4(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("states.npy", member)
    with pytest.raises(BadRecording, match=expected):
        episodes(READER, tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = write_npz_mp4(tmp_path)
    held = io.BytesIO()
    np.save(held, np.zeros(1000))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("states.npy", held.getvalue())
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (400 << 20).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadRecording, match="bytes that can be true"):
        episodes(READER, tmp_path)


def test_fortran_order_and_foreign_byte_order(tmp_path: Path) -> None:
    path = write_npz_mp4(tmp_path, NpzMp4Options(frames=3))
    values = np.asfortranarray(np.arange(6.0).reshape(3, 2)).astype(">f8", order="F")
    np.savez(path, states=values)
    (episode,) = episodes(READER, tmp_path)
    assert episode.streams["observation.state"].values.tolist() == [[0, 1], [2, 3], [4, 5]]  # type: ignore[union-attr]
    assert episode.info.columns["observation.state"].dtype == "float64"


def test_a_film_that_is_none_rejects_the_pair(tmp_path: Path) -> None:
    write_npz_mp4(tmp_path)
    (tmp_path / "traj000.mp4").write_bytes(b"no film")
    with pytest.raises(BadRecording, match=r"traj000\.mp4"):
        episodes(READER, tmp_path)


def _mutants(tmp_path: Path, count: int, seed: int, packed: bool) -> None:
    path = write_npz_mp4(tmp_path, NpzMp4Options(packed=packed, times=True))
    beside = {"a.mp4": (tmp_path / "traj000.mp4").read_bytes()}
    outcomes = run_over(partial(run_reader, MODULE), mutants(path.read_bytes(), count, seed), file_name="a.npz", beside=beside, preload=[MODULE, "av"])
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected", "unrecognised")], tally(outcomes)
    assert {outcome.status for outcome in outcomes} >= {"ok", "rejected"}


@pytest.mark.parametrize("packed", [True, False])
def test_mutants(tmp_path: Path, packed: bool) -> None:
    _mutants(tmp_path, 48, 1, packed)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [True, False])
def test_many_mutants(tmp_path: Path, packed: bool) -> None:
    _mutants(tmp_path, 600, 2, packed)
