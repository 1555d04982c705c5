"""Reads the samples of batches: from clips that are decoded in passing, or each for itself."""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording, StoreError
from dataengine.loaders.batch import PAD
from dataengine.loaders.episode_files import EpisodeFiles
from dataengine.loaders.gathered import Gathered
from dataengine.loaders.opened import Opened
from dataengine.loaders.plan import BatchPlan, Plan, Spot
from dataengine.loaders.windows import Window

OnDamage = Literal["raise", "leave_out"]
ON_DAMAGE: tuple[OnDamage, ...] = ("raise", "leave_out")
_SPARE = 64  # arrays of pictures that are kept for the next ones


@dataclass
class Counters:
    """What reading took so far: frames that video decoders gave and the bytes these took, pictures that came into batches, samples."""

    frames_decoded: int = 0
    video_bytes_read: int = 0
    frames_used: int = 0
    samples: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return dataclasses.asdict(self)


class SampleReader:
    """Reads samples into the arrays of batches; one belongs to one process and thread.

    Args:
        opened: the mixture.
        windows: what a sample holds.
        on_damage: "raise" where a sample cannot be read, or "leave_out": give it weight 0, and count it in `damage`.
    """

    def __init__(self, opened: Opened, windows: Sequence[Window], on_damage: OnDamage = "raise") -> None:
        self.opened, self.windows, self._on_damage = opened, tuple(windows), on_damage
        self.damage: dict[str, int] = {}  # what could not be read, and how many samples were left out for it
        self._blank: set[int] = set()
        numbers = {name for window in windows if window.kind == "numbers" for names in window.columns.values() for name in names}
        pictures = {name for window in windows if window.kind in ("pictures", "texts") for names in window.columns.values() for name in names}
        timed = any(window.field.seconds is not None or window.field.window is not None for window in windows)
        self.files = EpisodeFiles(opened, sorted(numbers), sorted(pictures), timed)
        weakref.finalize(self, self.files.close)
        self._spare: dict[str, list[Array]] = {}
        self._open: dict[tuple[int, int, int], deque[tuple[int, int, Gathered]]] = {}  # lane → (piece, the place where it ends, its samples)
        self._pictures_a_sample = sum(window.field.count or 1 for window in windows if window.kind == "pictures")
        self._counters = Counters()

    def counters(self) -> Counters:
        """Return what reading took so far."""
        self._counters.frames_decoded, self._counters.video_bytes_read = self.files.tally.frames, self.files.tally.bytes
        return self._counters

    def forget(self) -> None:
        """Give up every clip that is open: what comes next is another order."""
        self._open.clear()

    def close(self) -> None:
        """Close every file."""
        self.forget()
        self.files.close()
        self.opened.close()

    def read(self, samples: Array, batch: dict[str, Array]) -> dict[str, list[str]]:
        """Read samples (n,) by number, wherever they lie, into the first n places of a batch's arrays; return its texts.

        Raises:
            StoreError, BadRecording: what a sample needs is gone or damaged.
        """
        texts = self._no_texts(batch)
        self._read_at(np.arange(len(samples)), samples, batch, texts)
        self._finish(samples, batch, texts)
        return texts

    def _read_at(self, places: Array, samples: Array, batch: dict[str, Array], texts: dict[str, list[str]]) -> None:
        """Read samples (n,) each for itself into places (n,) of a batch, those of one episode together."""
        segment, step = self.opened.segments.locate(samples)
        episode = self.opened.segments.episode[segment]
        order = np.lexsort((step, episode))
        edges = np.flatnonzero(np.diff(episode[order])) + 1
        for rows in np.split(order, edges) if len(order) else []:
            mine = places[rows].tolist()
            try:
                gathered = Gathered(self.files, self.windows, int(episode[rows[0]]), step[rows], self._spare)
            except (StoreError, BadRecording) as error:
                self._leave(mine, error)
                continue
            for row, place in enumerate(mine):
                try:
                    gathered.write(row, batch, place, texts)
                except (StoreError, BadRecording) as error:
                    self._leave([place], error)

    def read_plan(self, plan: Plan, that: BatchPlan, batch: dict[str, Array]) -> dict[str, list[str]]:
        """Read a batch of a plan, whose clips stay open until their samples are used up."""
        if that.spots is None:
            return self.read(that.samples, batch)
        texts = self._no_texts(batch)
        elsewhere = []
        for place, spot in enumerate(that.spots):
            if that.scattered and all(number != spot.piece for number, _, _ in self._open.get(spot.lane, ())):
                elsewhere.append(place)
                continue
            try:
                first, gathered = self._piece(plan, spot)
                gathered.write(spot.step - first, batch, place, texts)
            except (StoreError, BadRecording) as error:
                self._leave([place], error)
        if elsewhere:
            self._read_at(np.array(elsewhere), that.samples[elsewhere], batch, texts)
        for spot in that.spots:
            if not spot.left:  # its lane is at the end of its epoch, and will not be asked again
                self._open.pop(spot.lane, None)
        self._finish(that.samples, batch, texts)
        return texts

    def _no_texts(self, batch: Mapping[str, Array]) -> dict[str, list[str]]:
        return {window.name: [""] * len(batch["sample"]) for window in self.windows if window.kind in ("task", "texts")}

    def _leave(self, places: Sequence[int], error: StoreError | BadRecording) -> None:
        """Samples at these places cannot be read: raise, or note it and leave them out, as the loader was told."""
        if self._on_damage == "raise":
            raise error
        self._blank.update(places)
        self.damage[str(error)] = self.damage.get(str(error), 0) + len(places)

    def look_ahead(self, plan: Plan, that: BatchPlan) -> None:
        """Open the clips of a batch that comes later, and begin to fetch their pictures."""
        for spot in () if that.scattered else that.spots or ():
            lane = self._open.setdefault(spot.lane, deque())
            if all(number != spot.piece for number, _, _ in lane):
                with suppress(StoreError, BadRecording):  # it is told when the batch is read
                    self._open_piece(plan, spot, lane).prefetch()

    def _piece(self, plan: Plan, spot: Spot) -> tuple[int, Gathered]:
        """Return the first step of a spot's piece, and its samples; open it where it is not, and give up those whose samples have all come out."""
        lane = self._open.setdefault(spot.lane, deque())
        while lane and lane[0][1] <= spot.settled:
            lane.popleft()
        for number, _, gathered in lane:
            if number == spot.piece:
                return gathered.steps[0], gathered
        gathered = self._open_piece(plan, spot, lane)
        return gathered.steps[0], gathered

    def _open_piece(self, plan: Plan, spot: Spot, lane: deque[tuple[int, int, Gathered]]) -> Gathered:
        piece = plan.piece(spot)
        steps = np.arange(piece.start, piece.stop)
        gathered = Gathered(self.files, self.windows, int(self.opened.segments.episode[piece.segment]), steps, self._spare)
        lane.append((spot.piece, piece.place + len(steps), gathered))
        return gathered

    def _leave_out(self, batch: dict[str, Array], texts: dict[str, list[str]]) -> None:
        """Make the places whose samples could not be read count for nothing."""
        if not self._blank:
            return
        places = sorted(self._blank)
        self._blank.clear()
        segment, step = self.opened.segments.locate(batch["sample"][places])
        episode = self.opened.segments.episode[segment]
        about = {"sample": batch["sample"][places], "episode": episode, "step": step, "dataset": self.opened.parts_of(episode)}
        for name, values in batch.items():
            values[places] = about.get(name, name.endswith(PAD))
        for words in texts.values():
            for place in places:
                words[place] = ""

    def _finish(self, samples: Array, batch: dict[str, Array], texts: dict[str, list[str]]) -> None:
        """Fill in what every batch has, and zero the places beyond its samples."""
        count = len(samples)
        batch["weight"][:count], batch["weight"][count:] = 1.0, 0.0
        batch["sample"][:count] = samples
        if count < len(batch["sample"]):
            for name, values in batch.items():
                values[count:] = name.endswith(PAD)
            batch["sample"][count:] = -1
        self._leave_out(batch, texts)
        for arrays in self._spare.values():
            del arrays[_SPARE:]
        self._counters.samples += count
        self._counters.frames_used += count * self._pictures_a_sample
