"""With --blur-faces and --scrub on, the bytes of what they protect are nowhere in the finished store; with both off all of them are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import pytest

from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.privacy.config import PrivacyConfig, RulesConfig
from dataengine.samples.private import SECRETS, Planted, write_private
from pipelines.children import Died, Limits
from pipelines.commands.ingesting import retry
from pipelines.config import IngestConfig
from pipelines.ingest import IngestJob, Report, run
from pipelines.runtime import Runtime
from tests.support.films import numbered, write_film
from tests.support.jobs import dataengine, episodes
from tests.support.needles import found_in
from tests.support.plain_reader import catalog_rows, faults

pytest.importorskip("skimage", reason="the face detector is not installed: pip install 'robot-dataengine[privacy]'")


T = TypeVar("T")
R = TypeVar("R")


class Here(Runtime):
    """Runs units in this process: what is looked at is what they write, and starting children takes longer than that."""

    def map(self, function: Callable[[T], R], tasks: Sequence[T], limits: Limits) -> Iterator[tuple[int, R | Died]]:
        return ((number, function(task)) for number, task in enumerate(tasks))


def ingested(source: Path, store: Path, privacy: PrivacyConfig) -> Report:
    """Ingest a folder and return what the job reports."""
    return run(IngestJob((str(source),), str(store), config=IngestConfig(privacy=privacy)), Here(local=True))


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
    assert ingested(planted.folder, store, PrivacyConfig()).landed == 5
    return store


@pytest.fixture(scope="module")
def protected(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("protected") / "store"
    report = ingested(planted.folder, store, PrivacyConfig(blur_faces=True, scrub=True))
    assert report.landed == 5, report.rejects
    assert not found_in_text(json.dumps(asdict(report), ensure_ascii=False))
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
    (told,) = rows["aloha-private"]["tasks"]  # the address stands under a key there, `contact`, and is a person of its own
    assert told.endswith(", as person_2 (person_1) asked")
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
    scrub = PrivacyConfig(scrub=True)
    first, again = ingested(films, store, PrivacyConfig()), ingested(films, store, scrub)
    assert (first.landed, again.landed, again.skipped) == (1, 1, 0)
    (row,) = episodes(store)
    assert not found_in_text(json.dumps(row, ensure_ascii=False))
    assert len([row for row in catalog_rows(store) if row["kind"] == "source"]) == 1
    once_more = ingested(films, store, scrub)
    assert (once_more.landed, once_more.skipped) == (0, 1)
    assert len(episodes(store, 1)) == 1


def test_an_address_that_names_somebody_and_a_retry(planted: Planted, tmp_path: Path) -> None:
    """A rejected recording is not read again with less privacy than before; its address in the store names nobody, and is told apart from others."""
    store = tmp_path / "store"
    for login in ("eve", "adam"):
        folder = tmp_path / "home" / login / "films"
        folder.mkdir(parents=True)
        (folder / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(200))
    config = PrivacyConfig(scrub=True, rules=RulesConfig(words=("eve", "adam")))
    report = ingested(tmp_path / "home", store, config)
    assert (report.landed, report.rejected) == (0, 2)
    rows = [row for row in catalog_rows(store) if row["kind"] in ("reject", "source")]
    assert len(rows) == 4
    addresses = {row["source_uri"] for row in rows}
    assert len(addresses) == 2
    assert all("/home/" in address and "/films/a.mp4#" in address for address in addresses)
    assert not any(name in json.dumps(row) for row in rows for name in ("/eve", "/adam"))
    assert {json.loads(row["metadata"])["privacy"]["scrub"] for row in rows if row["kind"] == "reject"} == {True}
    with pytest.raises(UsageError, match="--scrub"):
        retry(str(store), None, False, False, True, True)
    again = ingested(tmp_path / "home", store, config)
    assert (again.skipped, again.rejected) == (0, 2)
    assert len([row for row in catalog_rows(store) if row["kind"] == "reject"]) == 2


def test_the_command_line_says_it(planted: Planted, tmp_path: Path) -> None:
    done = dataengine("ingest", planted.folder / "films-private", "--store", tmp_path / "s", "--local", "--json", "--dry-run", "--blur-faces")
    assert done.code == 0, done.err
    assert done.json["privacy"] == {"blur_faces": True, "scrub": False}
    wrong = tmp_path / "c.yaml"
    wrong.write_text("privacy: {faces: {detector: missing.xml}}\n")
    refused = dataengine("ingest", planted.folder / "films-private", "--store", tmp_path / "s", "--local", "--blur-faces", "--config", wrong)
    assert refused.code == 2
    assert "no such file" in refused.err
    assert not (tmp_path / "s").exists()


def test_privacy_is_part_of_how_an_item_is_read_only_when_it_is_on() -> None:
    plain = IngestConfig().affecting("video")
    assert "privacy" not in plain
    kinds = [PrivacyConfig(scrub=True), PrivacyConfig(blur_faces=True), PrivacyConfig(scrub=True, rules=RulesConfig(words=("x",)))]
    digests = {digest_json(IngestConfig(privacy=privacy).affecting("video")) for privacy in (PrivacyConfig(), *kinds)}
    assert len(digests) == 4
    salted = PrivacyConfig(scrub=True, rules=RulesConfig(salt="a salt that nobody may see"))
    assert "nobody may see" not in json.dumps(IngestConfig(privacy=salted).affecting("video"))


def test_a_forgotten_flag_brings_no_originals_into_a_protected_dataset(tmp_path: Path) -> None:
    source, store = tmp_path / "films", tmp_path / "store"
    source.mkdir()
    write_film(source / "a.mp4", numbered(5))
    assert ingested(source, store, PrivacyConfig(scrub=True)).landed == 1
    write_film(source / "b.mp4", numbered(6))
    with pytest.raises(UsageError, match=r"dataset 'films': its recordings were landed with --scrub, which this job leaves out; add --scrub, or allow it"):
        ingested(source, store, PrivacyConfig())
    assert [row["steps"] for row in episodes(store)] == [5]
    assert ingested(source, store, PrivacyConfig(scrub=True)).landed == 1
    write_film(source / "c.mp4", numbered(7))
    assert ingested(source, store, PrivacyConfig(weaken=True)).landed == 3  # the two others are read anew, as they are
