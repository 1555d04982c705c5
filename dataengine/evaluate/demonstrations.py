"""Demonstrations as behaviour cloning sees them: every step of some episodes, read once through the loader, with its measured action and its pseudo-label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from dataengine.core.arrays import Array, read_only, require
from dataengine.core.errors import UsageError
from dataengine.core.randomness import hash64, text_key
from dataengine.loaders import Field, Mixture, Source, loader
from dataengine.store.query import where
from dataengine.store.store import Store

BATCH = 512
MAX_BYTES = 4 << 30  # of pictures that are held in memory at once


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """N steps of episodes, those of an episode together and in order.

    `inputs[column]` are (N, d) float32 numbers, `pictures[camera]` (N, H, W, 3) uint8. `actions` (N, A) float32 mean something where `acted` (N,) is True,
    `labels` (N, A) where `labelled` (N,) is. `confidence` (N,) float32 is NaN where the labels give none. `episode` (N,) counts the `episode_ids`, `step` (N,) the steps
    of each; `task` (N,) counts the `tasks`.
    """

    inputs: Mapping[str, Array]
    actions: Array
    acted: Array
    labels: Array
    labelled: Array
    confidence: Array
    episode: Array
    step: Array
    task: Array
    episode_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    pictures: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.episode)
        for name in ("actions", "acted", "labels", "labelled", "confidence", "episode", "step", "task"):
            values = getattr(self, name)
            require(len(values) == rows, f"demonstrations: {name} must have {rows} rows, got {len(values)}")
            object.__setattr__(self, name, read_only(values))
        require(self.labels.shape == self.actions.shape, f"demonstrations: labels must be shaped as actions, {self.actions.shape}, got {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.episode)


def choose_episodes(store: Store, dataset: str, condition: str | None, count: int, seed: int, among: Collection[str] | None = None) -> list[str]:
    """Return the ids of `count` episodes of a dataset: in an order that follows from the seed and each id alone, whatever else the store holds.

    Args:
        store: the version that holds them.
        dataset: its dataset.
        condition: an SQL boolean over their columns.
        count: how many.
        seed: another seed gives another choice.
        among: only these; all of them where it is not given.

    Raises:
        UsageError: there are not so many.
    """
    frame = where(store.episodes().filter(pl.col("dataset") == dataset), condition)
    ids = [episode_id for episode_id in frame.select("episode_id").collect()["episode_id"] if among is None or episode_id in among]
    if len(ids) < count:
        raise UsageError(
            f"dataset {dataset!r}: must hold {count} episodes to choose from"
            + (f" for which {condition} holds" if condition else "")
            + (" and that have labels of the set" if among is not None else "")
            + f", holds {len(ids)}; ask for fewer, or collect more"
        )
    return sorted(ids, key=lambda episode_id: int(hash64(seed, text_key("gate"), text_key(episode_id))))[:count]


@dataclass(frozen=True)
class Reading:
    """Which columns are read: `inputs` of numbers, `cameras` brought to `size`, the `action`, and the `label` field beside it (`label:<set>/<column>`)."""

    inputs: tuple[str, ...]
    action: str = "action"
    label: str | None = None
    cameras: tuple[str, ...] = ()
    size: tuple[int, int] = (64, 64)

    def fields(self) -> dict[str, Field]:
        """Return what the loader is asked for."""
        numbers = dict.fromkeys([*self.inputs, self.action, *([self.label] if self.label is not None else [])], Field(dtype="float32"))
        return {**numbers, **dict.fromkeys(self.cameras, Field(size=self.size)), "task": Field()}


def read_demonstrations(
    address: str, dataset: str, episode_ids: Sequence[str], reading: Reading, storage_options: Mapping[str, str] | None = None
) -> Demonstrations:
    """Return the steps of some episodes of a store at a pinned version, in one pass of the loader.

    Args:
        address: `STORE@version`.
        dataset: its dataset.
        episode_ids: which of its episodes.
        reading: which columns.
        storage_options: of the object store.

    Raises:
        UsageError: a column is not there, or an input is missing at a step.
    """
    listed = ", ".join(f"'{episode_id}'" for episode_id in episode_ids)
    mixture = Mixture([Source(f"{address}#{dataset}", where=f"episode_id in ({listed})", storage_options=dict(storage_options or {}))])
    batches = []
    with loader(mixture, reading.fields(), BATCH, order="sequential", framework="numpy") as opened:
        for batch in opened:
            kept = batch["weight"] > 0
            part = {name: values[kept] for name, values in batch.items() if isinstance(values, np.ndarray) and values.shape[:1] == kept.shape}
            part["task"] = (
                np.asarray([str(text) for text, keep in zip(batch["task"], kept, strict=True) if keep]) if "task" in batch else np.asarray([""] * kept.sum())
            )
            batches.append(part)
            held = sum(each[camera].nbytes for each in batches for camera in reading.cameras)
            if held > MAX_BYTES:
                raise UsageError(f"pictures of these episodes: must fit in {MAX_BYTES >> 30} GiB of memory, got more; take fewer episodes or smaller pictures")
        names = {number: opened.episode_id(number) for number in np.unique(np.concatenate([part["episode"] for part in batches])).tolist()}
    rows = {name: np.concatenate([part[name] for part in batches]) for name in batches[0]}
    return _demonstrations(rows, names, reading)


def _demonstrations(rows: Mapping[str, Array], names: Mapping[int, str], reading: Reading) -> Demonstrations:
    for name in reading.inputs:
        if rows[f"{name}_is_pad"].any():
            at = int(np.argmax(rows[f"{name}_is_pad"]))
            raise UsageError(
                f"column {name!r}: must have a value at every step that is cloned, has none at step {int(rows['step'][at])} of episode "
                f"{names[int(rows['episode'][at])]}; choose other inputs, or episodes that have it"
            )
    ids = sorted(names.values())
    tasks = sorted(set(rows["task"].tolist()))
    actions = _flat(rows[reading.action])
    label = reading.label
    return Demonstrations(
        {name: _flat(rows[name]) for name in reading.inputs},
        actions,
        ~rows[f"{reading.action}_is_pad"],
        _flat(rows[label]) if label is not None else np.zeros_like(actions),
        ~rows[f"{label}_is_pad"] if label is not None else np.zeros(len(actions), np.bool_),
        rows[f"{label}_confidence"] if label is not None and f"{label}_confidence" in rows else np.full(len(actions), np.nan, np.float32),
        np.asarray([ids.index(names[number]) for number in rows["episode"].tolist()], dtype=np.int64),
        rows["step"].astype(np.int64),
        np.asarray([tasks.index(text) for text in rows["task"].tolist()], dtype=np.int64),
        tuple(ids),
        tuple(tasks),
        {camera: rows[camera] for camera in reading.cameras},
    )


def _flat(values: Array) -> Array:
    return np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)
