from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.errors import CorruptStore
from dataengine.core.objects import LocalObjects
from dataengine.store import arrays
from dataengine.store.array_reader import ArrayReader
from dataengine.store.arrays import ArrayWriter, BytesWriter, FileLog

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]


def numbers(seed: int, rows: int, shape: tuple[int, ...], dtype: str):
    rng = np.random.default_rng(seed)
    if dtype.startswith("complex"):
        return (rng.normal(size=(rows, *shape)) + 1j * rng.normal(size=(rows, *shape))).astype(dtype)
    return (rng.normal(size=(rows, *shape)) * 40).astype(np.int64).astype(dtype)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 64)
    monkeypatch.setattr(arrays, "CHUNKS_A_SHARD", 3)


def log_is_true(folder: Path, log: FileLog) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert present == set(log.files)
    for name, (size, crc) in log.files.items():
        data = (folder / name).read_bytes()
        assert (len(data), google_crc32c.value(data)) == (size, crc), name


def both(folder: Path, name: str):
    """Read an array by our reader and by plain zarr."""
    ours = ArrayReader(LocalObjects(folder), name)
    return ours, np.asarray(zarr.open_array(folder / name, mode="r")[...])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "shape"), [(0, ()), (1, (3,)), (3, (0,)), (3, (2, 0, 2)), (5, (2, 2)), (100, ()), (40, (3,)), (7, (50,))])
def test_every_dtype_and_shape_comes_back_by_zarr_and_by_our_reader(tmp_path, small_chunks, dtype, rows, shape):
    values = numbers(rows, rows, shape, dtype)
    writer, log = ArrayWriter(tmp_path / "a", "a", np.dtype(dtype), shape, {"unit": "m"}), FileLog()
    for row in values:
        writer.append(row[None])
    writer.close(log)
    ours, plain = both(tmp_path, "a")
    assert plain.dtype == ours.dtype == np.dtype(dtype)
    assert plain.shape == ours.shape == (rows, *shape)
    np.testing.assert_array_equal(plain, values)
    np.testing.assert_array_equal(ours.rows(0, rows), values)
    np.testing.assert_array_equal(ours.rows(rows // 3, rows - rows // 4), values[rows // 3 : rows - rows // 4])
    assert ours.attributes == {"unit": "m"}
    log_is_true(tmp_path, log)


def test_an_array_of_one_chunk_is_plain_and_one_row_more_makes_it_sharded(tmp_path, small_chunks):
    for rows, sharded in ((16, False), (17, True)):  # 16 rows of 4 bytes are 64 bytes
        writer = ArrayWriter(tmp_path / f"n{rows}", f"n{rows}", np.dtype(np.int32))
        writer.append(np.arange(rows, dtype=np.int32))
        writer.close(FileLog())
        ours, plain = both(tmp_path, f"n{rows}")
        assert ours.sharded is sharded
        assert plain.tolist() == ours.rows(0, rows).tolist() == list(range(rows))


def test_the_real_sizes_of_chunks_and_shards(tmp_path):
    row = 9000  # 29 rows of 9000 bytes fit 256 KiB; 256 chunks of 29 are a shard file
    rows = 29 * 256 + 3
    values = np.arange(rows, dtype=np.int64)[:, None].astype(np.int16) * np.ones((1, row // 2), np.int16)
    writer, log = ArrayWriter(tmp_path / "a", "a", np.dtype(np.int16), (row // 2,)), FileLog()
    for start in range(0, rows, 1000):
        writer.append(values[start : start + 1000])
    writer.close(log)
    ours = ArrayReader(LocalObjects(tmp_path), "a")
    assert (ours.chunk_rows, ours.chunks_a_shard) == (29, 256)
    assert sorted(name for name in log.files if "/c/" in name) == ["a/c/0/0", "a/c/1/0"]
    for start, stop in ((0, 1), (28, 30), (7423, 7425), (rows - 2, rows)):
        np.testing.assert_array_equal(ours.rows(start, stop), values[start:stop])
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[start:stop], values[start:stop])


STEPS = st.lists(st.tuples(st.sampled_from(["append", "append", "append", "mark", "cut"]), st.integers(0, 60)), max_size=25)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, width=st.sampled_from([0, 1, 3, 40]), dtype=st.sampled_from(["uint8", "float32", "int64"]))
def test_appends_and_cuts_leave_what_a_list_would_hold(steps, width, dtype):
    """Model: a numpy array; `cut` goes back to the last mark, as a lane does with an episode that is abandoned."""
    old = arrays.CHUNK_BYTES, arrays.CHUNKS_A_SHARD
    arrays.CHUNK_BYTES, arrays.CHUNKS_A_SHARD = 64, 3
    folder = Path(tempfile.mkdtemp())
    try:
        shape = (width,) if width else ()
        writer, log = ArrayWriter(folder / "a", "a", np.dtype(dtype), shape), FileLog()
        model = np.zeros((0, *shape), dtype)
        mark = 0
        for number, (step, count) in enumerate(steps):
            if step == "append":
                more = numbers(number, count, shape, dtype)
                writer.append(more)
                model = np.concatenate([model, more])
            elif step == "mark":
                mark = writer.mark()
            else:
                writer.cut(mark)
                model = model[:mark]
            assert writer.rows == len(model)
        writer.close(log)
        ours, plain = both(folder, "a")
        np.testing.assert_array_equal(plain, model)
        np.testing.assert_array_equal(ours.rows(0, len(model)), model)
        log_is_true(folder, log)
    finally:
        arrays.CHUNK_BYTES, arrays.CHUNKS_A_SHARD = old
        shutil.rmtree(folder)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS)
def test_bytes_grow_and_are_cut_as_a_byte_string_would(steps):
    """A shard file of this test holds 192 bytes: appends of up to 60 x 7 bytes cross one, two or three of them."""
    old = arrays.CHUNK_BYTES, arrays.CHUNKS_A_SHARD
    arrays.CHUNK_BYTES, arrays.CHUNKS_A_SHARD = 64, 3
    folder = Path(tempfile.mkdtemp())
    try:
        writer, log = BytesWriter(folder / "data", "data"), FileLog()
        model, mark = b"", 0
        for number, (step, count) in enumerate(steps):
            if step == "append":
                more = np.random.default_rng(number).bytes(count * 7)
                writer.append(memoryview(more) if number % 2 else more)
                model += more
            elif step == "mark":
                mark = writer.mark()
            else:
                writer.cut(mark)
                model = model[:mark]
            assert writer.rows == len(model)
        writer.close(log)
        ours, plain = both(folder, "data")
        assert plain.tobytes() == model
        for start, stop in ((0, len(model)), (len(model) // 3, len(model) // 2), (max(0, len(model) - 1), len(model)), (0, 0)):
            assert ours.bytes(start, stop) == model[start:stop]
        log_is_true(folder, log)
    finally:
        arrays.CHUNK_BYTES, arrays.CHUNKS_A_SHARD = old
        shutil.rmtree(folder)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 191, 192, 193, 384, 385])
def test_bytes_at_the_borders_of_chunks_and_shards(tmp_path, small_chunks, size):
    data = np.random.default_rng(size).bytes(size)
    for pieces in (1, 5):
        name = f"data{pieces}"
        writer, log = BytesWriter(tmp_path / name, name), FileLog()
        for start in range(0, size, max(1, -(-size // pieces))):
            writer.append(data[start : start + -(-size // pieces)])
        writer.close(log)
        ours, plain = both(tmp_path, name)
        assert plain.tobytes() == ours.bytes(0, size) == data
        files = sorted(file for file in log.files if "/c/" in file)
        assert len(files) == (0 if size == 0 else 1 if size <= 192 else 2 if size <= 384 else 3)


def test_an_item_is_one_range_of_the_file_that_holds_it(tmp_path, small_chunks):
    data = bytes(range(256))
    writer = BytesWriter(tmp_path / "data", "data")
    writer.append(data)
    writer.close(FileLog())
    assert (tmp_path / "data/c/0").read_bytes()[:192] == data[:192]
    assert (tmp_path / "data/c/1").read_bytes()[:64] == data[192:]
    asked = []

    class Watched(LocalObjects):
        def get_range(self, key, start, length):
            asked.append((key, start, length))
            return super().get_range(key, start, length)

    reader = ArrayReader(Watched(tmp_path), "data")
    assert reader.bytes(10, 50) == data[10:50]
    assert reader.bytes(190, 200) == data[190:200]
    assert asked == [("data/c/0", 10, 40), ("data/c/0", 190, 2), ("data/c/1", 0, 8)]


def test_bytes_at_the_real_border_of_a_shard_file(tmp_path):
    block = np.random.default_rng(0).bytes(1 << 20)
    writer, log = BytesWriter(tmp_path / "data", "data"), FileLog()
    for _ in range(64):
        writer.append(block)
    mark = writer.mark()
    assert (writer.rows, len(writer._shards)) == (64 << 20, 1)
    writer.append(b"gone" * 100_000)
    writer.cut(mark)
    writer.append(b"tail")
    writer.close(log)
    reader = ArrayReader(LocalObjects(tmp_path), "data")
    assert reader.bytes((64 << 20) - 2, (64 << 20) + 4) == block[-2:] + b"tail"
    assert reader.bytes(17 << 20, 18 << 20) == block
    assert log.files["data/c/0"][0] == (64 << 20) + 256 * 16 + 4
    assert log.files["data/c/1"][0] == (256 << 10) + 256 * 16 + 4
    assert bytes(np.asarray(zarr.open_array(tmp_path / "data", mode="r")[(64 << 20) - 2 :])) == block[-2:] + b"tail"


def written(tmp_path: Path, rows: int = 100) -> Path:
    writer = ArrayWriter(tmp_path / "a", "a", np.dtype(np.int64))
    writer.append(np.arange(rows))
    writer.close(FileLog())
    return tmp_path / "a"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("rows", "harm", "says"),
    [
        (100, lambda a: flip(a / "c/0", -10), "does not match its checksum"),
        (100, lambda a: (a / "c/0").write_bytes((a / "c/0").read_bytes()[:20]), "expected a shard file with its index, found 20 bytes"),
        (100, lambda a: (a / "c/0").unlink(), "expected a file of the array, found none"),
        (100, lambda a: flip(a / "c/0", 6), "expected a chunk of 64 bytes, found"),  # what the chunk's header says of its size
        (100, lambda a: (a / "c/4").write_bytes((a / "c/4").read_bytes()[10:]), "expected a chunk of 64 bytes, found|expected [0-9]+ bytes"),
        (5, lambda a: (a / "c/0").write_bytes(b""), "expected a chunk of 40 bytes, found none"),
        (5, lambda a: (a / "c/0").unlink(), "expected a file of the array, found none"),
        (5, lambda a: (a / "zarr.json").write_text("[]"), "expected a JSON object"),
        (5, lambda a: (a / "zarr.json").write_text("{}"), "expected the metadata of an array"),
        (5, lambda a: (a / "zarr.json").write_text("{"), "expected JSON"),
    ],
)
def test_what_is_damaged_is_named_and_never_read_as_numbers(tmp_path, small_chunks, rows, harm, says):
    folder = written(tmp_path, rows)
    harm(folder)
    with pytest.raises(CorruptStore, match=says):
        ArrayReader(LocalObjects(tmp_path), "a").rows(0, rows)


def test_an_index_that_points_behind_the_end_is_damage(tmp_path, small_chunks):
    path = written(tmp_path) / "c/0"
    data = path.read_bytes()[: -(3 * 16 + 4)]
    for row in ([2**63, 64], [0, 2**40], [2**64 - 1, 2**64 - 1]):
        packed = np.array([row, [0, 32], [0, 32]], dtype="<u8").tobytes()
        path.write_bytes(data + packed + google_crc32c.value(packed).to_bytes(4, "little"))
        with pytest.raises(CorruptStore):
            ArrayReader(LocalObjects(tmp_path), "a").rows(0, 4)


def test_rows_and_bytes_outside_are_refused(tmp_path):
    reader = ArrayReader(LocalObjects(tmp_path), written(tmp_path, 5).name)
    for start, stop in ((-1, 2), (3, 2), (0, 6)):
        with pytest.raises(CorruptStore, match="outside its 5 rows"):
            reader.rows(start, stop)
    with pytest.raises(CorruptStore, match="outside"):
        reader.bytes(0, 1)
    with pytest.raises(FileNotFoundError):
        ArrayReader(LocalObjects(tmp_path), "b")


def test_bytes_are_read_back_while_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr("dataengine.store.arrays.CHUNK_BYTES", 64)
    writer = BytesWriter(tmp_path / "data", "data")
    writer._shard_bytes = 256
    whole = bytes(np.random.default_rng(0).integers(0, 256, 700, dtype=np.uint8))
    writer.append(whole[:50])
    assert writer.read(7, 31) == whole[7:31]  # still in memory
    for start in range(50, 700, 65):
        writer.append(whole[start : start + 65])
    assert writer.read(0, 700) == whole  # over three files, the last of them not full
    assert [writer.read(start, stop) for start, stop in ((255, 257), (256, 256), (511, 700))] == [whole[255:257], b"", whole[511:700]]
