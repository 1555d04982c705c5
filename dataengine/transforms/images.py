"""Transforms of the pictures in a batch: sizes, cuts, colours, floats.

Without `fields` a transform changes every field of uint8 pictures (..., H, W, 3) whose name starts with "camera:" or "observation.images.". What is
random is a pure function of (seed, field, epoch, sample): whichever batch, worker or rank a sample comes in, it is cut and coloured alike, and so are
all of its frames of one camera. Two of one kind in a chain need two seeds, or they draw alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UnknownName
from dataengine.transforms.batch_fields import FLAG_NAMES, PICTURE_NAMES, demand, draws, field_of, is_picture, picture_names
from dataengine.transforms.resizing import FITS, Fit, resized_into

Size = tuple[int, int]
Fields = tuple[str, ...] | None
Layout = Literal["last", "first"]
LAYOUTS: tuple[Layout, ...] = ("last", "first")

# Rows Y, I, Q of the NTSC colour space: Y is the luma of BT.601; the other two are 0 for any grey.
_YIQ_FROM_RGB = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_MID_GREY = 127.5


@dataclass(frozen=True)
class Resize:
    """Bring pictures to `size` (height, width) in px: see `resized_into` for `fit`."""

    size: Size
    fit: Fit = "stretch"
    fields: Fields = None

    def __post_init__(self) -> None:
        _check_size(self, "size", self.size)
        if self.fit not in FITS:
            raise UnknownName("fit", self.fit, FITS)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        changed = {}
        for name in picture_names(batch, self.fields):
            array = np.asarray(batch[name])
            if array.shape[-3:-1] == tuple(self.size):
                continue
            out = np.empty((*array.shape[:-3], *self.size, 3), np.uint8)
            for picture, place in zip(array.reshape(-1, *array.shape[-3:]), out.reshape(-1, *self.size, 3), strict=True):
                resized_into(picture, place, self.fit)
            changed[name] = out
        return {**batch, **changed}


@dataclass(frozen=True)
class CentreCrop:
    """Cut `size` (height, width) in px out of the middle; where what is left over is odd, the smaller half is above or left."""

    size: Size
    fields: Fields = None

    def __post_init__(self) -> None:
        _check_size(self, "size", self.size)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        changed = {}
        for name in picture_names(batch, self.fields):
            array = np.asarray(batch[name])
            top, left = (room // 2 for room in _room(name, array, self.size, 0))
            changed[name] = np.ascontiguousarray(array[..., top : top + self.size[0], left : left + self.size[1], :])
        return {**batch, **changed}


@dataclass(frozen=True)
class RandomCrop:
    """Cut `size` (height, width) in px out of each sample at a place of its own, all places equally likely.

    With `pad` px the border is first repeated outwards by so much: the random shift of DrQ (Kostrikov et al. 2020) with the size of the pictures,
    the random crop of Diffusion Policy (Chi et al. 2023) with a smaller size and no `pad`.
    """

    size: Size
    pad: int = 0
    seed: int = 0
    fields: Fields = None

    def __post_init__(self) -> None:
        _check_size(self, "size", self.size)
        demand(self.pad >= 0, f"RandomCrop: pad must not be negative, got {self.pad}")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        changed = {}
        for name in picture_names(batch, self.fields):
            array = np.asarray(batch[name])
            rooms = _room(name, array, self.size, self.pad)
            samples, down = draws(batch, name, array, self.seed, "RandomCrop/top")
            across = draws(batch, name, array, self.seed, "RandomCrop/left")[1]
            tops, lefts = ((drawn * (room + 1)).astype(np.int64) - self.pad for drawn, room in zip((down, across), rooms, strict=True))
            out = np.empty((*samples.shape[:2], *self.size, 3), np.uint8)
            for pictures, place, top, left in zip(samples, out, tops, lefts, strict=True):
                _cut_into(place, pictures, int(top), int(left))
            changed[name] = out.reshape(*array.shape[:-3], *self.size, 3)
        return {**batch, **changed}


@dataclass(frozen=True)
class ColourJitter:
    """Change the colours of each sample in a way of its own; uint8 in and out.

    In this order: brightness times 1 +- `brightness`; contrast about mid-grey (127.5) times 1 +- `contrast`; distance from the picture's own grey
    (luma of BT.601) times 1 +- `saturation`; hue turned about the grey axis of YIQ by up to +- `hue` of a full turn. All even in their range. Since
    each is linear, together they are one matrix for each sample; the result is rounded (to within 1) and cut to 0..255 once, at the end.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    seed: int = 0
    fields: Fields = None

    def __post_init__(self) -> None:
        for name, most in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.5)):
            demand(0 <= getattr(self, name) <= most, f"ColourJitter: {name} must lie in [0, {most}], got {getattr(self, name)}")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        import cv2

        changed = {}
        for name in picture_names(batch, self.fields):
            array = np.asarray(batch[name])
            strengths = {"brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation, "hue": self.hue}
            drawn = {what: draws(batch, name, array, self.seed, f"ColourJitter/{what}") for what in strengths}
            samples = next(iter(drawn.values()))[0]
            shifts = np.stack([(2 * drawn[what][1] - 1) * strength for what, strength in strengths.items()], axis=-1)
            out: Array = np.empty(samples.shape, np.uint8)
            for pictures, place, shift in zip(samples, out, shifts, strict=True):
                rows = pictures.reshape(-1, pictures.shape[-2], 3)  # the frames of a sample one below the other: one call
                place[...] = np.asarray(cv2.transform(rows, colour_matrix(*(float(value) for value in shift)))).reshape(place.shape)
            changed[name] = out.reshape(array.shape)
        return {**batch, **changed}


def colour_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> Array:
    """Return the (3, 4) float64 matrix that takes (R, G, B, 1) in 0..255 to changed colours: see `ColourJitter`; 0 changes nothing.

    Args:
        brightness: factor less 1.
        contrast: factor less 1.
        saturation: factor less 1.
        hue: in full turns, from I to Q: a small one takes red towards purple.
    """
    luma = np.broadcast_to(_YIQ_FROM_RGB[0], (3, 3))
    linear = np.eye(3) * (1 + brightness) * (1 + contrast)
    constant = np.full(3, -contrast * _MID_GREY)
    saturate = (1 + saturation) * np.eye(3) - saturation * luma
    cosine, sine = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue)
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    rotate = np.linalg.inv(_YIQ_FROM_RGB) @ turn @ _YIQ_FROM_RGB
    both = rotate @ saturate
    return np.concatenate([both @ linear, (both @ constant)[:, None]], axis=1)


@dataclass(frozen=True)
class ToFloat:
    """Turn uint8 pictures into float32: value / 255, less `mean`, divided by `std` (of R, G, B, in [0, 1]); channels "last" or "first"."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: Layout = "last"
    fields: Fields = None

    def __post_init__(self) -> None:
        _check_scale(self)

    @property
    def inverse(self) -> FromFloat:
        """Return the way back: exact for what this gave."""
        return FromFloat(self.mean, self.std, self.channels, self.fields)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        gain = (1 / (255 * np.asarray(self.std))).astype(np.float32)
        offset = (-np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
        changed = {}
        for name in picture_names(batch, self.fields):
            array = np.asarray(batch[name])
            if self.channels == "first":
                out = np.empty((*array.shape[:-3], 3, *array.shape[-3:-1]), np.float32)
                for channel in range(3):
                    np.multiply(array[..., channel], gain[channel], out=out[..., channel, :, :])
                out += offset[:, None, None]
            else:  # whole rows at a time: an inner loop over three channels would be slow
                width = array.shape[-2]
                out = np.multiply(array.reshape(*array.shape[:-2], width * 3), np.tile(gain, width))
                out += np.tile(offset, width)
                out = out.reshape(array.shape)
            changed[name] = out
        return {**batch, **changed}


@dataclass(frozen=True)
class FromFloat:
    """Turn float pictures back into uint8 (..., H, W, 3), rounded and cut to 0..255; pictures that the batch lacks are passed over."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: Layout = "last"
    fields: Fields = None

    def __post_init__(self) -> None:
        _check_scale(self)

    @property
    def inverse(self) -> ToFloat:
        """Return the way back."""
        return ToFloat(self.mean, self.std, self.channels, self.fields)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        axis = -3 if self.channels == "first" else -1
        changed = {}
        for name in batch if self.fields is None else [name for name in self.fields if name in batch]:
            if self.fields is None and (not name.startswith(PICTURE_NAMES) or name.endswith(FLAG_NAMES)):
                continue
            array = field_of(batch, name, "which this transform changes")
            if self.fields is None and not (array.dtype.kind == "f" and is_picture(array, axis)):
                continue
            shape = "(..., 3, H, W)" if axis == -3 else "(..., H, W, 3)"
            demand(array.dtype.kind == "f" and is_picture(array, axis), f"batch[{name!r}]: must be float pictures {shape}, got {array.dtype} {array.shape}")
            pictures = np.moveaxis(array, axis, -1).astype(np.float64)
            changed[name] = np.rint(np.clip((pictures * self.std + self.mean) * 255, 0, 255)).astype(np.uint8)
        return {**batch, **changed}


def _check_size(transform: object, name: str, size: Size) -> None:
    object.__setattr__(transform, name, tuple(size))  # a list compares and hashes as the tuple it stands for
    demand(len(size) == 2 and min(size) >= 1, f"{type(transform).__name__}: {name} must be (height, width) in px, got {size}")


def _check_scale(transform: ToFloat | FromFloat) -> None:
    kind = type(transform).__name__
    demand(len(transform.mean) == len(transform.std) == 3, f"{kind}: mean and std must have three numbers, got {transform.mean} and {transform.std}")
    demand(all(0 <= value <= 1 for value in transform.mean), f"{kind}: mean must lie in [0, 1], where pictures do, got {transform.mean}")
    demand(all(0 < value <= 1 for value in transform.std), f"{kind}: std must lie in (0, 1], where 255 is 1, got {transform.std}")
    if transform.channels not in LAYOUTS:
        raise UnknownName("channels", transform.channels, LAYOUTS)


def _room(name: str, array: Array, size: Size, pad: int) -> tuple[int, int]:
    """Return how many px of height and width a cut leaves over."""
    height, width = array.shape[-3] + 2 * pad, array.shape[-2] + 2 * pad
    around = f" with {pad} px around" if pad else ""
    demand(size[0] <= height and size[1] <= width, f"batch[{name!r}]: must be at least {size[0]}x{size[1]} px to be cut, got {array.shape[-3:-1]}{around}")
    return height - size[0], width - size[1]


def _cut_into(out: Array, pictures: Array, top: int, left: int) -> None:
    """Write a window of (N, H, W, 3) pictures into `out`, from (top, left), which may lie outside: the border is repeated there."""
    height, width = pictures.shape[-3:-1]
    above, before = max(0, -top), max(0, -left)
    below, after = min(out.shape[1], height - top), min(out.shape[2], width - left)
    if above >= below or before >= after:  # nothing but border
        rows, columns = np.clip(np.arange(top, top + out.shape[1]), 0, height - 1), np.clip(np.arange(left, left + out.shape[2]), 0, width - 1)
        out[...] = pictures[:, rows[:, None], columns]
        return
    out[:, above:below, before:after] = pictures[:, top + above : top + below, left + before : left + after]
    out[:, above:below, :before] = out[:, above:below, before : before + 1]
    out[:, above:below, after:] = out[:, above:below, after - 1 : after]
    out[:, :above] = out[:, above : above + 1]
    out[:, below:] = out[:, below - 1 : below]
