"""Small real videos whose every frame says its own number, so that a test can tell it from its neighbours."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
BITS = 12


def numbered(count: int, height: int = 64, width: int = 96, first: int = 0) -> Array:
    """Return frames (count, H, W, 3) uint8 of slowly moving colours; the lowest eighth shows the number of each in 12 white or black bars."""
    rows, columns = np.mgrid[0:height, 0:width]
    frames = np.empty((count, height, width, 3), np.uint8)
    for place in range(count):
        turn = 0.2 * (first + place)
        for channel in range(3):
            wave = np.sin(columns / (9 + 4 * channel) + turn) * np.cos(rows / (7 + 3 * channel) - turn * 0.7)
            frames[place, :, :, channel] = 128 + 80 * wave
        bar, top = width // BITS, height - height // 8
        for bit in range(BITS):
            frames[place, top:, bit * bar : (bit + 1) * bar] = 235 if (first + place) >> bit & 1 else 20
    return frames


def number_of(frame: Array) -> int:
    """Return the number that a decoded frame shows."""
    height, width = frame.shape[:2]
    bar, top = width // BITS, height - height // 8
    return sum(int(frame[top + 1 :, bit * bar + 1 : (bit + 1) * bar - 1].mean() > 128) << bit for bit in range(BITS))


def write_film(
    path: Path,
    frames: Array | Sequence[Array],
    *,
    codec: str = "libx264",
    gop: int = 10,
    b_frames: int = 0,
    ticks: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 30),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    colour: tuple[int, int] | None = None,
    sound: bool = False,
) -> Path:
    """Write frames as a video; several arrays become several tracks. `ticks` are presentation times in units of `time_base`, `colour` is (matrix, range)."""
    import av

    av.logging.set_level(None)
    cameras = [frames] if isinstance(frames, np.ndarray) else list(frames)
    with av.open(str(path), "w", options=container_options or {}) as container:
        streams = []
        for camera in cameras:
            stream: Any = container.add_stream(codec, rate=30)
            stream.height, stream.width, stream.pix_fmt = camera.shape[1], camera.shape[2], pix_fmt
            stream.codec_context.time_base = time_base
            stream.codec_context.gop_size, stream.codec_context.max_b_frames, stream.codec_context.thread_count = gop, b_frames, 1
            defaults = {"libx264": {"preset": "veryfast", "crf": "14"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"}}
            stream.options = {**defaults.get(codec, {}), **(options or {})}
            if colour is not None:
                stream.codec_context.colorspace, stream.codec_context.color_range = colour
            streams.append(stream)
        audio: Any = container.add_stream("aac", rate=48_000, layout="mono") if sound else None
        for stream, camera in zip(streams, cameras, strict=True):
            for place, pixels in enumerate(camera):
                grey = pixels.ndim == 2
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=pix_fmt if grey else "rgb24")
                if colour is not None and not grey:
                    frame = frame.reformat(format=pix_fmt, dst_colorspace={1: 1, 6: 5}[colour[0]], dst_color_range=colour[1])
                    frame.colorspace, frame.color_range = colour
                frame.pts, frame.time_base = (place if ticks is None else ticks[place]), time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        if audio is not None:
            tone = np.sin(np.arange(4800) * 0.05).astype(np.float32)
            for start in range(0, 4096, 1024):
                block = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = 48_000, start, Fraction(1, 48_000)
                container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def cut_start(path: Path, ticks: int) -> Path:
    """Make the edit list of an MP4 start `ticks` later in the media."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4
    version, count = data[at], struct.unpack_from(">I", data, at + 4)[0]
    assert (version, count) == (0, 1)
    (media_time,) = struct.unpack_from(">i", data, at + 12)
    struct.pack_into(">i", data, at + 12, media_time + ticks)
    path.write_bytes(data)
    return path


def write_long_film(path: Path, clips: Sequence[Array], repeats: int, rate: int = 30) -> Path:
    """Write clips one after the other, and all of that `repeats` times: each is encoded once, and its packets are written again with later times.

    For films of an hour in some seconds. Each clip begins with a key frame and refers to nothing outside of it.
    """
    import av

    av.logging.set_level(None)
    encoded: list[tuple[bytes, bool]] = []
    header = b""
    for clip in clips:
        context: Any = av.CodecContext.create("libx264", "w")
        context.height, context.width, context.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
        context.time_base, context.framerate, context.thread_count = Fraction(1, rate), Fraction(rate), 1
        context.options = {"preset": "ultrafast", "crf": "23", "bf": "0", "g": str(len(clip))}
        for place, pixels in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, rate)
            encoded += [(bytes(packet), packet.is_keyframe) for packet in context.encode(frame)]
        encoded += [(bytes(packet), packet.is_keyframe) for packet in context.encode(None)]
        header = header or context.extradata or b""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = clips[0].shape[1], clips[0].shape[2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        if header:
            stream.codec_context.extradata = header
        for repeat in range(repeats):
            for place, (data, key) in enumerate(encoded):
                packet = av.Packet(data)
                packet.pts = packet.dts = repeat * len(encoded) + place
                packet.time_base, packet.duration, packet.is_keyframe, packet.stream = Fraction(1, rate), 1, key, stream
                container.mux(packet)
    return path
