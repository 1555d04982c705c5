"""A dataset that LeRobot itself wrote lands with its numbers, and each frame in its place. Needs the peers' environments (`make peers`, DATAENGINE_PEERS)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.stream import MediaFrames
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex
from tests.support.films import number_of, numbered
from tests.support.lerobot_folder import Reading, texts
from tests.support.shared import REPOSITORY

LENGTHS = [50, 50, 23]  # the script ends an episode every 50 rows


def peer() -> Path:
    """Return the peer's Python, or skip."""
    folder = os.environ.get("DATAENGINE_PEERS")
    if not folder:
        pytest.skip("DATAENGINE_PEERS is not set: `make peers` makes the environments of the peers")
    python = Path(folder).resolve() / "lerobot" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is missing: `make peers`")
    return python


@pytest.mark.slow
def test_a_dataset_that_lerobot_wrote(tmp_path: Path) -> None:
    python = peer()
    rows = sum(LENGTHS)
    rng = np.random.default_rng(4)
    steps = {
        "top": numbered(rows, 96, 128),
        "side": numbered(rows, 96, 128, first=1000),
        "action": rng.normal(size=(rows, 7)).astype(np.float32),
    }
    np.savez(tmp_path / "steps.npz", **steps)  # type: ignore[arg-type]
    script = REPOSITORY / "pipelines" / "peers" / "write_lerobot.py"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": ""}
    subprocess.run([python, script, tmp_path / "steps.npz", tmp_path / "set"], check=True, capture_output=True, env=environment, timeout=600)
    reading = Reading(tmp_path / "set")
    assert not reading.rejected
    assert reading.checks() == []
    assert [len(episode.streams["action"]) for episode in reading.episodes.values()] == LENGTHS
    first = 0
    for count, episode in zip(LENGTHS, reading.episodes.values(), strict=True):
        assert episode.info.problems == ()
        assert (episode.info.clock, episode.info.rate_hz, episode.info.splits, episode.info.tasks) == ("nominal", 10.0, ("train",), ("bench",))
        assert np.array_equal(episode.streams["action"].values, steps["action"][first : first + count])  # type: ignore[arg-type]
        assert texts(episode.streams["task"].values) == ["bench"] * count
        for camera, offset in (("top", 0), ("side", 1000)):
            frames = episode.streams[f"observation.images.{camera}"].values
            assert isinstance(frames, MediaFrames)
            assert frames.index is not None
            with FrameReader(str(tmp_path / "set" / frames.uri), FrameIndex.from_columns(frames.index, frames.facts)) as film:
                pictures = film.read(range(frames.first, frames.first + frames.count))
            assert [number_of(picture) for picture in pictures] == [offset + first + row for row in range(count)]
        first += count
