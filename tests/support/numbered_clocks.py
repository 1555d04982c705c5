"""Episodes whose every picture carries its own number, on clocks of their own: what a step sees can be worked out by hand.

Times are ms from the episode's start: actions k at 100 k + 5 (the steps), the film's and the raw camera's picture i at 1000 i / 15, the JPEG camera's picture i at
40 i + 20, states at 30 a second with the time in seconds as their value, depth with the actions. The film begins at a frame of its own in a file that episodes share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataengine.core.column import ActionSpace, Camera, Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.stream import Frames, Items, MediaFrames, Rows
from dataengine.samples.numbered_film import numbered_frames, write_numbered_film

MS = 1_000_000
HEIGHT, WIDTH = 160, 256
FILM, STILLS, RAW, DEPTH = (f"observation.images.{name}" for name in ("film", "stills", "raw", "depth"))
STATE = "observation.state"
COLUMNS = {
    STATE: Column(STATE, dtype="float64", shape=(2,), meaning="state", dims=("seconds", "twice")),
    "action": Column("action", dtype="float32", shape=(1,), meaning="action", action_space=ActionSpace("joint_position", absolute=True)),
    FILM: Column(FILM, kind="image", dtype="uint8", shape=(HEIGHT, WIDTH, 3), encoding="h264", camera=Camera("primary", (100.0, 90.0, 127.5, 79.5))),
    STILLS: Column(STILLS, kind="image", dtype="uint8", shape=(HEIGHT, WIDTH, 3), encoding="jpeg", camera=Camera("wrist")),
    RAW: Column(RAW, kind="image", dtype="uint8", shape=(HEIGHT, WIDTH, 3)),
    DEPTH: Column(DEPTH, kind="depth", dtype="uint16", shape=(8, 16)),
    "task": Column("task", kind="text", dtype="string", meaning="language", encoding="utf-8"),
}
FRAMES = 45


def film_of(folder: Path, episodes: int) -> Path:
    """Write the film of some episodes, one after the other: picture i of episode e is its frame 45 e + i."""
    return write_numbered_film(folder / "film.mp4", np.concatenate([numbered_frames(FRAMES, 0, episode, HEIGHT, WIDTH) for episode in range(episodes)]))


def film_seen(step_ms: float) -> int:
    """Return the film's picture at a time: the newest one."""
    return int(step_ms * 15 // 1000)


def stills_seen(step_ms: float) -> int:
    """Return the JPEG camera's picture at a time: none before its first, and none three periods after its last, number 59 at 2380 ms."""
    return -1 if step_ms < 20 or step_ms > 2500 else min(59, int((step_ms - 20) // 40))


@dataclass(frozen=True)
class Numbered:
    """One episode of three seconds, 30 steps: `raw` gives it a third camera; `deltas` actions that are changes."""

    episode: int
    film: Path
    raw: bool = False
    deltas: bool = False

    def depth(self) -> np.ndarray:
        """Return (30, 8, 16) uint16: 100 times the step, 10 times the row, and the column."""
        steps, rows, columns = np.mgrid[0:30, 0:8, 0:16]
        return (100 * steps + 10 * rows + columns + self.episode).astype(np.uint16)

    def stills(self) -> list[bytes]:
        """Return the JPEGs."""
        import cv2

        return [bytes(cv2.imencode(".jpg", frame[:, :, ::-1])[1].data) for frame in numbered_frames(60, 1, self.episode, HEIGHT, WIDTH)]

    def events(self) -> Iterator[Event]:
        """Yield the episode as a reader does."""
        from dataengine.video.index import frame_index

        start = 1_700_000_000_000_000_000 + self.episode * 10**12
        action_ns = start + (np.arange(30) * 100 + 5) * MS
        film_ns = start + np.arange(FRAMES, dtype=np.int64) * 1000 * MS // 15
        state_ns = start + np.arange(91, dtype=np.int64) * 1000 * MS // 30
        seconds = (state_ns - start) / 1e9
        index = frame_index(str(self.film))
        columns = dict(COLUMNS)
        if self.deltas:
            columns["action"] = Column("action", dtype="float32", shape=(1,), meaning="action", action_space=ActionSpace("ee_delta", absolute=False))
        yield Rows("action", np.arange(30, dtype=np.float32)[:, None], {"log": action_ns})
        yield Rows(STATE, np.stack([seconds, 2 * seconds], axis=1), {"log": state_ns})
        facts = {"codec": "h264", **index.as_facts()}
        yield Rows(FILM, MediaFrames(self.film.name, index.track, FRAMES * self.episode, FRAMES, index=index.as_columns(), facts=facts), {"log": film_ns})
        yield Rows(STILLS, Items(self.stills(), "jpeg"), {"log": start + (np.arange(60) * 40 + 20) * MS})
        yield Rows(DEPTH, Frames(self.depth(), exact=True), {"log": action_ns})
        yield Rows("task", Items([b"first", b"then"], "utf-8"), {"log": start + np.array([0, 1550]) * MS})
        streams = ["action", STATE, FILM, STILLS, DEPTH, "task"]
        if self.raw:
            streams.append(RAW)
            yield Rows(RAW, Frames(numbered_frames(FRAMES, 2, self.episode, HEIGHT, WIDTH)), {"log": film_ns})
        yield EpisodeInfo(
            "lab",
            {name: columns[name] for name in streams},
            "measured",
            str(self.episode),
            dict.fromkeys(streams, "log"),
            start_ns=start,
            epoch=True,
            follow="action",
            tasks=("count",),
            success=True,
            embodiment="sim_arm",
            origin="simulation",
            metadata={"operator": "ada", "number": self.episode},
        )
