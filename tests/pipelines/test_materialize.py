"""Training-ready copies: what a step of the copy holds is what the step of the original sees, bit for bit or picture for picture."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.samples.barcode import read_barcode
from dataengine.store.store import Store, open_store
from dataengine.video.fit import Size, fitted
from pipelines.config import CommitConfig, EncodingConfig, IngestConfig, UnitConfig
from pipelines.ingest import Report
from pipelines.materialize import CopyJob, run
from pipelines.runtime import Runtime
from tests.support.jobs import Inline, content, dataengine
from tests.support.numbered_clocks import DEPTH, FILM, MS, RAW, STATE, STILLS, Numbered, film_of, film_seen, stills_seen
from tests.support.shared import REPOSITORY, shared_data
from tests.support.stores import land, new_store

SMALL = IngestConfig(encoding=EncodingConfig(crf=20, gop=10), units=UnitConfig(recordings=2), commits=CommitConfig(every_s=0.0))
HEIGHT, WIDTH = 80, 128


def quiet(message: str, done: int, total: int) -> None: ...


def copied(source: Path, target: Path, **how: object) -> Report:
    return run(replace(CopyJob(str(source), str(target), HEIGHT, WIDTH, config=SMALL), **how), Inline(), quiet)  # type: ignore[arg-type]


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.found, report.landed, report.skipped, report.rejected


def filled(seen: list[int]) -> list[int]:
    """Return what the frames of the copy show: where a step sees none, what was seen last; before the first, that."""
    first = next(there for there in seen if there >= 0)
    shown: list[int] = []
    for there in seen:
        shown.append(there if there >= 0 else shown[-1] if shown else first)
    return shown


def by_parent(store: Path) -> dict[str, tuple[Store, dict]]:  # type: ignore[type-arg]
    """Return the copies in a store by the number of their original."""
    opened = open_store(str(store))
    rows = opened.episodes().collect().iter_rows(named=True)
    return {str(json.loads(row["metadata"])["number"]): (opened, row) for row in rows}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of five numbered episodes of one film; every second one has a third camera."""
    folder = tmp_path_factory.mktemp("original")
    film = film_of(folder, 5)
    land(new_store(folder / "store"), [Numbered(episode, film, raw=episode % 2 == 1) for episode in range(5)], splits=("train",))  # type: ignore[list-item]
    return folder / "store"


@pytest.fixture(scope="module")
def copy(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its copy at 80 x 128, made by one uninterrupted job."""
    store = tmp_path_factory.mktemp("copy") / "store"
    assert counts(copied(original, store)) == (5, 5, 0, 0)
    return store


def test_each_step_shows_what_the_original_shows(copy: Path) -> None:
    """At step k of the original, 100 k + 5 ms, the newest pictures are worked out by hand; in the copy they are the frames of that number."""
    for number, (store, row) in by_parent(copy).items():
        steps = store.read_trajectory(row["episode_id"])
        assert steps.steps == row["steps"] == 30
        cameras = {FILM: (0, film_seen), STILLS: (1, stills_seen)} | ({RAW: (2, film_seen)} if int(number) % 2 else {})
        assert {name for name in steps.frames if name.startswith("observation.images")} == {*cameras, DEPTH}
        for name, (camera, seen) in cameras.items():
            frames = steps.frames[name]
            truth = [seen(100 * step + 5) for step in range(30)]
            assert frames.tolist() == [-1 if there < 0 else step for step, there in enumerate(truth)]
            pictures = store.read_frames(row["episode_id"], name, list(range(30)))
            assert pictures.shape == (30, HEIGHT, WIDTH, 3)
            codes = [read_barcode(picture) for picture in pictures]
            # Where the step sees none (the JPEG camera's first and last), the frame repeats its neighbour.
            assert [(code.frame, code.camera, code.episode) for code in codes if code is not None] == [(there, camera, int(number)) for there in filled(truth)]


def test_numbers_texts_and_times_are_those_of_the_original(original: Path, copy: Path) -> None:
    source = open_store(str(original))
    for store, row in by_parent(copy).values():
        before, after = source.read_trajectory(row["parent"]), store.read_trajectory(row["episode_id"])
        assert before.t_ns is not None
        assert after.t_ns is not None
        assert after.t_ns.tolist() == before.t_ns.tolist() == [(100 * step + 5) * MS for step in range(30)]
        assert set(after.columns) == set(before.columns) == {"action", STATE}
        for name in before.columns:
            assert after.columns[name].tobytes() == before.columns[name].tobytes()
            assert after.columns[name].dtype == before.columns[name].dtype
        for name in (*before.columns, *before.frames):
            sampled = before.sampled_ns[name]
            assert after.sampled_ns[name].tolist() == sampled.tolist()
        # The text changes at 1550 ms; each is stored once.
        assert after.frames["task"].tolist() == [0] * 16 + [1] * 14
        episode = store.read_episode(row["episode_id"])
        assert [bytes(text) for text in episode.streams["task"].values.data] == [b"first", b"then"]  # type: ignore[union-attr]
        assert episode.streams[FILM].timestamps_ns.tolist() == after.t_ns.tolist()  # type: ignore[union-attr]


def test_depth_takes_the_nearest_value_and_stays_exact(copy: Path) -> None:
    store, row = by_parent(copy)["3"]
    depth = store.read_frames(row["episode_id"], DEPTH, [0, 29])
    assert (depth.shape, depth.dtype) == ((2, HEIGHT, WIDTH), np.uint16)
    # 8 x 16 became 80 x 128: row 17 is of row 1, column 20 of column 2.
    assert int(depth[1, 17, 20]) == 100 * 29 + 10 * 1 + 2 + 3
    entry = next(entry for entry in store.index(row) if entry["stream"] == DEPTH)
    assert (entry["kind"], entry["encoding"], entry["lossy"]) == ("items", "png", False)


def test_a_copy_says_what_it_is_of(original: Path, copy: Path) -> None:
    source = open_store(str(original))
    store, row = by_parent(copy)["3"]
    before = source.row(row["parent"])
    for name in ("dataset", "origin", "tasks", "success", "splits", "start_ns", "epoch", "clock", "rate_hz", "embodiment", "action_source"):
        assert row[name] == before[name], name
    assert (row["reader"], row["lossy"], row["episode_id"] != row["parent"]) == ("store", True, True)
    store_id = json.loads((original / "store.json").read_text())["store_id"]
    metadata = json.loads(row["metadata"])
    assert {name: metadata[name] for name in ("operator", "number")} == {"operator": "ada", "number": 3}
    said = metadata["materialized_from"]
    assert (said["store_id"], said["version"], said["episode_id"], said["size"], said["rate_hz"]) == (store_id, 1, row["parent"], [HEIGHT, WIDTH], None)
    columns = store.columns(row)
    assert columns[FILM].shape == (HEIGHT, WIDTH, 3)
    assert columns[FILM].camera is not None
    # Half of (fx, fy, cx, cy) = (100, 90, 127.5, 79.5): the centre stays the centre.
    assert columns[FILM].camera.intrinsics_px == (50.0, 45.0, 63.5, 39.5)
    assert columns[FILM].camera.role == "primary"


def test_the_copy_is_a_sound_store(copy: Path) -> None:
    assert dataengine("check", copy, "--deep", "--json").json["problems"] == dataengine("check", copy, "--json").json["problems"]
    listed = dataengine("ls", copy, "--json").json
    assert {row["rate_hz"] for row in listed} == {row["rate_hz"] for row in dataengine("ls", copy, "--where", "origin = 'simulation'", "--json").json}
    shown = dataengine("show", copy, listed[0]["episode_id"], "--json").json
    assert {stream["name"]: stream["rows"] for stream in shown["streams"]}[FILM] == 30


def test_at_another_rate_a_step_shows_the_newest_picture_of_its_time(original: Path, tmp_path: Path) -> None:
    """Four steps a second from the first step, 5 ms, on: at 5 + 250 k ms. The action is what is commanded from a step to the next, states are in between."""
    report = copied(original, tmp_path / "copy", rate_hz=4.0)
    assert counts(report) == (5, 5, 0, 0)
    for number, (store, row) in by_parent(tmp_path / "copy").items():
        steps = store.read_trajectory(row["episode_id"])
        times = [5 + 250 * step for step in range(12)]
        assert steps.t_ns is not None
        assert (steps.t_ns // MS).tolist() == times
        assert row["rate_hz"] == 4.0
        for name, camera, seen in ((FILM, 0, film_seen), (STILLS, 1, stills_seen)):
            codes = [read_barcode(picture) for picture in store.read_frames(row["episode_id"], name, list(range(12)))]
            assert [(code.frame, code.camera, code.episode) for code in codes if code is not None] == [
                (there, camera, int(number)) for there in filled([seen(at) for at in times])
            ]
        # Commands at 5, 105, 205, ... ms: at 255 ms the next one comes at 305 ms, number 3.
        assert steps.columns["action"][:, 0].tolist() == [math.ceil((at - 5) / 100) for at in times]
        assert np.allclose(steps.columns[STATE], [[at / 1000, at / 500] for at in times], rtol=0, atol=1e-9)
        assert steps.frames["task"].tolist() == [0] * 7 + [1] * 5


def test_actions_that_are_changes_are_named_at_another_rate(tmp_path: Path) -> None:
    """Changes from step to step do not add up when steps are left out: it is said."""
    film = film_of(tmp_path, 1)
    land(new_store(tmp_path / "store"), [Numbered(0, film, deltas=True)])  # type: ignore[list-item]
    report = copied(tmp_path / "store", tmp_path / "copy", rate_hz=5.0)
    assert [problem["check"] for problem in report.problems if problem["severity"] == "warning"] == ["resampled_deltas"]
    (row,) = open_store(str(tmp_path / "copy")).episodes().collect().iter_rows(named=True)
    assert "resampled_deltas" in row["flags"]
    same = copied(tmp_path / "store", tmp_path / "same", rate_hz=10.0)
    assert "resampled_deltas" not in {problem["check"] for problem in same.problems}


# -- resume, versions, settings


def test_again_there_is_nothing_to_do(original: Path, copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy, tmp_path / "copy")
    again = copied(original, tmp_path / "copy")
    assert (counts(again), again.version, again.exit_code) == ((5, 0, 5, 0), 1, 0)


def test_a_limit_goes_on_where_it_stopped(original: Path, copy: Path, tmp_path: Path) -> None:
    store = tmp_path / "copy"
    assert counts(copied(original, store, limit=2)) == (2, 2, 0, 0)
    assert counts(copied(original, store, limit=2)) == (4, 2, 2, 0)
    assert counts(copied(original, store)) == (5, 1, 4, 0)
    assert content(store).differences(content(copy)) == []


def test_other_settings_take_the_place_of_the_first(original: Path, tmp_path: Path) -> None:
    store = tmp_path / "copy"
    copied(original, store, where="steps > 0")
    first = {row["episode_id"] for row in open_store(str(store)).episodes().collect().iter_rows(named=True)}
    assert counts(copied(original, store, height=20, width=32)) == (5, 5, 0, 0)
    now = list(open_store(str(store)).episodes().collect().iter_rows(named=True))
    assert len(now) == 5
    assert not first & {row["episode_id"] for row in now}
    assert {row["episode_id"] for row in open_store(f"{store}@1").episodes().collect().iter_rows(named=True)} == first


def test_other_workers_same_copy(original: Path, copy: Path, tmp_path: Path) -> None:
    job = CopyJob(str(original), str(tmp_path / "copy"), HEIGHT, WIDTH, config=SMALL)
    assert counts(run(job, Runtime(local=True, workers=2), quiet)) == (5, 5, 0, 0)
    assert content(tmp_path / "copy").differences(content(copy)) == []
    videos = [sorted(path.read_bytes() for path in store.glob("streams/*/*/videos/*.mp4")) for store in (copy, tmp_path / "copy")]
    assert videos[0] == videos[1]


KILLED = """
import os, signal, sys
import pipelines.materialize as job
from tests.pipelines.test_materialize import SMALL, HEIGHT, WIDTH, quiet
from tests.support.jobs import Inline
left = int(sys.argv[3])
real = job.copy_unit
def copy_unit(unit):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return real(unit)
job.copy_unit = copy_unit
job.run(job.CopyJob(sys.argv[1], sys.argv[2], HEIGHT, WIDTH, config=SMALL), Inline(), quiet)
"""


def test_killed_before_each_unit_and_run_again(original: Path, copy: Path, tmp_path: Path) -> None:
    """Three units of two, two and one episodes: killed before the first, after one, after one more; each start does what is left."""
    store = tmp_path / "copy"
    for left in (0, 1, 1):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(original), str(store), str(left)], cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False
        )
        assert done.returncode == -signal.SIGKILL
        assert not list(store.glob("versions/*"))
    assert open_store(f"{store}@open").episodes().collect().height == 4
    report = copied(original, store)
    assert counts(report) == (5, 1, 4, 0)
    assert content(store).differences(content(copy)) == []


# -- what is broken, what is wrong


def test_a_damaged_original_is_rejected_and_tried_again_when_it_is_whole(original: Path, tmp_path: Path) -> None:
    source = tmp_path / "store"
    shutil.copytree(original, source)
    (data,) = source.glob(f"streams/lab/*/arrays.zarr/{STILLS}/data/c/0")
    whole = data.read_bytes()
    store = open_store(str(source))
    row = next(row for row in store.episodes().collect().iter_rows(named=True) if row["source_key"] == "2")
    entry = next(entry for entry in store.index(row) if entry["stream"] == STILLS)
    bytes_of = store.read_episode(row["episode_id"]).streams[STILLS].values.data[12]  # type: ignore[union-attr]
    at = whole.index(bytes(bytes_of))
    data.write_bytes(whole[:at] + bytes(200) + whole[at + 200 :])
    assert entry["kind"] == "items"
    report = copied(source, tmp_path / "copy")
    assert (counts(report), report.exit_code) == ((5, 4, 0, 1), 3)
    (reject,) = report.rejects
    assert (reject["check"], reject["source_uri"].endswith(f"lab/{row['episode_id']}")) == ("unreadable_frames", True)
    data.write_bytes(whole)
    again = copied(source, tmp_path / "copy")
    assert (counts(again), again.exit_code) == ((5, 1, 4, 0), 0)
    assert open_store(str(tmp_path / "copy")).rows("reject").collect().height == 0


def test_a_missing_part_is_rejected(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "store")
    for path in (tmp_path / "store").glob("media/*.index.parquet"):
        path.unlink()
    report = copied(tmp_path / "store", tmp_path / "copy")
    assert counts(report) == (5, 0, 0, 5)
    assert {reject["check"] for reject in report.rejects} == {"damaged_original"}
    called = dataengine("rejects", tmp_path / "copy", "--retry", "--local")
    assert called.code == 2
    assert "run that again" in called.err


def test_episodes_without_steps_and_purged_ones_are_left_out(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    victims = [row["episode_id"] for row in store.episodes().collect().iter_rows(named=True)]
    done = dataengine("purge", tmp_path / "store", *victims, "--yes")
    assert done.code == 0, done.err
    report = copied(tmp_path / "store", tmp_path / "copy")
    assert (counts(report), report.ignored) == ((0, 0, 0, 0), 5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "4x4"], "must be 8 to 4096 px"),
        (["--size", "wide"], "must be HEIGHTxWIDTH"),
        (["--size", "64", "--dataset", "lap"], "did you mean 'lab'"),
        (["--size", "64", "--where", "steps > 1000"], "found none"),
        (["--size", "64", "--where", "no such thing"], "must be an SQL condition"),
        (["--size", "64", "--fit", "squeeze"], "known: crop, pad, stretch"),
        (["--size", "64", "--local", "--address", "auto"], "only one of them"),
    ],
)
def test_wrong_calls(original: Path, tmp_path: Path, words: list[str], said: str) -> None:
    called = dataengine("materialize", original, tmp_path / "copy", *words)
    assert (called.code, said in called.err) == (2, True), called.err
    assert "Traceback" not in called.err
    assert not (tmp_path / "copy" / "versions").exists()


def test_a_store_is_not_copied_into_itself_nor_while_it_is_open(original: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the very store that is copied"):
        copied(original, original)
    with pytest.raises(UsageError, match="a copy is of a version"):
        run(CopyJob(f"{original}@open", str(tmp_path / "copy"), 40, 64), Inline(), quiet)


def test_originals_do_not_come_into_a_dataset_that_was_protected(original: Path, copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy, tmp_path / "copy")
    for path in (tmp_path / "copy" / "datasets" / "lab").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"privacy": {"blur_faces": True, "scrub": False}}))
    with pytest.raises(UsageError, match="were landed with blur_faces"):
        copied(original, tmp_path / "copy", height=20, width=32)


# -- two at once, Ray, real recordings


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_on_ray(original: Path, copy: Path, tmp_path: Path) -> None:
    store = tmp_path / "copy"
    call = dataengine("materialize", original, store, "--size", f"{HEIGHT}x{WIDTH}", "--workers", "2", "--json")
    assert call.code == 0, call.err
    assert (call.json["found"], call.json["landed"]) == (5, 5)
    assert content(store).differences(content(copy)) == []


@pytest.mark.slow
def test_real_recordings(tmp_path: Path) -> None:
    """Kept H.264 and AV1 of LeRobot and JPEGs of RLDS: each picture of the copy is its original's, brought to the size, to 30 dB, and no other's."""
    root = shared_data("FACTS.json").parent
    names = ("lerobot/v2.0_gr00t_picknplace", "lerobot/v2.1_g1_fixture", "rlds/octo_bridge_head", "umi/umi_lerobot_v1_ep0")
    done = dataengine("ingest", *(root / name for name in names), "--store", tmp_path / "store", "--local", timeout_s=300)
    assert done.code == 0, done.err
    assert dataengine("materialize", tmp_path / "store", tmp_path / "copy", "--size", "96x128", "--local", timeout_s=300).code == 0
    source, store = open_store(str(tmp_path / "store")), open_store(str(tmp_path / "copy"))
    cameras = 0
    for row in store.episodes().group_by("dataset").head(2).collect().iter_rows(named=True):
        before, after = source.read_trajectory(row["parent"]), store.read_trajectory(row["episode_id"])
        assert after.steps == before.steps
        for name in (name for name in after.frames if after.specs[name].is_camera):
            steps = np.flatnonzero(after.frames[name] >= 0)[:: max(1, after.steps // 12)]
            pictures = store.read_frames(row["episode_id"], name, after.frames[name][steps].tolist()).astype(np.float64)
            shown = source.read_frames(row["parent"], name, before.frames[name][steps].tolist())
            truth = np.stack([fitted(picture, Size(96, 128)) for picture in shown]).astype(np.float64)
            errors = ((pictures[:, None] - truth[None]) ** 2).mean(axis=(2, 3, 4))
            assert (np.diag(errors) < 65.0).all(), (row["dataset"], name, np.diag(errors).max())
            # Neighbours hardly differ while nothing moves: a wrong frame among them is told by the numbered pictures above.
            assert (np.diag(errors) <= errors.min(axis=1) + 5.0).all(), (row["dataset"], name)
            cameras += 1
    assert cameras >= 6
