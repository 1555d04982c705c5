"""How many planted faces the default detector blurs, and how much it blurs where there is none: bounds below what was measured.

Run with `-s` to see the figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from dataengine.privacy.config import FacesConfig
from dataengine.samples.arm import ArmConfig, record
from dataengine.video.decode import FrameReader
from dataengine.video.index import frame_index
from tests.support.planted_faces import Figures, Head, blurred_clip, false_share, heads, measure, planted
from tests.support.shared import shared_data

pytest.importorskip("skimage", reason="the face detector is not installed: pip install 'robot-dataengine[privacy]'")

Array = np.ndarray[Any, np.dtype[Any]]
REAL = (
    ("robot_video", "moto", "oxe", "videos", "fractal20220817_eps_00083076.mp4"),
    ("droid_json_mp4", "ctrl_world", "droid_subset", "videos", "train", "6", "0.mp4"),
    ("lerobot", "v2.1_g1_fixture", "videos", "chunk-000", "observation.images.cam_high", "episode_000029.mp4"),
)
GAINS, SPEEDS, STARTS = (1.0, 0.6, 1.3), (0.0, 1.5, 3.0), ((0.35, 0.3), (0.5, 0.25), (0.45, 0.4))


def simulated(frames: int) -> Array:
    """Return frames of the simulated arm, 240 x 320."""
    return record(3, 0, ArmConfig(height=240, width=320, cameras=("front",), max_steps=frames)).cameras["front"].images[:frames]


def real(frames: int) -> Iterator[Array]:
    """Yield the first frames of real robot videos that show nobody."""
    for parts in REAL:
        path = str(shared_data(*parts))
        index = frame_index(path)
        with FrameReader(path, index) as reader:
            yield reader.read(range(min(frames, len(index))))


def clips(backgrounds: Sequence[Array], people: Sequence[Head], face_px: int) -> list[tuple[Array, Array]]:
    """Return a clip for each head, on one background after the other, with changing brightness, speed and place."""
    return [
        planted(backgrounds[number % len(backgrounds)], head, face_px, GAINS[number % 3], SPEEDS[number % 3], STARTS[number % 3])
        for number, head in enumerate(people)
    ]


def said(what: str, found: Figures) -> str:
    return f"{what}: {found.recall:.2f} of {found.frames} frames, {found.face_share:.2f} of the faces' pixels, {found.other_share:.3f} of all others"


def test_a_face_in_the_simulated_world_is_blurred_and_nothing_else() -> None:
    """One colour photograph on 6 frames, of which every second is searched."""
    background = simulated(6)
    found = measure(clips([background], heads(0), 72), FacesConfig())
    print(said("72 px, simulated", found))
    assert found.frames == 6
    assert found.recall == 1.0
    assert found.face_share > 0.98
    assert found.other_share < 0.25  # the rest of the head, and the margins
    assert false_share(background, FacesConfig()) == (0.0, 0.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_recall_by_size_of_face() -> None:
    """Seven people on simulated and real video; the least that is promised at each size."""
    backgrounds = [simulated(8), *real(8)]
    promised = {32: 0.7, 48: 0.75, 72: 0.75, 96: 0.75}  # measured: 0.86 at each, one of the seven people is not found
    for face_px, least in promised.items():
        found = measure(clips(backgrounds, heads(6), face_px), FacesConfig())
        print(said(f"{face_px} px", found))
        assert found.recall >= least, said(f"{face_px} px", found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_little_is_blurred_where_there_is_no_face() -> None:
    shares = []
    for frames in (simulated(16), *real(16)):
        started = time.perf_counter()
        share, pixels = false_share(frames, FacesConfig())
        seconds = time.perf_counter() - started
        print(f"{frames.shape[2]}x{frames.shape[1]}: {share:.2f} of the frames, {pixels:.3f} of the pixels blurred; {len(frames) / seconds:.1f} frames/s")
        shares.append(pixels)
    assert np.mean(shares) < 0.02  # measured: 0


def test_clips_are_planted_where_they_say() -> None:
    """The figures are worth what the places of the planted faces are."""
    background = np.full((3, 120, 200, 3), 90, np.uint8)
    (head,) = heads(0)
    frames, places = planted(background, head, 40, speed_px=5.0)
    assert (places[:, 3] - places[:, 2]).tolist() == [40, 40, 40]
    assert np.diff(places[:, 2]).tolist() == [5, 5]
    for frame, (top, bottom, left, right) in zip(frames, places.tolist(), strict=True):
        assert (frame[top:bottom, left:right] != 90).any(axis=2).mean() > 0.97
        assert (frame[:, right + 25 :] == 90).all()
    assert np.array_equal(blurred_clip(background, FacesConfig()), background)
