"""A recording of messages as one episode: which clock each stream goes by, what the cameras are, and the columns together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dataengine.core.column import Camera, Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.problem import Problem
from dataengine.sources.message_topics import Topic
from dataengine.sources.stream_names import StreamNames

# 2001-01-01T00:00:00Z: a clock that starts later counts from 1970, one that starts earlier from when something was switched on.
EPOCH_FROM_NS = 978_307_200 * 1_000_000_000

_PICTURE_LEAVES = ("compressed", "compressedDepth")


def _namespace(topic: str) -> str:
    """Return the namespace of a camera's topic: "/cam" of "/cam/image_raw/compressed" and of "/cam/camera_info"."""
    parts = [part for part in topic.split("/") if part]
    while parts and parts[-1] in _PICTURE_LEAVES:
        parts.pop()
    return "/".join(parts[:-1])


def camera_of(topic: Topic, infos: Iterable[tuple[str, Mapping[str, Any]]]) -> Camera:
    """Return what the CameraInfo topics say of a picture topic's camera: the one of its namespace, else the only one of its frame.

    `infos` are (topic, info); intrinsics are taken from K (row-major 3x3) where its focal lengths are not zero.
    """
    found = list(infos)
    near = [info for name, info in found if _namespace(name) == _namespace(topic.topic)]
    if len(near) != 1:
        near = [info for _, info in found if topic.frame is not None and info["frame"] == topic.frame]
    if len(near) != 1:
        return Camera()
    info = near[0]
    k = [float(value) for value in info["k"]]
    if len(k) != 9 or k[0] == 0 or k[4] == 0:
        return Camera()
    distortion = (str(info["model"]), tuple(float(value) for value in info["d"])) if info["model"] else None
    return Camera(intrinsics_px=(k[0], k[4], k[2], k[5]), distortion=distortion)


def build_info(
    topics: Sequence[Topic],
    names: StreamNames,
    dataset: str,
    key: str = "",
    by_log: bool = False,
    splits: tuple[str, ...] = (),
    metadata: Mapping[str, Any] | None = None,
    columns: Mapping[str, Column] | None = None,
    problems: Sequence[Problem] = (),
    camera_infos: Mapping[str, Mapping[str, Any]] | None = None,
) -> EpisodeInfo:
    """Return the end of an episode that was read from `topics`.

    `start_ns` is the earliest time, on its own clock, of any stream of a topic. `columns` are of streams that are no topic's (attachments): they have no clock.
    `camera_infos` are those known from earlier in the recording, by topic.
    """
    found: dict[str, Column] = {}
    clocks: dict[str, tuple[str, int]] = {}
    noted = list(problems)
    infos = {**(camera_infos or {}), **{topic.topic: topic.camera_info for topic in topics if topic.camera_info is not None}}
    for topic in topics:
        own = topic.columns(camera_of(topic, infos.items()) if topic.is_picture else None)
        found.update(own)
        clocks.update(topic.clock_of(own, by_log))
        noted.extend(topic.problems())
    for source, stream in names.targets.items():
        if source not in names.used:
            noted.append(
                Problem(
                    "mapped_topic_absent", f"the description maps {source!r} to {stream!r}, and the recording has no such field", where=source, found="nothing"
                )
            )
    found.update(columns or {})
    start_ns = min((earliest for _, earliest in clocks.values()), default=0)
    return EpisodeInfo(
        dataset=dataset,
        columns=found,
        clock="measured",
        key=key,
        stream_clocks={stream: clock for stream, (clock, _) in clocks.items()},
        start_ns=start_ns,
        epoch=start_ns > EPOCH_FROM_NS,
        follow="action" if "action" in clocks else None,
        splits=splits,
        metadata=metadata or {},
        problems=tuple(noted),
    )
