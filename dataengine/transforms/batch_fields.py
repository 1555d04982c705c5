"""What transforms of batches share: finding a field, saying what is wrong with it, and the flags that stand beside it.

A batch is a flat dict of arrays: `camera:<role>` (..., H, W, 3) uint8, `action` (..., A, D), `<name>_is_pad` (..., T) bool where a step does not
exist, `<name>_mask` (..., D) bool where a body has the entry, `sample` (B,) int64 and `epoch` for what is random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.core.randomness import text_key, uniforms

PICTURE_NAMES = ("camera:", "observation.images.")  # how the names of pictures start
FLAG_NAMES = ("_is_pad", "_mask")  # how the names of flags end


def demand(condition: bool, message: str) -> None:
    """Raise UsageError with `message` unless `condition` holds."""
    if not condition:
        raise UsageError(message)


def field_of(batch: Mapping[str, Any], name: str, why: str) -> Array:
    """Return a field as an array; raise UsageError where the batch lacks it."""
    if name not in batch:
        raise UsageError(f"batch: must hold {name!r}, {why}; got {', '.join(sorted(batch)) or 'nothing'}")
    return np.asarray(batch[name])


def floats_of(batch: Mapping[str, Any], name: str, why: str, width: int = 1) -> Array:
    """Return a field as an array of floats with at least `width` entries on its last axis; raise UsageError."""
    array = field_of(batch, name, why)
    demand(
        array.dtype.kind == "f" and array.ndim >= 1 and array.shape[-1] >= width,
        f"batch[{name!r}]: must be floats (..., D) with D >= {width}, {why}; got {array.dtype} {array.shape}",
    )
    return array


def padding_of(batch: Mapping[str, Any], name: str, leading: tuple[int, ...]) -> Array:
    """Return (leading) bool of the steps of a field that do not exist: all False where the batch does not say."""
    if f"{name}_is_pad" not in batch:
        return np.zeros(leading, bool)
    flags = np.asarray(batch[f"{name}_is_pad"])
    demand(
        flags.dtype == bool and flags.shape in (leading, (*leading, 1)),
        f"batch['{name}_is_pad']: must be bool {leading}, as {name!r} is; got {flags.dtype} {flags.shape}",
    )
    return flags.reshape(leading)


def mask_of(batch: Mapping[str, Any], name: str, width: int) -> Array:
    """Return (..., width) bool of the entries of a field that a body has: (width,) True where the batch does not say."""
    if f"{name}_mask" not in batch:
        return np.ones(width, bool)
    mask = np.asarray(batch[f"{name}_mask"])
    demand(mask.dtype == bool and mask.shape[-1:] == (width,), f"batch['{name}_mask']: must be bool (..., {width}), got {mask.dtype} {mask.shape}")
    return mask


def is_picture(array: Array, channel_axis: int = -1) -> bool:
    """Whether an array has the shape of pictures of three colours."""
    return array.ndim >= 3 and array.shape[channel_axis] == 3


def picture_names(batch: Mapping[str, Any], fields: Sequence[str] | None) -> list[str]:
    """Return the fields named, or else all that hold uint8 pictures by their name and shape; raise UsageError where they are none."""
    if fields is None:
        found = [
            name
            for name, value in batch.items()
            if name.startswith(PICTURE_NAMES) and not name.endswith(FLAG_NAMES) and np.asarray(value).dtype == np.uint8 and is_picture(np.asarray(value))
        ]
        demand(bool(found), f"batch: must hold pictures, a field camera:<role> of uint8 (..., H, W, 3); got {_said(batch)}; name them with fields=")
        return found
    for name in fields:
        array = field_of(batch, name, "which this transform changes")
        demand(
            array.dtype == np.uint8 and is_picture(array),
            f"batch[{name!r}]: must be uint8 pictures (..., H, W, 3), got {array.dtype} {array.shape}; ToFloat comes last",
        )
    return list(fields)


def draws(batch: Mapping[str, Any], name: str, array: Array, seed: int, purpose: str) -> tuple[Array, Array]:
    """Return the pictures sample by sample, and a number in [0, 1) for each sample: a pure function of (seed, purpose, field, epoch, sample).

    `batch["sample"]` is (B,) integers, or one for a lone sample; `batch["epoch"]` one integer, or one for each sample.

    Returns:
        (S, N, H, W, 3): N pictures of each of S samples; and (S,) float64.
    """
    samples = field_of(batch, "sample", "the global number of each sample, from which it draws")
    epoch = field_of(batch, "epoch", "from which it draws")
    demand(
        samples.dtype.kind in "iu" and samples.ndim <= array.ndim - 3 and array.shape[: samples.ndim] == samples.shape,
        f"batch['sample']: must be one integer for each sample of {name!r} {array.shape}, got {samples.dtype} {samples.shape}",
    )
    demand(
        epoch.dtype.kind in "iu" and epoch.shape in ((), samples.shape),
        f"batch['epoch']: must be one integer, or one for each of the samples {samples.shape}; got {epoch.dtype} {epoch.shape}",
    )
    drawn = uniforms(seed, text_key(purpose), text_key(name), epoch, samples)
    count = samples.size
    pictures = array.shape[samples.ndim : -3]
    return array.reshape(count, int(np.prod(pictures)), *array.shape[-3:]), np.broadcast_to(drawn, samples.shape).reshape(count)


def _said(batch: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {np.asarray(value).dtype} {np.shape(value)}" for name, value in batch.items() if not isinstance(value, list)) or "nothing"
