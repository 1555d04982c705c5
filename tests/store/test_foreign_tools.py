"""A store with every form of payload, read with deltalake, polars, pyarrow, zarr and PyAV alone; nothing of `dataengine` reads here."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import cv2
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import zarr
from deltalake import DeltaTable

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.stream import Frames, Items, MediaFrames, Rows
from dataengine.video.index import frame_index
from tests.support.films import number_of, numbered, write_film
from tests.support.plain_reader import catalog_rows, faults, read_episode, read_steps
from tests.support.units import SourceItem, ingest, new_store, times_ns

FRAMES = 9
STREAMS = {
    "command": Column("command", dtype="float32", shape=(2,), meaning="action"),
    "images.raw": Column("images.raw", kind="image", dtype="uint8", shape=(64, 96, 3)),
    "images.film": Column("images.film", kind="image", dtype="uint8", shape=(64, 96, 3)),
    "images.jpeg": Column("images.jpeg", kind="image", dtype="uint8", shape=(64, 96, 3), encoding="jpeg"),
    "images.depth": Column("images.depth", kind="depth", dtype="uint16", shape=(20, 30)),
    "/arm/state": Column("/arm/state", kind="message", dtype="bytes", encoding="cdr", steps=False),
    "wide": Column("wide", dtype="float64", shape=(5000,), steps=False),
}


def jpeg(number: int) -> bytes:
    return bytes(cv2.imencode(".jpg", numbered(1, first=number)[0][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].data)


def depth(number: int) -> np.ndarray:
    return (np.arange(FRAMES * 600, dtype=np.uint32).reshape(FRAMES, 20, 30) * 7 + 1000 * number).astype(np.uint16)


def recording(number: int, film: Path):
    first = FRAMES * number
    index = frame_index(str(film))
    clock = {"log": times_ns(FRAMES, 10**18 + number)}
    kept = MediaFrames(film.name, index.track, first, FRAMES, index=index.as_columns(), facts={"codec": "h264", "extension": "mp4", **index.as_facts()})
    values = {
        "command": np.arange(2 * FRAMES, dtype=np.float32).reshape(FRAMES, 2) + number,
        "images.raw": Frames(numbered(FRAMES, first=100 * number)),
        "images.film": kept,
        "images.jpeg": Items([jpeg(row + first) for row in range(FRAMES)], "jpeg"),
        "images.depth": Frames(depth(number), exact=True),
        "/arm/state": Items([f"m{number}.{row}".encode() for row in range(FRAMES)], "cdr"),
        "wide": np.arange(FRAMES * 5000.0).reshape(FRAMES, 5000) - number,
    }
    rows = [Rows(name, value, clock) for name, value in values.items()]
    return [*rows, EpisodeInfo("lab", STREAMS, "measured", f"{number}", dict.fromkeys(STREAMS, "log"), 10**18 + number, True, tasks=(f"task {number}",))]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Make a store of two episodes of all forms in one shard, and a third job."""
    source = tmp_path_factory.mktemp("source")
    film = write_film(source / "film.mp4", numbered(FRAMES * 2), gop=4, b_frames=2)
    objects = new_store(tmp_path_factory.mktemp("foreign") / "store")
    ingest(objects, [SourceItem("a", [*recording(0, film), *recording(1, film)])], source=source)
    ingest(objects, [SourceItem("a", [*recording(1, film)], fingerprint="2")], source=source)
    return Path(objects.url)


def decoded(path: Path, first: int, count: int) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[first : first + count]


def test_the_catalog_opens_in_polars_and_deltalake(root):
    frame = pl.scan_delta(str(root / "catalog")).filter(pl.col("kind") == "episode").sort("source_key").collect()
    assert frame["steps"].to_list() == [FRAMES, FRAMES]
    assert frame["tasks"].to_list() == [["task 0"], ["task 1"]]
    assert frame["lossy"].to_list() == [True, True]
    table = DeltaTable(root / "catalog")
    assert table.metadata().partition_columns == ["kind", "dataset"]
    assert table.protocol().min_reader_version == 1
    configuration = table.metadata().configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"
    assert configuration["delta.logRetentionDuration"] == configuration["delta.deletedFileRetentionDuration"] == "interval 36500 days"


def test_every_form_of_payload_is_read_by_tools_that_are_not_ours(root):
    rows = sorted((row for row in catalog_rows(root) if row["kind"] == "episode"), key=lambda row: row["source_key"])
    for number, row in enumerate(rows):
        streams = read_episode(root, row)
        assert set(streams) == set(STREAMS)
        assert all(stream.timestamps_ns.tolist() == times_ns(FRAMES).tolist() for stream in streams.values())
        np.testing.assert_array_equal(streams["command"].rows, np.arange(2 * FRAMES, dtype=np.float32).reshape(FRAMES, 2) + number)
        np.testing.assert_array_equal(streams["wide"].rows, np.arange(FRAMES * 5000.0).reshape(FRAMES, 5000) - number)
        assert streams["/arm/state"].rows == [f"m{number}.{place}".encode() for place in range(FRAMES)]
        assert streams["images.jpeg"].rows == [jpeg(place + FRAMES * number) for place in range(FRAMES)]
        pngs = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) for png in streams["images.depth"].rows]
        np.testing.assert_array_equal(np.stack(pngs), depth(number))
        film, _, first, count = streams["images.film"].rows
        assert [number_of(frame) for frame in decoded(film, first, count)] == list(range(FRAMES * number, FRAMES * (number + 1)))
        video, _, first, count = streams["images.raw"].rows
        assert [number_of(frame) for frame in decoded(video, first, count)] == [100 * number + place for place in range(FRAMES)]
        steps = read_steps(root, row)
        assert steps["images.film"].to_pylist() == list(range(FRAMES))
        assert np.array(steps["command"].to_pylist()).tolist() == streams["command"].rows.tolist()
        assert "wide" not in steps.column_names


def test_an_encoded_episode_starts_on_a_key_frame_and_its_index_says_where_each_frame_lies(root):
    (video,) = (root / "streams").rglob("*.mp4")
    index = pq.read_table(video.with_name("images.raw.index.parquet"))
    keys = index["key"].to_pylist()
    assert keys[0]
    assert keys[FRAMES]
    facts = json.loads(index.schema.metadata[b"dataengine"])
    assert facts["0"]["codec"] == "h264"
    data = video.read_bytes()
    with av.open(io.BytesIO(data)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert [data[at : at + size] for at, size in zip(index["offset"].to_pylist(), index["size"].to_pylist(), strict=True)] == packets


def test_the_arrays_are_one_zarr_hierarchy_of_core_codecs(root):
    (arrays,) = (root / "streams").rglob("arrays.zarr")
    group = zarr.open_group(arrays, mode="r")
    assert sorted(name for name, _ in group.groups()) == sorted(
        ["%2Farm%2Fstate", "command", "images.depth", "images.film", "images.jpeg", "images.raw", "wide"]
    )
    assert group["wide/values"].shape == (2 * FRAMES, 5000)
    assert group["wide/values"].shards is not None
    assert group["%2Farm%2Fstate"].attrs["stream"] == "/arm/state"
    codecs = set()
    for path in arrays.rglob("zarr.json"):
        metadata = json.loads(path.read_text())
        for codec in metadata.get("codecs", ()):
            codecs |= {codec["name"], *(inner["name"] for inner in codec.get("configuration", {}).get("codecs", ()))}
    assert codecs == {"bytes", "blosc", "sharding_indexed"}


def test_no_fault_is_found_in_it(root):
    assert faults(root) == []
