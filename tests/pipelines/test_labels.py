"""Labels on the command line: what show, diff, log and rm say of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.jobs import dataengine
from tests.support.labels import label
from tests.support.stores import Made, land, new_store


@pytest.fixture
def store(tmp_path: Path) -> str:
    objects = new_store(tmp_path / "store")
    land(objects, [Made(1), Made(2, rows=5)])
    label(objects)
    return objects.url


def test_show_diff_and_log_name_labels(store: str) -> None:
    rows = dataengine("ls", store, "--where", "steps = 5", "--json").json
    shown = dataengine("show", store, rows[0]["episode_id"][:12])
    assert shown.code == 0, shown.err
    line = next(line for line in shown.out.splitlines() if line.strip().startswith("labels"))
    assert line.strip() == (
        f"labels  idm-small: action (idm, 3 steps, confidence 0.62), progress (label, 5 steps); model cccccccccccc, trained on {'5' * 32}@1"
    )
    (fact,) = dataengine("show", store, rows[0]["episode_id"], "--json").json["labels"]
    assert (fact["label_set"], fact["columns"]["action"]["labelled"], fact["stale"]) == ("idm-small", 3, False)
    assert dataengine("show", f"{store}@1", rows[0]["episode_id"], "--json").json["labels"] == []
    assert "labels idm-small of lab: 0 -> 2 episodes (2 added, 0 removed, 0 made anew)" in dataengine("diff", store, "1", "2").out
    assert "2 labelled" in dataengine("log", store).out


def test_rm_takes_labels_out(store: str) -> None:
    called = dataengine("rm", store, "--labels", "idm-small", "--where", "steps = 5", "--yes", "--json")
    assert (called.code, called.json) == (0, {"labels_removed": 1, "label_set": "idm-small", "version": 3, "datasets": {"lab": 1}}), called.err
    assert dataengine("rm", store, "--labels", "idm-small", "--yes").out == "version 4: 1 label of idm-small removed\n"
    refused = dataengine("rm", store, "--labels", "idm-small", "--yes")
    assert (refused.code, refused.out) == (2, "")
    assert "has no label set 'idm-small'; label sets: none" in refused.err
    neither = dataengine("rm", store, "--yes")
    assert (neither.code, "got neither --where nor --labels" in neither.err) == (2, True)
    assert dataengine("check", store, "--deep").code == 0
