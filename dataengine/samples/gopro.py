"""Genuine GPMF telemetry of the sample world, and MP4 files with a telemetry track as GoPro cameras write them.

The inertial sensor becomes ACCL and GYRO, the hand's attitude CORI, the opening of the gripper SHUT; GPS9 has a typed structure. Payloads last 1.001 s. Source: the
description of the format in github.com/gopro/gpmf-parser; the boxes of the track are those of a HERO7 (ISO/IEC 14496-12).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.arm import ArmRecording

PAYLOAD_MS = 1001
ACCL_SCALE, GYRO_SCALE, CORI_SCALE = 418, 3755, 32767
GPS9_SCALE = (10_000_000, 10_000_000, 1000, 1000, 100, 1, 1000, 100, 1)


def entry(key: str, kind: str, size: int, repeat: int, data: bytes) -> bytes:
    """Return one entry, padded to 4 bytes; kind "" is a nested one."""
    return key.encode() + struct.pack(">cBH", kind.encode() or b"\0", size, repeat) + data + bytes(-len(data) % 4)


def text(key: str, value: str) -> bytes:
    """Return an entry of text."""
    data = value.encode("latin-1")
    return entry(key, "c", 1, len(data), data)


def numbers(key: str, kind: str, values: Array) -> bytes:
    """Return an entry of (N, K) numbers; the dtype must be the big-endian one of the kind."""
    table = values.reshape(len(values), -1)
    return entry(key, kind, table.shape[1] * table.dtype.itemsize, len(table), table.tobytes())


def nest(key: str, *parts: bytes) -> bytes:
    """Return an entry that holds others."""
    data = b"".join(parts)
    return entry(key, "", 1, len(data), data)


def payload(accl: Array, gyro: Array, cori: Array, seconds: float, total: Sequence[int], stmp_us: int | None, device: str = "Sample Camera") -> bytes:
    """Return one payload of a camera.

    Args:
        accl: (N, 3) m/s^2.
        gyro: (N, 3) rad/s.
        cori: (M, 4) quaternions w, x, y, z.
        seconds: since the start, for GPS9.
        total: samples of each of the three so far, these included.
        stmp_us: time of the first sample; None leaves STMP out.
        device: its name.
    """
    stamp = b"" if stmp_us is None else entry("STMP", "J", 8, 1, struct.pack(">Q", stmp_us))

    def stream(key: str, title: str, unit: str, scale: int, values: Array, count: int) -> bytes:
        raw = np.rint(values * scale).astype(">i2")
        facts = (stamp, entry("TSMP", "L", 4, 1, struct.pack(">I", count)), text("STNM", title), text("SIUN", unit) if unit else b"")
        return nest("STRM", *facts, entry("SCAL", "s", 2, 1, struct.pack(">h", scale)), numbers(key, "s", raw))

    place = (47.5, 8.25, 400.0, 0.5, 0.51, 9500, round(seconds, 3), 1.25, 3)
    fields = [round(value * scale) for value, scale in zip(place, GPS9_SCALE, strict=True)]
    gps = nest(
        "STRM",
        stamp,
        text("STNM", "GPS (Lat., Long., Alt., 2D, 3D, days, secs, DOP, fix)"),
        text("TYPE", "lllllllSS"),
        numbers("SCAL", "l", np.array(GPS9_SCALE, ">i4")[:, None]),
        entry("GPS9", "?", 32, 1, struct.pack(">7iHH", *fields)),
    )
    return nest(
        "DEVC",
        entry("DVID", "L", 4, 1, struct.pack(">I", 1)),
        text("DVNM", device),
        stream("ACCL", "Accelerometer (x,y,z)", "m/s²", ACCL_SCALE, accl, total[0]),
        stream("GYRO", "Gyroscope (x,y,z)", "rad/s", GYRO_SCALE, gyro, total[1]),
        stream("CORI", "CameraOrientation", "", CORI_SCALE, cori, total[2]),
        gps,
    )


def payloads_of(recording: ArmRecording, stmp: bool = True, device: str = "Sample Camera") -> list[bytes]:
    """Return the payloads of a recording: its inertial samples and its hand's attitude, cut every 1.001 s by their own times."""
    step_ns = PAYLOAD_MS * 1_000_000
    imu_ns, hand_ns = recording.imu_t_ns, recording.joint_t_ns[::10]
    quat_wxyz = np.roll(recording.ee_quat_xyzw[::10], 1, axis=1)
    found, done = [], [0, 0, 0]
    for start in range(0, int(max(imu_ns[-1], hand_ns[-1])) + 1, step_ns):
        rows, hand = (np.flatnonzero((times >= start) & (times < start + step_ns)) for times in (imu_ns, hand_ns))
        if not len(rows) or not len(hand):
            break
        done = [done[0] + len(rows), done[1] + len(rows), done[2] + len(hand)]
        first_us = int(imu_ns[rows[0]]) // 1000 if stmp else None
        found.append(payload(recording.linear_acceleration[rows], recording.angular_velocity[rows], quat_wxyz[hand], start / 1e9, done, first_us, device))
    return found


def _box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def add_telemetry(path: Path, payloads: Sequence[bytes], settings: bytes | None = None, delay_ms: int = 0) -> Path:
    """Add a telemetry track to an MP4 whose table of contents is its last box, as FFmpeg writes it; its pictures stay where they are.

    Args:
        path: the file.
        payloads: each of 1.001 s.
        settings: what stands in `moov/udta/GPMF`.
        delay_ms: the track begins so much later (an empty edit).
    """
    data = path.read_bytes()
    at = 0
    while data[at + 4 : at + 8] != b"moov":
        at += int.from_bytes(data[at : at + 4], "big")
    moov = data[at + 8 : at + int.from_bytes(data[at : at + 4], "big")]
    offsets = np.cumsum([at + 8, *map(len, payloads)])[:-1].astype(">u4")
    duration = PAYLOAD_MS * len(payloads)
    table = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), _box(b"gpmd", bytes(6), struct.pack(">HI", 1, 0))),
        _full(b"stts", struct.pack(">III", 1, len(payloads), PAYLOAD_MS)),
        _full(b"stsc", struct.pack(">IIII", 1, 1, 1, 1)),
        _full(b"stsz", struct.pack(">II", 0, len(payloads)), np.array(list(map(len, payloads)), ">u4").tobytes()),
        _full(b"stco", struct.pack(">I", len(payloads)), offsets.tobytes()),
    )
    information = _box(b"minf", _box(b"gmhd", _full(b"gmin", bytes(12))), _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1))), table)
    handler = _full(b"hdlr", b"mhlrmeta", bytes(12), b"\x0bGoPro MET\0\0"[1:])
    media = _box(b"mdia", _full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 1000, duration, 0, 0)), handler, information)
    matrix = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    header = _full(b"tkhd", struct.pack(">IIIII8xHHHH", 0, 0, 9, 0, duration, 0, 0, 0, 0), matrix, bytes(8), flags=7)
    edits = _box(b"edts", _full(b"elst", struct.pack(">IIiIIiI", 2, delay_ms, -1, 1 << 16, duration, 0, 1 << 16))) if delay_ms else b""
    user = _box(b"udta", _box(b"GPMF", settings)) if settings is not None else b""
    track = _box(b"trak", header, edits, media)
    path.write_bytes(data[:at] + _box(b"mdat", *payloads) + _box(b"moov", moov, track, user))
    return path
