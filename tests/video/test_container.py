import io
import struct

import pytest

from dataengine.core.errors import BadRecording
from dataengine.video.container import open_container, sniff
from dataengine.video.probe import probe
from tests.support.films import numbered, write_film


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "mp4"),
        (b"\0\0\0\x08wide\0\0\x10\0mdat", "mp4"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", None),
        (b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42", None),
        (b"\0\0\0\x03ftypisom\0\0\2\0", None),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\1\x42\xf7\x81\1\x42\xf2\x81\4\x42\xf3\x81\x08\x42\x82\x88matroska\x42\x87", "matroska"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1\x42\xf7\x81\1\x42\xf2\x81\4\x42\xf3\x81\x08\x42\x82\x84webm\x42\x87\x81\4", "webm"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84doom", None),
        (b"RIFF\x10\0\0\0AVI LIST", "avi"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        ((b"\x47\x40\x00\x10" + bytes(184)) * 3, "mpegts"),
        (b"G" * 600, None),
        ((b"\x47\x80\x00\x10" + bytes(184)) * 3, None),
        (b"\x47" + bytes(400), None),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n", None),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", None),
        (b"", None),
    ],
)
def test_content_is_recognised_by_its_first_bytes(head: bytes, form: str | None) -> None:
    assert sniff(head) == form


@pytest.mark.parametrize(
    ("content", "check"), [(b"", "empty_file"), (b"#EXTM3U\nhttp://127.0.0.1/x.ts\n" * 20, "unknown_content"), (b"hello" * 99, "unknown_content")]
)
def test_what_is_no_video_is_rejected_with_a_reason(content: bytes, check: str) -> None:
    with pytest.raises(BadRecording) as caught:
        probe(io.BytesIO(content), "a.mp4")
    assert caught.value.check == check
    assert str(caught.value).startswith("a.mp4: expected")


def test_a_path_is_never_read_as_a_protocol(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "concat:a.mp4", numbered(3))
    with open_container("concat:a.mp4") as (container, form, size):
        assert (form, len(container.streams)) == ("mp4", 1)
        assert size == (tmp_path / "concat:a.mp4").stat().st_size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _mp4(table: bytes, handler: bytes = b"vide") -> bytes:
    media = _box(b"hdlr", bytes(8) + handler + bytes(13)) + _box(b"minf", _box(b"stbl", table))
    return _box(b"ftyp", b"isom" + bytes(4)) + _box(b"mdat", bytes(100)) + _box(b"moov", _box(b"trak", _box(b"mdia", media)))


@pytest.mark.parametrize(
    "table",
    [
        _box(b"stsz", struct.pack(">III", 0, 1, 178_000_000)),
        _box(b"stsz", struct.pack(">III", 0, 0, 1000) + bytes(40)),
        _box(b"stts", struct.pack(">IIII", 0, 1, 2_000_000_000, 1)),
        _box(b"ctts", struct.pack(">IIIIII", 0, 2, 1_000_000_000, 1, 1_000_000_000, 1)),
    ],
)
def test_a_table_that_declares_more_than_the_file_can_hold_is_refused_before_it_is_allocated(table: bytes) -> None:
    with pytest.raises(BadRecording) as caught:
        probe(io.BytesIO(_mp4(table)), "bomb.mp4")
    assert caught.value.check == "absurd_size"


def test_a_cut_file_says_where_it_should_end(tmp_path) -> None:
    mp4 = write_film(tmp_path / "a.mp4", numbered(20)).read_bytes()
    mkv = write_film(tmp_path / "a.mkv", numbered(20)).read_bytes()
    for data in (mp4, mkv):
        for keep in (len(data) - 1, len(data) // 2, 300):
            with pytest.raises(BadRecording) as caught:
                probe(io.BytesIO(data[:keep]), "cut")
            assert caught.value.check == "truncated"
            assert f"{keep} bytes" in str(caught.value) or "moov" in str(caught.value)


def test_a_recording_that_was_not_finished_has_no_table_of_contents() -> None:
    with pytest.raises(BadRecording, match=r"expected a table of contents \('moov'\), found none"):
        probe(io.BytesIO(_box(b"ftyp", b"isom" + bytes(4)) + _box(b"mdat", bytes(500))), "a.mp4")
