"""--limit, --dry-run, --format, --dataset, `rejects --retry`: what a user may choose about a job."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.config import IngestConfig
from tests.support.jobs import dataengine, episodes, require_whole, versions

QUICK = ("--local", "--json", "--workers", "1")


def test_limit_counts_recordings_of_each_dataset(sources: Path, tmp_path: Path) -> None:
    store, where = tmp_path / "store", (sources / "aloha-towel", sources / "rlds")
    first = dataengine("ingest", *where, "--store", store, *QUICK, "--limit", "2")
    assert first.code == 0, first.err
    require_whole(first.json)
    assert {name: counts["landed"] for name, counts in first.json["datasets"].items()} == {"aloha-towel": 2, "kitchen": 2}
    again = dataengine("ingest", *where, "--store", store, *QUICK, "--limit", "2")
    assert (again.json["landed"], again.json["skipped"]) == (0, 4)
    rest = dataengine("ingest", *where, "--store", store, *QUICK)
    assert (rest.json["landed"], rest.json["skipped"]) == (6, 5)
    assert len(episodes(store)) == 10


def test_dry_run_reads_and_writes_nothing(sources: Path, tmp_path: Path, whole_store: Path) -> None:
    store = tmp_path / "store"
    call = dataengine("ingest", sources, "--store", store, *QUICK, "--dry-run")
    assert call.code == 0, call.err
    assert not store.exists()
    assert len(call.json["items"]) == 14
    assert call.json["skipped"] == 0
    assert {item["format"] for item in call.json["items"]} == {"rlds", "hdf5", "mcap", "video"}
    before = versions(whole_store)
    known = dataengine("ingest", sources, "--store", whole_store, *QUICK, "--dry-run")
    assert (known.json["items"], known.json["skipped"]) == ([], 18)
    assert versions(whole_store) == before
    said = dataengine("ingest", sources, "--store", store, "--dry-run")
    assert "14 items in 6 units" in said.out


def test_format_leaves_the_others_alone(sources: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    call = dataengine("ingest", sources, "--store", store, *QUICK, "--format", "mcap", "--format", "video")
    assert call.code == 0, call.err
    assert set(call.json["datasets"]) == {"teleop", "films"}
    assert call.json["ignored"] == len([path for path in sources.rglob("*") if path.is_file()]) - 5
    assert {row["reader"] for row in episodes(store)} == {"mcap", "video"}


def test_one_name_for_everything_that_fits(sources: Path, tmp_path: Path) -> None:
    """Recordings with other features are rejected with the difference named; the rest goes under the name."""
    store = tmp_path / "store"
    call = dataengine("ingest", sources / "aloha-towel", sources / "aloha-raw", "--store", store, *QUICK, "--dataset", "arm")
    require_whole(call.json)
    assert set(call.json["datasets"]) == {"arm"}
    assert call.json["landed"] + call.json["rejected"] == 5
    assert call.json["landed"] >= 4
    for reject in call.json["rejects"]:
        assert reject["check"] == "other_features"
        assert "where the dataset has" in reject["found"]


def test_retry_reads_what_was_rejected_again(sources: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sources / "aloha-towel", tmp_path / "in"))
    whole = (folder / "episode_1.hdf5").read_bytes()
    (folder / "episode_1.hdf5").write_bytes(whole[:20_000])
    store = tmp_path / "store"
    assert dataengine("ingest", folder, "--store", store, "--local").code == 3
    still = dataengine("rejects", store, "--retry", "--local", "--json")
    assert still.code == 3
    assert (still.json["found"], still.json["rejected"]) == (1, 1)
    (folder / "episode_1.hdf5").write_bytes(whole)
    mended = dataengine("rejects", store, "--retry", "--local", "--json")
    assert mended.code == 0, mended.err
    assert (mended.json["found"], mended.json["landed"]) == (1, 1)
    assert dataengine("rejects", store, "--json").json == []
    assert len(episodes(store)) == 4
    nothing = dataengine("rejects", store, "--retry", "--local")
    assert (nothing.code, nothing.err.strip()) == (0, "nothing was rejected")


def test_the_default_of_a_new_choice_leaves_what_was_read_known() -> None:
    before = IngestConfig().affecting("rlds")
    assert "action_lag" not in before["align"]
    other = IngestConfig.model_validate({"align": {"action_lag": {"expected": [-1, 0]}}}).affecting("rlds")
    assert other["align"]["action_lag"] == {"estimate": "sampled", "expected": [-1, 0]}
    with pytest.raises(ValueError, match="must be the first and the last lag"):
        IngestConfig.model_validate({"align": {"action_lag": {"expected": [1, 0]}}})
