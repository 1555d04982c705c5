import builtins
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.sources.scenes import scene_starts
from dataengine.video.decode import FrameReader
from dataengine.video.index import frame_index
from tests.support.films import numbered, write_film
from tests.support.shared import shared_data

CLIPS = [
    ("robot_video", "moto", "oxe", "videos", "fractal20220817_eps_00083076.mp4"),
    ("robot_video", "moto", "calvin", "videos", "task_ABC_D_validation_eps_267_331.mp4"),
    ("robot_video", "lapa", "rt1_real_standing_coke_can_1.mp4"),
    ("droid_json_mp4", "ctrl_world", "droid_subset", "videos", "train", "6", "0.mp4"),
    ("droid_json_mp4", "ctrl_world", "droid_subset", "videos", "train", "6", "2.mp4"),
    ("robot_video", "moto", "oxe", "videos", "fractal20220817_eps_00086889.mp4"),
]


def clip(parts: tuple[str, ...], most: int = 70) -> list[np.ndarray]:
    import cv2

    path = shared_data(*parts)
    index = frame_index(path)
    with FrameReader(path, index) as reader:
        return [cv2.resize(picture, (192, 144)) for picture in reader.read(list(range(min(len(index), most))))]


@pytest.fixture(scope="module")
def clips() -> list[list[np.ndarray]]:
    return [clip(parts) for parts in CLIPS]


@pytest.mark.parametrize("seed", [1, 2])
def test_planted_cuts_between_real_robot_videos_are_found_to_the_frame(tmp_path: Path, clips, seed: int) -> None:
    draw = random.Random(seed)
    frames, planted = [], []
    for pictures in draw.sample(clips, len(clips)):
        length = draw.randint(min(18, len(pictures)), len(pictures))
        start = draw.randint(0, len(pictures) - length)
        planted.append(len(frames))
        frames += pictures[start : start + length]
    path = write_film(tmp_path / "a.mp4", np.stack(frames), gop=40, b_frames=2)
    found, problems = scene_starts(str(path), frame_index(path), where="a.mp4")
    assert found == planted[1:]
    assert problems == []


def test_one_scene_has_no_cut(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(80))
    assert scene_starts(str(path), frame_index(path)) == ([], [])


def test_a_scene_is_never_shorter_than_asked(tmp_path: Path) -> None:
    dark, light = np.full((20, 64, 96, 3), 30, np.uint8), np.full((20, 64, 96, 3), 220, np.uint8)
    path = write_film(tmp_path / "a.mp4", np.concatenate([dark, light, dark, light]), ticks=[2 * row for row in range(80)], time_base=Fraction(1, 30))
    index = frame_index(path)
    assert scene_starts(str(path), index, shortest_s=1.0)[0] == [20, 40, 60]
    assert scene_starts(str(path), index, shortest_s=2.0)[0] == [40]  # 15 frames a second: 30 frames at least


def test_a_frame_that_does_not_decode_ends_the_search_with_a_named_problem_or_is_passed_over(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(60), gop=10)
    index = frame_index(path)
    data = bytearray(path.read_bytes())
    row = 30
    data[int(index.offset[row]) : int(index.offset[row]) + int(index.size[row])] = bytes(int(index.size[row]))
    path.write_bytes(data)
    found, problems = scene_starts(str(path), index, where="a.mp4")
    assert found == []
    assert [problem.check for problem in problems] in ([], ["scenes_incomplete"])


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(5))
    real = builtins.__import__

    def absent(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] == "scenedetect":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=r"robot-dataengine\[scenes\]"):
        scene_starts(str(path), frame_index(path))
