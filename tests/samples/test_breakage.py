from pathlib import Path

import h5py
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.stream_reader import CRCValidationError

from dataengine.core.errors import UnknownName
from dataengine.samples.aloha import AlohaOptions, write_aloha
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.breakage import break_file, leaked_splits
from dataengine.samples.mcap import write_mcap
from dataengine.samples.rlds import RldsOptions, write_rlds

SMALL = ArmConfig(32, 32, max_steps=6)


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(0, 1, SMALL)


def test_sizes_and_bytes(tmp_path: Path) -> None:
    content = np.random.default_rng(1).bytes(40_000)

    def broken(name: str) -> bytes:
        path = tmp_path / "a.bin"
        path.write_bytes(content)
        return break_file(path, name).read_bytes()

    assert broken("truncated") == content[:24_000]
    assert broken("cut_tail") == content[:-11]
    assert broken("empty") == b""
    flipped = np.frombuffer(broken("bit_flip"), np.uint8) ^ np.frombuffer(content, np.uint8)
    assert np.unpackbits(flipped).sum() == 1
    assert broken("zeroed_block") == content[:16_384] + bytes(4096) + content[20_480:]
    assert break_file(tmp_path / "a.bin", "wrong_extension") == tmp_path / "a.dat"
    with pytest.raises(UnknownName, match="did you mean 'bit_flip'"):
        break_file(tmp_path / "a.dat", "bitflip")
    with pytest.raises(ValueError, match="checksums of their own"):
        break_file(tmp_path / "a.dat", "bad_crc")


def test_bad_crc_of_mcap(tmp_path: Path, recording: ArmRecording) -> None:
    path = write_mcap(tmp_path / "a.mcap", [recording])
    break_file(path, "bad_crc")
    with path.open("rb") as file, pytest.raises(CRCValidationError):
        list(make_reader(file, validate_crcs=True).iter_messages())
    with path.open("rb") as file:
        assert len(list(make_reader(file, validate_crcs=False).iter_messages())) > 100


def test_bad_crc_and_missing_shard_of_rlds(tmp_path: Path, recording: ArmRecording) -> None:
    root = write_rlds(tmp_path, {"train": [recording, recording], "val": [recording]}, RldsOptions(shards=2))
    shard = root / "sample_arm-train.tfrecord-00000-of-00002"
    before = shard.read_bytes()
    break_file(shard, "bad_crc")
    changed = [at for at, (a, b) in enumerate(zip(before, shard.read_bytes(), strict=True)) if a != b]
    assert changed == [len(before) - 4]
    break_file(root, "missing_shard")
    assert sorted(path.name.split("tfrecord-")[1] for path in root.glob("*train*")) == ["00000-of-00002"]
    assert len(list(root.glob("*val*"))) == 2


def test_nan_times(tmp_path: Path, recording: ArmRecording) -> None:
    (path,) = write_aloha(tmp_path, [recording], AlohaOptions(timestamps=True))
    with h5py.File(break_file(path, "nan_times")) as file:
        assert np.isnan(file["timestamps"][:]).tolist() == [False, False, False, True, True, True]


def test_a_pickle_would_leave_a_mark(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "episode_0.hdf5"
    path.write_bytes(b"x")
    break_file(path, "pickled")
    pickle.loads(path.read_bytes()).close()
    assert (tmp_path / "episode_0.hdf5.executed").exists()


def test_leaked_splits(recording: ArmRecording) -> None:
    others = [record(0, index, ArmConfig(cameras=(), max_steps=3)) for index in range(10)]
    splits = leaked_splits(others, shared=2)
    assert [item.index for item in splits["train"]] == list(range(8))
    assert [item.index for item in splits["val"]] == [0, 1, 8, 9]
