"""An hour of 1080p video is cut within bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.films import write_long_film

# What a child process does: read the film with a rule, and say how it was cut and how much memory that took.
READ = """
import json, resource, sys
from dataengine.core.episode import EpisodeInfo
from dataengine.core.protocols import ReadOptions
from dataengine.sources import video
from dataengine.sources.listing import list_source
listing = list_source(sys.argv[1])
(item,) = video.find(listing).items
options = ReadOptions(config={"episodes": json.loads(sys.argv[2])})
cuts = [event.metadata["cut"] for event in video.read(item, listing.opener, options) if isinstance(event, EpisodeInfo)]
print(json.dumps({"first": [cut["first_frame"] for cut in cuts], "frames": sum(cut["frames"] for cut in cuts), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""
FRAMES = 90  # of a clip: 3 s


def clips(height: int, width: int) -> list[np.ndarray]:
    """Return six still scenes of simple patterns, in each of which a block moves."""
    rows, columns = np.mgrid[0:height, 0:width]
    scenes = []
    for number in range(6):
        still = np.empty((height, width, 3), np.uint8)
        still[:] = [40 + 30 * number, 200 - 25 * number, 90 + 20 * (number % 3)]
        still[..., number % 3] = (columns // (width // 12 + number) + rows // (height // 9 + 2 * number)) % 2 * 80 + 60
        scene = np.repeat(still[None], FRAMES, axis=0)
        for place in range(FRAMES):
            scene[place, height // 2 : height // 2 + height // 20, place : place + width // 20] = 250
        scenes.append(scene)
    return scenes


def read(folder: Path, rule: dict[str, object]) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", READ, str(folder), json.dumps(rule)], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_film_of_repeated_clips_is_cut_at_each_of_them(tmp_path: Path) -> None:
    write_long_film(tmp_path / "a.mp4", clips(90, 160), repeats=2)
    found = read(tmp_path, {"by": "scene"})
    assert found["first"] == list(range(0, 2 * 6 * FRAMES, FRAMES))
    found = read(tmp_path, {"by": "length", "seconds": 4})
    assert (found["first"], found["frames"]) == (list(range(0, 2 * 6 * FRAMES, 120)), 2 * 6 * FRAMES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rule", [{"by": "length", "seconds": 30}, {"by": "scene"}])
def test_an_hour_of_1080p_takes_less_than_a_gib(tmp_path: Path, rule: dict[str, object]) -> None:
    write_long_film(tmp_path / "a.mp4", clips(1080, 1920), repeats=200)
    found = read(tmp_path, rule)
    assert found["frames"] == 108_000
    assert found["first"] == list(range(0, 108_000, 900 if rule["by"] == "length" else FRAMES))
    assert isinstance(found["peak"], int)
    assert found["peak"] < 1 << 30
