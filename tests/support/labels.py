"""Labels made in this process: what a model might say, written and committed as a labelling job does it, with a heartbeat, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import polars as pl

from dataengine.core.column import Column
from dataengine.core.labels import Labels, LabelSet
from dataengine.core.objects import Objects
from dataengine.store.jobs import Heartbeat, new_job_id
from dataengine.store.label_commit import LabelCommitter
from dataengine.store.labels import LabelledEpisode, LabelPlace, label_shard_name, write_label_shard
from dataengine.store.refs import Version
from dataengine.store.store import Store

ACTION = Column("action", dtype="float32", shape=(2,), dims=("x", "gripper"), unit="m", meaning="action", action_source="idm")
PROGRESS = Column("progress", dtype="float32", shape=(), doc="share of the task that is done")


def label_set(name: str = "idm-small", model: str = "c" * 32, **parameters: object) -> LabelSet:
    """Return a label set of a model that was trained on version 1 of some store."""
    return LabelSet(name, model, f"{'5' * 32}@1", "e" * 32, parameters)


def made_labels(episode_id: str, steps: int) -> Labels:
    """Return labels that follow from the id: numbers that no other episode has, an interval of ± 0.5, and every third step abstained from step 1 on."""
    rng = np.random.default_rng(int(episode_id[:8], 16))
    action = rng.normal(size=(steps, 2)).astype(np.float32)
    valid = np.arange(steps) % 3 != 1
    confidence = np.where(valid, 0.9, 0.2).astype(np.float32)
    half = np.float32(0.5)
    return Labels(
        {"action": action, "progress": np.linspace(0, 1, steps, dtype=np.float32)},
        {"action": ACTION, "progress": PROGRESS},
        {"action": valid},
        {"action": action - half},
        {"action": action + half},
        {"action": confidence},
    )


@dataclass(frozen=True)
class LabelJob:
    """A labelling job: its committer, its heartbeat, and the folders that it wrote."""

    objects: Objects
    committer: LabelCommitter
    heartbeat: Heartbeat
    shards: tuple[str, ...]

    def end(self) -> Version:
        """End the job as it should end."""
        with ending_badly(self.heartbeat):
            version = self.committer.finish()
        assert version is not None
        self.heartbeat.end("ended")
        return version


@contextmanager
def ending_badly(heartbeat: Heartbeat) -> Iterator[None]:
    """Let a job that fails say so, as far as it can: one that was killed cannot."""
    try:
        yield
    except BaseException:
        with suppress(BaseException):
            heartbeat.end("failed")
        raise


def begin_labels(
    objects: Objects,
    of: LabelSet | None = None,
    ids: Sequence[str] | None = None,
    make: Callable[[str, int], Labels] = made_labels,
    commits: int | None = None,
    a_shard: int = 2,
    ref: str | None = None,
    every: bool = False,
) -> LabelJob:
    """Label what has no labels of a set yet, some episodes a shard and one commit a shard, in a job that goes on.

    Args:
        objects: the store.
        of: the label set.
        ids: which episodes; by default all.
        make: what the model says of an episode, given its id and how many steps it has.
        commits: commit so many shards only; the payload of the others is written and waits. By default all.
        a_shard: episodes in a shard.
        ref: the version to read.
        every: also label what has labels of the set, as a writer does that looked before another one committed.
    """
    chosen = of or label_set()
    job = new_job_id()
    heartbeat = Heartbeat(objects, job, f"label idm --into {chosen.name}")
    with ending_badly(heartbeat):
        committer, shards = _labelled(objects, job, chosen, ids, make, commits, a_shard, ref, every)
    return LabelJob(objects, committer, heartbeat, tuple(shards))


def _labelled(
    objects: Objects,
    job: str,
    chosen: LabelSet,
    ids: Sequence[str] | None,
    make: Callable[[str, int], Labels],
    commits: int | None,
    a_shard: int,
    ref: str | None,
    every: bool,
) -> tuple[LabelCommitter, list[str]]:
    committer = LabelCommitter(objects, job, f"label idm --into {chosen.name}", chosen)
    store = Store(objects, ref)
    read = store.version.number if store.version is not None else None
    episodes = store.episodes().select("dataset", "episode_id", "reading", "steps").sort("dataset", "episode_id").collect()
    if ids is not None:
        episodes = episodes.filter(pl.col("episode_id").is_in(list(ids)))
    todo = episodes if every else committer.pending(episodes).sort("dataset", "episode_id")
    shards = []
    written = 0
    for (dataset,), rows in todo.group_by("dataset", maintain_order=True):
        for start in range(0, rows.height, a_shard):
            place = LabelPlace(job, label_shard_name(job, len(shards)), str(dataset), read)
            part = rows.slice(start, a_shard).iter_rows(named=True)
            labelled = [LabelledEpisode(row["episode_id"], row["reading"], make(row["episode_id"], row["steps"])) for row in part]
            committer.add(write_label_shard(objects, chosen, place, labelled))
            shards.append(f"labels/{chosen.name}/{place.shard}")
            if commits is None or written < commits:
                committer.flush()
                written += 1
    return committer, shards


def label(objects: Objects, of: LabelSet | None = None, **how: object) -> Version:
    """Label what has no labels of a set yet, in a job that ends."""
    return begin_labels(objects, of, **how).end()  # type: ignore[arg-type]


def label_content(objects: Objects, ref: str | None = None) -> Mapping[tuple[str, str, str], object]:
    """Return everything the labels of a version say, by dataset, label set and episode, without addresses, jobs and times."""
    store = Store(objects, ref)
    found: dict[tuple[str, str, str], object] = {}
    for row in store.labels().collect().iter_rows(named=True):
        read = store.read_labels(row["episode_id"], row["label_set"])
        arrays = [read.columns, read.valid, read.low, read.high, read.confidence]
        content = [{name: np.nan_to_num(values, nan=-1).tolist() for name, values in group.items()} for group in arrays]
        facts = [row[name] for name in ("reading", "model", "trained_on", "bytes", "summary")]
        found[row["dataset"], row["label_set"], row["episode_id"]] = (facts, content, read.label_set, read.read)
    return found
