"""Broken MCAP files: each is rejected with a reason, or lands exactly what the mcap library reads of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcap.writer import CompressionType

from tests.support.child import run_over, tally
from tests.support.mcap_files import COMPRESSED, JOINT_STATE, STRING, Cdr, compare_with_library, compressed, joint_state, write_mcap
from tests.support.mutate import mutants
from tests.support.shared import shared_data

T0 = 1_700_000_000_000_000_000


def _written(**options: object) -> bytes:
    """Return a small file with joints, a camera, JSON and text, without chunk checksums, so that broken bytes get past them."""
    topics = {
        "/joints": ("cdr", "sensor_msgs/msg/JointState", "ros2msg", JOINT_STATE),
        "/cam/compressed": ("cdr", "sensor_msgs/msg/CompressedImage", "ros2msg", COMPRESSED),
        "/say": ("cdr", "std_msgs/msg/String", "ros2msg", STRING),
        "/json": ("json", "x", "jsonschema", '{"properties": {"n": {"type": "integer"}}}'),
    }
    sent = []
    for i in range(20):
        sent.append(("/joints", T0 + i, joint_state(T0 + i, ["a", "b"], [i, 0.5])))
        sent.append(("/json", T0 + i, b'{"n": %d, "list": [1, 2]}' % i))
        if i % 5 == 0:
            sent.append(("/cam/compressed", T0 + i, compressed(T0 + i, b"\xff\xd8\xff\xc0\0\x0b\x08\0\x10\0\x10\1\0\0\0body\xff\xd9")))
            sent.append(("/say", T0 + i, Cdr().text(f"text {i}").bytes()))
    return write_mcap(topics, sent, attachments=[(T0, "a.txt", b"attached")], metadata={"m": {"k": "v"}}, enable_crcs=False, enable_data_crcs=False, **options)


FILES = {
    "chunks": lambda: _written(compression=CompressionType.NONE, chunk_size=1500),
    "zstd": lambda: _written(compression=CompressionType.ZSTD),
    "lz4": lambda: _written(compression=CompressionType.LZ4),
    "loose": lambda: _written(use_chunking=False),
    "protobuf": lambda: shared_data("teleop_mcap_ros", "rerun_protobuf", "simple-protobuf.mcap").read_bytes(),
    "log": lambda: shared_data("teleop_mcap_ros", "rerun_protobuf", "foxglove_log.mcap").read_bytes(),
    "desktop": lambda: shared_data("teleop_mcap_ros", "owa_desktop", "0.5.1.mcap").read_bytes(),
    "talker": lambda: shared_data("teleop_mcap_ros", "rosbag2", "rosbag2_py", "mcap", "talker", "talker.mcap").read_bytes(),
}


def _check(name: str, count: int, seed: int) -> None:
    outcomes = run_over(
        compare_with_library,
        mutants(FILES[name](), count, seed=seed),
        file_name="a.mcap",
        memory_bytes=512 << 20,
        timeout_s=20,
        preload=("dataengine.sources.mcap.reader", "mcap.reader", "google.protobuf.message_factory"),
    )
    assert len(outcomes) == count
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected")], tally(outcomes)
    landed = [outcome.name for outcome in outcomes if outcome.status == "ok"]
    # A file with every checksum lets no mutant through; one without lets many.
    assert len(landed) < count
    assert bool(landed) == (name != "protobuf")


@pytest.mark.parametrize("name", FILES)
def test_mutants_are_rejected_or_land_what_they_hold(name: str) -> None:
    _check(name, 60, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_mutants_are_rejected_or_land_what_they_hold(name: str) -> None:
    _check(name, 600, seed=2)


def test_the_files_as_they_are_land(tmp_path: Path) -> None:
    for name, make in FILES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mcap").write_bytes(make())
        assert compare_with_library(str(tmp_path / name)) == "landed"
