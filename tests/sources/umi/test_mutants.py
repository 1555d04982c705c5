"""Broken sessions: whatever is damaged beside the video is named, and the video lands."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import pytest

from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.umi_session import SERIALS, UmiSessionOptions, demo_name, write_umi_session
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants

PARTS = {
    "trajectory": f"demos/{demo_name(0)}/camera_trajectory.csv",
    "imu": f"demos/{demo_name(0)}/imu_data.json",
    "tags": f"demos/{demo_name(0)}/tag_detection.json",
    "plan": "dataset_plan.json",
    "gripper": f"demos/gripper_calibration_{SERIALS[0]}_2024.01.05_09.00.00.000000/gripper_range.json",
}


def _check(part: str, count: int, seed: int) -> None:
    recording = record(0, 1, ArmConfig(32, 48, cameras=("wrist",), max_steps=8))
    with tempfile.TemporaryDirectory() as folder:
        session = write_umi_session(Path(folder) / "s", [recording], UmiSessionOptions(telemetry=False, twins=True))
        files = {path.relative_to(session).as_posix(): path.read_bytes() for path in session.rglob("*") if path.is_file() and not path.is_symlink()}
    kept = {name: data for name, data in files.items() if "mapping" not in name}
    data = kept.pop(PARTS[part])
    outcomes = run_over(
        partial(run_reader, "dataengine.sources.umi.reader"),
        mutants(data, count, seed=seed),
        file_name=PARTS[part],
        beside=kept,
        memory_bytes=512 << 20,
        preload=("av", "cv2"),
    )
    assert {outcome.status for outcome in outcomes} == {"ok"}, tally(outcomes)
    assert {len(outcome.result.episodes) for outcome in outcomes} == {2}
    assert {outcome.result.rejected for outcome in outcomes} == {()}


@pytest.mark.parametrize("part", PARTS)
def test_broken_parts_cost_no_video(part: str) -> None:
    _check(part, 24, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_many_broken_parts_cost_no_video(part: str) -> None:
    _check(part, 500, seed=2)
