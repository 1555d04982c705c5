from typing import Any

import numpy as np
import pytest

from dataengine.video.colour import RgbConverter, rgb_to_i420

WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}


def exact(luma: Any, first: Any, second: Any, matrix: int, full: bool) -> Any:
    """Convert by the textbook: R = Y + 2 (1 - Kr) Cr, B = Y + 2 (1 - Kb) Cb, and G from what is left of Y."""
    red, blue = WEIGHTS[matrix]
    y, u, v = luma.astype(float), first.astype(float) - 128, second.astype(float) - 128
    if not full:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.clip(np.rint(np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=-1)), 0, 255)


def planes(height: int, width: int, across: int, down: int, low: int = 16) -> list[Any]:
    rng = np.random.default_rng(height * width + across)
    small = ((height + down) >> down, (width + across) >> across)
    return [rng.integers(low, 236, (height, width)).astype(np.uint8), *(rng.integers(60, 200, small).astype(np.uint8) for _ in range(2))]


def frame_of(parts: list[Any], pix_fmt: str, matrix: int, range_: int) -> Any:
    import av

    frame = av.VideoFrame(parts[0].shape[1], parts[0].shape[0], pix_fmt)
    for plane, part in zip(frame.planes, parts, strict=True):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[: part.shape[0], : part.shape[1]] = part
        plane.update(padded.tobytes())
    frame.colorspace, frame.color_range = matrix, range_
    return frame


@pytest.mark.parametrize("size", [(16, 24), (15, 23)])
@pytest.mark.parametrize("matrix", [1, 2, 5, 6, 7, 9])
@pytest.mark.parametrize(
    ("pix_fmt", "range_", "full"),
    [
        ("yuv420p", 0, False),
        ("yuv420p", 1, False),
        ("yuv420p", 2, True),
        ("yuvj420p", 1, True),
        ("yuv422p", 1, False),
        ("yuv444p", 1, False),
        ("yuv444p", 2, True),
    ],
)
def test_each_matrix_and_range_is_within_one_level_of_the_formula(size: tuple[int, int], matrix: int, pix_fmt: str, range_: int, full: bool) -> None:
    across, down = {"0": (1, 1), "2": (1, 0), "4": (0, 0)}[pix_fmt[-2]]
    for low in (16, 0):
        parts = planes(*size, across, down, low)
        wide = [np.repeat(np.repeat(part, 1 << down, 0), 1 << across, 1)[: size[0], : size[1]] for part in parts[1:]]
        out = np.empty((*size, 3), np.uint8)
        RgbConverter().convert(frame_of(parts, pix_fmt, matrix, range_), out)
        assert np.abs(out - exact(parts[0], *wide, matrix, full)).max() <= 1


def test_what_the_container_says_counts_where_the_frame_says_nothing() -> None:
    parts = planes(16, 16, 1, 1)
    wide = [np.repeat(np.repeat(part, 2, 0), 2, 1) for part in parts[1:]]
    out = np.empty((16, 16, 3), np.uint8)
    RgbConverter("bt709", "full").convert(frame_of(parts, "yuv420p", 2, 0), out)
    assert np.abs(out - exact(parts[0], *wide, 1, True)).max() <= 1
    RgbConverter("bt709", "full").convert(frame_of(parts, "yuv420p", 6, 1), out)
    assert np.abs(out - exact(parts[0], *wide, 6, False)).max() <= 1
    RgbConverter("rgb", "unspecified").convert(frame_of(parts, "yuv420p", 0, 1), out)
    assert np.abs(out - exact(parts[0], *wide, 6, False)).max() <= 1


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("range_", [1, 2])
def test_ffmpeg_agrees_within_its_own_rounding(matrix: int, range_: int) -> None:
    frame = frame_of(planes(32, 48, 1, 1), "yuv420p", matrix, range_)
    out = np.empty((32, 48, 3), np.uint8)
    RgbConverter().convert(frame, out)
    assert np.abs(out.astype(int) - frame.to_ndarray(format="rgb24")).max() <= 3


@pytest.mark.parametrize("pix_fmt", ["nv12", "yuv420p10le", "gray", "rgb24", "gbrp"])
def test_other_pixel_formats_come_through(pix_fmt: str) -> None:
    import av

    smooth = np.stack(np.broadcast_arrays(np.arange(64) * 3 + 20, (np.arange(32) * 5 + 40)[:, None], 128), axis=-1).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(smooth), format="rgb24").reformat(format=pix_fmt)
    out = np.empty((32, 64, 3), np.uint8)
    RgbConverter().convert(frame, out)
    expected = smooth if pix_fmt != "gray" else np.repeat(np.rint(smooth @ [0.299, 0.587, 0.114])[:, :, None], 3, axis=2)
    assert np.abs(out - expected.astype(float)).max() <= (0 if pix_fmt in ("rgb24", "gbrp") else 8)


def test_chroma_is_averaged_over_its_block() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 1] = (255, 0, 0)  # not the corner that OpenCV would look at
    out = np.empty((6, 4), np.uint8)
    rgb_to_i420(pixels, out)
    # Red has Y = 16 + 65.481 and Cr = 128 + 112: a quarter of the block.
    assert out[0].tolist() == [16, 81, 16, 16]
    assert out[5].reshape(2, 2).tolist() == [[156, 128], [128, 128]]


def test_to_planes_and_back_is_within_two_levels() -> None:
    smooth = np.stack(np.broadcast_arrays(np.arange(64) * 3 + 20, (np.arange(32) * 5 + 40)[:, None], 128), axis=-1).astype(np.uint8)
    out, again = np.empty((48, 64), np.uint8), np.empty((32, 64, 3), np.uint8)
    rgb_to_i420(np.ascontiguousarray(smooth), out)
    RgbConverter().convert(frame_of([out[:32], out[32:40].reshape(16, 32), out[40:].reshape(16, 32)], "yuv420p", 6, 1), again)
    assert np.abs(again.astype(int) - smooth).max() <= 6
    assert np.abs(again.astype(int) - smooth).mean() < 1.5
