"""The same job on Ray: it starts by itself, says nothing on stdout, and a unit that it runs twice lands once."""

from __future__ import annotations

from pathlib import Path

import pytest

import pipelines.ingest
import tests.support.twice
from dataengine.core.objects import open_objects
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from pipelines.config import IngestConfig
from pipelines.ingest import IngestJob, run
from pipelines.runtime import Runtime
from tests.support.jobs import Content, content, dataengine, episodes, require_whole

# Ray Data warns of settings of its own that it has deprecated, and leaves its sockets and logs to the garbage collector.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


def test_ray_starts_by_itself_and_leaves_stdout_alone(sources: Path, config: Path, whole: Content, tmp_path: Path) -> None:
    store = tmp_path / "store"
    call = dataengine("ingest", sources / "teleop", sources / "films", "--store", store, "--config", config, "--json", "--workers", "2")
    assert call.code == 0, call.err
    require_whole(call.json)
    assert call.json["landed"] == 4
    here = content(store)
    assert here.steps == {key: digest for key, digest in whole.steps.items() if key[0] in ("teleop", "films")}
    assert here.streams == {key: digest for key, digest in whole.streams.items() if key[0] in ("teleop", "films")}
    assert set(here.rows) <= set(whole.rows)
    assert "Traceback" not in call.err
    assert "ray" not in call.err.lower(), call.err
    assert len(call.err.splitlines()) < 10, call.err


def test_a_unit_that_runs_twice_lands_once(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.ingest, "ingest_unit", tests.support.twice.ingest_unit)
    store = tmp_path / "store"
    small = IngestConfig.model_validate({"units": {"recordings": 2}, "commits": {"every_s": 0.0}})
    runtime = Runtime(workers=2)
    try:
        report = run(IngestJob((str(sources / "aloha-towel"),), str(store), config=small), runtime)
    finally:
        runtime.stop()
    assert len(list(tmp_path.glob("store-unit-*"))) == 2
    assert (report.found, report.landed) == (4, 4)
    rows = episodes(store)
    assert len(rows) == 4
    assert len(list(store.glob("streams/aloha-towel/*/shard.json"))) == 4
    objects = open_objects(str(store))
    collect(objects, plan_gc(objects))
    assert unreferenced(objects) == []
    assert {path.parent.name for path in store.glob("streams/aloha-towel/*/shard.json")} == {row["shard"] for row in rows}
