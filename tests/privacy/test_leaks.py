"""With --blur-faces and --scrub on, the bytes of what they protect are nowhere in the finished store; with both off all of them are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataengine.samples.private import SECRETS, Planted, write_private
from tests.support.jobs import dataengine, episodes
from tests.support.needles import found_in
from tests.support.plain_reader import catalog_rows, faults

pytest.importorskip("skimage", reason="the face detector is not installed: pip install 'robot-dataengine[privacy]'")


def picture_needles(planted: Planted) -> dict[str, bytes]:
    """Return of each encoded picture and frame 48 bytes out of its middle, which no other holds."""
    cut = {f"picture {number}": data[len(data) // 2 : len(data) // 2 + 48] for number, data in enumerate(planted.pictures)}
    return {name: data for name, data in cut.items() if len(data) == 48}


def secret_needles() -> dict[str, bytes]:
    """Return the secrets as texts, as they stand in JSON, and as numbers."""
    escaped = {f"{name} escaped": json.dumps(text.decode())[1:-1].encode() for name, text in SECRETS.texts.items()}
    return {**SECRETS.texts, **escaped, **SECRETS.numbers}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return write_private(tmp_path_factory.mktemp("private"))


@pytest.fixture(scope="module")
def plain(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("plain") / "store"
    done = dataengine("ingest", planted.folder, "--store", store, "--local", "--json")
    assert (done.code, done.json["landed"]) == (0, 5), done.err
    return store


@pytest.fixture(scope="module")
def protected(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("protected") / "store"
    done = dataengine("ingest", planted.folder, "--store", store, "--local", "--json", "--blur-faces", "--scrub")
    assert (done.code, done.json["landed"]) == (0, 5), done.err + done.out
    assert not found_in_text(done.out + done.err)
    return store


def found_in_text(text: str) -> list[str]:
    return [name for name, needle in SECRETS.texts.items() if needle.decode() in text]


def test_without_protection_everything_is_there(planted: Planted, plain: Path) -> None:
    """The search finds what lies there: otherwise it would prove nothing."""
    pictures = picture_needles(planted)
    found = found_in(plain, pictures | SECRETS.texts | SECRETS.numbers)
    assert set(SECRETS.texts) <= found.keys()
    assert set(SECRETS.numbers) <= found.keys()
    missing = pictures.keys() - found.keys()
    assert len(missing) < 0.35 * len(pictures), missing  # formats of steps leave frames between steps out


def test_nothing_of_it_is_in_the_store(planted: Planted, protected: Path) -> None:
    assert found_in(protected, picture_needles(planted) | secret_needles()) == {}
    assert faults(protected) == []


def test_what_was_not_protected_is_still_there(plain: Path, protected: Path) -> None:
    """Numbers, tasks and pictures stay; only what a rule is about is gone."""
    rows = {row["dataset"]: row for row in episodes(protected)}
    assert {name: row["steps"] for name, row in rows.items()} == {row["dataset"]: row["steps"] for row in episodes(plain)}
    (told,) = rows["films-private"]["tasks"]
    assert told.endswith(", as person_1 ([contacts]) asked")
    for name in ("aloha-private", "private_arm"):  # the same recordings, each with its own names: numbered alike
        (told,) = rows[name]["tasks"]
        assert told.endswith(", as person_1 ([contacts]) asked"), told
    metadata = json.loads(rows["teleop-private"]["metadata"])
    entries = {entry["name"]: entry["metadata"] for entry in metadata["mcap"]["metadata"]}
    assert entries["robot"] == {"serial": "device_1", "model": "panda"}
    assert entries["session"] == {"operator": "person_1", "cameraSerialNumber": "camera_1"}


def test_each_episode_says_what_was_done(protected: Path) -> None:
    for row in episodes(protected):
        record = json.loads(row["metadata"])["privacy"]
        assert (record["blur_faces"], record["scrub"]) == (True, True)
        assert record["faces"]["detector"]["name"] == "lbp"
        assert len(record["faces"]["detector"]["digest"]) == 64
        cameras = record["faces"]["cameras"]
        assert cameras
        assert all(camera["frames"] > 0 and camera["frames_searched"] == (camera["frames"] + 1) // 2 for camera in cameras.values())
        assert record["scrubbed"]["replaced"]
        document = json.loads((protected / "datasets" / row["dataset"] / f"{row['features']}.json").read_text())
        assert document["privacy"] == {"blur_faces": True, "scrub": True}


def test_streams_that_a_rule_is_about_are_withheld_by_name(protected: Path) -> None:
    records = {row["dataset"]: json.loads(row["metadata"])["privacy"] for row in episodes(protected)}
    assert set(records["aloha-private"]["streams_withheld"]) == {"observation.gps_position"}
    withheld = records["teleop-private"]["streams_withheld"]
    assert {"fix", "fix.latitude", "fix.longitude", "fix.altitude", "operator", "operator.data"} <= set(withheld)
    assert withheld["fix"] == "rule location: the type of its messages"
    emptied = {(entry["stream"], entry["why"].split(",")[0]): entry["rows"] for entry in records["teleop-private"]["rows_emptied"]}
    assert emptied["camera.front.video", "bytes that could hold pictures"] == 16
    assert emptied["thumbnail", "bytes that could hold pictures"] == 16
    assert emptied["attachments", "bytes that could hold pictures"] == 1
    assert "sound (aac)" in records["films-private"].get("left_out_of_video", {}).get("observation.images.main", ["sound (aac)"])


def test_a_store_that_was_filled_before_is_read_anew(planted: Planted, tmp_path: Path) -> None:
    """The newest version holds the protected episodes alone; the older one keeps the originals until they are purged."""
    store, films = tmp_path / "store", planted.folder / "films-private"
    first = dataengine("ingest", films, "--store", store, "--local", "--json")
    again = dataengine("ingest", films, "--store", store, "--local", "--json", "--scrub")
    assert (first.json["landed"], again.json["landed"], again.json["skipped"]) == (1, 1, 0), again.err
    (row,) = [row for row in catalog_rows(store) if row["kind"] == "episode"]
    assert not found_in_text(json.dumps(row, ensure_ascii=False))
    assert len([row for row in catalog_rows(store) if row["kind"] == "source"]) == 1
    once_more = dataengine("ingest", films, "--store", store, "--local", "--json", "--scrub")
    assert (once_more.json["landed"], once_more.json["skipped"]) == (0, 1)
