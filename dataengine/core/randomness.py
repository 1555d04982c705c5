"""Randomness without state: numbers in place of draws, each a pure function of a seed and keys (epoch, sample, ...), the same on any machine.

    order = np.argsort(hash64(seed, epoch, np.arange(n)))  # a permutation of n samples
    shift = uniforms(seed, epoch, sample, text_key("camera:primary"))  # in [0, 1), for each sample its own

The mixing step is that of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", with the constants of
Stafford's variant 13). It maps the 64-bit numbers one to one, so that the hashes of one seed and one array of distinct keys are distinct.
"""

from __future__ import annotations

import hashlib

import numpy as np

from dataengine.core.arrays import Array

Key = int | Array  # one integer or an array of them, signed or not

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_ALL_BITS = (1 << 64) - 1


def mix64(values: Key) -> Array:
    """Return the uint64 that splitmix64 gives first from each state, in the shape of `values`; integers are taken modulo 2**64."""
    mixed = _as_uint64(values) + np.zeros(1, np.uint64)  # own memory, and at least one axis: a scalar's overflow would warn
    mixed += _GAMMA
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed.reshape(np.shape(values))


def hash64(seed: Key, *keys: Key) -> Array:
    """Return one uint64 for each combination of the seed and the keys: integers or arrays of them, broadcast. Their order counts."""
    mixed = mix64(seed)
    for key in keys:
        mixed = mix64(mixed ^ _as_uint64(key))
    return mixed


def uniforms(seed: Key, *keys: Key) -> Array:
    """Return float64 in [0, 1) for each combination of the seed and the keys (see `hash64`): its upper 53 bits."""
    return np.asarray((hash64(seed, *keys) >> np.uint64(11)) * 2.0**-53)


def text_key(text: str) -> int:
    """Return the key that stands for a text such as a column's name: the first 8 bytes of its BLAKE2b, little-endian."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _as_uint64(values: Key) -> Array:
    if isinstance(values, int):  # a Python number may be longer than 64 bits
        return np.asarray(values & _ALL_BITS, dtype=np.uint64)
    array: Array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"keys: must be integers, got {array.dtype}")
    return array.astype(np.uint64)  # of negative ones the two's complement
