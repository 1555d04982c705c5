"""A store may lie where its owner likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataengine.store.store import open_store
from pipelines.ingest import IngestJob, run
from pipelines.runtime import Runtime
from tests.support.films import numbered, write_film


@pytest.mark.parametrize("name", ["two words", "größe", "a+b#c"])
def test_a_store_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "a.mp4", numbered(5))
    for _ in range(2):
        report = run(IngestJob((str(tmp_path / "films"),), str(tmp_path / name / "store")), Runtime(local=True, workers=1))
    assert (report.found, report.skipped) == (1, 1)
    store = open_store(str(tmp_path / name / "store"))
    (episode_id,) = store.episodes().collect()["episode_id"]
    assert len(store.read_episode(episode_id).streams["observation.images.main"]) == 5
