"""Recordings whose every picture and number says which step of which episode it is: what a loader must never mix up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataengine.core.column import ActionSpace, Camera, Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.objects import LocalObjects, Objects
from dataengine.core.stream import Frames, Items, MediaFrames, Rows
from dataengine.samples.barcode import read_barcode
from dataengine.samples.numbered_film import numbered_frames, write_numbered_film
from dataengine.video.index import frame_index
from tests.support.stores import land, new_store

RATE_HZ = 10
STEP_NS = 100_000_000
FORCE_NS = 5_000_000  # 200 Hz
SIZE = (64, 96)


@dataclass(frozen=True)
class Numbered:
    """An episode; `number` is in all it holds. `front` is encoded by us, `wrist` is JPEG, `film` a kept video, `force` runs at 200 Hz."""

    number: int
    steps: int
    film: Path | None = None
    wrist: bool = False
    force: bool = False
    front: bool = True
    arms: int = 1
    origin: str = "teleop"
    task: str = ""
    rated: bool = True

    def columns(self) -> dict[str, Column]:
        """Return its columns."""
        width = 2 * self.arms
        found = {
            "observation.state": Column("observation.state", dtype="float64", shape=(3,), meaning="state"),
            "action": Column("action", dtype="float32", shape=(width,), meaning="action", action_space=ActionSpace("joint_position", absolute=True)),
            "reward": Column("reward", dtype="float32", shape=(), meaning="reward"),
        }
        if self.front:
            name = "observation.images.front"
            found[name] = Column(name, kind="image", dtype="uint8", shape=(*SIZE, 3), camera=Camera("primary"))
        if self.wrist:
            name = "observation.images.wrist"
            found[name] = Column(name, kind="image", dtype="uint8", shape=(*SIZE, 3), encoding="jpeg", camera=Camera("wrist"))
        if self.film is not None:
            name = "observation.images.film"
            found[name] = Column(name, kind="image", dtype="uint8", shape=(*SIZE, 3), encoding="h264", camera=Camera("secondary"))
        if self.force:
            found["observation.force"] = Column("observation.force", dtype="float32", shape=(2,), steps=False)
        return found

    def events(self) -> Iterator[Event]:
        """Yield the recording as a reader does."""
        import cv2

        start = 1_700_000_000_000_000_000 + self.number * 10**12
        stamps = start + np.arange(self.steps, dtype=np.int64) * STEP_NS
        clocks = {"stamp": stamps} if self.rated else {}
        step = np.arange(self.steps)
        values = [np.full(self.steps, self.number) if place % 2 == 0 else step for place in range(2 * self.arms)]
        yield Rows("observation.state", np.stack([np.full(self.steps, self.number), step, step % 7], 1).astype(np.float64), clocks)
        yield Rows("action", np.stack(values, 1).astype(np.float32), clocks)
        yield Rows("reward", (step % 10 < 5).astype(np.float32), clocks)
        if self.front:
            yield Rows("observation.images.front", Frames(numbered_frames(self.steps, 0, self.number, *SIZE)), clocks)
        if self.wrist:
            pictures = numbered_frames(self.steps, 1, self.number, *SIZE)
            data = [bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].data) for picture in pictures]
            yield Rows("observation.images.wrist", Items(data, "jpeg"), clocks)
        if self.film is not None:
            index = frame_index(str(self.film))
            frames = MediaFrames(self.film.name, index.track, 0, len(index), index=index.as_columns(), facts={"codec": "h264", **index.as_facts()})
            yield Rows("observation.images.film", frames, {"stamp": start + index.pts_ns} if self.rated else {})
        if self.force:
            times = np.arange(self.steps * 20, dtype=np.int64) * FORCE_NS
            yield Rows("observation.force", np.stack([np.full(len(times), self.number), times / 1e6], 1).astype(np.float32), {"stamp": start + times})
        columns = self.columns()
        yield EpisodeInfo(
            "lab",
            columns,
            "measured" if self.rated else "unknown",
            str(self.number),
            dict.fromkeys(columns, "stamp") if self.rated else {},
            int(stamps[0]) if self.rated else 0,
            self.rated,
            RATE_HZ if self.rated else None,
            tasks=(self.task or f"task {self.number % 3}",),
            origin=self.origin,  # type: ignore[arg-type]
            embodiment=f"arm{self.arms}",
        )


def filmed(folder: Path, number: int, steps: int, **more: object) -> Numbered:
    """Return an episode with a kept video of one frame a step, key frames every 12."""
    film = write_numbered_film(folder / f"film{number}.mp4", numbered_frames(steps, 2, number, *SIZE), RATE_HZ)
    return Numbered(number, steps, film, **more)  # type: ignore[arg-type]


def numbered_store(folder: Path, recordings: Sequence[Numbered], dataset: str = "lab", shard_episodes: int = 3) -> Objects:
    """Make a store of the recordings, a few of them a shard, so that a camera's frames lie in several files."""
    objects = LocalObjects(folder) if folder.exists() else new_store(folder)
    land(objects, recordings, dataset=dataset, shard_episodes=shard_episodes, source=f"/recordings/{dataset}.rec")  # type: ignore[arg-type]
    return objects


def what_is_seen(picture: np.ndarray) -> tuple[int, int, int] | None:
    """Return (episode, step, camera) that a picture says it is."""
    code = read_barcode(picture)
    return None if code is None else (code.episode, code.frame, code.camera)
