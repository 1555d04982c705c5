"""The folder of blocks: what a file holds, what is not believed, and that the folder stays within its bound whatever its writers do."""

from __future__ import annotations

import logging
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import google_crc32c
import pytest

from dataengine.core.block_folder import BlockFolder
from dataengine.core.errors import UsageError
from tests.support.shared import REPOSITORY
from tests.support.still import folder_bytes, largest_folder

KIB = 1024
BLOCK = 128 * KIB
LIMIT = 64 * BLOCK


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return a process's exit code and what it said."""
    said = process.communicate()[1]
    return process.returncode, said


def content(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.fixture
def blocks(tmp_path: Path) -> BlockFolder:
    return BlockFolder(tmp_path, LIMIT, BLOCK)


def only_file(folder: Path) -> Path:
    (found,) = [path for path in folder.rglob("*") if path.is_file()]
    return found


def test_a_block_file_is_what_the_text_says(blocks: BlockFolder, tmp_path: Path) -> None:
    data = content(100 * KIB)
    name = blocks.name("s3://lab/media/a", "etag 1")
    blocks.write(name, 7, data)
    sums = struct.pack("<2I", google_crc32c.value(data[: 64 * KIB]), google_crc32c.value(data[64 * KIB :]))
    path = only_file(tmp_path)
    assert path == tmp_path / "blocks" / name / "7"
    assert path.read_bytes() == b"DEBLOCK1" + (100 * KIB).to_bytes(4, "little") + sums + data
    assert blocks.used_bytes() == 104 * KIB  # 20 bytes and 100 KiB in pages of 4 KiB


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (0, 100 * KIB), (64 * KIB - 1, 64 * KIB), (64 * KIB - 1, 64 * KIB + 2), (64 * KIB, 100 * KIB), (3, 99 * KIB), (100 * KIB - 1, 100 * KIB)],
)
def test_parts_of_a_block(blocks: BlockFolder, start: int, stop: int) -> None:
    data = content(100 * KIB)
    blocks.write("a" * 32 + "/" + "b" * 32, 0, data)
    assert blocks.read("a" * 32 + "/" + "b" * 32, 0, len(data), start, stop) == data[start:stop]


def test_what_is_absent_or_of_another_length_is_not_read(blocks: BlockFolder) -> None:
    name = blocks.name("a", "1")
    blocks.write(name, 0, b"x" * 1000)
    assert blocks.read(name, 1, 1000, 0, 10) is None
    assert blocks.read(name, 0, 1001, 0, 10) is None
    assert blocks.read(blocks.name("a", "2"), 0, 1000, 0, 10) is None


def test_damage_is_found_in_the_piece_that_is_read_and_the_file_is_removed(blocks: BlockFolder, tmp_path: Path) -> None:
    data, name = content(BLOCK), blocks.name("a", "1")
    for change in ("flip the second piece", "cut", "append", "flip the head", "flip a sum", "empty"):
        blocks.write(name, 0, data)
        path = only_file(tmp_path)
        damaged = bytearray(path.read_bytes())
        place = {"flip the second piece": 20 + 64 * KIB + 5, "flip the head": 9, "flip a sum": 17}.get(change)
        if place is not None:
            damaged[place] ^= 4
        damaged = {"cut": damaged[:-1], "append": damaged + b"\0", "empty": bytearray()}.get(change, damaged)
        path.write_bytes(damaged)
        if change in ("flip the second piece", "flip a sum"):
            assert blocks.read(name, 0, BLOCK, 0, 64 * KIB) == data[: 64 * KIB]
        assert blocks.read(name, 0, BLOCK, 64 * KIB, BLOCK) is None, change
        assert not path.exists(), change


def test_what_was_used_longest_ago_goes_first(blocks: BlockFolder) -> None:
    name, data = blocks.name("a", "1"), content(BLOCK)
    for block in range(30):
        blocks.write(name, block, data)
        path = blocks.folder / name / str(block)
        os.utime(path, ns=(0, time.time_ns() - (100 - block) * 10**9))
    assert blocks.read(name, 3, BLOCK, 0, 1) is not None  # is used now
    for block in range(30, 70):
        blocks.write(name, block, data)
    left = {int(path.name) for path in (blocks.folder / name).iterdir()}
    assert 3 in left
    assert 69 in left
    assert not left & {0, 1, 2, 4, 5}
    # 64 blocks, less one (its file is larger than its content) and the room of 8 writers
    assert 48 <= len(left) <= 63
    assert folder_bytes(blocks.folder) <= LIMIT


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    notes = [tmp_path / "notes.txt", tmp_path / "blocks" / "notes.txt", tmp_path / "blocks" / "mine" / "2024" / "7"]
    for note in notes:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_bytes(b"x" * LIMIT)
    blocks = BlockFolder(tmp_path, LIMIT, BLOCK)
    for block in range(100):
        blocks.write(blocks.name("a", "1"), block, content(BLOCK))
    assert all(note.stat().st_size == LIMIT for note in notes)
    assert blocks.used_bytes() <= LIMIT


def test_the_folder_of_many_small_objects_counts_whole_pages(tmp_path: Path) -> None:
    blocks = BlockFolder(tmp_path, 16 * 64 * KIB, 64 * KIB)
    for number in range(600):
        blocks.write(blocks.name(f"object {number}", "1"), 0, b"x")
    left = sum(path.is_file() for path in tmp_path.rglob("*"))
    assert 64 <= left <= 256  # at most 1 MiB in pages of 4 KiB
    assert blocks.used_bytes() == left * 4 * KIB
    assert not [path for path in blocks.folder.iterdir() if not any(path.iterdir())]


_WRITE = """
import sys
from pathlib import Path
from dataengine.core.block_folder import BlockFolder
blocks = BlockFolder(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
for number in range(int(sys.argv[5])):
    blocks.write(blocks.name(sys.argv[4], str(number // 40)), number % 40, bytes([number % 251]) * int(sys.argv[3]))
    part = blocks.read(blocks.name(sys.argv[4], str(number // 40)), number % 40, int(sys.argv[3]), 5, 9)
    assert part in (None, bytes([number % 251]) * 4), part
"""


def test_the_bound_holds_while_three_processes_write_more_than_fits(tmp_path: Path) -> None:
    limit = 256 * 64 * KIB  # of which each writer may take a 64th before it looks at the folder again
    writers = [run(_WRITE, tmp_path, limit, 64 * KIB, f"object {number}", 800) for number in range(3)]
    most = largest_folder(tmp_path, writers)
    for writer in writers:
        assert ended(writer) == (0, "")
    assert limit // 2 < most <= limit
    assert limit // 2 < folder_bytes(tmp_path) <= limit


def test_a_process_that_finds_a_folder_too_full_makes_room_by_its_end(tmp_path: Path) -> None:
    large = BlockFolder(tmp_path, 4 * LIMIT, BLOCK)
    for block in range(100):
        large.write(large.name("a", "1"), block, content(BLOCK))
    assert large.used_bytes() > LIMIT
    assert ended(run(_WRITE, tmp_path, LIMIT, BLOCK, "b", 1)) == (0, "")
    assert large.used_bytes() <= LIMIT


_KILLED = """
import os, resource, signal, sys
from pathlib import Path
from dataengine.core.block_folder import BlockFolder
blocks = BlockFolder(Path(sys.argv[1]), 64 << 17, 1 << 17)
if sys.argv[2] == "while it writes":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
else:
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
blocks.write(blocks.name("a", "1"), 0, b"x" * (1 << 17))
"""


@pytest.mark.parametrize(("when", "size"), [("while it writes", 50_000), ("before it is named", 20 + BLOCK)])
def test_what_a_killed_writer_leaves_is_never_read_and_goes_after_an_hour(blocks: BlockFolder, tmp_path: Path, when: str, size: int) -> None:
    assert ended(run(_KILLED, tmp_path, when))[0] in (-signal.SIGKILL, -signal.SIGXFSZ)
    name, path = blocks.name("a", "1"), only_file(tmp_path)
    assert path.stat().st_size == size
    assert path.name.endswith(".tmp")
    assert not blocks.has(name, 0)
    assert blocks.read(name, 0, BLOCK, 0, 1) is None
    os.utime(path, ns=(0, time.time_ns() - 2 * 3600 * 10**9))
    for block in range(3):
        blocks.write(name, block, content(BLOCK))
    assert not path.exists()
    assert blocks.read(name, 2, BLOCK, 0, BLOCK) == content(BLOCK)


_FULL = """
import logging, resource, sys
from pathlib import Path
from dataengine.core.block_folder import BlockFolder
logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
blocks = BlockFolder(Path(sys.argv[1]), 64 << 17, 1 << 17)
for block in range(3):
    blocks.write(blocks.name("a", "1"), block, b"x" * (1 << 17))
    assert not blocks.writable
"""


def test_a_disk_that_takes_half_a_block_is_said_once(tmp_path: Path) -> None:
    code, text = ended(run(_FULL, tmp_path))
    said = text.splitlines()
    assert (code, len(said)) == (0, 1), text
    assert said[0].startswith(f"WARNING {tmp_path}/blocks: blocks cannot be kept (")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    blocks = BlockFolder(tmp_path / "file", LIMIT, BLOCK)
    with caplog.at_level(logging.WARNING):
        for block in range(3):
            blocks.write(blocks.name("a", "1"), block, b"x")
    assert [record.getMessage().partition("(")[2][:15] for record in caplog.records] == ["Not a directory"]
    assert blocks.read(blocks.name("a", "1"), 0, 1, 0, 1) is None
    assert blocks.used_bytes() == 0


def test_older_content_of_an_object_is_forgotten(blocks: BlockFolder) -> None:
    old, new, other = blocks.name("a", "1"), blocks.name("a", "2"), blocks.name("b", "1")
    for name in (old, new, other):
        blocks.write(name, 0, b"x")
    blocks.forget(new)
    assert [blocks.has(name, 0) for name in (old, new, other)] == [False, True, True]
    blocks.forget(new, keep=False)
    assert [blocks.has(name, 0) for name in (old, new, other)] == [False, False, True]


@pytest.mark.parametrize(
    ("limit", "block", "says"), [(LIMIT, 1000, "block_bytes must be a multiple of 65536, got 1000"), (15 * BLOCK, BLOCK, "at least 16 blocks")]
)
def test_sizes_that_cannot_work_are_refused(tmp_path: Path, limit: int, block: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        BlockFolder(tmp_path, limit, block)
