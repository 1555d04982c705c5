"""The tables of an MP4 say what its demuxer says, and are not believed where they do not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from dataengine.video import index as indexing
from dataengine.video.index import COLUMNS, FrameIndex, frame_indexes
from dataengine.video.sample_table import mp4_sample_tables
from tests.support.films import cut_start, numbered, write_film
from tests.support.mutate import mutants
from tests.support.shared import shared_data


def both_ways(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[int, FrameIndex], dict[int, FrameIndex], int]:
    """Return the indexes as tables and as demuxing give them, and how many tracks were not demuxed."""
    taken: list[int] = []
    confirmed = indexing._confirmed

    def counted(*args):
        found = confirmed(*args)
        taken.extend(found)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(indexing, "_confirmed", counted)
        _, by_table = frame_indexes(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(indexing, "mp4_sample_tables", lambda file, size: {})
        _, by_demuxing = frame_indexes(str(path))
    return by_table, by_demuxing, len(taken)


def assert_same(a: dict[int, FrameIndex], b: dict[int, FrameIndex], but: tuple[str, ...] = ()) -> None:
    assert a.keys() == b.keys()
    for track, one in a.items():
        other = b[track]
        for name in COLUMNS.keys() - set(but):
            assert np.array_equal(getattr(one, name), getattr(other, name)), (track, name)
        assert (one.duration_ns, dict(one.facts)) == (other.duration_ns, dict(other.facts))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"b_frames": 2, "gop": 12},
        {"b_frames": 3, "gop": 30, "sound": True},
        {"codec": "libx265", "gop": 5},
        {"codec": "libsvtav1", "gop": 2},
    ],
)
def test_what_we_write_is_read_from_its_table(options, tmp_path, monkeypatch) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(40, 96, 128), **options)
    by_table, by_demuxing, taken = both_ways(path, monkeypatch)
    assert taken == 1
    assert_same(by_table, by_demuxing)


def test_an_edit_that_cuts_frames_away_is_left_to_the_demuxer(tmp_path, monkeypatch) -> None:
    path = cut_start(write_film(tmp_path / "a.mp4", numbered(30), b_frames=2, gop=30), 5 * 512) or tmp_path / "a.mp4"
    by_table, by_demuxing, taken = both_ways(path, monkeypatch)
    assert taken == 0
    assert_same(by_table, by_demuxing)
    assert len(next(iter(by_table.values()))) == 25


def test_real_recordings_are_read_from_their_tables(monkeypatch) -> None:
    paths = [path for path in sorted(shared_data().rglob("*.mp4")) if path.stat().st_size]
    for path in paths:
        by_table, by_demuxing, taken = both_ways(path, monkeypatch)
        assert_same(by_table, by_demuxing)
        codecs = {str(index.facts["codec"]) for index in by_table.values()}
        assert taken == (0 if "mpeg4" in codecs else len(by_table)), path  # FFmpeg puts packets of MPEG-4 part 2 together itself
    assert len(paths) >= 20


def test_a_table_that_was_damaged_gives_what_demuxing_gives(tmp_path, monkeypatch) -> None:
    """Damage in the tables: what lands must be what FFmpeg alone would have said, or be rejected."""
    from dataengine.core.errors import BadRecording

    data = write_film(tmp_path / "a.mp4", numbered(30), b_frames=2, gop=10).read_bytes()
    moov = data.index(b"moov") - 4
    path = tmp_path / "b.mp4"
    compared = rejected = 0
    for _, broken in mutants(data, 400, seed=3, hot=[(moov, len(data))]):
        path.write_bytes(broken)
        try:
            by_table, by_demuxing, _ = both_ways(path, monkeypatch)
        except BadRecording:
            rejected += 1
            continue
        assert_same(by_table, by_demuxing, but=("key",))
        # FFmpeg looks into the frames: where one that the table calls a key frame is no picture any more, it takes the mark away.
        assert all((by_table[track].key >= index.key).all() for track, index in by_demuxing.items())
        compared += 1
    assert compared > 20
    assert rejected > 20


def test_offsets_and_times_by_hand() -> None:
    """Three samples in two chunks, shown in the order 0 2 1, moved by an edit list of one second's wait."""

    def box(kind: bytes, *content: bytes) -> bytes:
        body = b"".join(content)
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    def table(*values: int) -> bytes:
        return bytes(4) + b"".join(value.to_bytes(4, "big") for value in values)

    stbl = box(
        b"stbl",
        box(b"stts", table(1, 3, 10)),
        box(b"ctts", table(3, 1, 10, 1, 20, 1, 0)),
        box(b"stss", table(1, 1)),
        box(b"stsc", table(2, 1, 2, 1, 2, 1, 1)),
        box(b"stsz", table(0, 3, 5, 7, 9)),
        box(b"stco", table(2, 100, 1000)),
    )
    mdhd = box(b"mdhd", bytes(12) + (1000).to_bytes(4, "big") + bytes(8))
    hdlr = box(b"hdlr", bytes(8) + b"vide" + bytes(12))
    elst = box(b"elst", bytes(4) + (2).to_bytes(4, "big") + b"".join(v.to_bytes(4, "big") for v in (600, 2**32 - 1, 1 << 16, 18, 10, 1 << 16)))
    mvhd = box(b"mvhd", bytes(12) + (600).to_bytes(4, "big") + bytes(80))
    moov = box(b"moov", mvhd, box(b"trak", box(b"edts", elst), box(b"mdia", mdhd, hdlr, box(b"minf", stbl))))
    data = moov + bytes(1000)
    assert mp4_sample_tables(io.BytesIO(data), 1008) == {}  # the last sample would end behind the file
    (one,) = mp4_sample_tables(io.BytesIO(data), len(data)).values()
    assert one.offset.tolist() == [100, 105, 1000]
    assert one.size.tolist() == [5, 7, 9]
    assert one.key.tolist() == [True, False, False]
    assert one.pts.tolist() == [1000, 1020, 1010]  # decoded at 0, 10, 20; shown 10, 20, 0 later; the first at 10, which the edit makes 0, after a second
    assert one.dts.tolist() == [990, 1000, 1010]
