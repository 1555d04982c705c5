"""The ROS messages of the samples, serialised as ROS 1 and as ROS 2 (CDR, little-endian), with their definitions as text.

Sources: the .msg files of common_interfaces (ROS 2) and common_msgs (ROS 1); OMG CDR 1.1 (primitives are aligned to their own
size, counted from behind the 4-byte header; a string has its length with the final zero); the ROS 1 wire format has no alignment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

RosVersion = Literal["ros1", "ros2"]

# Fields as (type, name); "T[]" is a list, "T[n]" an array, a type with "/" another message. `time` is builtin_interfaces/Time in ROS 2.
MESSAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "std_msgs/Header": (("time", "stamp"), ("string", "frame_id")),
    "std_msgs/String": (("string", "data"),),
    "sensor_msgs/JointState": (
        ("std_msgs/Header", "header"),
        ("string[]", "name"),
        ("float64[]", "position"),
        ("float64[]", "velocity"),
        ("float64[]", "effort"),
    ),
    "geometry_msgs/Quaternion": (("float64", "x"), ("float64", "y"), ("float64", "z"), ("float64", "w")),
    "geometry_msgs/Vector3": (("float64", "x"), ("float64", "y"), ("float64", "z")),
    "geometry_msgs/Transform": (("geometry_msgs/Vector3", "translation"), ("geometry_msgs/Quaternion", "rotation")),
    "geometry_msgs/TransformStamped": (("std_msgs/Header", "header"), ("string", "child_frame_id"), ("geometry_msgs/Transform", "transform")),
    "geometry_msgs/Twist": (("geometry_msgs/Vector3", "linear"), ("geometry_msgs/Vector3", "angular")),
    "geometry_msgs/TwistStamped": (("std_msgs/Header", "header"), ("geometry_msgs/Twist", "twist")),
    "tf2_msgs/TFMessage": (("geometry_msgs/TransformStamped[]", "transforms"),),
    "sensor_msgs/Imu": (
        ("std_msgs/Header", "header"),
        ("geometry_msgs/Quaternion", "orientation"),
        ("float64[9]", "orientation_covariance"),
        ("geometry_msgs/Vector3", "angular_velocity"),
        ("float64[9]", "angular_velocity_covariance"),
        ("geometry_msgs/Vector3", "linear_acceleration"),
        ("float64[9]", "linear_acceleration_covariance"),
    ),
    "sensor_msgs/CompressedImage": (("std_msgs/Header", "header"), ("string", "format"), ("uint8[]", "data")),
    "sensor_msgs/Image": (
        ("std_msgs/Header", "header"),
        ("uint32", "height"),
        ("uint32", "width"),
        ("string", "encoding"),
        ("uint8", "is_bigendian"),
        ("uint32", "step"),
        ("uint8[]", "data"),
    ),
    "sensor_msgs/RegionOfInterest": (("uint32", "x_offset"), ("uint32", "y_offset"), ("uint32", "height"), ("uint32", "width"), ("bool", "do_rectify")),
    "sensor_msgs/CameraInfo": (
        ("std_msgs/Header", "header"),
        ("uint32", "height"),
        ("uint32", "width"),
        ("string", "distortion_model"),
        ("float64[]", "d"),
        ("float64[9]", "k"),
        ("float64[9]", "r"),
        ("float64[12]", "p"),
        ("uint32", "binning_x"),
        ("uint32", "binning_y"),
        ("sensor_msgs/RegionOfInterest", "roi"),
    ),
    "sensor_msgs/PointField": (("string", "name"), ("uint32", "offset"), ("uint8", "datatype"), ("uint32", "count")),
    "sensor_msgs/PointCloud2": (
        ("std_msgs/Header", "header"),
        ("uint32", "height"),
        ("uint32", "width"),
        ("sensor_msgs/PointField[]", "fields"),
        ("bool", "is_bigendian"),
        ("uint32", "point_step"),
        ("uint32", "row_step"),
        ("uint8[]", "data"),
        ("bool", "is_dense"),
    ),
    "sensor_msgs/NavSatStatus": (("int8", "status"), ("uint16", "service")),
    "sensor_msgs/NavSatFix": (
        ("std_msgs/Header", "header"),
        ("sensor_msgs/NavSatStatus", "status"),
        ("float64", "latitude"),
        ("float64", "longitude"),
        ("float64", "altitude"),
        ("float64[9]", "position_covariance"),
        ("uint8", "position_covariance_type"),
    ),
    "foxglove_msgs/CompressedVideo": (("time", "timestamp"), ("string", "frame_id"), ("uint8[]", "data"), ("string", "format")),
}
_CODES = {"bool": "?", "uint8": "B", "int8": "b", "uint16": "H", "uint32": "I", "int32": "i", "float32": "f", "float64": "d"}
_ROS1_CAMERA_NAMES = {"d": "D", "k": "K", "r": "R", "p": "P"}  # ROS 1 spells the matrices of CameraInfo in capitals


def ros_type(name: str, version: RosVersion) -> str:
    """Return the full name of a message type: "sensor_msgs/msg/Imu" in ROS 2."""
    return name if version == "ros1" else name.replace("/", "/msg/")


def _split(kind: str) -> tuple[str, str | None]:
    """Return a field's element type, and what stands in its brackets (None without brackets)."""
    if not kind.endswith("]"):
        return kind, None
    element, size = kind[:-1].split("[")
    return element, size


def fields_of(name: str, version: RosVersion) -> Iterable[tuple[str, str, str]]:
    """Yield the type, the key in our values, and the name on the wire of each field."""
    if name == "std_msgs/Header" and version == "ros1":
        yield "uint32", "seq", "seq"
    for kind, field in MESSAGES[name]:
        capital = version == "ros1" and name == "sensor_msgs/CameraInfo"
        yield kind, field, _ROS1_CAMERA_NAMES.get(field, field) if capital else field


def definition(name: str, version: RosVersion) -> str:
    """Return a message's definition as text, followed by those that it uses."""
    order = [name]
    for current in order:  # grows while it is walked
        for kind, _, _ in fields_of(current, version):
            element = _split(kind)[0]
            if element in MESSAGES and element not in order:
                order.append(element)
    blocks = []
    for current in order:
        lines = []
        for kind, _, field in fields_of(current, version):
            element, size = _split(kind)
            shown = "builtin_interfaces/Time" if element == "time" and version == "ros2" else element
            lines.append(f"{shown}{'' if size is None else f'[{size}]'} {field}")
        head = "" if current == name else f"{'=' * 80}\nMSG: {current}\n"
        blocks.append(head + "\n".join(lines) + "\n")
    if version == "ros2" and "std_msgs/Header" in order:
        blocks.append(f"{'=' * 80}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n")
    return "".join(blocks)


class _Wire:
    """Bytes under construction; `aligned` for CDR."""

    def __init__(self, aligned: bool) -> None:
        self.data = bytearray()
        self.aligned = aligned

    def number(self, code: str, value: Any) -> None:
        size = struct.calcsize(code)
        if self.aligned:
            self.data += bytes(-len(self.data) % size)
        self.data += struct.pack("<" + code, value)

    def block(self, code: str, values: Sequence[Any] | bytes) -> None:
        if self.aligned and len(values):
            self.data += bytes(-len(self.data) % struct.calcsize(code))
        self.data += bytes(values) if code == "B" else struct.pack(f"<{len(values)}{code}", *values)

    def string(self, text: str) -> None:
        raw = text.encode() + (b"\0" if self.aligned else b"")
        self.number("I", len(raw))
        self.data += raw


def _write(wire: _Wire, kind: str, value: Any, version: RosVersion) -> None:
    element, size = _split(kind)
    if size is not None:
        if not size:
            wire.number("I", len(value))
        elif int(size) != len(value):
            raise ValueError(f"{kind}: must have {size} values, got {len(value)}")
        if element in _CODES:
            wire.block(_CODES[element], value)
        else:
            for item in value:
                _write(wire, element, item, version)
    elif element == "string":
        wire.string(value)
    elif element == "time":
        wire.number("I" if version == "ros1" else "i", int(value) // 1_000_000_000)
        wire.number("I", int(value) % 1_000_000_000)
    elif element in _CODES:
        wire.number(_CODES[element], value)
    else:
        for inner, key, _ in fields_of(element, version):
            _write(wire, inner, value.get("seq", 0) if key == "seq" else value[key], version)


def encode(name: str, value: Mapping[str, Any], version: RosVersion) -> bytes:
    """Return a message on the wire; `value` maps field names to numbers, strings, lists, bytes, times in ns, or further mappings."""
    wire = _Wire(aligned=version == "ros2")
    _write(wire, name, value, version)
    return (b"\x00\x01\x00\x00" if version == "ros2" else b"") + bytes(wire.data)


def header(stamp_ns: int, frame_id: str = "", seq: int = 0) -> dict[str, Any]:
    """Return a std_msgs/Header value."""
    return {"stamp": stamp_ns, "frame_id": frame_id, "seq": seq}


def xyz(values: Any) -> dict[str, float]:
    """Return a Vector3 value."""
    return {"x": float(values[0]), "y": float(values[1]), "z": float(values[2])}


def xyzw(values: Any) -> dict[str, float]:
    """Return a Quaternion value."""
    return {**xyz(values), "w": float(values[3])}


def json_ready(value: Any) -> Any:
    """Return a message value for JSON: bytes in base64, stamps as {sec, nsec}, arrays as lists."""
    import base64

    if isinstance(value, Mapping):
        return {key: {"sec": item // 1_000_000_000, "nsec": item % 1_000_000_000} if key == "stamp" else json_ready(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [json_ready(item) for item in value] if isinstance(value, list | tuple) else value
