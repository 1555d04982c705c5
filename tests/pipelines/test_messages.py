"""Exit codes, and what a user is told: one sentence, no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dataengine.samples.breakage import break_file
from dataengine.sources.registry import READERS
from tests.support.jobs import dataengine, require_whole


def said(text: str, *parts: str) -> None:
    """Assert that a message holds all parts and no traceback."""
    assert "Traceback" not in text, text
    for part in parts:
        assert part in text, text


OWN = [name for name, module in READERS.items() if getattr(module, "__name__", "").startswith("dataengine.")]  # another test may plant a reader


def test_nothing_recognised_is_a_wrong_call_and_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("hello")
    (tmp_path / "in" / "empty.bin").write_bytes(b"")
    store = tmp_path / "store"
    call = dataengine("ingest", tmp_path / "in", "--store", store, "--local")
    assert call.code == 2
    said(call.err, f"recordings of a known format ({', '.join(OWN)})", "2 other files", "dataengine sources")
    assert not store.exists()
    assert call.out == ""


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("{tmp}/absent",), ("{tmp}/absent: no such file or folder",)),
        (("ftp://host/x",), ("ftp://host/x: unknown kind of address",)),
        (("{in}", "--config", "{tmp}/absent.yaml"), ("absent.yaml: no such file",)),
        (("{in}", "--config", "{tmp}/wrong.yaml"), ("wrong.yaml: unknown key 'losless', did you mean 'lossless'?",)),
        (("{in}", "--config", "{tmp}/reader.yaml"), ("reader.yaml: unknown key 'readers.mcap.episode', did you mean 'episodes'?",)),
        (("{in}", "--config", "{tmp}/value.yaml"), ("value.yaml: rate_hz:", "greater than 0")),
        (("{in}", "--format", "mcpa"), ("unknown format 'mcpa'", "did you mean 'mcap'?")),
        (("{in}", "--dataset", "My Data"), ("dataset", "'My Data'")),
        (("{in}", "--local", "--address", "auto"), ("--local and --address",)),
        (("{in}", "--rate", "0"), ("--rate",)),
        (("{in}", "--frobnicate"), ("No such option",)),
    ],
)
def test_wrong_calls(words: tuple[str, ...], parts: tuple[str, ...], sources: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("losless: true\n")
    (tmp_path / "reader.yaml").write_text("readers: {mcap: {episode: {by: gap, seconds: 1}}}\n")
    (tmp_path / "value.yaml").write_text("rate_hz: -3\n")
    places = {"{tmp}": str(tmp_path), "{in}": str(sources / "teleop")}

    def place(text: str) -> str:
        for key, value in places.items():
            text = text.replace(key, value)
        return text

    local = () if "--address" in words else ("--local",)
    call = dataengine("ingest", *map(place, words), "--store", tmp_path / "store", *local)
    assert call.code == 2, (call.out, call.err)
    said(call.err, *map(place, parts))
    assert not (tmp_path / "store").exists()


def test_a_version_is_no_place_to_write_to(sources: Path, whole_store: Path) -> None:
    call = dataengine("ingest", sources / "teleop", "--store", f"{whole_store}@1", "--local")
    assert call.code == 2
    said(call.err, "writes to a store, not to a version")


def test_a_folder_with_other_things_in_it_is_no_store(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    call = dataengine("ingest", sources / "teleop", "--store", tmp_path, "--local")
    assert call.code == 2
    said(call.err, "must be a store or an empty folder")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_broken_recording_is_named_and_the_others_land(sources: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sources / "aloha-towel", tmp_path / "in" / "towel"))
    shutil.copytree(sources / "teleop", tmp_path / "in" / "teleop")
    broken = [break_file(folder / "episode_1.hdf5", "truncated"), break_file(tmp_path / "in" / "teleop" / "13.mcap", "bad_crc")]
    renamed = break_file(folder / "episode_2.hdf5", "wrong_extension")
    (folder / "notes.txt").write_text("side file")
    broken.append(folder / "empty.hdf5")
    broken[-1].write_bytes(b"")
    store = tmp_path / "store"
    call = dataengine("ingest", tmp_path / "in", "--store", store, "--local", "--workers", "1", "--json")
    assert call.code == 3, call.err
    said(call.err)
    report = call.json
    require_whole(report)
    assert (report["found"], report["landed"], report["rejected"]) == (7, 4, 3)
    assert {reject["source_uri"] for reject in report["rejects"]} == {str(path) for path in broken}
    for reject in report["rejects"]:
        assert all(reject[key] for key in ("check", "where", "expected", "found", "advice")), reject
    assert report["ignored_files"] == [str(folder / "notes.txt")]
    rows = dataengine("ls", store, "--json").json
    assert str(renamed) in {row["source_uri"] for row in rows}
    listed = dataengine("rejects", store, "--json")
    assert (listed.code, len(listed.json)) == (0, 3)
    plain = dataengine("ingest", tmp_path / "in", "--store", store, "--local", "--workers", "1")
    assert plain.code == 3
    said(plain.out, "7 found, 0 landed, 4 skipped, 3 rejected, 1 ignored", "rejected (", *map(str, broken))


def test_reading_a_store_that_is_not_there(tmp_path: Path) -> None:
    for words in (("ls", tmp_path / "none"), ("check", tmp_path), ("log", tmp_path / "none"), ("rejects", tmp_path / "none")):
        call = dataengine(*words)
        assert call.code == 2, (words, call.err)
        said(call.err, "holds no store")


def test_a_store_that_cannot_be_written_ends_the_job_with_one_sentence(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    call = dataengine("ingest", sources / "teleop", "--store", tmp_path / "file" / "store", "--local")
    assert call.code == 2
    said(call.err, str(tmp_path / "file"), "choose another")


def test_stdout_is_json_and_nothing_else(sources: Path, tmp_path: Path) -> None:
    call = dataengine("ingest", sources, "--store", tmp_path / "store", "--local", "--workers", "1", "--json")
    assert call.code == 0, call.err
    report = json.loads(call.out)
    require_whole(report)
    assert {"found", "landed", "skipped", "rejected", "ignored", "steps", "bytes", "version", "problems"} <= set(report)
    leaks = [problem for problem in report["problems"] if problem["check"] == "duplicate_across_splits"]
    assert len(leaks) == 1
