"""Broken, hostile and misleading files in a folder with sound ones: named or landed, never followed, never executed, and the sound ones all land."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dataengine.samples.breakage import break_file
from tests.support.jobs import Called, dataengine, require_whole, write_config
from tests.support.mutate import mutants
from tests.support.plain_reader import catalog_rows, faults

FORMATS = {
    "hdf5": "aloha-towel/episode_0.hdf5",
    "robomimic": "robo/demos.hdf5",
    "mcap": "teleop/13.mcap",
    "video": "films/episode_000015_front.mp4",
    "rlds": "rlds/kitchen/1.0.0/kitchen-train.tfrecord-00000-of-00002",
}
GIB = 1 << 30


def plant(sources: Path, folder: Path, name: str, count: int, seed: int) -> int:
    """Write mutants of one file of the sources, an RLDS shard each in a dataset of its own; return how many files there are."""
    original = sources / FORMATS[name]
    for title, data in mutants(original.read_bytes(), count, seed):
        place = folder / name / f"{title[:4]}{original.suffix}"
        if name == "rlds":
            place = folder / name / f"m{title[:4]}" / "1.0.0" / original.name
            shutil.copytree(original.parent, place.parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return count


def require_sound(call: Called, sources: Path, folder: Path, store: Path) -> None:
    """Assert what holds whatever the mutants were."""
    assert call.code in (0, 3), call.err
    assert "Traceback" not in call.err, call.err
    report = call.json
    require_whole(report)
    for reject in report["rejects"]:
        assert reject["check"] not in ("parser_died", "unexpected_error"), reject
        assert reject["expected"], reject
        assert reject["found"], reject
    rows = catalog_rows(store)
    intact = {row["source_uri"] for row in rows if row["kind"] == "episode" and row["source_uri"].startswith(str(folder / "intact"))}
    wanted = {str(folder / "intact" / path.relative_to(sources)) for path in sources.rglob("*") if path.suffix in (".hdf5", ".mcap", ".mp4")}
    assert wanted <= intact
    kitchen = [row for row in rows if row["kind"] == "episode" and "/intact/rlds/" in row["source_uri"]]
    assert len(kitchen) == 6
    assert not [reject for reject in report["rejects"] if reject["source_uri"].startswith(str(folder / "intact"))]
    assert faults(store) == []


def test_sixty_mutants_among_sound_recordings(sources: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(sources, folder / "intact")
    for name in FORMATS:
        plant(sources, folder / "mutants", name, 12, seed=4)
    config = write_config(tmp_path / "c.yaml", units={"recordings": 50}, commits={"every_s": 60.0}, limits={"memory_bytes": GIB, "seconds": 30.0})
    call = dataengine("ingest", folder, "--store", tmp_path / "store", "--config", config, "--local", "--json")
    require_sound(call, sources, folder, tmp_path / "store")
    assert call.json["rejected"] > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FORMATS)
def test_a_thousand_mutants(name: str, sources: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", units={"recordings": 100}, commits={"every_s": 60.0}, limits={"memory_bytes": GIB, "seconds": 30.0})
    for batch in range(5):
        folder, store = tmp_path / f"in{batch}", tmp_path / f"store{batch}"
        shutil.copytree(sources, folder / "intact")
        plant(sources, folder / "mutants", name, 200, seed=1000 + batch)
        call = dataengine("ingest", folder, "--store", store, "--config", config, "--local", "--json", timeout_s=900.0)
        require_sound(call, sources, folder, store)
        shutil.rmtree(folder)
        shutil.rmtree(store)


def external_hdf5(path: Path, secret: Path) -> None:
    """Write an ALOHA file whose joint positions lie in another file, outside its folder."""
    import h5py

    with h5py.File(path, "r+") as file:
        count = len(file["observations/qpos"])
        del file["observations/qpos"]
        file["observations"]["qpos"] = h5py.ExternalLink(str(secret), "/qpos")
    with h5py.File(secret, "w") as file:
        file["qpos"] = [[4242.0] * 14] * count


def test_nothing_outside_the_folder_is_read_and_nothing_is_executed(sources: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    outside.mkdir()
    secret_film = Path(shutil.copy(sources / "films" / "episode_000015_wrist.mp4", outside / "secret.mp4"))
    shutil.copytree(sources / "aloha-raw", outside / "more")
    shutil.copytree(sources / "teleop", folder / "teleop")
    (folder / "linked").mkdir()
    (folder / "linked" / "film.mp4").symlink_to(secret_film)
    (folder / "linked" / "up").symlink_to(outside / "more")
    (folder / "linked" / "dangling.mcap").symlink_to(outside / "absent.mcap")
    (folder / "teleop" / "again.mcap").symlink_to(folder / "teleop" / "13.mcap")
    shutil.copytree(sources / "aloha-towel", folder / "towel")
    external_hdf5(folder / "towel" / "episode_1.hdf5", outside / "secret.hdf5")
    pickles = [break_file(folder / "towel" / "episode_2.hdf5", "pickled"), break_file(folder / "teleop" / "14.mcap", "pickled")]
    (folder / "model.pkl").write_bytes(pickles[0].read_bytes())
    (folder / "empty.mp4").write_bytes(b"")
    os.mkfifo(folder / "pipe.mcap")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mcap")).write_bytes(b"x")
    (folder / "new\nline.txt").write_text("x")
    (folder / "films").mkdir()
    shutil.copy(sources / "films" / "episode_000015_front.mp4", folder / "films" / "a.mp4")
    (folder / "films" / "lang_annotations.json").write_text('{"../../outside/secret.mp4": ["x"], "/etc/passwd": "y"}')
    store = tmp_path / "store"
    call = dataengine("ingest", folder, "--store", store, "--local", "--json", timeout_s=90.0)
    assert call.code == 3, call.err
    assert "Traceback" not in call.err
    report = call.json
    require_whole(report)
    landed = {Path(row["source_uri"]).relative_to(folder).as_posix() for row in catalog_rows(store) if row["kind"] == "episode"}
    assert landed == {"teleop/13.mcap", "towel/episode_0.hdf5", "towel/episode_3.hdf5", "films/a.mp4"}
    rejected = {Path(reject["source_uri"]).relative_to(folder).as_posix(): reject["check"] for reject in report["rejects"]}
    assert "towel/episode_1.hdf5" in rejected
    assert report["skipped"] == 1, "a link that stays within the folder is the recording once more"
    assert set(rejected) <= {"towel/episode_1.hdf5", "towel/episode_2.hdf5", "teleop/14.mcap", "empty.mp4"}
    problems = {(problem["check"], problem["where"]) for problem in report["problems"]}
    assert ("path_escapes", "linked/film.mp4") in problems
    assert ("path_escapes", "linked/up/episode_0.hdf5") in problems
    assert ("unreadable_file", "pipe.mcap") in problems
    assert any(check == "unreadable_name" for check, _ in problems)
    assert not list(tmp_path.rglob("*.executed"))
    stored = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert secret_film.read_bytes() not in stored
    assert faults(store) == []


def test_a_wrong_extension_lands_by_content(sources: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number, (name, wrong) in enumerate((("hdf5", "mp4"), ("mcap", "hdf5"), ("video", "mcap"))):
        place = folder / f"set{number}" / f"recording.{wrong}"
        place.parent.mkdir(parents=True)
        shutil.copy(sources / FORMATS[name], place)
    call = dataengine("ingest", folder, "--store", tmp_path / "store", "--local", "--json", "--workers", "1")
    assert call.code == 0, (call.err, call.out)
    assert (call.json["landed"], call.json["rejected"], call.json["ignored"]) == (3, 0, 0)
    readers = {row["dataset"]: row["reader"] for row in catalog_rows(tmp_path / "store") if row["kind"] == "episode"}
    assert readers == {"set0": "hdf5", "set1": "mcap", "set2": "video"}
