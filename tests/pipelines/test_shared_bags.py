"""The real ROS bags land in one store: one recording in two containers is one episode, and the figures are those of FACTS.json."""

from __future__ import annotations

import json
from pathlib import Path

from dataengine.store.store import open_store
from pipelines.ingest import IngestJob, run
from pipelines.runtime import Runtime
from tests.support.shared import shared_data


def test_bags_land_once_whatever_their_container(tmp_path: Path) -> None:
    facts = json.loads(shared_data("FACTS.json").read_text())
    sources = (str(shared_data("teleop_mcap_ros", "rosbag2")), str(shared_data("teleop_ros1bag")))
    target = str(tmp_path / "store")
    report = run(IngestJob(sources, target), Runtime(local=True, workers=1))
    assert (report.found, report.landed, report.skipped, report.rejected, report.ignored) == (5, 3, 2, 0, 0)
    assert {name: counts["landed"] for name, counts in report.datasets.items()} == {"foxglove_turtlesim": 1, "talker": 1, "wbag": 1}
    same = [problem for problem in report.problems if problem["check"] == "duplicate_recording"]
    assert sorted(Path(problem["source"]).parent.name for problem in same) == ["talker", "wbag"]
    assert {problem["severity"] for problem in report.problems} == {"info"}

    store = open_store(target)
    rows = {row["dataset"]: row for row in store.episodes().collect().iter_rows(named=True)}
    episode = store.read_episode(rows["foxglove_turtlesim"]["episode_id"])
    fact = facts["teleop_ros1bag/foxglove_turtlesim/example.bag"]
    messages = {stream.column.extra["topic"]: len(stream) for stream in episode.streams.values() if stream.column.kind == "message"}
    assert messages == {topic: said[0] for topic, said in fact["topics"].items()}
    for name, total in (("talker", 20), ("wbag", 6074)):
        episode = store.read_episode(rows[name]["episode_id"])
        assert sum(len(stream) for stream in episode.streams.values() if stream.column.kind == "message") == total
    again = run(IngestJob(sources, target), Runtime(local=True, workers=1))
    assert (again.found, again.landed, again.skipped) == (5, 0, 5)
