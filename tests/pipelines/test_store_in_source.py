"""A store that lies in a source is no recording, and what is left out of a source does not pass for success."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.ingest import IngestJob, Report, run
from pipelines.runtime import Runtime
from tests.support.films import numbered, write_film


def ingest(source: Path, store: Path) -> Report:
    return run(IngestJob((str(source),), str(store)), Runtime(local=True, workers=1))


def test_a_store_inside_of_a_source_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "a.mp4", numbered(5))
    assert ingest(tmp_path / "films", tmp_path / "films" / "store").landed == 1
    again = ingest(tmp_path / "films", tmp_path / "films" / "store")
    assert (again.found, again.skipped, again.version, again.exit_code) == (1, 1, 1, 0)
    assert [(problem["check"], problem["where"], problem["severity"]) for problem in again.problems] == [("store_in_source", "store", "info")]
    other = ingest(tmp_path / "films", tmp_path / "other")
    assert (other.found, other.landed) == (1, 1)


def test_a_file_of_that_name_alone_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "store.json").write_text('{"format": "something else"}')
    write_film(tmp_path / "films" / "a.mp4", numbered(5))
    assert ingest(tmp_path / "films", tmp_path / "store").landed == 1


def test_a_link_that_is_left_out_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "a.mp4", numbered(5))
    write_film(tmp_path / "elsewhere.mp4", numbered(6))
    os.symlink(tmp_path / "elsewhere.mp4", tmp_path / "films" / "b.mp4")
    report = ingest(tmp_path / "films", tmp_path / "store")
    assert (report.landed, report.exit_code) == (1, 3)
    assert [problem["check"] for problem in report.problems if problem["severity"] == "error"] == ["path_escapes"]
