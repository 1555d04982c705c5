"""Raw frames into one MP4 per camera, episode after episode, each verified before it is kept.

An episode is encoded in segments of at most 60 frames. Each segment is encoded by itself (it starts with an IDR picture and refers to nothing
outside), decoded in memory, and judged frame by frame (`fidelity`). A segment that loses something is encoded again at a higher quality, and only that one: the rest of
the episode stays small. Nothing of an episode is in the file before `commit()`.

Frames are BT.601, limited range, 4:2:0, tagged so, without B-frames. A picture with an odd side is padded by repeating its last row or column, and the index says
what to cut off again (`crop_width`, `crop_height`): 4:2:0 has no odd sizes, and 4:4:4, which has, is beyond browsers and hardware decoders.
The file's own times are those of the frames, rounded to whole us, one episode after the other on one timeline; equal or falling times are moved 1 us apart, gaps of more than half
an hour are closed to that.
The true times in ns belong to the store. Same frames, same config: same bytes (one thread, no dates, no version strings).
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from pydantic import Field

from dataengine.core.arrays import Array, require
from dataengine.core.config import Config
from dataengine.video.container import MAX_PIXELS, MAX_SIDE_PX, silence
from dataengine.video.decoders import decoder_for, padded_packet
from dataengine.video.fidelity import NOTHING_LOST, BlockFidelity, FidelityLost, even_planes, plane_fidelity
from dataengine.video.index import FrameIndex, frame_index

# MP4 holds steps between frames as 32 bits, and FFmpeg's muxer takes 31 of them: in us they reach 35 minutes, in ns only 2.1 s.
TICKS_PER_S = 1_000_000
MAX_STEP = 1800 * TICKS_PER_S

# A segment costs the start of an encoder (about 1 ms at 256x256) and one key frame; its raw planes wait in memory.
SEGMENT_FRAMES = 60
SEGMENT_BYTES = 1 << 26
# Of an episode that runs, so many encoded bytes wait in memory; what is more waits in a temporary file.
SPOOL_BYTES = 1 << 25


class EncodeConfig(Config):
    """How raw frames become video.

    The defaults are small and fast to read at random and in sequence (`bench` has the table): a key frame every 5 frames, no B-frames and no
    deblocking (`fastdecode`) decode 2 to 3 times as many frames a second as the customary settings.
    `crf` is x264's quality, lower is better; `crf_steps` are tried in turn where the gate finds a loss and `on_loss` is "raise_quality". When
    they are used up, or with "lossless" and "reject" at once, `FidelityLost` is raised and the caller keeps the frames exact or rejects the recording.
    """

    crf: int = Field(default=20, ge=1, le=51)
    gop: int = Field(default=5, ge=1, le=600)
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = "veryfast"
    tune: Literal["fastdecode", "none"] = "fastdecode"
    gate: bool = True
    on_loss: Literal["raise_quality", "lossless", "reject"] = "raise_quality"
    crf_steps: tuple[int, ...] = (16, 12, 8, 4)

    @property
    def ladder(self) -> tuple[int, ...]:
        """Return the qualities to try, in order."""
        return (self.crf, *(step for step in self.crf_steps if step < self.crf)) if self.gate and self.on_loss == "raise_quality" else (self.crf,)


@dataclass(frozen=True)
class EncodedEpisode:
    """What a committed episode became: its frames in the file, and how well they were kept."""

    first: int
    count: int
    bytes: int
    worst: BlockFidelity
    worst_frame: int
    raised: int


@dataclass
class _Segment:
    packets: list[Any]
    header: bytes
    worst: BlockFidelity
    worst_frame: int


@dataclass
class _Running:
    """The episode that is being written: raw planes of the segment that is not full yet, and of each encoded frame its time, bytes (in `spool`), and whether it is key."""

    planes: list[Array] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    packets: list[tuple[int, int, bool]] = field(default_factory=list)
    spool: IO[bytes] = field(default_factory=lambda: tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))
    origin_ns: int | None = None
    last_tick: int = -1
    worst: BlockFidelity = NOTHING_LOST
    worst_frame: int = -1
    raised: int = 0

    def __del__(self) -> None:
        self.spool.close()  # of a writer that is dropped without an end

    @property
    def frames(self) -> int:
        """Return how many frames are encoded."""
        return len(self.packets)

    def tick(self, stamp_ns: int) -> int:
        """Return a frame's time in us from the episode's start; a clock that stands still or falls back moves on by 1 us, and by half an hour at most."""
        self.origin_ns = stamp_ns if self.origin_ns is None else self.origin_ns
        step = (stamp_ns - self.origin_ns) * TICKS_PER_S // 1_000_000_000 - self.last_tick
        if step > MAX_STEP:
            self.origin_ns += (step - MAX_STEP) * 1_000_000_000 // TICKS_PER_S
        self.last_tick += min(max(1, step), MAX_STEP)
        return self.last_tick


def _nal_units(data: bytes) -> Iterator[bytes]:
    """Split an Annex B byte stream (ITU-T H.264 annex B) into its units, each with a start code of four bytes."""
    parts = data.split(b"\0\0\1")
    for part in parts[1:]:
        unit = part.rstrip(b"\0")
        if unit:
            yield b"\0\0\0\1" + unit


def _without_notes(data: bytes) -> bytes:
    """Drop x264's note about itself (SEI, 600 bytes): it would stand in every segment and change with the library's version."""
    return b"".join(unit for unit in _nal_units(data) if unit[4] & 0x1F != 6)


class VideoWriter:
    """Appends episodes to one MP4.

    Args:
        path: the file to write; it is complete after `close()`.
        width, height: of every frame, in px.
        config: quality, gate and policy.
        where: what to call the stream in messages.
    """

    def __init__(self, path: str | Path, width: int, height: int, config: EncodeConfig | None = None, where: str = "") -> None:
        require(1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX and width * height <= MAX_PIXELS, f"video: frames of {width}x{height} px")
        self.path, self.width, self.height, self.config = Path(path), width, height, config or EncodeConfig()
        self.where = where or self.path.name
        self._even = (height + (height & 1), width + (width & 1))
        frame_bytes = self._even[0] * self._even[1] * 3 // 2
        gop = self.config.gop
        self._segment_frames = max(gop, min(SEGMENT_FRAMES, SEGMENT_BYTES // frame_bytes) // gop * gop)
        self._container: Any = None
        self._stream: Any = None
        self._header: bytes | None = None
        self._running: _Running | None = None
        self._frames, self._end_tick = 0, 0

    def begin(self) -> None:
        """Start an episode."""
        require(self._running is None, f"{self.where}: the episode before was neither committed nor abandoned")
        self._running = _Running()

    def add(self, pixels: Array, pts_ns: Array) -> None:
        """Append frames to the running episode.

        Args:
            pixels: (n, height, width, 3) uint8 RGB.
            pts_ns: (n,) int64, their times on any epoch.

        Raises:
            FidelityLost: a frame is lost at every quality that the config allows; abandon the episode.
        """
        running = self._running
        require(running is not None, f"{self.where}: begin() an episode first")
        require(
            pixels.dtype == np.uint8 and pixels.shape[1:] == (self.height, self.width, 3) and len(pts_ns) == len(pixels),
            f"{self.where}: frames must be (n, {self.height}, {self.width}, 3) uint8 with a time each, got {pixels.shape} {pixels.dtype} and {len(pts_ns)} times",
        )
        assert running is not None
        for frame, stamp_ns in zip(pixels, np.asarray(pts_ns, dtype=np.int64).tolist(), strict=True):
            running.planes.append(even_planes(np.ascontiguousarray(frame)))
            running.stamps.append(running.tick(stamp_ns))
            if len(running.planes) == self._segment_frames:
                self._flush(running)

    def settle(self) -> None:
        """Encode and verify the frames that wait for a full segment; raises FidelityLost as `add` does."""
        require(self._running is not None, f"{self.where}: begin() an episode first")
        assert self._running is not None
        self._flush(self._running)

    def _flush(self, running: _Running) -> None:
        """Encode and verify the segment that is waiting, at the first quality that keeps every frame."""
        if not running.planes:
            return
        ladder = self.config.ladder
        for step, crf in enumerate(ladder):
            segment = self._encode(running.planes, running.stamps, crf)
            if segment.worst.kept:
                break
            if step == len(ladder) - 1:
                raise FidelityLost(f"{self.where}: frame {running.frames + segment.worst_frame}", segment.worst, ladder)
        running.raised += step > 0
        self._header = segment.header if self._header is None else self._header
        require(segment.header == self._header, f"{self.where}: the encoder changed its headers between segments")
        if segment.worst.score >= running.worst.score:
            running.worst, running.worst_frame = segment.worst, running.frames + segment.worst_frame
        for stamp, packet in zip(running.stamps, segment.packets, strict=True):
            running.spool.write(bytes(packet))
            running.packets.append((stamp, packet.size, packet.is_keyframe))
        running.planes, running.stamps = [], []

    def _encoder(self, crf: int, context: Any) -> Any:
        """Set up an x264 context; all segments and the file's header are made alike but for the quality."""
        config = self.config
        context.height, context.width = self._even
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, TICKS_PER_S)
        context.framerate = Fraction(30)
        context.gop_size = config.gop
        context.max_b_frames = 0
        context.thread_count = 1
        context.colorspace, context.color_range = 6, 1
        context.flags |= 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: parameter sets stand in the file's header, once
        # `stitchable` keeps the parameter sets equal whatever the quality, so that one header serves all segments. Without `mbtree`, whose vector code reads
        # memory that nobody wrote at widths such as 96 px: with it the same frames may become other bytes.
        context.options = {"preset": config.preset, "crf": str(crf), "x264-params": f"stitchable=1:keyint={config.gop}:scenecut=0:mbtree=0"}
        if config.tune != "none":
            context.options = {**context.options, "tune": config.tune}
        return context

    def _encode(self, planes: list[Array], stamps: list[int], crf: int) -> _Segment:
        import av

        silence()
        encoder = self._encoder(crf, av.CodecContext.create("libx264", "w"))
        packets: list[Any] = []
        for place, plane in enumerate(planes):
            frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            frame.colorspace, frame.color_range = 6, 1
            frame.pts, frame.time_base = stamps[place] - stamps[0], encoder.time_base
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        require(len(packets) == len(planes), f"{self.where}: {len(planes)} frames became {len(packets)} packets")
        clean = []
        for packet in packets:
            body = padded_packet(_without_notes(bytes(packet)), 0)
            body.is_keyframe = packet.is_keyframe
            clean.append(body)
        header = _without_notes(encoder.extradata)
        if not self.config.gate:
            return _Segment(clean, header, NOTHING_LOST, 0)
        worst, worst_frame, place = NOTHING_LOST, 0, 0
        decoder = decoder_for("h264", header)
        for part in [*clean, None]:
            for frame in decoder.decode(None if part is None else padded_packet(bytes(part), 0)):
                found = plane_fidelity(planes[place], frame.to_ndarray())
                if place == 0 or found.score > worst.score:
                    worst, worst_frame = found, place
                place += 1
        require(place == len(planes), f"{self.where}: {place} of {len(planes)} frames decode again")
        return _Segment(clean, header, worst, worst_frame)

    def commit(self) -> EncodedEpisode:
        """Write the running episode to the file.

        Raises:
            FidelityLost: as `add`, for its last frames.
        """
        import av

        running = self._running
        require(running is not None, f"{self.where}: begin() an episode first")
        assert running is not None
        self._flush(running)
        if self._container is None and running.packets:
            self._container = av.open(str(self.path), "w", format="mp4", options={"fflags": "+bitexact", "video_track_timescale": str(TICKS_PER_S)})
            self._stream = self._container.add_stream("libx264")
            self._encoder(self.config.crf, self._stream.codec_context)
            self._stream.time_base = Fraction(1, TICKS_PER_S)
        size = 0
        stamps = [stamp for stamp, _, _ in running.packets]
        # The last frame lasts as long as a frame of this episode does; a single one for 1/30 s.
        usual = int(np.median(np.diff(stamps))) if len(stamps) > 1 else TICKS_PER_S // 30
        running.spool.seek(0)
        for place, (stamp, length, key) in enumerate(running.packets):
            packet = padded_packet(running.spool.read(length), 0)
            packet.is_keyframe = key
            following = stamps[place + 1] if place + 1 < len(stamps) else stamp + max(1, usual)
            packet.stream, packet.time_base = self._stream, Fraction(1, TICKS_PER_S)
            packet.pts = packet.dts = self._end_tick + stamp
            packet.duration = following - stamp
            size += packet.size
            self._container.mux(packet)
        first = self._frames
        if stamps:
            self._end_tick += stamps[-1] + max(1, usual)
        self._frames += running.frames
        self.abandon()
        return EncodedEpisode(first, running.frames, size, running.worst, running.worst_frame, running.raised)

    def abandon(self) -> None:
        """Forget the running episode: nothing of it is in the file."""
        if self._running is not None:
            self._running.spool.close()
        self._running = None

    def close(self) -> FrameIndex | None:
        """Finish the file and return its index (byte offset and size, key flag and time of each frame); None where no frame was committed and no file written."""
        self.abandon()
        if self._container is None:
            return None
        self._container.close()
        self._container, self._stream = None, None
        index = frame_index(self.path, 0)
        require(len(index) == self._frames, f"{self.where}: {self._frames} frames were written, the file holds {len(index)}")
        facts = {**index.facts, "crop_width": self.width, "crop_height": self.height}
        require(bool(base64.b64decode(facts["extradata"])) and bool(facts["ranges"]), f"{self.where}: the file's header lacks the parameter sets")
        return replace(index, facts=facts)
