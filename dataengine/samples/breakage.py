"""What goes wrong with files: finished ones are cut, overwritten, lost or renamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dataengine.core.errors import UnknownName
from dataengine.samples.arm import ArmRecording

Breakage = Callable[[Path, np.random.Generator], Path]


def truncated(path: Path, rng: np.random.Generator) -> Path:
    """Cut the file off after three fifths."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 3 // 5)
    return path


def cut_tail(path: Path, rng: np.random.Generator) -> Path:
    """Cut the last 11 bytes off."""
    with path.open("r+b") as file:
        file.truncate(max(path.stat().st_size - 11, 0))
    return path


def bit_flip(path: Path, rng: np.random.Generator) -> Path:
    """Flip one bit in the middle half of the file."""
    size = path.stat().st_size
    at = int(rng.integers(size // 4, size * 3 // 4))
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << int(rng.integers(8))]))
    return path


def empty(path: Path, rng: np.random.Generator) -> Path:
    """Leave a file of no bytes."""
    path.write_bytes(b"")
    return path


def zeroed_block(path: Path, rng: np.random.Generator) -> Path:
    """Overwrite 4 KiB in the middle with zeros, as a disk that lost a block."""
    size = path.stat().st_size
    at = size // 2 // 4096 * 4096
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(min(4096, size - at)))
    return path


def bad_crc(path: Path, rng: np.random.Generator) -> Path:
    """Flip a bit of a stored checksum: of the first TFRecord's payload, or of the first chunk of an MCAP file.

    Raises:
        ValueError: the file is neither.
    """
    data = bytearray(path.read_bytes())
    if data[:8] == b"\x89MCAP0\r\n":
        at = 8
        while at + 9 <= len(data):
            if data[at] == 0x06:  # Chunk: start and end times, uncompressed size, then its crc (MCAP specification)
                data[at + 9 + 24] ^= 0x10
                path.write_bytes(data)
                return path
            at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
        raise ValueError(f"{path}: an MCAP file without chunks has no such checksum")
    if ".tfrecord" in path.name:
        data[12 + int.from_bytes(data[:8], "little")] ^= 0x10
        path.write_bytes(data)
        return path
    raise ValueError(f"{path}: only TFRecord and MCAP files have checksums of their own")


def wrong_extension(path: Path, rng: np.random.Generator) -> Path:
    """Rename the file to `.dat`."""
    return path.rename(path.with_suffix(".dat"))


def nan_times(path: Path, rng: np.random.Generator) -> Path:
    """Put NaN into the `timestamps` of an HDF5 file (three rows in the middle)."""
    import h5py

    with h5py.File(path, "r+") as file:
        times = file["timestamps"]
        times[len(times) // 2 : len(times) // 2 + 3] = np.nan
    return path


def pickled(path: Path, rng: np.random.Generator) -> Path:
    """Put a pickle in the file's place that would create `<name>.executed` beside it if anybody loaded it."""
    marker = path.with_name(path.name + ".executed")
    path.write_bytes(b"cbuiltins\nopen\n(V" + str(marker).encode("raw_unicode_escape") + b"\nVw\ntR.")
    return path


def missing_shard(path: Path, rng: np.random.Generator) -> Path:
    """Delete the last shard of an RLDS dataset's first split; `path` is its version folder."""
    shards = sorted(path.glob("*.tfrecord-*"))
    prefix = shards[0].name.split(".tfrecord-")[0]
    [shard for shard in shards if shard.name.startswith(prefix + ".")][-1].unlink()
    return path


BREAKAGES: Mapping[str, Breakage] = {
    "truncated": truncated,
    "cut_tail": cut_tail,
    "bit_flip": bit_flip,
    "empty": empty,
    "zeroed_block": zeroed_block,
    "bad_crc": bad_crc,
    "wrong_extension": wrong_extension,
    "nan_times": nan_times,
    "pickled": pickled,
    "missing_shard": missing_shard,
}


def break_file(path: Path, name: str, seed: int = 0) -> Path:
    """Break a finished file (or folder) in a named way and return where it is now; raise UnknownName."""
    if name not in BREAKAGES:
        raise UnknownName("breakage", name, BREAKAGES)
    return BREAKAGES[name](path, np.random.default_rng([seed, 19]))


def leaked_splits(recordings: Sequence[ArmRecording], shared: int = 1) -> dict[str, list[ArmRecording]]:
    """Return train and val splits of which the first `shared` recordings stand in both."""
    cut = max(len(recordings) * 4 // 5, 1)
    return {"train": list(recordings[:cut]), "val": [*recordings[:shared], *recordings[cut:]]}
