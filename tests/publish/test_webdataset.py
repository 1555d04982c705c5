"""A dataset as WebDataset archives: every sample is what the store has, as the library that people read them with gives it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import BadRecording, UsageError
from dataengine.publish.episode_samples import SampleForm
from dataengine.publish.webdataset import WebDatasetExport, export_webdataset
from dataengine.samples.barcode import read_barcode
from dataengine.store.store import Store, open_store
from dataengine.video.fit import Size
from tests.support.jobs import dataengine
from tests.support.numbered_clocks import DEPTH, FILM, RAW, STATE, STILLS, Numbered, film_of, film_seen, stills_seen
from tests.support.shared import REPOSITORY, shared_data
from tests.support.stores import land, new_store


def quiet(message: str, done: int, total: int) -> None: ...


def exported(store: Path, folder: Path, form: SampleForm | None = None, **how: Any) -> dict[str, Any]:
    return export_webdataset(open_store(str(store)), str(folder), replace(WebDatasetExport("lab", form or SampleForm()), **how), quiet)


def samples(folder: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, members by name) as tarfile reads them: the key is what stands before the first dot."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            key, members = "", {}
            for member in archive:
                start, _, name = member.name.partition(".")
                if start != key and members:
                    yield key, members
                    members = {}
                content = archive.extractfile(member)
                assert content is not None
                key, members[name] = start, content.read()
            yield key, members


def array(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


def picture(data: bytes) -> np.ndarray:
    import cv2

    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return found[:, :, ::-1] if found.ndim == 3 else found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of three numbered episodes, the second of which has a third camera."""
    folder = tmp_path_factory.mktemp("export")
    film = film_of(folder, 3)
    land(new_store(folder / "store"), [Numbered(episode, film, raw=episode == 1) for episode in range(3)])  # type: ignore[list-item]
    return folder / "store"


@pytest.fixture(scope="module")
def by_step(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps") / "out"
    exported(store, folder)
    return folder


def test_each_sample_is_the_step_of_the_store(store: Path, by_step: Path) -> None:
    opened = open_store(str(store))
    rows = {row["episode_id"]: row for row in opened.episodes().collect().iter_rows(named=True)}
    found = list(samples(by_step))
    assert [key for key, _ in found] == [f"{episode}_{step:06d}" for episode in sorted(rows) for step in range(30)]
    for key, members in found:
        episode, step = key.split("_")[0], int(key.split("_")[1])
        row, number, at = rows[episode], int(rows[episode]["source_key"]), 100 * int(step) + 5
        steps = opened.read_trajectory(episode)
        said = json.loads(members.pop("json"))
        assert (said["dataset"], said["episode_id"], said["step"], said["task"], said["origin"]) == ("lab", episode, step, "count", "simulation")
        assert (said["action_source"], said["embodiment"], said["success"]) == (row["action_source"], "sim_arm", True)
        assert (said["t_ns"], said["texts"]) == (at * 1_000_000, {"task": "first" if at < 1550 else "then"})
        for name in ("action", STATE):
            value = array(members.pop(f"{name}.npy"))
            assert (value.dtype, value.tobytes()) == (steps.columns[name].dtype, steps.columns[name][step].tobytes())
        depth = picture(members.pop(f"{DEPTH}.png"))
        assert (depth.dtype, int(depth[2, 5])) == (np.uint16, 100 * step + 25 + number)
        cameras = {FILM: (0, film_seen(at)), STILLS: (1, stills_seen(at))} | ({RAW: (2, film_seen(at))} if number == 1 else {})
        assert said["missing"] == [name for name, (_, frame) in cameras.items() if frame < 0]
        for name, (camera, frame) in cameras.items():
            if frame >= 0:
                code = read_barcode(picture(members.pop(f"{name}.jpg")))
                assert code is not None
                assert (code.frame, code.camera, code.episode) == (frame, camera, number)
        assert members == {}


def test_stored_jpegs_are_given_as_they_are(store: Path, by_step: Path, tmp_path: Path) -> None:
    opened = open_store(str(store))
    row = next(row for row in opened.episodes().collect().iter_rows(named=True) if row["source_key"] == "2")
    stored = [bytes(data) for data in opened.read_episode(row["episode_id"]).streams[STILLS].values.data]  # type: ignore[union-attr]
    name, key = f"{STILLS}.jpg", f"{row['episode_id']}_000007"
    assert dict(samples(by_step))[key][name] == stored[stills_seen(705)]
    exported(store, tmp_path / "same", SampleForm(size=Size(160, 256)))
    assert dict(samples(tmp_path / "same"))[key][name] == stored[stills_seen(705)]
    exported(store, tmp_path / "small", SampleForm(size=Size(80, 128), quality=80))
    small = picture(dict(samples(tmp_path / "small"))[key][name])
    assert small.shape == (80, 128, 3)
    assert read_barcode(small) == (stills_seen(705), 1, 2)
    document = json.loads((tmp_path / "small" / "index.json").read_text())
    film = next(feature for feature in document["features"] if feature["name"] == FILM)
    assert (film["shape"], film["camera"]["intrinsics_px"]) == ([80, 128, 3], [50.0, 45.0, 63.5, 39.5])


def test_clips(store: Path, tmp_path: Path) -> None:
    """Thirty steps in clips of 12: 12, 12 and 6; frame i of a clip's film is step i of it."""
    from dataengine.video.decode import FrameReader
    from dataengine.video.index import frame_index

    exported(store, tmp_path / "out", SampleForm("clip", clip_steps=12))
    opened = open_store(str(store))
    numbers = {row["episode_id"]: int(row["source_key"]) for row in opened.episodes().collect().iter_rows(named=True)}
    found = list(samples(tmp_path / "out"))
    assert [key for key, _ in found] == [f"{episode}_{first:06d}" for episode in sorted(numbers) for first in (0, 12, 24)]
    for key, members in found:
        episode, first = key.split("_")[0], int(key.split("_")[1])
        said, steps = json.loads(members["json"]), opened.read_trajectory(episode)
        rows = slice(first, first + said["steps"])
        assert said["steps"] == (6 if first == 24 else 12)
        assert array(members["action.npy"]).tolist() == steps.columns["action"][rows].tolist()
        assert said["texts"]["task"] == {0: [[0, "first"]], 12: [[0, "first"], [4, "then"]], 24: [[0, "then"]]}[first]
        assert array(members[f"{DEPTH}.npy"])[:, 2, 5].tolist() == [100 * step + 25 + numbers[episode] for step in range(rows.start, rows.stop)]
        times = [100 * step + 5 for step in range(rows.start, rows.stop)]
        (tmp_path / "clip.mp4").write_bytes(members[f"{FILM}.mp4"])
        with FrameReader(str(tmp_path / "clip.mp4"), frame_index(str(tmp_path / "clip.mp4"))) as reader:
            codes = [read_barcode(frame) for frame in reader.read(range(len(reader)))]
        assert [code.frame for code in codes if code is not None] == [film_seen(at) for at in times]
        seen = [stills_seen(at) >= 0 for at in times]
        assert all(seen) == (f"{STILLS}.valid.npy" not in members)
        if not all(seen):
            assert array(members[f"{STILLS}.valid.npy"]).tolist() == seen


def test_the_index_says_what_is_there(store: Path, tmp_path: Path) -> None:
    document = exported(store, tmp_path / "out", shard_bytes=400_000)
    assert json.loads((tmp_path / "out" / "index.json").read_text()) == document
    assert [shard["name"] for shard in document["shards"]] == sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert len(document["shards"]) > 3
    assert (document["episodes"], document["samples"]) == (3, 90)
    for shard in document["shards"]:
        data = (tmp_path / "out" / shard["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
    assert document["from"] == {"store_id": json.loads((store / "store.json").read_text())["store_id"], "version": 1, "where": None}
    assert {feature["name"]: feature["member"] for feature in document["features"]}[RAW] == RAW
    only = exported(store, tmp_path / "one", where="source_key = '2'")
    assert (only["episodes"], only["samples"]) == (1, 30)


def test_same_version_same_bytes(store: Path, by_step: Path, tmp_path: Path) -> None:
    exported(store, tmp_path / "again")
    assert {path.name: path.read_bytes() for path in by_step.iterdir()} == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the library leaves its archives to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_as_the_library_reads_it(store: Path, by_step: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="the library that people read these archives with is not installed")
    opened = open_store(str(store))
    steps = {row["episode_id"]: opened.read_trajectory(row["episode_id"]) for row in opened.episodes().collect().iter_rows(named=True)}
    ours = dict(samples(by_step))
    count = 0
    for sample in webdataset.WebDataset(sorted(map(str, by_step.glob("*.tar"))), shardshuffle=False):
        episode, step = sample["__key__"].split("_")
        assert {name: data for name, data in sample.items() if not name.startswith("__")} == ours[sample["__key__"]]
        assert array(sample["action.npy"]).tolist() == steps[episode].columns["action"][int(step)].tolist()
        count += 1
    assert count == 90


# -- wrong calls, damage, kill


def test_a_folder_that_is_in_use_is_refused(store: Path, by_step: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds an export already"):
        exported(store, by_step)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="must be a new or an empty folder"):
        exported(store, tmp_path / "out")
    with pytest.raises(UsageError, match="did you mean 'lab'"):
        exported(store, tmp_path / "new", dataset="lad")
    with pytest.raises(UsageError, match="found none"):
        exported(store, tmp_path / "new", where="steps > 1000")
    assert not (tmp_path / "new").exists()
    assert dataengine("export", "webdataset", store, "s3://bucket/out").code == 2
    assert dataengine("export", "webdataset", f"{store}@open", tmp_path / "new").code == 2


def test_damage_leaves_nothing(store: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(store, tmp_path / "store")
    for path in (tmp_path / "store").glob(f"streams/lab/*/arrays.zarr/{STILLS}/data/c/*"):
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BadRecording, match="expected a picture"):
        exported(tmp_path / "store", tmp_path / "out", SampleForm(size=Size(80, 128)))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_killed_export_leaves_no_archive_and_can_be_run_again(store: Path, by_step: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = """
import sys, time
import dataengine.publish.webdataset as job
from tests.publish.test_webdataset import exported
from pathlib import Path
real = job.EpisodeSamples
class Slow(real):
    def samples(self):
        for key, members in super().samples():
            yield key, members
            time.sleep(0.05)
job.EpisodeSamples = Slow
exported(Path(sys.argv[1]), Path(sys.argv[2]), shard_bytes=100_000)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(store), str(target)], cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".out.partial-*/*.tar"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert len(list(tmp_path.glob(".out.partial-*"))) == 1
    exported(store, target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {path.name: path.read_bytes() for path in by_step.iterdir()}


@pytest.mark.slow
def test_real_recordings(tmp_path: Path) -> None:
    """Bridge in RLDS: the JPEGs in the archives are the very bytes of the TFRecords' pictures, as the store has them."""
    source = shared_data("rlds", "octo_bridge_head")
    assert dataengine("ingest", source, "--store", tmp_path / "store", "--local").code == 0
    called = dataengine("export", "webdataset", tmp_path / "store", tmp_path / "out", "--json")
    assert called.code == 0, called.err
    assert called.json["samples"] == 250
    opened: Store = open_store(str(tmp_path / "store"))
    for key, members in samples(tmp_path / "out"):
        episode, step = key.split("_")
        stream = opened.read_episode(episode).streams["observation.images.image_0"]
        assert members["observation.images.image_0.jpg"] == bytes(stream.values.data[int(step)])  # type: ignore[union-attr]
        assert array(members["action.npy"]).shape == (7,)
