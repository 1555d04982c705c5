"""Robots and human bodies as data: joints and their limits, gripper, cameras; each fact with where it is published."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import Field, model_validator

from dataengine.core.column import CameraRole
from dataengine.core.config import Config, read_config
from dataengine.core.errors import ConfigError, UnknownName
from dataengine.core.names import data_folder

BodyKind = Literal["arm", "bimanual", "mobile_manipulator", "mobile_base", "humanoid", "hand", "gripper", "person"]


class Joint(Config):
    """One joint: `lower` and `upper` in `unit` (rad or m), `velocity` in unit/s; null where it is not published."""

    name: str
    unit: Literal["rad", "m"] | None = None
    lower: float | None = None
    upper: float | None = None
    velocity: float | None = None

    @model_validator(mode="after")
    def _limits_in_order(self) -> Joint:
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"joint {self.name!r}: lower must be below upper, got {self.lower} and {self.upper}")
        if self.unit is None and not (self.lower is None and self.upper is None and self.velocity is None):
            raise ValueError(f"joint {self.name!r}: a limit needs a unit")
        return self


class GripperFacts(Config):
    """How a gripper is measured: the number when closed and when open, and its unit ("m", "rad", or "1" for normalised)."""

    closed: float
    open: float
    unit: Literal["m", "rad", "1"]


class Embodiment(Config):
    """A body that acts. A fact that is not published is null; `cite` says for each other one where it is."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    body: BodyKind
    aliases: tuple[str, ...] = ()
    joints: tuple[Joint, ...] | None = None
    gripper: GripperFacts | None = None
    cameras: dict[str, CameraRole] | None = None
    base_frame: str | None = None
    tool_frame: str | None = None
    cite: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_fact_is_cited(self) -> Embodiment:
        names = [joint.name for joint in self.joints or ()]
        if len(set(names)) != len(names):
            raise ValueError("joints: each name must stand once")
        facts = ("joints", "gripper", "cameras", "base_frame", "tool_frame")
        missing = [fact for fact in facts if getattr(self, fact) is not None and fact not in self.cite]
        if missing:
            raise ValueError(f"cite: must say where {', '.join(missing)} is published, or the field must be null")
        idle = [fact for fact in self.cite if fact not in facts or getattr(self, fact) is None]
        if idle:
            raise ValueError(f"cite: names {', '.join(idle)}, which holds no fact here")
        return self


def read_embodiments(folder: Path) -> dict[str, Embodiment]:
    """Read each YAML file of a folder; raise ConfigError where one is not valid or is not named for what it holds."""
    found: dict[str, Embodiment] = {}
    taken: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        body = read_config(Embodiment, path)
        if body.name != path.stem:
            raise ConfigError(f"{path}: name must be {path.stem!r} as the file's, got {body.name!r}; rename one of them")
        for name in (body.name, *body.aliases):
            if name in taken:
                raise ConfigError(f"{path}: the name {name!r} is taken by {taken[name]!r}; choose another")
            taken[name] = body.name
        found[body.name] = body
    return found


@cache
def embodiments() -> Mapping[str, Embodiment]:
    """Return the bodies in configs/embodiments by name."""
    return MappingProxyType(read_embodiments(data_folder("configs") / "embodiments"))


def embodiment(name: str) -> Embodiment:
    """Return a body by its name or one of its aliases; raise UnknownName."""
    for body in embodiments().values():
        if name == body.name or name in body.aliases:
            return body
    raise UnknownName("embodiment", name, embodiments())
