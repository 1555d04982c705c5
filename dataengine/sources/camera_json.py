"""A camera's intrinsics out of JSON whose shape nobody wrote down: numbers by their customary names, wherever they stand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 5
MATRICES = ("K", "k", "camera_matrix", "cameraMatrix", "intrinsic_matrix", "intrinsics", "intrinsic", "matrix")
COEFFICIENTS = ("D", "distortion", "dist_coeffs", "distCoeffs", "distortion_coefficients", "distortion_coeffs")
MODELS = ("distortion_model", "camera_model", "model", "projection", "type")


@dataclass(frozen=True)
class Lens:
    """What a file says of a camera: (fx, fy, cx, cy) in px, the model's name and its coefficients, the picture size (width, height) that they hold for.

    `path` are the keys under which it stands.
    """

    intrinsics_px: tuple[float, float, float, float]
    distortion: tuple[str, tuple[float, ...]] | None
    size: tuple[int, int] | None
    path: tuple[str, ...] = ()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _numbers(values: Mapping[str, Any], *names: str) -> tuple[float, ...] | None:
    found = [_number(values.get(name)) for name in names]
    return None if any(value is None for value in found) else tuple(value for value in found if value is not None)


def _matrix(value: Any) -> tuple[float, float, float, float] | None:
    """Return (fx, fy, cx, cy) of a 3x3 matrix, nested or flat by rows."""
    if isinstance(value, list) and len(value) == 3 and all(isinstance(row, list) and len(row) == 3 for row in value):
        value = [entry for row in value for entry in row]
    if not isinstance(value, list) or len(value) != 9 or any(_number(entry) is None for entry in value):
        return None
    return float(value[0]), float(value[4]), float(value[2]), float(value[5])


def _distortion(values: Mapping[str, Any], unnamed: str) -> tuple[str, tuple[float, ...]] | None:
    model = next((values[name] for name in MODELS if isinstance(values.get(name), str) and values[name]), "")
    for place in (values, *(values[name] for name in COEFFICIENTS if isinstance(values.get(name), dict))):
        four = _numbers(place, "k1", "k2", "k3", "k4")
        if four is not None and "p1" not in place:
            return str(model or unnamed)[:100], four
        tangential = _numbers(place, "k1", "k2", "p1", "p2")
        if tangential is not None:
            third = _number(place.get("k3"))
            return str(model or "opencv")[:100], tangential if third is None else (*tangential, third)
    for name in COEFFICIENTS:
        listed = values.get(name)
        if isinstance(listed, list) and listed and isinstance(listed[0], list):
            listed = [entry for row in listed for entry in (row if isinstance(row, list) else [row])]
        if isinstance(listed, list) and 0 < len(listed) <= 14 and all(_number(entry) is not None for entry in listed):
            return str(model or (unnamed if len(listed) == 4 else "opencv"))[:100], tuple(float(entry) for entry in listed)
    return None


def _size(values: Mapping[str, Any]) -> tuple[int, int] | None:
    for names in (("image_width", "image_height"), ("width", "height"), ("w", "h")):
        pair = _numbers(values, *names)
        if pair is not None:
            return int(pair[0]), int(pair[1])
    for name in ("image_size", "imageSize", "resolution", "size"):
        listed = values.get(name)
        if isinstance(listed, list) and len(listed) == 2 and all(_number(entry) is not None for entry in listed):
            return int(listed[0]), int(listed[1])
    return None


def lenses(content: Any, unnamed: str, path: tuple[str, ...] = (), outer: Mapping[str, Any] | None = None) -> Iterator[Lens]:
    """Yield every camera that a JSON value describes.

    Args:
        content: the value.
        unnamed: the model of four coefficients k1 to k4 that the file gives no name to.
        path: the keys that lead to it.
        outer: the object that it stands in, which may hold the size and the coefficients.
    """
    if not isinstance(content, dict) or len(path) > MAX_DEPTH:
        return
    around = {**(outer or {}), **content}
    pixels = _numbers(content, "fx", "fy", "cx", "cy")
    if pixels is None:
        pixels = next((found for name in MATRICES if (found := _matrix(content.get(name))) is not None), None)
    if pixels is not None:
        yield Lens((pixels[0], pixels[1], pixels[2], pixels[3]), _distortion(around, unnamed), _size(around), path)
        return
    plain = {key: value for key, value in around.items() if not isinstance(value, dict) or key in COEFFICIENTS}
    for key, value in content.items():
        yield from lenses(value, unnamed, (*path, str(key)), plain)
