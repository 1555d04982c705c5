"""UMI and GoPro recordings through a whole job: the real ones and written ones land in one run, and the store gives back what they held."""

from __future__ import annotations

import json
from pathlib import Path

import imagecodecs
import numpy as np
import polars as pl
import pytest
import zarr

from dataengine.core.stream import Items, MediaFrames
from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.steps import control_steps
from dataengine.samples.umi import UmiOptions, write_umi
from dataengine.samples.umi_session import demo_name, write_umi_session
from dataengine.store.store import Store, open_store
from dataengine.versions.check import check
from pipelines.ingest import IngestJob, Report, run
from pipelines.runtime import Runtime
from tests.support.shared import shared_data

CONFIG = ArmConfig(40, 48, cameras=("wrist",), max_steps=12)


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Store, Path]:
    sources = tmp_path_factory.mktemp("umi")
    recordings = [record(0, 1, CONFIG), record(0, 2, CONFIG)]
    write_umi(sources / "cups", recordings)
    write_umi(sources / "raw_cups", recordings, UmiOptions(frames="blosc", zipped=False))
    write_umi_session(sources / "kitchen", recordings)
    real = (shared_data("umi", "gopro_gpmf"), shared_data("umi", "pusht_replay_buffer_lowdim.zarr"))
    target = sources / "store"
    report = run(IngestJob((*map(str, real), *(str(sources / name) for name in ("cups", "raw_cups", "kitchen"))), str(target)), Runtime(local=True, workers=1))
    return report, open_store(str(target)), sources


def test_all_land_in_one_run_with_datasets_named_by_their_folders(landed: tuple[Report, Store, Path]) -> None:
    report, store, _ = landed
    assert (report.found, report.landed, report.rejected) == (218, 218, 0)
    counts = {name: (count["landed"], count["steps"]) for name, count in report.datasets.items()}
    assert counts["pusht_replay_buffer_lowdim"] == (206, 25650)
    assert counts["gopro_gpmf"] == (4, 352)
    assert (counts["cups"], counts["raw_cups"]) == ((2, 24), (2, 24))
    assert counts["kitchen"][0] == 4
    assert not [problem for problem in check(store, deep=True) if problem.severity == "error"]


def test_push_t_has_the_rate_and_meaning_that_its_description_gives(landed: tuple[Report, Store, Path]) -> None:
    _, store, _ = landed
    rows = store.episodes().filter(pl.col("dataset") == "pusht_replay_buffer_lowdim").collect()
    assert (set(rows["rate_hz"]), set(rows["clock"]), set(rows["action_source"])) == ({10.0}, {"nominal"}, {"commanded"})
    group = zarr.open_group(shared_data("umi", "pusht_replay_buffer_lowdim.zarr"), mode="r")
    ends = np.asarray(group["meta/episode_ends"])
    last = next(row for row in rows.iter_rows(named=True) if row["source_key"] == "205")
    trajectory = store.read_trajectory(last["episode_id"])
    np.testing.assert_array_equal(trajectory.columns["action"], np.asarray(group["data/action"])[ends[-2] :])
    column = trajectory.specs["action"]
    assert (column.unit, column.frame, column.dims) == ("px", "window", ("x", "y"))


def test_frames_of_a_umi_buffer_come_back_as_bytes_and_pictures(landed: tuple[Report, Store, Path]) -> None:
    _, store, _ = landed
    recording = record(0, 1, CONFIG)
    track = recording.cameras["wrist"]
    for dataset in ("cups", "raw_cups"):
        row = next(row for row in store.episodes().filter(pl.col("dataset") == dataset).collect().iter_rows(named=True) if row["source_key"] == "0")
        assert not row["lossy"]
        pictures = store.read_frames(row["episode_id"], "observation.images.camera0", [0, 11])
        values = store.read_episode(row["episode_id"]).streams["observation.images.camera0"].values
        assert isinstance(values, Items)
        assert values.encodings == ("jxl" if dataset == "cups" else "png")
        if dataset == "cups":
            np.testing.assert_array_equal(pictures[1], imagecodecs.jpegxl_decode(bytes(values.data[11])))
        else:
            np.testing.assert_array_equal(pictures[0], track.images[control_steps(recording).frame["wrist"][0]])


def test_a_camera_that_was_lost_is_null_in_the_trajectory(landed: tuple[Report, Store, Path]) -> None:
    """Frames 0, 1 and 6, 7 were lost: no pose before the third frame; two lost frames later lie within the staleness bound of those around them or are null."""
    _, store, _ = landed
    rows = store.episodes().filter(pl.col("dataset") == "kitchen").collect().iter_rows(named=True)
    row = next(row for row in rows if demo_name(0) in row["source_uri"])
    assert json.loads(row["metadata"])["umi"]["trajectory"]["lost"] == 4
    trajectory = store.read_trajectory(row["episode_id"])
    valid = trajectory.valid["observation.camera_pose"]
    assert valid[:2].tolist() == [False, False]
    assert valid[2:6].all()
    episode = store.read_episode(row["episode_id"])
    assert isinstance(episode.streams["observation.images.gopro"].values, MediaFrames)
    pose = np.asarray(episode.streams["observation.camera_pose"].values)
    np.testing.assert_array_equal(np.asarray(trajectory.columns["observation.camera_pose"])[2], pose[0])
