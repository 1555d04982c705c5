"""An arm recording as messages: every sample of every stream under a topic, with its stamp and the time at which it was logged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.samples.arm import QPOS_NAMES, ArmRecording
from dataengine.samples.pictures import encoded_frames
from dataengine.samples.ros import header, xyz, xyzw
from dataengine.samples.steps import newest_at


@dataclass(frozen=True, eq=False)
class Message:
    """One message: `kind` is a key of `ros.MESSAGES`, `stamp_ns` when it was measured and `log_ns` when it was written down, ns since the epoch."""

    topic: str
    kind: str
    stamp_ns: int
    log_ns: int
    sequence: int
    value: dict[str, Any]


@dataclass(frozen=True)
class TopicOptions:
    """Which topics there are.

    Args:
        raw_images: `sensor_msgs/Image` in place of `CompressedImage`.
        quality: of JPEG frames.
        points_hz: rate of a point cloud, 0 for none.
        log_delay_ns: how much later than its stamp a message is logged, on average; half of it is jitter. 0 logs at the stamp.
        camera_prefix: topics of cameras are `<prefix>/<camera>/...`.
    """

    raw_images: bool = False
    quality: int = 90
    points_hz: float = 0.0
    log_delay_ns: int = 2_000_000
    camera_prefix: str = "/camera"


def _cloud(recording: ArmRecording, at_ns: int) -> dict[str, Any]:
    """Return 64 points of the block's top, x y z float32, and a lattice of the table around it."""
    row = int(newest_at(recording.truth_t_ns, np.array([at_ns]))[0])
    x, y, z, yaw = recording.block_pose[row]
    grid = (np.arange(8) - 3.5) / 8
    top = np.stack([*(axis.reshape(-1) for axis in np.meshgrid(grid, grid, indexing="ij")), np.zeros(64)], axis=1)
    cosine, sine = np.cos(yaw) * 0.05, np.sin(yaw) * 0.05
    block = np.stack([x + cosine * top[:, 0] - sine * top[:, 1], y + sine * top[:, 0] + cosine * top[:, 1], np.full(64, z + 0.045)], axis=1)
    table = top * [0.6, 0.6, 1.0] + [0.32, 0.0, 0.0]
    points = np.concatenate([block, table]).astype("<f4")
    fields = [{"name": name, "offset": 4 * place, "datatype": 7, "count": 1} for place, name in enumerate("xyz")]
    return {
        "height": 1,
        "width": len(points),
        "fields": fields,
        "is_bigendian": False,
        "point_step": 12,
        "row_step": 12 * len(points),
        "data": points.tobytes(),
        "is_dense": True,
    }


def _camera(recording: ArmRecording, name: str, options: TopicOptions) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    track = recording.cameras[name]
    height, width = track.images.shape[1:3]
    fx, fy, cx, cy = track.intrinsics_px
    frame_id, base = f"{name}_optical", f"{options.camera_prefix}/{name}"
    info = {
        "height": height,
        "width": width,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": [fx, 0, cx, 0, fy, cy, 0, 0, 1],
        "r": [1, 0, 0, 0, 1, 0, 0, 0, 1],
        "p": [fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
    }
    frames = [] if options.raw_images else encoded_frames(track, "jpeg", options.quality)
    for row, t_ns in enumerate(track.t_ns):
        if options.raw_images:
            raw = {"height": height, "width": width, "encoding": "rgb8", "is_bigendian": 0, "step": width * 3, "data": track.images[row].tobytes()}
            yield f"{base}/image_raw", "sensor_msgs/Image", int(t_ns), {"frame_id": frame_id, **raw}
        else:
            yield f"{base}/image/compressed", "sensor_msgs/CompressedImage", int(t_ns), {"frame_id": frame_id, "format": "jpeg", "data": frames[row]}
        yield f"{base}/camera_info", "sensor_msgs/CameraInfo", int(t_ns), {"frame_id": frame_id, **info}


def _robot(recording: ArmRecording) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    names = list(QPOS_NAMES)
    for row, t_ns in enumerate(recording.joint_t_ns):
        position, velocity, effort = (rows[row].tolist() for rows in (recording.joint_position, recording.joint_velocity, recording.joint_effort))
        yield (
            "/joint_states",
            "sensor_msgs/JointState",
            int(t_ns),
            {"frame_id": "", "name": names, "position": position, "velocity": velocity, "effort": effort},
        )
        if row % 4 == 0:  # 50 Hz
            transform = {"translation": xyz(recording.ee_position[row]), "rotation": xyzw(recording.ee_quat_xyzw[row])}
            pose = {"header": header(recording.start_ns + int(t_ns), "base"), "child_frame_id": "hand", "transform": transform}
            yield "/tf", "tf2_msgs/TFMessage", int(t_ns), {"transforms": [pose]}
            turning = (recording.joint_velocity[row, :3]).sum()
            linear = (
                np.gradient(recording.ee_position[max(row - 1, 0) : row + 2], axis=0)[min(row, 1)] * recording.config.joint_hz
                if len(recording.joint_t_ns) > 2
                else np.zeros(3)
            )
            yield (
                "/hand_twist",
                "geometry_msgs/TwistStamped",
                int(t_ns),
                {"frame_id": "base", "twist": {"linear": xyz(linear), "angular": xyz((0.0, 0.0, turning))}},
            )
    for row, t_ns in enumerate(recording.action_t_ns):
        value = {"frame_id": "", "name": names, "position": recording.action[row].tolist(), "velocity": [], "effort": []}
        yield "/joint_commands", "sensor_msgs/JointState", int(t_ns), value
    orientation = recording.ee_quat_xyzw[newest_at(np.maximum.accumulate(recording.joint_t_ns), recording.imu_t_ns)]
    unknown = [0.0] * 9
    for row, t_ns in enumerate(recording.imu_t_ns):
        felt = {"angular_velocity": xyz(recording.angular_velocity[row]), "linear_acceleration": xyz(recording.linear_acceleration[row])}
        shape = {"orientation": xyzw(orientation[row]), "orientation_covariance": unknown}
        rest = {"angular_velocity_covariance": unknown, "linear_acceleration_covariance": unknown}
        yield "/imu/data", "sensor_msgs/Imu", int(t_ns), {"frame_id": "hand", **shape, **felt, **rest}


def messages(recording: ArmRecording, options: TopicOptions | None = None) -> list[Message]:
    """Return every message of a recording in the order in which it was logged."""
    options = options or TopicOptions()
    streams: list[Iterator[tuple[str, str, int, dict[str, Any]]]] = [_robot(recording)]
    streams += [_camera(recording, name, options) for name in recording.cameras]
    raw = [item for stream in streams for item in stream]
    raw.append(("/task", "std_msgs/String", int(recording.joint_t_ns.min()), {"data": recording.task}))
    if options.points_hz:
        for t_ns in range(20_000_000, int(recording.truth_t_ns[-1]), round(1e9 / options.points_hz)):
            raw.append(("/points", "sensor_msgs/PointCloud2", t_ns, {"frame_id": "base", **_cloud(recording, t_ns)}))
    rng = np.random.default_rng([recording.seed, recording.index, 3])
    delays = np.rint(options.log_delay_ns * (0.75 + 0.5 * rng.random(len(raw)))).astype(np.int64)
    made, counts = [], dict[str, int]()
    for (topic, kind, t_ns, value), delay in zip(raw, delays, strict=True):
        sequence = counts[topic] = counts.get(topic, -1) + 1
        stamp = recording.start_ns + t_ns
        stamped = {"header": header(stamp, value["frame_id"], sequence), **value} if "frame_id" in value else value
        made.append(Message(topic, kind, stamp, stamp + int(delay), sequence, {key: item for key, item in stamped.items() if key != "frame_id"}))
    return sorted(made, key=lambda message: message.log_ns)
