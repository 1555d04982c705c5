"""Genuine video recordings of the sample world: a folder of MP4, MKV or WebM files and a side-car of captions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.arm import ArmRecording

VideoCodec = Literal["libx264", "libx265", "libvpx-vp9", "libsvtav1"]
TICKS_HZ = 90_000
X265_LEAST_PX = 64  # below, libx265's vector code writes past its buffers and kills the process
AUDIO_HZ = 48_000
_AUDIO_CODECS = {"mp4": "aac", "mkv": "aac", "webm": "libopus"}


@dataclass(frozen=True)
class VideoOptions:
    """How files are written.

    Args:
        container: the extension: "mp4", "mkv" or "webm".
        codec: FFmpeg's name of the encoder; libsvtav1 writes its own lines to stderr.
        crf: constant rate factor, 0 (best) to 51 or 63.
        gop: frames from one key frame to the next.
        b_frames: between two reference frames (H.264 and H.265), so that decoding and presentation order differ.
        variable_rate: presentation times are the measured ones in 1/90000 s; else nominal ones at the camera's rate.
        together: all cameras as tracks of one file; else one file for each camera.
        audio: adds a track with the hum of the motors.
        captions: writes `lang_annotations.json`, a file name to a text.
    """

    container: Literal["mp4", "mkv", "webm"] = "mp4"
    codec: VideoCodec = "libx264"
    crf: int = 20
    gop: int = 15
    b_frames: int = 0
    variable_rate: bool = False
    together: bool = False
    audio: bool = False
    captions: bool = True


def _encoder_options(options: VideoOptions) -> dict[str, str]:
    chosen = {"crf": str(options.crf), "g": str(options.gop)}
    if options.codec == "libx264":
        # Without mbtree: with it, x264's vector code gives other bytes from run to run at widths such as 96 px.
        chosen |= {"preset": "veryfast", "bf": str(options.b_frames), "x264-params": "mbtree=0"}
    elif options.codec == "libx265":
        chosen |= {"preset": "ultrafast", "x265-params": f"bframes={options.b_frames}:keyint={options.gop}:log-level=none:pools=none:frame-threads=1"}
    elif options.codec == "libsvtav1":
        chosen |= {"preset": "12", "svtav1-params": "lp=1"}
    else:
        chosen |= {"deadline": "realtime", "cpu-used": "8", "b": "0"}
    return chosen


def _hum(recording: ArmRecording) -> Array:
    """Return (N,) float32 sound at 48 kHz: each joint hums as fast as it turns."""
    seconds = float(recording.truth_t_ns[-1]) * 1e-9
    at = np.arange(int(seconds * AUDIO_HZ)) / AUDIO_HZ
    sound = np.zeros(len(at))
    for joint, tone_hz in enumerate((180.0, 230.0, 310.0, 140.0)):
        speed = np.interp(at, recording.joint_t_ns * 1e-9, np.abs(recording.joint_velocity[:, joint]))
        sound += 0.1 * np.minimum(speed, 1.0) * np.sin(2 * np.pi * tone_hz * at)
    return np.clip(sound, -1, 1).astype(np.float32)


def _mux_audio(container: Any, stream: Any, sound: Array) -> None:
    import av

    for start in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp" if stream.codec.name == "aac" else "flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_HZ, start, Fraction(1, AUDIO_HZ)
        for packet in stream.encode(frame):
            container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)


def _presentation(t_ns: Array, options: VideoOptions, rate_hz: float) -> list[int]:
    """Return each frame's time in 1/90000 s, from 0; measured times are kept at least one tick apart."""
    if not options.variable_rate:
        return [round(row * TICKS_HZ / rate_hz) for row in range(len(t_ns))]
    ticks = np.rint((t_ns - t_ns[0]) * (TICKS_HZ / 1e9)).astype(np.int64)
    spaced = np.maximum.accumulate(ticks - np.arange(len(ticks))) + np.arange(len(ticks))
    return [int(tick) for tick in spaced]


def write_film(path: Path, recording: ArmRecording, cameras: Iterable[str], options: VideoOptions) -> Path:
    """Write cameras of one recording as the video tracks of one file.

    Raises:
        ValueError: pictures too small for the encoder.
    """
    import av

    if options.codec == "libx265" and min(recording.config.height, recording.config.width) < X265_LEAST_PX:
        raise ValueError(f"libx265: pictures must be at least {X265_LEAST_PX} px high and wide, got {recording.config.height}x{recording.config.width}")

    path.parent.mkdir(parents=True, exist_ok=True)
    rate = Fraction(recording.config.camera_hz).limit_denominator(1001)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        tracks = []
        for name in cameras:
            images = recording.cameras[name].images
            stream: Any = container.add_stream(options.codec, rate=rate, options=_encoder_options(options))
            stream.height, stream.width, stream.pix_fmt = images.shape[1], images.shape[2], "yuv420p"
            stream.codec_context.time_base = Fraction(1, TICKS_HZ)
            stream.codec_context.thread_count = 1
            tracks.append((stream, images, _presentation(recording.cameras[name].t_ns, options, recording.config.camera_hz)))
        sound_stream: Any = None
        if options.audio:
            sound_stream = container.add_stream(_AUDIO_CODECS[options.container], rate=AUDIO_HZ, layout="mono")
        for stream, images, times in tracks:
            for image, tick in zip(images, times, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = tick, Fraction(1, TICKS_HZ)
                for packet in stream.encode(frame):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        if sound_stream is not None:
            _mux_audio(container, sound_stream, _hum(recording))
    return path


def write_video(folder: Path, recordings: Sequence[ArmRecording], options: VideoOptions | None = None) -> list[Path]:
    """Write recordings into a folder, with captions beside them; return the video files."""
    options = options or VideoOptions()
    folder.mkdir(parents=True, exist_ok=True)
    captions, paths = dict[str, str](), []
    for recording in recordings:
        groups = [list(recording.cameras)] if options.together else [[name] for name in recording.cameras]
        for cameras in groups:
            suffix = "" if options.together or len(groups) == 1 else f"_{cameras[0]}"
            path = folder / f"{recording.name}{suffix}.{options.container}"
            paths.append(write_film(path, recording, cameras, options))
            captions[path.name] = recording.task
    if options.captions:
        (folder / "lang_annotations.json").write_text(json.dumps(captions, indent=1))
    return paths
