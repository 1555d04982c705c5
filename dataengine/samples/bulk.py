"""Recordings of any size for benchmarks: a few episodes are rendered, and every copy of a frame becomes a JPEG of its own by a comment in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.arm import QPOS_NAMES, ArmConfig, ArmRecording, record
from dataengine.samples.pictures import encoded_frames, marked_jpeg
from dataengine.samples.rlds import RldsOptions, rlds_example, rlds_features, write_dataset
from dataengine.samples.ros import RosVersion, definition, encode, header, ros_type, xyz, xyzw
from dataengine.samples.tfexample import FeatureValue, encode_example

_FRAME_KEYS = ("steps/observation/image", "steps/observation/wrist_image")


def _bulk_examples(pool: list[dict[str, FeatureValue]], first: int, count: int, fill: int) -> Iterator[bytes]:
    """Yield serialised episodes from `first` on; each frame is padded by its comment with `fill` bytes."""
    for episode in range(first, first + count):
        base = pool[episode % len(pool)]
        rng = np.random.default_rng([23, episode])
        features = dict(base)
        for key in _FRAME_KEYS:
            frames = base[key]
            features[key] = [marked_jpeg(bytes(frame), f"{episode}/{row}".encode() + rng.bytes(fill)) for row, frame in enumerate(frames)]
        for key in ("steps/observation/state", "steps/action"):
            values = base[key]
            assert isinstance(values, np.ndarray)
            features[key] = values + rng.normal(0, 1e-3, values.shape[-1]).astype(np.float32)
        features["episode_metadata/episode_id"] = np.array([episode])
        features["episode_metadata/file_path"] = [f"bulk/{episode:06d}".encode()]
        yield encode_example(features)


def write_bulk_rlds(
    folder: Path, episodes: int = 1000, size_bytes: int = 1 << 30, seed: int = 0, height: int = 256, width: int = 256, shards: int = 8, pool: int = 12
) -> Path:
    """Write an RLDS dataset of at least `size_bytes` in `episodes` distinct episodes (train only); return its version folder.

    A pool of episodes is rendered once, cut to as many steps as the size asks for. Where whole episodes are still too small, comments inside the
    JPEGs make up the rest (at most 60,000 bytes a frame).

    Raises:
        ValueError: the size cannot be reached with so few episodes.
    """
    options = RldsOptions(name="sample_arm_bulk", shards=shards, languages=1)
    wanted = -(-size_bytes // episodes)
    trial = record(seed, 0, ArmConfig(height=height, width=width, max_steps=8, failure_rate=0.0))
    per_step = len(encode_example(rlds_example(trial, options))) / 8
    config = ArmConfig(height=height, width=width, max_steps=max(int(np.ceil(wanted / per_step)), 4), failure_rate=0.0)
    recordings = [record(seed, index, config) for index in range(pool)]
    bases = [rlds_example(recording, options) for recording in recordings]
    sizes = [len(encode_example(base)) for base in bases]
    frames = [2 * len(recording.action) for recording in recordings]
    missing = max(wanted - sum(sizes) / pool, 0) * pool / sum(frames)
    fill = int(np.ceil(missing)) + 64  # enough for the rounding of the pool's turns
    if fill > 60_000:
        raise ValueError(f"size_bytes: {size_bytes} needs more than {episodes} episodes of {height}x{width}")
    examples = _bulk_examples(bases, 0, episodes, fill)
    return write_dataset(folder, options, rlds_features(recordings[0], options), {"train": (episodes, examples)}, config.control_hz)


def _template(kind: str, value: dict[str, Any], numbers: list[tuple[str, int]]) -> tuple[Array, list[int]]:
    """Return a CDR message as uint8 and the byte offsets at which groups of doubles stand.

    `numbers` names groups by the marker value of their first double in `value`; each marker occurs once on the wire.
    """
    wire = encode(kind, value, "ros2")
    offsets = []
    for marker, _ in numbers:
        raw = np.array([float(marker)], dtype="<f8").tobytes()
        if wire.count(raw) != 1:
            raise ValueError(f"{kind}: the marker {marker} must occur once")
        offsets.append(wire.index(raw))
    return np.frombuffer(wire, dtype=np.uint8), offsets


def _fill(template: Array, offsets: list[int], stamps_ns: Array, groups: list[Array]) -> list[bytes]:
    """Return one message a row: the template with its stamp (bytes 4 to 12) and its groups of doubles replaced."""
    rows = np.repeat(template[None], len(stamps_ns), axis=0)
    stamp = np.stack([stamps_ns // 1_000_000_000, stamps_ns % 1_000_000_000], axis=1).astype("<u4")
    rows[:, 4:12] = stamp.view(np.uint8)
    for at, values in zip(offsets, groups, strict=True):
        raw = np.ascontiguousarray(values, dtype="<f8").view(np.uint8)
        rows[:, at : at + raw.shape[1]] = raw
    return [row.tobytes() for row in rows]


def _joint_messages(pool: ArmRecording, stamps_ns: Array) -> list[bytes]:
    marks = [1.0e101, 1.0e102, 1.0e103]
    value = {"header": header(0), "name": list(QPOS_NAMES)} | {
        key: [mark, 0.0, 0.0, 0.0, 0.0] for key, mark in zip(("position", "velocity", "effort"), marks, strict=True)
    }
    template, offsets = _template("sensor_msgs/JointState", value, [(str(mark), 5) for mark in marks])
    row = np.arange(len(stamps_ns)) % len(pool.joint_t_ns)
    return _fill(template, offsets, stamps_ns, [pool.joint_position[row], pool.joint_velocity[row], pool.joint_effort[row]])


def _imu_messages(pool: ArmRecording, stamps_ns: Array) -> list[bytes]:
    marks = [1.0e101, 1.0e102, 1.0e103]
    unknown = [0.0] * 9
    value = {
        "header": header(0, "hand"),
        "orientation": xyzw([marks[0], 0, 0, 0]),
        "orientation_covariance": unknown,
        "angular_velocity": xyz([marks[1], 0, 0]),
        "angular_velocity_covariance": unknown,
        "linear_acceleration": xyz([marks[2], 0, 0]),
        "linear_acceleration_covariance": unknown,
    }
    template, offsets = _template("sensor_msgs/Imu", value, [(str(mark), 3) for mark in marks])
    row = np.arange(len(stamps_ns)) % min(len(pool.imu_t_ns), len(pool.joint_t_ns))
    return _fill(template, offsets, stamps_ns, [pool.ee_quat_xyzw[row], pool.angular_velocity[row], pool.linear_acceleration[row]])


def write_bulk_mcap(path: Path, size_bytes: int = 1 << 30, seed: int = 0, height: int = 480, width: int = 640, quality: int = 90) -> Path:
    """Write one ROS 2 recording of at least `size_bytes`: two JPEG cameras at 30 Hz, JointState and Imu at 200 Hz, zstd chunks of 1 MiB.

    The world repeats after a few seconds; every frame's bytes, stamp and every message's stamp are its own. Messages are written second by
    second in the order of their log times, 1 to 3 ms after their stamps.
    """
    from mcap.writer import CompressionType, Writer

    pool = record(seed, 3, ArmConfig(height=height, width=width, failure_rate=0.0, max_steps=100))
    frames = {name: encoded_frames(track, "jpeg", quality) for name, track in pool.cameras.items()}
    version: RosVersion = "ros2"
    kinds = {"/joint_states": "sensor_msgs/JointState", "/imu/data": "sensor_msgs/Imu"}
    kinds |= {f"/camera/{name}/image/compressed": "sensor_msgs/CompressedImage" for name in frames}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = Writer(file, 1 << 20, CompressionType.ZSTD)
        writer.start("ros2", "dataengine samples")
        schemas = {kind: writer.register_schema(ros_type(kind, version), "ros2msg", definition(kind, version).encode()) for kind in sorted(set(kinds.values()))}
        channels = {topic: writer.register_channel(topic, "cdr", schemas[kind]) for topic, kind in kinds.items()}
        second = 0
        while file.tell() < size_bytes:
            rng = np.random.default_rng([seed, 29, second])
            start = pool.start_ns + second * 1_000_000_000
            fast = start + np.arange(200, dtype=np.int64) * 5_000_000
            slow = start + np.arange(30, dtype=np.int64) * 1_000_000_000 // 30
            batches = [
                (channels["/joint_states"], fast, _joint_messages(pool, fast)),
                (channels["/imu/data"], fast + 1_000_000, _imu_messages(pool, fast + 1_000_000)),
            ]
            for place, (name, images) in enumerate(frames.items()):
                stamps = slow + 2_000_000 * (place + 1)
                made = []
                for row, stamp in enumerate(stamps):
                    jpeg = marked_jpeg(images[(second * 30 + row) % len(images)], f"{second}/{row}".encode())
                    made.append(
                        encode("sensor_msgs/CompressedImage", {"header": header(int(stamp), f"{name}_optical"), "format": "jpeg", "data": jpeg}, version)
                    )
                batches.append((channels[f"/camera/{name}/image/compressed"], stamps, made))
            entries = []
            for channel, stamps, made in batches:
                logged = stamps + rng.integers(1_000_000, 3_000_000, len(stamps))
                first = second * len(stamps)
                entries += [(int(log), channel, int(when), first + row, data) for row, (log, when, data) in enumerate(zip(logged, stamps, made, strict=True))]
            for log, channel, when, sequence, data in sorted(entries, key=lambda entry: entry[:2]):
                writer.add_message(channel, log, data, when, sequence)
            second += 1
        writer.finish()
    return path


def write_bulk_video(folder: Path, size_bytes: int, files: int = 4, height: int = 720, width: int = 1280) -> None:
    """Write H.264 videos of about `size_bytes` together: two seconds of moving noise, whose packets follow each other over and over with times of their own."""
    import av

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        rng = np.random.default_rng(number)
        still = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        path = folder / f"video_{number}.mp4"
        with av.open(str(path), "w") as container:
            encoder = container.add_stream("libx264", rate=30)
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.options = {"preset": "ultrafast", "crf": "30", "g": "30"}
            frames = (av.VideoFrame.from_ndarray(np.roll(still, 3 * shift, axis=1), format="rgb24") for shift in range(60))
            packets = [packet for frame in (*frames, None) for packet in encoder.encode(frame)]
            again = max(1, size_bytes // files // sum(packet.size for packet in packets))
            step = int(1 / 30 / packets[0].time_base)
            for turn in range(again):
                for packet in packets:
                    copy = av.Packet(bytes(packet))
                    copy.pts, copy.dts = packet.pts + turn * 60 * step, packet.dts + turn * 60 * step
                    copy.time_base, copy.stream, copy.is_keyframe = packet.time_base, encoder, packet.is_keyframe
                    container.mux(copy)
