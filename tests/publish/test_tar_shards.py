"""Archives of samples: bounded, in order, the same bytes for the same samples, as tarfile reads them."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from dataengine.publish.tar_shards import TarShards


def written(folder: Path, shard_bytes: int) -> TarShards:
    folder.mkdir()
    shards = TarShards(folder, "lab", shard_bytes)
    for number in range(5):
        shards.add(f"e_{number}", {"b.npy": bytes([number]) * 600, "a.jpg": b"x" * number, f"{'long' * 40}.npy": b"1"})
    shards.close()
    return shards


def test_samples_in_archives(tmp_path: Path) -> None:
    """A sample takes three headers and 0 or 1, 2 and 1 blocks of content: 3072 bytes for the first, 3584 for the others. Two go into 7000 bytes."""
    shards = written(tmp_path / "out", 7000)
    assert [(shard.name, shard.samples, shard.first, shard.last) for shard in shards.shards] == [
        ("lab-000000.tar", 2, "e_0", "e_1"),
        ("lab-000001.tar", 1, "e_2", "e_2"),
        ("lab-000002.tar", 1, "e_3", "e_3"),
        ("lab-000003.tar", 1, "e_4", "e_4"),
    ]
    for shard in shards.shards:
        data = (tmp_path / "out" / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
    with tarfile.open(tmp_path / "out" / "lab-000000.tar") as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [f"e_{number}.{name}" for number in (0, 1) for name in ("a.jpg", "b.npy", f"{'long' * 40}.npy")]
        assert {(member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode) for member in members} == {(0, 0, 0, "", "", 0o644)}
        content = archive.extractfile("e_1.b.npy")
        assert content is not None
        assert content.read() == b"\1" * 600


def test_same_samples_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "a", 7000).shards == written(tmp_path / "b", 7000).shards
    assert [shard.samples for shard in written(tmp_path / "c", 1).shards] == [1] * 5
    assert [shard.samples for shard in written(tmp_path / "d", 1 << 20).shards] == [5]
