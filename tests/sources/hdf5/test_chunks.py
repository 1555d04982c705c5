"""The unpacking of chunks agrees with the library's."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from dataengine.sources.hdf5.chunks import fletcher32, lzf_length


@pytest.mark.parametrize("size", [1, 2, 3, 722, 5001, 300_000])
def test_the_checksum_is_the_librarys(tmp_path: Path, size: int) -> None:
    values = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=values, chunks=(size,), fletcher32=True)
        _, stored = dataset.id.read_direct_chunk((0,))
    assert stored[:-4] == values.tobytes()
    assert int.from_bytes(stored[-4:], "little") == fletcher32(values.tobytes())


def test_the_checksum_of_a_known_text() -> None:
    # Words "ab" 0x6162, "cd" 0x6364, "e" 0x6500: their sum is 0x129c6, the sum of prefixes 0x6162 + 0xc4c6 + 0x129c6 = 0x24fee; both modulo 65535.
    assert fletcher32(b"abcde") == (0x24FEE - 2 * 65535) << 16 | 0x129C6 - 65535


@pytest.mark.parametrize("repeat", [4, 9, 400])
def test_the_length_of_an_lzf_block_is_what_it_unpacks_to(tmp_path: Path, repeat: int) -> None:
    values = np.repeat(np.random.default_rng(repeat).integers(0, 256, 3000 // repeat + 1, dtype=np.uint8), repeat)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=values, chunks=values.shape, compression="lzf")
        mask, stored = dataset.id.read_direct_chunk((0,))
    assert mask == 0  # else the library kept the bytes plain
    assert lzf_length(stored) == len(values)
    assert lzf_length(stored[:-1]) != len(values)


def test_lzf_by_hand() -> None:
    assert lzf_length(b"\x02abc") == 3  # three literals
    assert lzf_length(b"\x02abc\x20\x02") == 6  # and three more from three back
    assert lzf_length(b"\x02abc\xe0\x05\x00") == 17  # a long reference: 7 + 5 + 2
    assert lzf_length(b"\x02abc\x20\x03") == -1  # reaches back before the start
    assert lzf_length(b"\x05abc") == -1
