"""ROS payloads laid out by hand, byte by byte, and payloads that do not fit."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from dataengine.sources.messages.fields import MAX_ELEMENTS, Decoded, MessageSchema, SchemaProblem
from dataengine.sources.messages.ros_definitions import parse_definitions
from dataengine.sources.messages.ros_layout import MAX_STEPS
from dataengine.sources.messages.ros_messages import PATIENCE, RosDecoder
from dataengine.sources.messages.ros_transforms import TransformsDecoder
from tests.support.mcap_files import HEADER_DEFINITION, JOINT_STATE, Cdr, joint_state


def _decoder(text: str, ros1: bool = False, **options: object) -> RosDecoder:
    return RosDecoder(MessageSchema("p/X" if ros1 else "p/msg/X", "ros1msg" if ros1 else "ros2msg", text.encode()), not ros1, **options)  # type: ignore[arg-type]


def _values(decoded: Decoded, path: str) -> list[object]:
    (part,) = decoded.numbers[path]
    return list(part.values.tolist())


def test_cdr_aligns_each_number_to_its_size_after_the_encapsulation() -> None:
    decoder = _decoder("uint8 a\nfloat64 b\nint16 c\nint32 d\nstring e\nuint64 f\n")
    #      encapsulation  a   padding to 8        b = 1.5                    c     padding    d                length 3   "hi\0"  1 to 16+... f
    data = b"\0\1\0\0" + b"\7" + bytes(7) + struct.pack("<d", 1.5) + b"\xfe\xff" + bytes(2) + struct.pack("<i", -9)
    data += struct.pack("<I", 3) + b"hi\0" + bytes(1) + bytes(4 - 4) + struct.pack("<Q", 2**63 + 1)
    decoded = decoder.decode([data])
    assert not decoded.failed
    assert [_values(decoded, name) for name in "abcdf"] == [[7], [1.5], [-2], [-9], [2**63 + 1]]
    assert decoder.facts["f"].dtype == "uint64"


def test_big_endian_cdr_gives_the_same_numbers() -> None:
    text = "int16 a\nfloat32[] b\nbuiltin_interfaces/Time t\nbool c\n"
    messages = [Cdr(little).number("h", -300).sequence("f", [0.5, -2.0]).number("i", -1).number("I", 5).number("B", 2).bytes() for little in (True, False)]
    decoded = _decoder(text).decode(messages)
    for path, expected in (("a", [-300, -300]), ("b", [[0.5, -2.0]] * 2), ("t", [-999_999_995] * 2), ("c", [True, True])):
        parts = decoded.numbers[path]
        assert [row for part in parts for row in part.rows.tolist()] == [0, 1]
        assert [value for part in parts for value in part.values.tolist()] == expected
        assert all(part.values.dtype.isnative for part in parts)


def test_ros1_is_packed_and_its_times_are_unsigned() -> None:
    text = f"Header header\nuint8 a\nfloat64 b\ntime t\nduration d\nchar c\n{'=' * 80}\nMSG: std_msgs/Header\nuint32 seq\ntime stamp\nstring frame_id\n"
    data = struct.pack("<III", 4, 3_000_000_000, 7) + struct.pack("<I", 4) + b"base"
    data += struct.pack("<Bd", 200, 0.25) + struct.pack("<II", 1, 2) + struct.pack("<iI", -1, 1) + b"\xff"
    decoder = _decoder(text, ros1=True, texts=("header.frame_id",))
    decoded = decoder.decode([data, data + b"\0"])
    assert decoded.stamp_ns is not None
    assert decoded.stamp_ns.tolist() == [3_000_000_000 * 10**9 + 7, 0]
    assert [_values(decoded, path) for path in ("header.seq", "a", "b", "t", "d", "c")] == [[4], [200], [0.25], [1_000_000_002], [-999_999_999], [255]]
    assert decoded.texts["header.frame_id"] == [(0, b"base")]
    assert "1 bytes are left" in decoded.failed[1]


def test_vectors_quaternions_and_fixed_arrays_are_one_column_each() -> None:
    text = "q/Pose pose\nq/Point[2] corners\nint32[3] grid\n"
    text += "===\nMSG: q/Pose\nPoint position\nQuaternion turn\n===\nMSG: q/Point\nfloat32 x\nfloat32 y\n===\nMSG: q/Quaternion\nfloat64 x\nfloat64 y\nfloat64 z\nfloat64 w\n"
    decoder = _decoder(text)
    decoded = decoder.decode([Cdr().number("f", 1, 2).number("d", 0, 0, 0.6, 0.8).number("f", 5, 6, 7, 8).number("i", 1, -2, 3).bytes()])
    assert _values(decoded, "pose.position") == [[1, 2]]
    assert _values(decoded, "pose.turn") == [[0, 0, 0.6, 0.8]]
    assert _values(decoded, "corners") == [[[5, 6], [7, 8]]]
    assert _values(decoded, "grid") == [[1, -2, 3]]
    assert (decoder.facts["pose.position"].dims, decoder.facts["pose.turn"].align) == (("x", "y"), "slerp")


def test_joint_names_name_the_entries_and_part_messages_of_other_joints() -> None:
    decoder = RosDecoder(MessageSchema("sensor_msgs/msg/JointState", "ros2msg", JOINT_STATE.encode()), True)
    arm, hand = ["j1", "j2"], ["ga", "gb"]  # names of equal length: only their letters differ
    messages = [joint_state(1, arm, [1, 2]), joint_state(2, hand, [3, 4]), joint_state(3, arm, [5, 6]), joint_state(4, arm, [])]
    decoded = decoder.decode(messages)
    found = {part.names: (part.rows.tolist(), part.values.tolist()) for part in decoded.numbers["position"]}
    assert found == {("j1", "j2"): ([0, 2], [[1, 2], [5, 6]]), ("ga", "gb"): ([1], [[3, 4]])}


def test_a_batch_of_many_layouts_is_read_in_order() -> None:
    decoder = _decoder("string s\nfloat64 v\n")
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 40, 200)
    decoded = decoder.decode([Cdr().text("x" * int(length)).number("d", index).bytes() for index, length in enumerate(lengths)])
    assert not decoded.failed
    rows = np.concatenate([part.rows for part in decoded.numbers["v"]])
    values = np.concatenate([part.values for part in decoded.numbers["v"]])
    assert sorted(rows.tolist()) == list(range(200))
    assert np.array_equal(rows.astype(float), values)


def test_entries_of_nested_messages_stay_in_the_payload_and_are_walked_past() -> None:
    text = "q/P[] points\nfloat64 after\n===\nMSG: q/P\nuint8 a\nfloat64 b\nuint8 c\n"
    decoder = _decoder(text)
    messages = []
    for count in (0, 1, 3, 5000):
        payload = Cdr().number("I", count)
        for index in range(count):
            payload.number("B", index % 256).number("d", index).number("B", 1)
        messages.append(payload.number("d", count + 0.5).bytes())
    decoded = decoder.decode(messages)
    assert not decoded.failed
    assert {int(row): float(value) for part in decoded.numbers["after"] for row, value in zip(part.rows, part.values, strict=True)} == {
        0: 0.5,
        1: 1.5,
        2: 3.5,
        3: 5000.5,
    }
    assert set(decoded.numbers) == {"after"}


def test_an_empty_sequence_that_an_old_writer_aligned_is_read() -> None:
    decoder = _decoder("float64[] a\nint32[] b\n")
    plain = Cdr().number("I", 0).sequence("i", [3]).bytes()
    aligned = b"\0\1\0\0" + struct.pack("<II", 0, 0) + struct.pack("<Ii", 1, 3)
    decoded = decoder.decode([plain, aligned])
    assert not decoded.failed
    assert [part.values.tolist() for part in decoded.numbers["b"]] == [[[3]], [[3]]]


def test_large_arrays_and_sequences_of_bytes_are_no_columns() -> None:
    decoder = _decoder(f"float32[{MAX_ELEMENTS + 1}] a\nuint8[] b\nfloat32[] c\nuint8[4] d\n")
    payload = Cdr().number("f", *([0.0] * (MAX_ELEMENTS + 1))).blob(b"abc").sequence("f", [1.0] * (MAX_ELEMENTS + 1)).number("B", 1, 2, 3, 4).bytes()
    decoded = decoder.decode([payload])
    assert not decoded.failed
    assert set(decoded.numbers) == {"d"}


_HOSTILE = {
    "empty": b"",
    "no encapsulation": b"\0\1",
    "parameter list": b"\0\3\0\0" + bytes(20),
    "sequence longer than its payload": b"\0\1\0\0" + struct.pack("<I", 2**32 - 1),
    "nothing after a length": Cdr().number("I", 3).bytes(),
    "bytes left over": Cdr().sequence("d", [1.0]).number("I", 0).bytes() + bytes(9),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_payload_that_does_not_fit_fails_alone(name: str) -> None:
    good = Cdr().sequence("d", [1.0, 2.0]).number("I", 0).bytes()
    decoded = _decoder("float64[] a\nstring[] name\n").decode([good, _HOSTILE[name], good])
    assert list(decoded.failed) == [1]
    assert [part.rows.tolist() for part in decoded.numbers["a"]] == [[0, 2]]


def test_absurd_counts_of_nested_entries_end_quickly() -> None:
    text = "q/S[] s\n===\nMSG: q/S\nstring a\nq/E[] e\n===\nMSG: q/E\nuint8[] z\n"
    payload = b"\0\1\0\0" + struct.pack("<I", 500_000) + bytes(4_000_000)
    started = time.monotonic()
    decoded = _decoder(text).decode([payload] * 100)
    assert len(decoded.failed) == 100
    assert str(MAX_STEPS) in decoded.failed[0]
    assert f"after {PATIENCE} messages" in decoded.failed[PATIENCE]
    assert time.monotonic() - started < 30


def test_entries_without_a_byte_do_not_loop() -> None:
    decoder = _decoder("q/E[] e\nuint8 v\n===\nMSG: q/E\n", ros1=True)
    assert _values(decoder.decode([struct.pack("<IB", 2**32 - 1, 9)]), "v") == [9]


@pytest.mark.parametrize(
    "text",
    [
        "this is no field!\n",
        "q/Missing m\n",
        "X x\n",
        "wstring w\n",
        "A0 a\n" + "".join(f"===\nMSG: p/A{i}\nA{i + 1} a\nA{i + 1} b\n" for i in range(15)) + "===\nMSG: p/A15\nint32 v\n",
        "===\nIDL: p/msg/X\nmodule p {};\n",
    ],
    ids=["no field", "missing type", "contains itself", "wstring", "doubles itself", "idl"],
)
def test_a_definition_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(SchemaProblem):
        _decoder(text)


def test_constants_defaults_comments_and_bounds_are_read() -> None:
    text = 'uint8 A=1 # one\nstring B="x # y"\n# all of it\nfloat64 v 1.5\nint32[<=3] w # most three\nstring<=5 s "hi"\nuint8 C = 2\n'
    _, types = parse_definitions("p/msg/X", text.encode(), ros1=False)
    assert [(field.name, field.type, field.length) for field in types["p/X"]] == [("v", "float64", None), ("w", "int32", -1), ("s", "text", None)]


TF = (
    "geometry_msgs/TransformStamped[] transforms\n===\nMSG: geometry_msgs/TransformStamped\nstd_msgs/Header header\nstring child_frame_id\nTransform transform\n"
    "===\nMSG: geometry_msgs/Transform\nVector3 translation\nQuaternion rotation\n===\nMSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n"
    "===\nMSG: geometry_msgs/Quaternion\nfloat64 x\nfloat64 y\nfloat64 z\nfloat64 w\n" + HEADER_DEFINITION
)


def _transforms(*entries: tuple[int, str, str, float]) -> bytes:
    payload = Cdr().number("I", len(entries))
    for stamp_ns, parent, child, x in entries:
        payload.header(stamp_ns, parent).text(child).number("d", x, 2, 3, 0, 0, 0, 1)
    return payload.bytes()


def test_transforms_are_sorted_by_their_frames_in_the_order_of_the_messages() -> None:
    decoder = TransformsDecoder(MessageSchema("tf2_msgs/msg/TFMessage", "ros2msg", TF.encode()), True)
    messages = [
        _transforms((10, "map", "arm", 1.0), (11, "arm", "cam", 2.0)),
        _transforms((20, "map", "cam", 3.0), (21, "arm", "cam", 4.0)),  # the same lengths, another child
        _transforms(),
        _transforms((30, "map", "arm", 5.0), (31, "map", "arm", 6.0)),
        b"\0\1\0\0\xff",
    ]
    found, failed = decoder.decode(messages)
    assert list(failed) == [4]
    seen = {frames: (part.rows.tolist(), part.stamp_ns.tolist(), part.poses[:, 0].tolist()) for frames, part in found.items()}
    assert seen == {("map", "arm"): ([0, 3, 3], [10, 30, 31], [1, 5, 6]), ("arm", "cam"): ([0, 1], [11, 21], [2, 4]), ("map", "cam"): ([1], [20], [3])}
    assert found["arm", "cam"].poses[0].tolist() == [2, 2, 3, 0, 0, 0, 1]
