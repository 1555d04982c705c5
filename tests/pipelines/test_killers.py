"""Files that kill, block or bloat the process that reads them: each is rejected, its neighbours land, and the job ends."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import pipelines.ingest
import tests.support.hostile
from pipelines.commands.printing import print_json
from pipelines.config import IngestConfig
from pipelines.ingest import IngestJob, Report, run
from pipelines.runtime import Runtime
from tests.support.jobs import episodes
from tests.support.plain_reader import catalog_rows, faults

LIMITS = {"limits": {"seconds": 4.0, "memory_bytes": 700 << 20}, "units": {"recordings": 50}}


@pytest.fixture(autouse=True)
def _hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs of this process know the hostile reader in their children."""
    monkeypatch.setattr(pipelines.ingest, "ingest_unit", tests.support.hostile.ingest_unit)


def write(folder: Path, **files: str) -> Path:
    """Write files `<name>.hostile` below a folder."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.hostile").write_text(text)
    return folder


def ingest(source: Path, store: Path, runtime: Runtime, **more: Any) -> Report:
    """Run a job with limits."""
    said: list[str] = []
    report = run(IngestJob((str(source),), str(store), config=IngestConfig.model_validate(LIMITS), **more), runtime, lambda text, *_: said.append(text))
    assert report.found == report.landed + report.skipped + report.rejected
    return report


def keys(store: Path) -> list[str]:
    """Return from which files the episodes are, each as often as it landed something."""
    return sorted(Path(row["source_uri"]).stem for row in episodes(store))


def rejected(report: Report) -> dict[str, tuple[str, str]]:
    """Return check and finding of each rejected file."""
    return {Path(row["source_uri"]).stem: (row["check"], row["found"]) for row in report.rejects}


def require_mixed(source: Path, store: Path, runtime: Runtime) -> None:
    """Ingest a folder with every kind of hostile file and check each one's fate."""
    write(
        source,
        a="land 1\nland 2",
        b="land 3\ndie",
        c="land 4",
        d="land 5\nhang",
        e="land 6",
        f="land 7\neat",
        g="land 8\nraise\nland 9",
    )
    started = time.monotonic()
    report = ingest(source, store, runtime)
    assert time.monotonic() - started < 90
    assert (report.found, report.landed, report.rejected) == (9, 5, 4)
    assert keys(store) == ["a", "a", "c", "e", "g"]
    found = rejected(report)
    assert found["b"] == ("parser_died", "the process that read it died of SIGSEGV")
    assert found["d"] == ("parser_died", "took longer than 4 s")
    assert found["f"] == ("parser_died", "used more than 700 MiB of memory")
    assert found["g"][0] == "unexpected_error"
    assert "ValueError in its reader: a slip of the reader (hostile.py:" in found["g"][1]
    assert report.exit_code == 3
    assert faults(store) == []
    again = ingest(source, store, runtime)
    assert (again.found, again.landed, again.skipped, again.rejected) == (9, 0, 5, 4)
    assert again.read_bytes == 0


def test_each_is_rejected_and_its_neighbours_land(tmp_path: Path) -> None:
    require_mixed(tmp_path / "in", tmp_path / "store", Runtime(local=True, workers=2))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_same_under_ray(tmp_path: Path) -> None:
    runtime = Runtime(workers=2)
    try:
        require_mixed(tmp_path / "in", tmp_path / "store", runtime)
    finally:
        runtime.stop()


def test_neighbours_share_a_shard_though_one_of_them_died(tmp_path: Path) -> None:
    """The file that its process died at is told apart; the others are read together again, not one by one."""
    source = write(tmp_path / "in", **{f"f{index:02d}": f"land {index}" if index != 7 else "die" for index in range(20)})
    report = ingest(source, tmp_path / "store", Runtime(local=True, workers=1))
    assert (report.landed, report.rejected) == (19, 1)
    rows = episodes(tmp_path / "store")
    assert len({row["shard"] for row in rows}) == 1
    assert [Path(row["source_uri"]).stem for row in sorted(rows, key=lambda row: row["ordinal"])] == [f"f{index:02d}" for index in range(20) if index != 7]


def test_names_that_are_no_text_are_rejected_and_reported_in_valid_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in", a="land 1\nname\nland 2")
    report = ingest(source, tmp_path / "store", Runtime(local=True, workers=1))
    assert (report.landed, report.rejected) == (2, 1)
    assert report.rejects[0]["check"] == "unreadable_name"
    assert report.rejects[0]["source_key"] == "\\udcfe"
    print_json(asdict(report))
    assert json.loads(capsys.readouterr().out.encode("utf-8"))["rejected"] == 1


@pytest.mark.slow
def test_many_killers_in_one_unit(tmp_path: Path) -> None:
    source = write(tmp_path / "in", **{f"f{index}": f"land {index}" if index % 2 else "die" for index in range(10)})
    report = ingest(source, tmp_path / "store", Runtime(local=True, workers=1))
    assert (report.landed, report.rejected) == (5, 5)
    assert keys(tmp_path / "store") == ["f1", "f3", "f5", "f7", "f9"]


def test_the_outcome_does_not_depend_on_who_died(tmp_path: Path) -> None:
    """Of two equal recordings the first of the plan lands, also where its unit had to be read again."""
    source = write(tmp_path / "in", a=f"die unless {tmp_path / 'marker'}\nland 1", b="land 1", c="land 2")
    report = ingest(source, tmp_path / "store", Runtime(local=True, workers=1))
    assert (report.landed, report.skipped) == (2, 1)
    assert keys(tmp_path / "store") == ["a", "c"]


def test_limit_holds_when_a_unit_is_read_again(tmp_path: Path) -> None:
    source = write(tmp_path / "in", a="land 1", b="die", c="land 2", d="land 3")
    report = ingest(source, tmp_path / "store", Runtime(local=True, workers=1), limit=3)
    assert (report.found, report.landed, report.rejected) == (3, 2, 1)
    assert keys(tmp_path / "store") == ["a", "c"]


def test_a_file_that_was_mended_lands_and_its_rejection_goes(tmp_path: Path) -> None:
    source = write(tmp_path / "in", a="land 1", b="die")
    store = tmp_path / "store"
    assert ingest(source, store, Runtime(local=True)).rejected == 1
    (source / "b.hostile").write_text("land 2")
    report = ingest(source, store, Runtime(local=True))
    assert (report.landed, report.skipped, report.rejected) == (1, 1, 0)
    assert [row for row in catalog_rows(store) if row["kind"] == "reject"] == []
    assert len([row for row in catalog_rows(store, 1) if row["kind"] == "reject"]) == 1
