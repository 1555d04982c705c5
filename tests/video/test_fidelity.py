import pickle

import numpy as np
import pytest

from dataengine.video.decode import FrameReader
from dataengine.video.fidelity import CHROMA_LIMIT, LUMA_LIMIT, TEXTURE_LIMIT, BlockFidelity, FidelityLost, gate, worst_block
from dataengine.video.index import frame_index
from tests.support.films import numbered
from tests.support.shared import shared_data


def grey(height: int = 48, width: int = 64, level: int = 100) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_equal_frames_lose_nothing() -> None:
    frame = numbered(1)[0]
    found = worst_block(frame, frame)
    assert (found.luma, found.chroma, found.texture, found.score, found.kept) == (0, 0, 0, 0, True)


def test_a_lost_object_is_measured_by_its_contrast_and_found_where_it_was() -> None:
    original = grey()
    original[16:24, 40:48] = 140
    found = worst_block(original, grey())
    # 40 levels are 34.4 steps of limited-range luma, which are stored as whole ones.
    assert found.luma == pytest.approx(40, abs=0.7)
    assert found.texture == pytest.approx(40, abs=0.7)
    assert found.chroma == 0
    assert (found.row_px, found.column_px) == (16, 40)
    assert not found.kept


def test_an_object_across_the_windows_fills_36_of_64() -> None:
    original = grey()
    original[18:26, 42:50] = 140
    assert worst_block(original, grey()).luma == pytest.approx(40 * 36 / 64, abs=0.7)


@pytest.mark.parametrize(("contrast", "kept"), [(6, True), (20, False), (-20, False)])
def test_the_limit_lies_above_the_faintest_objects(contrast: int, kept: bool) -> None:
    original = grey()
    original[18:26, 42:50] = 100 + contrast
    assert worst_block(original, grey()).kept is kept


def test_a_colour_of_equal_brightness_is_seen() -> None:
    original = grey()
    original[8:16, 8:16] = (160, 74, 98)  # luma 0.299*60 - 0.587*26 - 0.114*2 = 2.4 beside 100
    found = worst_block(original, grey())
    assert found.luma < LUMA_LIMIT
    assert found.chroma > CHROMA_LIMIT
    assert not found.kept


def test_stripes_that_turn_to_grey_are_seen() -> None:
    original = grey()
    original[8:20, 8:20:2] = 130
    original[8:20, 9:20:2] = 70
    found = worst_block(original, grey())
    assert found.luma < LUMA_LIMIT
    assert found.texture == pytest.approx(30, abs=1)
    assert found.texture > TEXTURE_LIMIT
    assert not found.kept


def test_noise_without_meaning_passes() -> None:
    noise = np.random.default_rng(0).normal(0, 6, (128, 128, 1))
    noisy = np.clip(grey(128, 128) + noise, 0, 255).astype(np.uint8)
    assert worst_block(noisy, grey(128, 128)).kept


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 9), (8, 8), (11, 66), (240, 321)])
def test_odd_and_small_frames_are_judged(size: tuple[int, int]) -> None:
    assert worst_block(grey(*size), grey(*size)).kept
    found = worst_block(grey(*size), grey(*size, level=160))
    assert found.luma == pytest.approx(60, abs=1)
    assert not found.kept


def test_what_is_lost_at_the_lower_right_corner_is_seen() -> None:
    original = grey(50, 70)
    original[42:, 62:] = 180
    found = worst_block(original, grey(50, 70))
    assert not found.kept
    assert (found.row_px, found.column_px) == (44, 64)


def test_one_lost_block_in_one_frame_fails_them_all() -> None:
    frames = numbered(30)
    decoded = frames.copy()
    frames[17, 8:56, 40:50] = 255 - frames[17, 8:56, 40:50] // 2  # 10x48 px, one frame long
    verdict = gate(frames, decoded)
    assert (verdict.kept, verdict.frame, verdict.lost) == (False, 17, (17,))
    assert gate(decoded, decoded).kept
    assert gate(decoded[:0], decoded[:0]).frame == -1


def test_the_error_says_where_and_travels_between_processes() -> None:
    error = FidelityLost("camera: frame 7", BlockFidelity(12.5, 3.0, 20.0, 16, 40), (20, 16))
    assert str(error) == (
        "camera: frame 7: expected every 8x8 px block within luma 9, chroma 18, texture 17, found 12.5, 3.0, 20.0 at row 16, column 40 with CRF 20, 16; "
        "store the frames lossless"
    )
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.worst, again.tried) == (str(error), error.worst, (20, 16))


REAL = {
    "gr00t": "lerobot/v2.0_gr00t_picknplace/videos/chunk-000/observation.images.ego_view/episode_000000.mp4",
    "umi": "umi/umi_lerobot_v1_ep0/videos/observation.image_episode_000000.mp4",
    "calvin": "robot_video/moto/calvin/videos/task_ABC_D_validation_eps_267_331.mp4",
    "oxe": "robot_video/moto/oxe/videos/fractal20220817_eps_00083076.mp4",
    "droid": "droid_json_mp4/ctrl_world/droid_subset/videos/train/6/0.mp4",
    "lapa": "robot_video/lapa/rt1_real_standing_coke_can_1.mp4",
}


def real_frames(name: str, count: int) -> np.ndarray:
    path = shared_data(REAL[name])
    index = frame_index(path)
    with FrameReader(path, index) as reader:
        return reader.read(range(min(count, len(index))))


@pytest.mark.parametrize("name", REAL)
def test_a_real_object_that_vanishes_is_caught(name: str) -> None:
    frames = real_frames(name, 12)
    rng = np.random.default_rng(5)
    for height, width, contrast in ((8, 8, 20), (8, 8, 80), (48, 10, 40), (10, 48, 60)):
        planted = frames.copy()
        row, column = int(rng.integers(0, frames.shape[1] - 48)), int(rng.integers(0, frames.shape[2] - 48))
        place = (6, slice(row, row + height), slice(column, column + width))
        sign = 1 if frames[place].mean() < 128 else -1
        planted[place] = np.clip(frames[place].astype(int) + sign * contrast, 0, 255)
        assert gate(planted, frames).lost == (6,), (height, width, contrast, row, column)
