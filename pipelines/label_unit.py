"""One unit of a labelling job: a plain function that sees some episodes, asks the model, and writes shards of labels. It runs where the model lives."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Labeller
from dataengine.core.labels import Labels, LabelSet
from dataengine.core.objects import Objects, open_objects
from dataengine.labels.registry import Method, open_method
from dataengine.schema.column_json import column_to_json
from dataengine.store.labels import LabelledEpisode, LabelPlace, label_shard_name, write_label_shard
from dataengine.store.row import Row
from dataengine.store.store import Store
from pipelines.label_episodes import Refused, label_episodes
from pipelines.memory import keep_freed_memory, rare_collections

ABSTAIN = "abstain_below"  # the parameter of a label set that says so


@dataclass(frozen=True)
class Opening:
    """How a method is opened: its name, the method, the model's folder, the device, and options as JSON."""

    name: str
    method: Method
    model: str | None = None
    device: str = "cpu"
    options: str = "{}"

    def __call__(self) -> Labeller:
        """Open it."""
        return open_method(self.name, self.method, self.model, self.device, json.loads(self.options))


@dataclass(frozen=True)
class LabelUnit:
    """What a worker is handed: the catalog rows of episodes of one dataset, the version that they are seen in, and where their labels go.

    `recipe` is that of the label set as the job's beginning knows it.
    """

    number: int
    store: str
    store_options: Mapping[str, str]
    ref: str | None
    read: int | None
    job: str
    recipe: str
    episodes: tuple[Row, ...]

    @property
    def dataset(self) -> str:
        """Return the dataset of the unit's episodes."""
        return str(self.episodes[0]["dataset"])


@dataclass(frozen=True)
class LabelResult:
    """What a worker hands back: the catalog rows of what it wrote, what it refused, how many values it left out as doubtful, and where the time went, in s."""

    number: int
    rows: tuple[Row, ...] = ()
    refused: tuple[Refused, ...] = ()
    abstained: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


def abstaining(label_set: LabelSet, below: float | None) -> LabelSet:
    """Return a label set that says below which confidence its labels are left out."""
    return label_set if below is None else replace(label_set, parameters={**label_set.parameters, ABSTAIN: below})


def without_doubtful(labels: Labels, below: float | None) -> Labels:
    """Return labels that are not valid where their confidence is below a bound, or not given at all.

    Columns for which the method never gives a confidence stay as they are.

    Raises:
        UsageError: it gives none for any column.
    """
    if below is None:
        return labels
    if not labels.confidence:
        raise UsageError("--abstain: needs labels with a confidence, and this method gives none; leave it out")
    valid = {**labels.valid, **{name: labels.valid[name] & (said >= below) for name, said in labels.confidence.items()}}
    return replace(labels, valid=valid)


@lru_cache(maxsize=1)
def opened(opening: Opening, threads: int) -> Labeller:
    """Open a method once a process, with so many threads for its model."""
    import cv2

    cv2.setNumThreads(1)  # pictures are made small in the thread that decodes them
    if opening.method.of_model is not None:
        import torch

        torch.set_num_threads(threads)
    return opening()


@dataclass(frozen=True)
class Labelling:
    """What an actor does with a unit after it has opened the model: see, ask, and write; nothing of it counts until it is committed."""

    opening: Opening
    label_set: str
    batch_size: int
    abstain: float | None = None
    threads: int = 1

    def __call__(self, unit: LabelUnit) -> LabelResult:
        """Label the unit's episodes.

        Raises:
            UsageError: the model here is another than the one that the job began with.
        """
        keep_freed_memory()
        labeller = opened(self.opening, self.threads)
        label_set = abstaining(labeller.label_set(self.label_set), self.abstain)
        if label_set.recipe != unit.recipe:
            raise UsageError(
                f"{self.opening.model}: must hold the model that the job began with (recipe {unit.recipe}), found another (recipe {label_set.recipe}); "
                f"give every machine the same folder"
            )
        objects = open_objects(unit.store, unit.store_options)
        with rare_collections():
            return self.label(unit, labeller, label_set, Store(objects, unit.ref), objects)

    def label(self, unit: LabelUnit, labeller: Labeller, label_set: LabelSet, store: Store, target: Objects) -> LabelResult:
        """Label the unit's episodes with a method that is open, and write the labels below `target`."""
        seconds = dict.fromkeys(("waiting", "model", "labels", "writing"), 0.0)
        done: list[tuple[int, LabelledEpisode]] = []
        refused: list[Refused] = []
        abstained = 0
        with inference(self.opening.method):
            for result in label_episodes(labeller, store, unit.episodes, self.batch_size, seconds):
                if isinstance(result, Refused):
                    refused.append(result)
                    continue
                labels = without_doubtful(result.labels, self.abstain)
                abstained += sum(int((result.labels.valid[name] & ~mask).sum()) for name, mask in labels.valid.items())
                done.append((result.number, LabelledEpisode(result.row["episode_id"], result.row["reading"], labels)))
        since = time.perf_counter()
        rows: list[Row] = []
        for part, episodes in enumerate(_alike([episode for _, episode in sorted(done, key=_number)])):
            place = LabelPlace(unit.job, label_shard_name(unit.job, (unit.number << 8) + part), unit.dataset, unit.read)
            rows += write_label_shard(target, label_set, place, episodes)
        seconds["writing"] += time.perf_counter() - since
        return LabelResult(unit.number, tuple(rows), tuple(refused), abstained, seconds)


def inference(method: Method) -> contextlib.AbstractContextManager[object]:
    """Return a context in which a model keeps nothing for learning."""
    if method.of_model is None:
        return contextlib.nullcontext()
    import torch

    found: contextlib.AbstractContextManager[object] = torch.inference_mode()
    return found


def _number(entry: tuple[int, LabelledEpisode]) -> int:
    return entry[0]


def _alike(labelled: Sequence[LabelledEpisode]) -> list[list[LabelledEpisode]]:
    """Group episodes whose labels have the same columns with the same meaning: a shard holds one kind."""
    groups: dict[str, list[LabelledEpisode]] = {}
    for episode in labelled:
        labels = episode.labels
        groups.setdefault(digest_json([column_to_json(labels.specs[name]) for name in sorted(labels.columns)]), []).append(episode)
    return list(groups.values())
