"""Names of streams: from topics and fields, from a description where it maps them, never the same for two things."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dataengine.core.digest import digest_bytes
from dataengine.core.errors import ConfigError

MAX_NAME = 160

_OUTSIDE = re.compile(r"[^A-Za-z0-9_-]+")
# Last parts of a topic that say that it is a picture, not whose.
_PICTURE_PARTS = frozenset(
    [
        "compressed",
        "compressedDepth",
        "image",
        "image_raw",
        "image_color",
        "image_mono",
        "image_rect",
        "image_rect_color",
        "image_rect_raw",
        "raw",
        "rgb",
        "color",
    ]
)


def topic_name(topic: str) -> str:
    """Return the stream name of a topic: "/camera/front/info" gives "camera.front.info"; characters outside [A-Za-z0-9_-] become "_"."""
    parts = [_OUTSIDE.sub("_", part) for part in topic.split("/") if part]
    return ".".join(parts) or "topic"


def camera_name(topic: str) -> str:
    """Return the camera that a picture topic shows: "/camera/front/image_raw/compressed" gives "camera_front"; the whole topic where nothing is left."""
    parts = topic_name(topic).split(".")
    kept = list(parts)
    while kept and kept[-1] in _PICTURE_PARTS:
        kept.pop()
    return "_".join(kept or parts)


class StreamNames:
    """Hands out the names of one episode's streams.

    The first owner of a name gets it; another that wants the same gets it with a digest of itself behind it. `targets` maps what a config or description names
    ("/joint_states:position", or a picture topic alone) to the name that it shall have ("observation.state"); of several sources of one
    name the first that is there gets it.
    """

    def __init__(self, targets: Mapping[str, str] | None = None) -> None:
        self.targets = dict(targets or {})
        self.used: dict[str, str] = {}
        self._owner: dict[str, str] = dict.fromkeys(self.targets.values(), "")

    def take(self, wanted: str, owner: str) -> str:
        """Return a name for `owner`, `wanted` itself where it is free; the same owner gets the same name."""
        target = self.targets.get(owner)
        if target is not None and self.used.setdefault(target, owner) == owner:
            return target
        name = wanted if len(wanted) <= MAX_NAME else f"{wanted[:MAX_NAME]}-{digest_bytes(owner.encode())[:8]}"
        if self._owner.setdefault(name, owner) != owner:
            name = f"{name}-{digest_bytes(owner.encode())[:8]}"
            self._owner[name] = owner
        return name


def stream_targets(config: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, str]:
    """Return {"topic:field": stream name}.

    From a config's `streams`, {stream name: "topic:field"} (of a picture topic: the topic alone), and from a dataset's description: those of the other names
    of a column (`columns.<name>.also`) that begin with "/". The config goes first.

    Raises:
        ConfigError: `streams` is not that.
    """
    given = config.get("streams", {})
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and isinstance(source, str) for name, source in given.items()):
        raise ConfigError(f"streams: must map stream names to 'topic:field' (or a picture topic), got {given!r}"[:300])
    found = {source: name for name, source in given.items()}
    if len(found) != len(given):
        raise ConfigError("streams: one 'topic:field' stands under two names; give each its own")
    columns = description.get("columns", {})
    for name, column in columns.items() if isinstance(columns, Mapping) else ():
        for other in column.get("also", ()) if isinstance(column, Mapping) else ():
            if isinstance(other, str) and other.startswith("/") and name not in given:
                found.setdefault(other, name)
    return found
