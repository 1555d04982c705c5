"""The definitions of ROS 2 that come with the project: equal to those of an independent library, release by release, and chosen by what fits."""

from __future__ import annotations

from typing import Any

import pytest

from dataengine.sources.messages.fields import MessageSchema
from dataengine.sources.messages.ros_definitions import parse_definitions
from dataengine.sources.messages.ros_known import choose_schema, definition_sets, fits, known_schemas
from tests.support.mcap_files import Cdr

T0 = 1_700_000_000 * 10**9
RELEASES = ("lyrical", "kilted", "jazzy", "iron", "humble", "galactic", "foxy")
# What the library does not have: read from the definitions of ros2_control.
OTHERS = "control_msgs/"


def _shown(kind: Any) -> str:
    """Return a field's type of the rosbags library as we write it."""
    from rosbags.interfaces import Nodetype

    node, value = kind
    if node == Nodetype.BASE:
        name, bound = value
        return f"{name}<={bound}" if bound else str(name)
    if node == Nodetype.NAME:
        return str(value).replace("/msg/", "/")
    element, size = value
    bound = f"<={size}" if node == Nodetype.SEQUENCE and size else str(size) if node == Nodetype.ARRAY else ""
    return f"{_shown(element)}[{bound}]"


@pytest.mark.parametrize("release", RELEASES)
def test_definitions_are_those_of_the_rosbags_library(release: str) -> None:
    from rosbags.typesys import Stores, get_typestore

    theirs = {}
    for name, (_, fields) in get_typestore(Stores[f"ROS2_{release.upper()}"]).fielddefs.items():
        shown = [f"{_shown(kind)} {field}" for field, kind in fields if field != "structure_needs_at_least_one_member"]
        theirs[name.replace("/msg/", "/")] = ", ".join(shown)
    ours = definition_sets()[release]
    assert {name: ours.get(name) for name in theirs} == theirs


def test_every_definition_can_be_laid_out() -> None:
    for name in definition_sets()["latest"]:
        schemas = known_schemas(name.replace("/", "/msg/"))
        assert schemas, name
        for schema in schemas:
            main, types = parse_definitions(schema.name, schema.data, ros1=False)
            assert (main, main in types) == (name, True)


def test_controller_states_differ_by_release() -> None:
    """The trajectory controller says desired and actual before Humble, reference and feedback since, and both in Humble."""
    fields = {release: definition_sets()[release]["control_msgs/JointTrajectoryControllerState"] for release in ("galactic", "humble", "jazzy")}
    assert [("desired" in text, "reference" in text) for text in fields.values()] == [(True, False), (True, True), (False, True)]


def test_a_schema_is_chosen_by_what_fits() -> None:
    payload = Cdr().text("hello, world and all").bytes()
    good = MessageSchema("std_msgs/msg/String", "ros2msg", b"string data\n")
    bad = MessageSchema("std_msgs/msg/String", "ros2msg", b"float64 data\n")
    idl = MessageSchema("std_msgs/msg/String", "ros2idl", b"module std_msgs { ... }")
    assert choose_schema(good.name, good, payload) == (good, "recorded")
    assert choose_schema(good.name, None, payload).origin == "known"
    assert choose_schema(good.name, bad, payload).origin == "replaced"
    assert choose_schema(good.name, idl, payload).origin == "known"
    odd = Cdr().number("Q", 1, 2, 3).bytes()
    assert choose_schema(good.name, bad, odd) == (bad, "recorded")
    assert choose_schema("lab_msgs/msg/X", None, odd) == (MessageSchema("lab_msgs/msg/X", "", b""), "unknown")


def test_the_release_goes_first_and_others_where_it_does_not_fit() -> None:
    """A Range of Humble is 4 bytes shorter than one of Iron."""
    short = Cdr().header(T0).number("B", 1).number("f", 0.5, 0.1, 4.0, 2.5).bytes()
    first = known_schemas("sensor_msgs/msg/Range", "humble")[0]
    assert fits(first, short)
    assert b"variance" not in first.data
    assert b"variance" in known_schemas("sensor_msgs/msg/Range", "jazzy")[0].data
    chosen = choose_schema("sensor_msgs/msg/Range", None, short, "jazzy").schema
    assert chosen is not None
    assert b"variance" not in chosen.data
