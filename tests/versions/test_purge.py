"""After a purge no byte of an episode's pictures, values or words is left anywhere, and everything else is as it was."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import zarr

from dataengine.core.errors import EpisodeNotFound, EpisodePurged, StoreError
from dataengine.core.objects import Objects
from dataengine.core.stream import Items, MediaFrames
from dataengine.schema.schema import validate
from dataengine.store.catalog import Catalog
from dataengine.store.store import Store
from dataengine.versions import purge as purging
from dataengine.versions.check import check, faults
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from dataengine.versions.history import log
from dataengine.versions.purge import plan_purge, purge
from dataengine.versions.removal import plan_removal, remove, restore
from tests.support.films import numbered, write_film
from tests.support.stores import ROWS, Made, begin, die, land, new_store

WITHDRAWN = Made(2, task="SECRETNAME waves", big=True, raw=True, metadata={"operator": "SECRETOPERATOR"})
OTHERS = [Made(1, big=True, raw=True, metadata={"operator": "x"}), Made(3, big=True, raw=True)]


def planted(made: Made) -> dict[str, bytes]:
    """Return what must not be found: some bytes of each stream, and the words."""
    pictures = made.pictures()
    return {
        "first picture": pictures[0][-200:-100],
        "last picture": pictures[-1][700:760],
        "state": made.state()[3].tobytes(),
        "steps": made.state()[-1].tobytes(),
        "wide": made.wide()[3, 1000:1003].tobytes(),
        "task": made.task.encode(),
        "operator": b"SECRETOPERATOR",
        "log clock": np.array([1_700_000_000_000_000_000 + made.seed * 10**12 + 1000], dtype="<i8").tobytes(),
    }


def contents(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of every file as they are, and what they decode to: arrays, and tables both as text and as numbers."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        yield path.relative_to(root).as_posix(), data
        if path.suffix == ".parquet":
            table = pq.read_table(io.BytesIO(data))
            yield f"{path.name} as text", json.dumps(table.to_pylist(), default=str).encode()
            for name in table.column_names:
                column = table[name].combine_chunks()
                if "fixed_size_list" in str(column.type):
                    yield f"{path.name} {name}", column.drop_null().flatten().to_numpy(zero_copy_only=False).tobytes()
                elif column.type in ("double", "int64"):
                    yield f"{path.name} {name}", column.drop_null().to_numpy(zero_copy_only=False).tobytes()
        if path.name == "zarr.json" and json.loads(data)["node_type"] == "array":
            array = zarr.open_array(path.parent, mode="r")
            yield f"{path.parent} decoded", np.asarray(array[...]).tobytes()


def left(root: Path, patterns: Mapping[str, bytes]) -> set[str]:
    """Return which patterns stand anywhere."""
    return {name for _, data in contents(root) for name, pattern in patterns.items() if pattern in data}


def frame_bytes(root: Path, objects: Objects, episode_id: str) -> list[bytes]:
    """Return the encoded bytes of each frame of the raw camera of an episode."""
    store = Store(objects)
    row = store.row(episode_id)
    entry = next(entry for entry in store.index(row) if entry["stream"] == "observation.images.raw")
    assert (entry["kind"], entry["frames"]) == ("video", ROWS)
    video = root / "streams" / row["dataset"] / row["shard"] / entry["media"]
    index = pq.read_table(video.with_name(video.name.replace(".mp4", ".index.parquet"))).slice(entry["first_frame"], entry["frames"]).to_pylist()
    return [video.read_bytes()[frame["offset"] : frame["offset"] + frame["size"]] for frame in index]


def everything(objects: Objects, episode_id: str, ref: str | None = None) -> dict[str, object]:
    """Return all that a reader gets of an episode, in comparable form."""
    store = Store(objects, ref)
    episode, steps = store.read_episode(episode_id), store.read_trajectory(episode_id)
    found: dict[str, object] = {"row": json.dumps(store.row(episode_id), default=str), "t_ns": steps.t_ns.tolist()}  # type: ignore[union-attr]
    found |= {f"steps {name}": values.tolist() for name, values in steps.columns.items()}
    for name, stream in episode.streams.items():
        found[f"{name} times"] = None if stream.timestamps_ns is None else stream.timestamps_ns.tolist()
        values = stream.values
        if isinstance(values, Items):
            found[name] = [bytes(item) for item in values.data]
        elif isinstance(values, MediaFrames):
            found[name] = store.read_frames(episode_id, name, list(range(len(values)))).tolist()
        else:
            found[name] = np.asarray(values).tolist()
    return found


def test_no_byte_is_left_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    a, b, c = land(objects, [OTHERS[0], WITHDRAWN, OTHERS[1]], source="/a")
    land(objects, [WITHDRAWN], source="/twin", dataset="twin")
    second = begin(objects, [OTHERS[0], WITHDRAWN, OTHERS[1]], source="/a", reading="2", again=True)
    assert second.committer.tally.landed == 3, "a new reading lies in a shard of its own"
    second.end()
    lost = begin(objects, [WITHDRAWN], source="/z", dataset="third", commit=False)
    die(lost)
    remove(objects, plan_removal(Store(objects, None, "twin"), "true"), "rm")
    before = {(episode_id, ref): everything(objects, episode_id, ref) for episode_id in (a, c) for ref in ("1", None)}
    patterns = planted(WITHDRAWN)
    frames = frame_bytes(tmp_path, objects, b)
    patterns |= {f"frame {place}": data[20:60] for place, data in enumerate(frames)}
    assert left(tmp_path, patterns) == set(patterns), "the search finds what is there"

    plan = plan_purge(objects, [b[:12]])
    assert (plan.episodes, len(plan.held), plan.media) == ((b,), 4, ())
    done = purge(objects, [b], "consent withdrawn", "purge S")

    assert left(tmp_path, patterns) == set()
    assert {(episode_id, ref): everything(objects, episode_id, ref) for episode_id, ref in before} == before
    assert done.document["reason"] == "consent withdrawn"
    assert validate("removed", done.document) == []
    assert (done.version.number, done.version.counts["purged"], done.version.counts["episodes"]) == (5, 1, 3)
    for entry in log(objects):
        assert faults(check(Store(objects, str(entry.version.number)), deep=True)) == []
    assert unreferenced(objects) == []


@pytest.mark.parametrize("ref", ["1", "2", "3", None])
def test_every_version_honours_it(tmp_path: Path, ref: str | None) -> None:
    objects = new_store(tmp_path)
    a, b = land(objects, [Made(1), Made(2)], source="/a")
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a}'"), "rm")
    opened_before = Store(objects, ref) if ref != "3" else None
    purge(objects, [b], "letter of 3 September", "purge S")
    for store in (Store(objects, ref), opened_before):
        if store is None:
            continue
        row = store.row(b)
        assert (row["tasks"], row["metadata"], row["figures"], row["flags"]) == ([], None, None, ["purged"])
        for read in (store.read_episode, store.read_trajectory, lambda episode_id, store=store: store.read_frames(episode_id, "observation.images.front", [0])):
            with pytest.raises(EpisodePurged, match=r"was purged by \S+ on 20\d\d-.* \(letter of 3 September\)"):
                read(b)
    if ref == "1":
        assert Store(objects, ref).read_episode(a).info.tasks == ("stack the cups 1",)


def test_delta_reads_and_writes_on_what_was_emptied_in_place(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    a, b, c = land(objects, [Made(1), Made(2), Made(3)], source="/a")
    sizes = {path: path.stat().st_size for path in (tmp_path / "catalog").rglob("part-*.parquet")}
    purge(objects, [b], "x", "purge")
    assert {path: path.stat().st_size for path in sizes} == sizes, "the log records the sizes"
    catalog = Catalog(objects)
    from deltalake import QueryBuilder

    found = QueryBuilder().register("t", catalog.table()).execute("select fact, tasks from t where kind = 'episode' order by fact").read_all()
    assert dict(zip(found["fact"].to_pylist(), found["tasks"].to_pylist(), strict=True))[b] == []
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a}'"), "rm")
    land(objects, [Made(5)], source="/e")
    catalog.compact(["lab"])
    assert {b, c} < set(Store(objects).episodes().collect()["episode_id"])
    restore(objects, "1", "restore")
    rows = {row["episode_id"]: row for row in Store(objects).episodes().collect().to_dicts()}
    assert (set(rows), rows[b]["flags"], rows[a]["tasks"]) == ({a, b, c}, ["purged"], ["stack the cups 1"])
    assert pl.scan_delta(catalog.table(1)).filter(pl.col("fact") == b).collect()["tasks"].to_list() == [[]]


def test_a_purged_recording_does_not_land_again(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    (b,) = land(objects, [WITHDRAWN], source="/a")
    purge(objects, [b], "x", "purge")
    for how in ({"source": "/b"}, {"source": "/a", "reading": "2", "again": True}, {"source": "/c", "dataset": "other"}):
        job = begin(objects, [WITHDRAWN, Made(7)], **how)  # type: ignore[arg-type]
        assert job.committer.tally.skipped >= 1
        assert b not in job.ids
        job.end()
    remove(objects, plan_removal(Store(objects), f"episode_id = '{b}'"), "rm")
    assert begin(objects, [WITHDRAWN], source="/d").ids == []
    patterns = planted(WITHDRAWN)
    patterns.pop("task")  # the rejected copies were never written; the commands of jobs may say anything
    assert left(tmp_path, patterns) == set()


def test_a_kept_video_goes_with_its_last_episode(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", numbered(12))
    copy = shutil.copy(film, tmp_path / "copy.mp4")
    objects = new_store(tmp_path / "store")
    a, b, c = land(objects, [Made(1, film=film), Made(2, film=Path(copy)), Made(3)], source="/a")
    assert len(list((tmp_path / "store" / "media").iterdir())) == 2, "the same bytes are stored once"
    with pytest.raises(StoreError, match=f"found those of {b} too, in a video that is kept as it came; purge these episodes together"):
        purge(objects, [a], "x", "purge")
    assert Store(objects).read_episode(a).info.key == "1", "nothing was done"
    done = purge(objects, [a, b], "x", "purge")
    assert len(done.document["objects"]) == 1
    assert not (tmp_path / "store" / "media").exists()
    assert left(tmp_path / "store", {"film": film.read_bytes()[2000:2100]}) == set()
    assert faults(check(Store(objects), deep=True)) == []
    assert faults(check(Store(objects, "1"), deep=True)) == []
    job = begin(objects, [Made(9, film=film)], source="/other")
    assert [row["check"] for row in job.outcome.rejects] == ["purged"]
    job.end()
    collect(objects, plan_gc(objects))
    assert unreferenced(objects) == []
    assert not [path for path in (tmp_path / "store" / "media").rglob("*") if path.is_file()], "the refused copy is gone"
    assert Store(objects).read_episode(c).info.key == "3"


def test_a_purge_that_was_killed_is_finished_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = new_store(tmp_path)
    a, b = land(objects, [OTHERS[0], WITHDRAWN], source="/a")
    before = everything(objects, a)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(purging, "blank_steps", killed)
        with pytest.raises(KeyboardInterrupt):
            purge(objects, [b], "x", "purge")
    with pytest.raises(EpisodePurged):
        Store(objects).read_trajectory(b)
    purge(objects, [b], "x", "purge")
    assert left(tmp_path, planted(WITHDRAWN)) == set()
    assert everything(objects, a) == before
    assert faults(check(Store(objects), deep=True)) == []


def test_a_purge_is_alone_and_knows_its_episodes(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    (a,) = land(objects, [Made(1)])
    with pytest.raises(EpisodeNotFound, match="no version holds such an episode"):
        purge(objects, ["ffff"], "x", "purge")
    with pytest.raises(EpisodeNotFound):
        purge(objects, [""], "x", "purge")
    job = begin(objects, [Made(2)], source="/b", commit=False)
    with pytest.raises(StoreError, match="no other job at work"):
        purge(objects, [a], "x", "purge")
    job.heartbeat.end("failed")
    assert Store(objects).read_episode(a).info.key == "1"
