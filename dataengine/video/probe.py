"""What a video file holds: its container, and every track in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from dataengine.core.errors import BadRecording
from dataengine.video.boxes import mp4_rotations
from dataengine.video.container import MAX_PIXELS, MAX_SIDE_PX, MediaFile, media_name, open_bytes, open_container
from dataengine.video.container import sniff as sniff

TrackKind = Literal["video", "audio", "subtitle", "data", "picture"]

# AV_DISPOSITION_ATTACHED_PIC: a cover picture that stands in the file as if it were a video track.
_ATTACHED_PICTURE = 0x400

# AV_DISPOSITION_DEFAULT.
_DEFAULT = 0x1

# The numbers of ISO/IEC 23091-2 that occur in camera video; others keep their number as text.
MATRICES: dict[int, str] = {0: "rgb", 1: "bt709", 2: "unspecified", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc"}
RANGES: dict[int, str] = {0: "unspecified", 1: "limited", 2: "full"}
PRIMARIES: dict[int, str] = {1: "bt709", 2: "unspecified", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 12: "display-p3"}

# Names that FFmpeg gives to its decoder instead of the codec.
_CODECS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}


@dataclass(frozen=True)
class TrackInfo:
    """One track as the container describes it.

    `index` is its number in the container, counted over all tracks. `width` and `height` in px as coded, before `rotation_deg`
    (counter-clockwise, what a player applies to show it upright). `average_hz` is the container's average rate, `declared_frames` what its
    header counts (0: it does not). `extradata` is what a decoder needs before the first packet.
    """

    index: int
    kind: TrackKind
    codec: str
    time_base: Fraction | None = None
    duration_ns: int | None = None
    declared_frames: int = 0
    handler: str = ""
    language: str = ""
    default: bool = False
    width: int = 0
    height: int = 0
    pix_fmt: str = ""
    average_hz: Fraction | None = None
    rotation_deg: float = 0.0
    matrix: str = "unspecified"
    range: str = "unspecified"
    primaries: str = "unspecified"
    sample_aspect: Fraction | None = None
    reorder: int = 0
    sample_hz: int = 0
    channels: int = 0
    extradata: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class MediaInfo:
    """A video file: `format` by content ("mp4", "matroska", ...), its size in bytes, its declared duration, all tracks in container order."""

    format: str
    size: int
    duration_ns: int | None
    tracks: tuple[TrackInfo, ...]

    @property
    def videos(self) -> tuple[TrackInfo, ...]:
        """Return the video tracks; cover pictures are none."""
        return tuple(track for track in self.tracks if track.kind == "video")

    @property
    def main(self) -> TrackInfo | None:
        """Return the main video track: the one with most pixels; among equals one marked default, then the first. None without video."""
        return max(self.videos, key=lambda track: (track.width * track.height, track.default, -track.index), default=None)


def _text(value: Any) -> str:
    """Return a name from a file as printable text of bounded length."""
    return "".join(letter for letter in str(value or "") if letter.isprintable()).strip()[:200]


def _rotations(file: MediaFile, form: str, size: int) -> dict[int, float]:
    """Return the rotation of each track by its id; FFmpeg shows it on decoded frames only."""
    if form != "mp4":
        return {}
    handle = open_bytes(file)
    before = handle.tell()
    try:
        return mp4_rotations(handle, size)
    finally:
        if handle is file:
            handle.seek(before)
        else:
            handle.close()


def _duration_ns(duration: int | None, time_base: Fraction | None) -> int | None:
    return None if duration is None or time_base is None or duration < 0 else duration * time_base.numerator * 1_000_000_000 // time_base.denominator


def describe_track(stream: Any, rotation_deg: float = 0.0) -> TrackInfo:
    """Describe a PyAV stream."""
    context = stream.codec_context
    kind: TrackKind = stream.type if stream.type in ("video", "audio", "subtitle") else "data"
    metadata = stream.metadata
    shared: dict[str, Any] = {
        "index": stream.index,
        "codec": _CODECS.get(context.name, context.name) if context is not None else "",
        "time_base": stream.time_base,
        "duration_ns": _duration_ns(stream.duration, stream.time_base),
        "declared_frames": max(0, stream.frames),
        "handler": _text(metadata.get("handler_name") or metadata.get("title")),
        "language": _text(metadata.get("language")),
        "default": bool(int(stream.disposition) & _DEFAULT),
    }
    if context is None:  # a codec that this FFmpeg does not know: it says no more of it
        return TrackInfo(kind=kind, **shared)
    if kind == "video":
        return TrackInfo(
            kind="picture" if int(stream.disposition) & _ATTACHED_PICTURE else "video",
            width=context.width,
            height=context.height,
            pix_fmt=context.pix_fmt or "",
            average_hz=stream.average_rate or None,
            rotation_deg=rotation_deg,
            matrix=MATRICES.get(int(context.colorspace), str(int(context.colorspace))),
            range=RANGES.get(int(context.color_range), "unspecified"),
            primaries=PRIMARIES.get(int(context.color_primaries), str(int(context.color_primaries))),
            sample_aspect=stream.sample_aspect_ratio or None,
            reorder=int(context.has_b_frames),
            extradata=context.extradata or b"",
            **shared,
        )
    if kind == "audio":
        return TrackInfo(kind=kind, sample_hz=context.sample_rate or 0, channels=context.channels or 0, extradata=context.extradata or b"", **shared)
    return TrackInfo(kind=kind, **shared)


def describe(container: Any, form: str, size: int, file: MediaFile) -> MediaInfo:
    """Describe an open PyAV container of `file`."""
    turns = _rotations(file, form, size)
    tracks = tuple(describe_track(stream, turns.get(stream.id, 0.0)) for stream in container.streams)
    return MediaInfo(form, size, container.duration * 1000 if container.duration is not None and container.duration >= 0 else None, tracks)


def require_size(track: TrackInfo, where: str) -> None:
    """Refuse an unknown codec, whose size nobody can tell, and a picture size that no camera has, before anything of it is allocated."""
    if not track.codec:
        raise BadRecording(f"{where}: track {track.index}", "a codec that FFmpeg knows", "another one", "convert it to H.264", check="unknown_codec")
    if not (1 <= track.width <= MAX_SIDE_PX and 1 <= track.height <= MAX_SIDE_PX and track.width * track.height <= MAX_PIXELS):
        raise BadRecording(
            f"{where}: track {track.index}",
            f"frames of 1 to {MAX_SIDE_PX} px a side and at most {MAX_PIXELS} px",
            f"{track.width}x{track.height}",
            "the file is damaged",
            check="absurd_size",
        )


def probe(file: MediaFile, where: str = "") -> MediaInfo:
    """Describe a video file: a path on this machine, or a seekable binary file.

    Raises:
        BadRecording: it is no video file, or damaged so that it cannot be opened.
        FileNotFoundError: there is no such file.
    """
    with open_container(file, where or media_name(file)) as (container, form, size):
        return describe(container, form, size, file)
