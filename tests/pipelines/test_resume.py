"""Running a job again: what is known is not read, what has changed is, and a new reading replaces the old one in the next version."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import pipelines.unit
from pipelines.config import IngestConfig
from pipelines.ingest import IngestJob, Report, run
from tests.support.jobs import Inline, content, episodes, versions
from tests.support.plain_reader import catalog_rows

SMALL = IngestConfig.model_validate({"units": {"recordings": 3}, "commits": {"every_s": 0.0}})

IN_PARTS = IngestConfig.model_validate(
    {"units": {"recordings": 3}, "commits": {"every_s": 0.0}, "readers": {"mcap": {"episodes": {"by": "duration", "seconds": 0.4}}}}
)


@pytest.fixture
def towel(sources: Path, tmp_path: Path) -> Path:
    """Return a folder with four ALOHA recordings that the test may change."""
    return Path(shutil.copytree(sources / "aloha-towel", tmp_path / "in" / "aloha-towel"))


def ingest(source: Path, store: Path, config: IngestConfig = SMALL, **more: Any) -> Report:
    """Run a job in this process."""
    return run(IngestJob((str(source),), str(store), config=config, **more), Inline())


def counts(report: Report) -> tuple[int, int, int, int]:
    """Return found, landed, skipped, rejected."""
    return report.found, report.landed, report.skipped, report.rejected


def test_what_is_known_is_not_read(towel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    assert counts(ingest(towel, store)) == (4, 4, 0, 0)
    path = towel / "episode_1.hdf5"
    before = path.stat()
    path.write_bytes(b"\x00" * before.st_size)  # the same size, and the same time below: nobody may look inside
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    opened: list[str] = []
    real = pipelines.unit.SourceOpener.open
    monkeypatch.setattr(pipelines.unit.SourceOpener, "open", lambda self, name: opened.append(name) or real(self, name))
    report = ingest(towel, store)
    assert counts(report) == (4, 0, 4, 0)
    assert (report.read_bytes, report.units, report.version) == (0, 0, 1)
    assert versions(store) == [1]
    assert opened == [name for name in opened if name.endswith("hdf5")][: len(opened)]


def test_a_file_that_was_only_touched_is_read_and_found_to_be_there(towel: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ingest(towel, store)
    os.utime(towel / "episode_2.hdf5", ns=(1_800_000_000_000_000_000, 1_800_000_000_000_000_000))
    report = ingest(towel, store)
    assert counts(report) == (4, 0, 4, 0)
    assert report.read_bytes == (towel / "episode_2.hdf5").stat().st_size
    assert len(episodes(store)) == 4
    assert counts(ingest(towel, store)) == (4, 0, 4, 0)
    assert ingest(towel, store).read_bytes == 0


def test_the_same_folder_by_another_way_is_the_same(towel: Path, tmp_path: Path) -> None:
    """Below which root an item was found is no part of what it is."""
    store = tmp_path / "store"
    ingest(towel, store)
    for source in (towel.parent, towel / "episode_0.hdf5", towel / ".." / "aloha-towel"):
        report = ingest(source, store)
        assert (report.landed, report.read_bytes) == (0, 0)
        assert report.skipped == report.found > 0


def test_a_recording_that_was_replaced_lands_and_the_old_one_stays(towel: Path, sources: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ingest(towel / "episode_0.hdf5", store)
    first = content(store)
    shutil.copyfile(sources / "aloha-towel" / "episode_3.hdf5", towel / "episode_0.hdf5")
    report = ingest(towel / "episode_0.hdf5", store)
    assert counts(report) == (1, 1, 0, 0)
    assert len(episodes(store)) == 2
    assert content(store, 1).differences(first) == []


def test_more_files_later(towel: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    later = [towel / f"episode_{index}.hdf5" for index in (2, 3)]
    kept = {path: path.read_bytes() for path in later}
    for path in later:
        path.unlink()
    assert counts(ingest(towel, store)) == (2, 2, 0, 0)
    for path, data in kept.items():
        path.write_bytes(data)
    assert counts(ingest(towel, store)) == (4, 2, 2, 0)
    assert len(episodes(store)) == 4


def test_a_new_reading_replaces_the_old_one_in_the_next_version(towel: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ingest(towel, store)
    old = content(store, 1)
    assert {row["rate_hz"] for row in episodes(store, 1)} == {None}
    report = ingest(towel, store, SMALL.model_copy(update={"rate_hz": 50.0}))
    assert counts(report) == (4, 4, 0, 0)
    assert report.version == 2
    assert {row["rate_hz"] for row in episodes(store, 2)} == {50.0}
    assert {row["episode_id"] for row in episodes(store, 2)} == {row["episode_id"] for row in episodes(store, 1)}
    assert content(store, 1).differences(old) == []
    again = ingest(towel, store, SMALL.model_copy(update={"rate_hz": 50.0}))
    assert (counts(again), again.version, again.read_bytes) == ((4, 0, 4, 0), 2, 0)
    assert len({row["reading"] for row in catalog_rows(store, 2) if row["kind"] == "source"}) == 1


def test_episodes_that_a_new_reading_does_not_yield_go_from_the_next_version(sources: Path, tmp_path: Path) -> None:
    """Each file becomes two episodes, with ids of their own: the old ones are replaced, not kept beside the new ones."""
    store = tmp_path / "store"
    ingest(sources / "teleop", store)
    first = {row["episode_id"] for row in episodes(store, 1)}
    report = ingest(sources / "teleop", store, IN_PARTS)
    assert counts(report) == (4, 4, 0, 0)
    second = {row["episode_id"] for row in episodes(store, 2)}
    assert len(second) == 4
    assert not first & second
    assert {row["episode_id"] for row in episodes(store, 1)} == first


def test_what_another_source_still_holds_stays_when_one_is_read_anew(sources: Path, tmp_path: Path) -> None:
    """Two folders hold the same recording. Read one of them anew, so that it yields another id: the other one's episode is still there."""
    store = tmp_path / "store"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copyfile(sources / "teleop" / "13.mcap", tmp_path / name / "13.mcap")
    both = IngestJob((str(tmp_path / "one"), str(tmp_path / "two")), str(store), dataset="teleop", config=SMALL)
    assert counts(run(both, Inline())) == (2, 1, 1, 0)
    (first,) = {row["episode_id"] for row in episodes(store)}
    assert counts(ingest(tmp_path / "one", store, IN_PARTS, dataset="teleop")) == (2, 2, 0, 0)
    now = {row["episode_id"] for row in episodes(store)}
    assert first in now
    assert len(now) == 3
    assert counts(ingest(tmp_path / "two", store, IN_PARTS, dataset="teleop")) == (2, 0, 2, 0)
    assert {row["episode_id"] for row in episodes(store)} == now - {first}


def test_a_known_rejection_is_said_again(towel: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    broken = towel / "episode_1.hdf5"
    broken.write_bytes(broken.read_bytes()[:9000])
    first = ingest(towel, store)
    assert counts(first) == (4, 3, 0, 1)
    second = ingest(towel, store)
    assert counts(second) == (4, 0, 3, 1)
    assert second.rejects[0]["source_uri"] == first.rejects[0]["source_uri"] == str(broken)
    assert {key: second.rejects[0][key] for key in first.rejects[0]} == first.rejects[0]
    assert second.exit_code == 3
    assert second.read_bytes == 0


def test_a_new_reading_may_lay_a_column_out_otherwise(tmp_path: Path) -> None:
    """Joint positions of one MCAP land as they are; read anew with a configuration that renames a wider topic to them, they take their own place."""
    from dataengine.samples.arm import ArmConfig, record
    from dataengine.samples.mcap import McapOptions, write_mcap
    from dataengine.store.store import open_store
    from pipelines.config import IngestConfig
    from pipelines.ingest import IngestJob, run
    from pipelines.runtime import Runtime

    source = tmp_path / "arm"
    source.mkdir()
    write_mcap(source / "one.mcap", [record(1, 0, ArmConfig(cameras=(), max_steps=20))], McapOptions())
    store = str(tmp_path / "store")
    streams = {"observation.state": "/joint_states:position"}
    for wanted in (streams, {"observation.state": "/imu/data:linear_acceleration"}):
        config = IngestConfig(readers={"mcap": {"streams": wanted}})
        report = run(IngestJob((str(source),), store, config=config), Runtime(local=True, workers=1))
        assert (report.landed, report.rejected) == (1, 0), report.rejects
    assert open_store(f"{store}@1").episodes().collect().height == 1
    (row,) = open_store(store).episodes().collect().iter_rows(named=True)
    (before,) = open_store(f"{store}@1").episodes().collect().iter_rows(named=True)
    assert row["reading"] != before["reading"]
    assert open_store(f"{store}@1").columns(before)["observation.state"].shape != open_store(store).columns(row)["observation.state"].shape
