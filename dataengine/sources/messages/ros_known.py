"""Definitions of the message types that ROS 2 comes with, for recordings that hold none: from `configs/messages/ros2.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from dataengine.core.config import read_yaml
from dataengine.core.names import data_folder
from dataengine.core.stream import Buffer
from dataengine.sources.messages.fields import MessageSchema, SchemaProblem
from dataengine.sources.messages.ros_definitions import PRIMITIVES
from dataengine.sources.messages.ros_messages import RosDecoder

_TYPE = re.compile(r"[A-Za-z][\w/]*")


class Choice(NamedTuple):
    """The schema that a topic is read by, None where there is none, and where it comes from.

    "recorded": with the recording. "known": the recording holds none that can be read. "replaced": the recorded one does not fit the messages and a known one does.
    """

    schema: MessageSchema | None
    origin: Literal["recorded", "known", "replaced", "unknown"]


@lru_cache(maxsize=1)
def definition_sets() -> Mapping[str, Mapping[str, str]]:
    """Return for "latest", and for each release from the newest on, the fields of each type: {"std_msgs/String": "string data"}."""
    content = read_yaml(data_folder("configs") / "messages" / "ros2.yaml")
    current: dict[str, str] = content["latest"]
    sets = {"latest": current}
    for release, otherwise in content["releases"].items():
        current = sets[release] = {**current, **otherwise}
    return sets


def _text(name: str, types: Mapping[str, str]) -> str | None:
    """Return the definition of a type with all it is made of, None where one of them is not known."""
    order = [name]
    for current in order:  # grows while it is walked
        if current not in types:
            return None
        for field in filter(None, types[current].split(", ")):
            match = _TYPE.match(field)
            assert match is not None, "fields begin with their type"
            used = match[0]
            if used not in PRIMITIVES and used not in order:
                order.append(used)
    blocks = [("" if one == name else f"{'=' * 80}\nMSG: {one}\n") + "".join(f"{field}\n" for field in filter(None, types[one].split(", "))) for one in order]
    return "".join(blocks)


@lru_cache(maxsize=4096)
def known_schemas(type_name: str, release: str = "") -> tuple[MessageSchema, ...]:
    """Return the known definitions of a type ("sensor_msgs/msg/Imu"): that of `release` first, then the others from the newest on."""
    sets = definition_sets()
    name = type_name.replace("/msg/", "/")
    texts = [_text(name, sets[one]) for one in ([release] if release in sets else []) + list(sets)]
    return tuple(MessageSchema(type_name, "ros2msg", text.encode()) for text in dict.fromkeys(texts) if text is not None)


def fits(schema: MessageSchema, payload: Buffer) -> bool:
    """Return whether a CDR message can be read by a schema, to its last byte."""
    try:
        return not RosDecoder(schema, cdr=True).decode([payload]).failed
    except SchemaProblem:
        return False


def choose_schema(type_name: str, recorded: MessageSchema | None, payload: Buffer, release: str = "") -> Choice:
    """Choose the schema of a topic of CDR messages by the first of them; `recorded` is what the recording says, if anything."""
    usable = recorded is not None and recorded.encoding == "ros2msg" and bool(recorded.data.strip() or type_name.endswith("/Empty"))
    if recorded is not None and usable and fits(recorded, payload):
        return Choice(recorded, "recorded")
    known = _first_that_fits(known_schemas(type_name, release), payload)
    if known is not None:
        return Choice(known, "replaced" if usable else "known")
    if recorded is not None and recorded.data.strip():
        return Choice(recorded, "recorded")
    return Choice(MessageSchema(type_name, "", b"") if type_name else None, "unknown")


def _first_that_fits(schemas: Sequence[MessageSchema], payload: Buffer) -> MessageSchema | None:
    return next((schema for schema in schemas if fits(schema, payload)), None)
