"""Broken ROS 2 bags: each is rejected with a reason, or lands exactly what SQLite reads of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from dataengine.samples.rosbag2 import Bag2Message, Bag2Options, write_bag2, write_database
from tests.support.child import run_over, tally
from tests.support.mcap_files import COMPRESSED, JOINT_STATE, Cdr, compressed, joint_state
from tests.support.mutate import mutants
from tests.support.rosbag_files import compare_database, land_bag2, recover

T0 = 1_700_000_000 * 10**9
PRELOAD = ("dataengine.sources.rosbag2.reader", "apsw", "zstandard")


def _sent() -> list[Bag2Message]:
    sent = []
    for index in range(40):
        sent.append(Bag2Message("/joints", "sensor_msgs/msg/JointState", T0 + index, joint_state(T0 + index, ["a", "b"], [index, 0.5]), JOINT_STATE))
        sent.append(Bag2Message("/say", "std_msgs/msg/String", T0 + index, Cdr().text(f"text {index}").bytes()))
        if index % 10 == 0:
            picture = compressed(T0 + index, b"\xff\xd8\xff\xc0\0\x0b\x08\0\x10\0\x10\1\0\0\0body\xff\xd9" + bytes(6000))
            sent.append(Bag2Message("/cam/compressed", "sensor_msgs/msg/CompressedImage", T0 + index, picture, COMPRESSED))
    return sent


def _database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_database(Path(folder) / "a.db3", _sent()).read_bytes()


def _bag(name: str, options: Bag2Options) -> tuple[bytes, dict[str, bytes]]:
    """Return the bytes of one file of a bag, and the others beside it."""
    with tempfile.TemporaryDirectory() as parent:
        folder = write_bag2(Path(parent) / "x", _sent(), options)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files.pop(name), files


def _check_database(count: int, seed: int) -> None:
    outcomes = run_over(compare_database, mutants(_database(), count, seed=seed), file_name="a.db3", memory_bytes=512 << 20, timeout_s=20, preload=PRELOAD)
    assert len(outcomes) == count
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected")], tally(outcomes)
    assert 0 < sum(outcome.status == "ok" for outcome in outcomes) < count


CASES = {
    "metadata": ("metadata.yaml", Bag2Options(split=30)),
    "packed file": ("x_0.db3.zstd", Bag2Options(packing="file")),
    "packed messages": ("x_0.db3", Bag2Options(packing="message")),
    "second mcap": ("x_1.mcap", Bag2Options("mcap", split=40)),
}


def _check_bag(case: str, count: int, seed: int) -> None:
    name, options = CASES[case]
    data, beside = _bag(name, options)
    outcomes = run_over(land_bag2, mutants(data, count, seed=seed), file_name=name, beside=beside, memory_bytes=512 << 20, timeout_s=20, preload=PRELOAD)
    assert len(outcomes) == count
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected", "unrecognised")], tally(outcomes)
    assert any(outcome.status == "ok" for outcome in outcomes)


def test_mutants_of_a_database_are_rejected_or_land_what_they_hold() -> None:
    _check_database(80, seed=1)


@pytest.mark.parametrize("case", CASES)
def test_mutants_of_a_bag_are_rejected_or_land(case: str) -> None:
    _check_bag(case, 25, seed=1)


@pytest.mark.slow
def test_mutants_of_a_database_land_what_is_whole_on_request() -> None:
    outcomes = run_over(recover, mutants(_database(), 500, seed=3), file_name="a.db3", memory_bytes=512 << 20, timeout_s=20, preload=PRELOAD)
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected")], tally(outcomes)
    assert sum(outcome.status == "ok" for outcome in outcomes) > 100


@pytest.mark.slow
def test_many_mutants_of_a_database_are_rejected_or_land_what_they_hold() -> None:
    _check_database(1500, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_many_mutants_of_a_bag_are_rejected_or_land(case: str) -> None:
    _check_bag(case, 500, seed=2)


def test_the_database_as_it_is_lands(tmp_path: Path) -> None:
    (tmp_path / "a.db3").write_bytes(_database())
    assert compare_database(str(tmp_path)) == "landed"
