"""A recording of messages as one episode: which clock each stream goes by, what the cameras are, and the columns together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dataengine.core.column import Camera, Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.problem import Problem
from dataengine.sources.messages.stream_names import StreamNames
from dataengine.sources.messages.topics import Topic

# 2001-01-01T00:00:00Z: a clock that starts later counts from 1970, one that starts earlier from when something was switched on.
EPOCH_FROM_NS = 978_307_200 * 1_000_000_000

# Clocks that are further apart than this do not count from the same moment.
ONE_CLOCK_NS = 3600 * 1_000_000_000

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


def topics_by_log(topics: Sequence[Topic]) -> tuple[set[str], list[Problem]]:
    """Return the topics that go by the log time, and a problem where header stamps had to give way to it.

    A topic goes by its header stamps where every message has one. The streams of an episode must count from one moment, though: stamps
    of a clock that was never set (more than an hour from the log) cannot stand beside topics that go by the log or by other stamps.
    """
    offsets = {topic.messages: topic.stamp_offset_ns() for topic in topics}
    by_log = {name for name, offset in offsets.items() if offset is None}
    stamped = {name: offset for name, offset in offsets.items() if offset is not None}
    seen = [*stamped.values(), *([0] if by_log else [])]
    if not stamped or max(seen) - min(seen) <= ONE_CLOCK_NS:
        return by_log, []
    near = bool(by_log) or any(abs(offset) <= ONE_CLOCK_NS for offset in stamped.values())
    apart = sorted(name for name, offset in stamped.items() if not near or abs(offset) > ONE_CLOCK_NS)
    message = f"the header stamps of {', '.join(apart[:5])}{' and others' if len(apart) > 5 else ''} are more than an hour from the clock of other topics"
    return by_log | set(apart), [Problem("clocks_disagree", f"{message}: these topics go by the log time", where=apart[0], advice="set the sensor's clock")]


def build_info(
    topics: Sequence[Topic],
    names: StreamNames,
    dataset: str,
    key: str = "",
    by_log: bool = False,
    rate_hz: float | None = None,
    embodiment: str | None = None,
    splits: tuple[str, ...] = (),
    metadata: Mapping[str, Any] | None = None,
    columns: Mapping[str, Column] | None = None,
    problems: Sequence[Problem] = (),
    camera_infos: Mapping[str, Mapping[str, Any]] | None = None,
) -> EpisodeInfo:
    """Return the end of an episode that was read from `topics`.

    Each stream goes by the clock that `topics_by_log` says; `by_log` makes all go by the log. `start_ns` is the earliest time, on its own clock, of any stream of a topic. `columns` are of streams that are no topic's (attachments): they have no clock.
    `camera_infos` are those known from earlier in the recording, by topic.
    """
    found: dict[str, Column] = {}
    clocks: dict[str, tuple[str, int]] = {}
    noted = list(problems)
    infos = {**(camera_infos or {}), **{topic.topic: topic.camera_info for topic in topics if topic.camera_info is not None}}
    log_topics, disagreements = topics_by_log(topics)
    noted.extend(disagreements)
    for topic in topics:
        own = topic.columns(camera_of(topic, infos.items()) if topic.is_picture else None)
        found.update(own)
        clocks.update(topic.clock_of(own, by_log or topic.messages in log_topics))
        noted.extend(topic.problems())
    for stream in dict.fromkeys(names.targets.values()):
        if stream not in names.used:
            sources = [source for source, target in names.targets.items() if target == stream]
            noted.append(Problem("mapped_field_absent", f"{stream!r} is to be {' or '.join(sources)}, and the recording has no such field", where=sources[0]))
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
        rate_hz=rate_hz,
        embodiment=embodiment,
        follow="action" if "action" in clocks else None,
        splits=splits,
        metadata=metadata or {},
        problems=tuple(noted),
    )
