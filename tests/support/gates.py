"""Stores on which the gate can be run in seconds: errands that were played, with labels made of their true actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.labels import Labels
from dataengine.core.objects import LocalObjects
from dataengine.store.store import open_store
from pipelines.collect import CollectJob, collect
from pipelines.ingest import _silent
from tests.support.jobs import Inline
from tests.support.labels import label, label_set

Corruption = Callable[[Array, np.random.Generator], tuple[Array, Array]]  # true actions (T, A) → labels (T, A), confidences (T,)


def errands(folder: Path, real: int = 6, demonstrations: int = 46) -> Path:
    """Play errands into a store: datasets `real` and `demonstrations`."""
    for dataset, episodes, seed in (("real", real, 100), ("demonstrations", demonstrations, 1000)):
        collect(CollectJob("errand", str(folder), dataset, episodes, seed, size=(16, 16)), Inline(), _silent)
    return folder


def label_errands(folder: Path, name: str, corrupt: Corruption) -> None:
    """Label the demonstrations of a store with what becomes of their true actions; the last step of each has no label, as no video shows what came after it."""
    store = open_store(str(folder))
    ids = store.episodes().collect().filter(store.episodes().collect()["dataset"] == "demonstrations")["episode_id"].to_list()

    def made(episode_id: str, steps: int) -> Labels:
        trajectory = store.read_trajectory(episode_id)
        values, confidence = corrupt(trajectory.columns["action"], np.random.default_rng(int(episode_id[:8], 16)))
        spec = replace(trajectory.specs["action"], action_source="idm")
        valid = np.arange(steps) < steps - 1
        return Labels({"action": values.astype(np.float32)}, {"action": spec}, {"action": valid}, confidence={"action": confidence.astype(np.float32)})

    label(LocalObjects(folder), label_set(name, how=name), ids=ids, make=made, a_shard=100)
