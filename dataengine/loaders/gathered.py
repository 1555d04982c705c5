"""The windows of some steps of one episode: numbers gathered at once, pictures loaded group by group when they are asked for and held until their last use."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import steps_near
from dataengine.core.errors import UsageError
from dataengine.loaders.batch import CONFIDENCE, MASK, OFFSET, PAD
from dataengine.loaders.episode_files import EpisodeFiles, EpisodeSteps
from dataengine.loaders.picture_source import PictureSource
from dataengine.loaders.windows import LABEL, Window
from dataengine.transforms.resizing import Fit


def window_steps(window: Window, steps: Array, episode: EpisodeSteps, where: str) -> tuple[Array, Array]:
    """Return which step each row of a window takes, and whether it is padding: (n, K) int64 in [0, T) and (n, K) bool.

    Rows beyond the episode's ends repeat its first or last step, and are marked. K is 1 where the window has no time axis. Steps (n,) ascend, n at least 1.

    Raises:
        UsageError: offsets are in seconds, and the episode's rate is unknown.
    """
    if window.field.seconds is None:
        offsets = window.offsets
        wanted = steps[:, None] + offsets
        if steps[0] + offsets.min() >= 0 and steps[-1] + offsets.max() < episode.count:
            return wanted, np.zeros(wanted.shape, bool)
        held = np.clip(wanted, 0, episode.count - 1)
        return held, wanted != held
    if episode.t_ns is None:
        raise UsageError(f"field {window.name!r}: seconds need a known rate, and that of {where} is unknown; give steps, or ingest it with --rate")
    return steps_near(episode.t_ns, steps, tuple(window.field.seconds))


class Pictures:
    """One camera's window of some steps: which picture each row shows, and those that wait to be used.

    `frames` (n, K) int64 holds picture numbers within the episode, -1 for none.
    """

    def __init__(self, source: PictureSource | None, frames: Array, shape: tuple[int, ...], dtype: str, fit: Fit, spare: list[Array]) -> None:
        self._source, self._shape, self._dtype, self._fit, self._spare = source, shape, dtype, fit, spare
        self._size = math.prod(shape)
        self._frames: list[list[int]] = frames.tolist()
        self._held: dict[int, Any] = {}
        self._left = Counter([frame for row in self._frames for frame in row if frame >= 0])
        seen = sorted(self._left)
        groups = source.groups(np.array(seen)).tolist() if source is not None and seen else []
        self._group_of = dict(zip(seen, groups, strict=False))
        self._members: dict[int, list[int]] = {}
        for frame, group in self._group_of.items():
            self._members.setdefault(group, []).append(frame)

    @property
    def used(self) -> int:
        """Return how many pictures are still to be painted."""
        return sum(self._left.values())

    def _load(self, frame: int) -> None:
        assert self._source is not None
        wanted = [member for member in self._members[self._group_of[frame]] if self._left[member] and member not in self._held]
        for number, packed in self._source.load(wanted, self._spare):
            if isinstance(packed, np.ndarray) and packed.size > self._size:  # a picture that is to be shrunk waits small
                small = np.empty(self._shape, self._dtype)
                self._source.paint(packed, small, self._fit)
                self._spare.append(packed)
                packed = small
            self._held[number] = packed

    def prefetch(self) -> None:
        """Begin to fetch the bytes of all pictures, where the source can."""
        if self._source is not None and self._left:
            self._source.prefetch(sorted(self._left))

    def paint(self, row: int, out: Array) -> None:
        """Write the pictures of a row into `out`, (K, H, W, C); what nobody will ask for again is given up."""
        for place, frame in enumerate(self._frames[row]):
            if frame < 0:
                out[place] = 0
                continue
            if frame not in self._held:
                self._load(frame)
            packed = self._held[frame]
            assert self._source is not None
            self._source.paint(packed, out[place], self._fit)
            self._left[frame] -= 1
            if self._left[frame]:
                if not isinstance(packed, np.ndarray):  # decoded once, whatever the form it is stored in
                    self._held[frame] = out[place].copy()
            else:
                del self._held[frame]
                if isinstance(packed, np.ndarray) and packed.ndim == 2:
                    self._spare.append(packed)


class Gathered:
    """The samples of some steps (n,) of one episode, ready to be copied into batches, each once."""

    def __init__(self, files: EpisodeFiles, windows: Sequence[Window], episode: int, steps: Array, spare: dict[str, list[Array]]) -> None:
        whole = files.steps(episode)
        key = files.features(episode)
        where = f"episode {files.opened.episode_id(episode)}"
        part, local = files.opened.part_of(episode)
        table = files.opened.tables[part]
        self.about = (part, episode)
        self.steps = steps.tolist()
        self.numbers: dict[str, Array] = {}
        self.constants: dict[str, Array] = {}
        self.pictures: dict[str, tuple[Pictures, bool]] = {}  # with whether they have a time axis
        self.texts: dict[str, list[str]] = {}
        for window in windows:
            if window.kind == "task":
                self.texts[window.name] = [table.text("task", int(table.arrays["task"][local]))] * len(steps)
                continue
            names = window.columns.get(key, ())
            if window.kind == "native":
                self._gather_native(files, window, episode, names, whole, steps, where)
                continue
            taken, padded = window_steps(window, steps, whole, where)
            if window.kind == "texts":
                rows = whole.frames[names[0]][taken[:, 0]] if names and names[0] in whole.frames else np.full(len(steps), -1)
                self.texts[window.name] = files.texts(episode, names[0], rows) if names else [""] * len(steps)
            elif window.kind == "pictures":
                self._gather_pictures(files, window, episode, names, whole, taken, padded, spare)
            elif window.kind == "labels":
                self._gather_labels(files, window, episode, names, taken, padded)
            else:
                self._gather_numbers(window, names, whole.numbers, taken, padded)

    def _gather_pictures(
        self,
        files: EpisodeFiles,
        window: Window,
        episode: int,
        names: tuple[str, ...],
        whole: EpisodeSteps,
        taken: Array,
        padded: Array,
        spare: dict[str, list[Array]],
    ) -> None:
        there = bool(names) and names[0] in whole.frames
        frames = whole.frames[names[0]][taken] if there else np.full(taken.shape, -1)
        source = files.pictures(episode, names[0], colour=window.shape[2:] == (3,), exact=window.exact) if there else None
        if source is None:
            frames = np.full(taken.shape, -1)
        pictures = Pictures(source, frames, window.shape, window.dtype, window.field.fit, spare.setdefault(window.name, []))
        self.pictures[window.name] = pictures, window.field.count is not None
        self._keep(window, PAD, padded | (frames < 0))

    def _keep(self, window: Window, suffix: str, values: Array) -> None:
        """Keep the rows (n, K, ...) of a window; without a time axis they lose theirs."""
        self.numbers[window.name + suffix] = values if window.field.count is not None else values[:, 0]

    def _gather_native(self, files: EpisodeFiles, window: Window, episode: int, names: tuple[str, ...], whole: EpisodeSteps, steps: Array, where: str) -> None:
        assert window.field.window is not None
        assert window.field.rows is not None
        shape = (len(steps), window.field.rows)
        values, padded, offset_ns = np.zeros((*shape, *window.shape), window.dtype), np.ones(shape, bool), np.zeros(shape, np.int64)
        stream = files.native(episode, names[0]) if names else None
        if stream is not None:
            if whole.t_ns is None:
                raise UsageError(f"field {window.name!r}: a window in seconds needs known times, and the steps of {where} have none; give steps instead")
            start_ns, stop_ns = (round(edge * 1e9) for edge in window.field.window)
            found, padded, offset_ns = stream.window(whole.t_ns[steps], start_ns, stop_ns, window.field.rows)
            values[..., : found.shape[2]] = found
        self.numbers |= {window.name: values, window.name + PAD: padded, window.name + OFFSET: offset_ns}
        if window.masked:
            self.constants[window.name + MASK] = np.arange(window.shape[0]) < (stream.width if stream is not None else 0)

    def _gather_labels(self, files: EpisodeFiles, window: Window, episode: int, names: tuple[str, ...], taken: Array, padded: Array) -> None:
        label_set = window.name.removeprefix(LABEL).partition("/")[0]
        labels = files.labels(episode, label_set, names[0]) if names else None
        confidence = np.full(taken.shape, np.nan, np.float32)
        found: dict[str, tuple[Array, Array | None]] = {}
        if labels is not None:
            values = labels.columns[names[0]]
            found = {names[0]: (values.reshape(len(values), -1), labels.valid.get(names[0]))}
            if names[0] in labels.confidence:
                confidence = labels.confidence[names[0]][taken]
        self._gather_numbers(window, names, found, taken, padded)
        self._keep(window, CONFIDENCE, confidence)

    def _gather_numbers(self, window: Window, names: tuple[str, ...], numbers: Mapping[str, tuple[Array, Array | None]], taken: Array, padded: Array) -> None:
        values = np.zeros((*taken.shape, *window.shape), window.dtype)
        mask = np.zeros(window.shape, bool)
        at = 0
        for name in names:
            if name not in numbers:
                padded = np.ones_like(padded)
                break
            found, valid = numbers[name]
            values[..., at : at + found.shape[1]] = found[taken]
            mask[at : at + found.shape[1]] = True
            at += found.shape[1]
            if valid is not None:
                padded = padded | ~valid[taken]
        self._keep(window, "", values)
        self._keep(window, PAD, padded if names else np.ones_like(padded))
        if window.masked:
            self.constants[window.name + MASK] = mask

    def prefetch(self) -> None:
        """Begin to fetch what the pictures will need, where their source can."""
        for pictures, _ in self.pictures.values():
            pictures.prefetch()

    def write(self, row: int, batch: dict[str, Array], at: int, texts: dict[str, list[str]]) -> None:
        """Copy a sample into place `at` of a batch's arrays."""
        for name, values in self.numbers.items():
            batch[name][at] = values[row]
        for name, mask in self.constants.items():
            batch[name][at] = mask
        for name, (pictures, axis) in self.pictures.items():
            out = batch[name][at]
            pictures.paint(row, out if axis else out[None])
        for name, words in self.texts.items():
            texts[name][at] = words[row]
        batch["dataset"][at], batch["episode"][at] = self.about
        batch["step"][at] = self.steps[row]
