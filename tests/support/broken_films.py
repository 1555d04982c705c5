"""What the video room must do with any bytes: refuse them with a reason, or describe them truly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataengine.core.errors import BadRecording
from dataengine.video.decode import FrameReader
from dataengine.video.index import frame_indexes


def read_film(folder: str) -> dict[int, int]:
    """Index the one file of a folder, check the index against the file and a plain demuxer, decode a few frames; return frames by track.

    Raises:
        BadRecording: the file was refused.
        AssertionError: the index says what is not so.
    """
    import av

    (path,) = Path(folder).iterdir()
    info, indexes = frame_indexes(path)
    size = path.stat().st_size
    data = path.read_bytes()
    for track, index in indexes.items():
        assert len(index) > 0
        assert np.all(np.diff(index.pts_ns) >= 0)
        assert len(set(index.order.tolist())) == len(index)
        assert np.all(index.size >= 0)
        assert index.duration_ns >= 0
        with av.open(str(path), format="mov" if info.format == "mp4" else "matroska", metadata_errors="replace") as container:
            shown = [packet for packet in container.demux(container.streams[track]) if (packet.size or packet.pts is not None) and not packet.is_discard]
            assert sorted(packet.size for packet in shown) == sorted(index.size.tolist())
            if index.facts["ranges"]:
                # The k-th packet that the demuxer yields is the k-th in decoding order; an MP4 yields packets of several fragments as they lie.
                order = np.argsort(index.order)
                lies = [data[offset : offset + length] for offset, length in zip(index.offset[order], index.size[order], strict=True)]
                assert np.all(index.offset + index.size <= size)
                assert lies == [bytes(packet) for packet in shown]
        with FrameReader(path, index) as reader:
            for row in {0, len(index) // 2, len(index) - 1}:
                try:
                    assert reader.read([row]).shape == (1, info.tracks[track].height, info.tracks[track].width, 3)
                except BadRecording as error:
                    if error.check != "unreadable_frames":
                        raise AssertionError(f"an index that cannot be read: {error}") from error
    return {track: len(index) for track, index in indexes.items()}
