"""Broken ROS 1 bags: each is rejected with a reason, or lands exactly what the rosbags library reads of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataengine.samples.ros import definition, encode, header
from dataengine.samples.rosbag1 import BagTopic, BagWriter, definition_sum
from tests.support.child import run_over, tally
from tests.support.mutate import mutants
from tests.support.rosbag_files import compare_bag1, recover

T0 = 1_700_000_000 * 10**9


def _bag(compression: Any) -> bytes:
    writer = BagWriter(compression, chunk_size=1500)
    numbers = [
        writer.connect(BagTopic(topic, kind, definition(kind, "ros1"), definition_sum(kind), (("callerid", f"/node{node}"),)))
        for node, (topic, kind) in enumerate((("/joints", "sensor_msgs/JointState"), ("/say", "std_msgs/String"), ("/say", "std_msgs/String")))
    ]
    for index in range(20):
        state = {"header": header(T0 + index, "base"), "name": ["a", "b"], "position": [index, 0.5], "velocity": [], "effort": [1.5, 2.5]}
        writer.write(numbers[0], T0 + index, encode("sensor_msgs/JointState", state, "ros1"))
        writer.write(numbers[1 + index % 2], T0 + index, encode("std_msgs/String", {"data": f"text {index}"}, "ros1"))
    return writer.finish()


def _check(compression: str, count: int, seed: int) -> None:
    outcomes = run_over(
        compare_bag1,
        mutants(_bag(compression), count, seed=seed),
        file_name="a.bag",
        memory_bytes=512 << 20,
        timeout_s=20,
        preload=("dataengine.sources.rosbag1.reader", "rosbags.rosbag1"),
    )
    assert len(outcomes) == count
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected")], tally(outcomes)
    assert 0 < sum(outcome.status == "ok" for outcome in outcomes) < count


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_mutants_are_rejected_or_land_what_they_hold(compression: str) -> None:
    _check(compression, 80, seed=1)


@pytest.mark.parametrize(
    ("compression", "count"), [("none", 40), pytest.param("lz4", 400, marks=pytest.mark.slow), pytest.param("bz2", 400, marks=pytest.mark.slow)]
)
def test_mutants_land_what_is_whole_on_request(compression: str, count: int) -> None:
    made = mutants(_bag(compression), count, seed=3)
    outcomes = run_over(recover, made, file_name="a.bag", memory_bytes=512 << 20, timeout_s=20, preload=("dataengine.sources.rosbag1.reader",))
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected")], tally(outcomes)
    assert sum(outcome.status == "ok" for outcome in outcomes) > count // 3


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_many_mutants_are_rejected_or_land_what_they_hold(compression: str) -> None:
    _check(compression, 800, seed=2)


def test_the_bags_as_they_are_land(tmp_path: Path) -> None:
    for compression in ("none", "bz2", "lz4"):
        folder = tmp_path / compression
        folder.mkdir()
        (folder / "a.bag").write_bytes(_bag(compression))
        assert compare_bag1(str(folder)) == "landed"
