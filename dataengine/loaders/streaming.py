"""`loader`: batches of a mixture, shuffled, exact, resumable, read ahead by worker processes."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.cached_objects import CacheOptions
from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.loaders.blocks import BlockPool
from dataengine.loaders.crew import Crew
from dataengine.loaders.field import Field
from dataengine.loaders.fitting import fitted_shuffle
from dataengine.loaders.joining import joined, split_of
from dataengine.loaders.lanes import Shuffle
from dataengine.loaders.map_style import Framework, require_framework
from dataengine.loaders.mixture import Mixture, Source
from dataengine.loaders.normalizing import normalization
from dataengine.loaders.opening import open_mixture
from dataengine.loaders.plan import ORDERS, BatchPlan, Order
from dataengine.loaders.sample_reader import ON_DAMAGE, OnDamage
from dataengine.loaders.schedule import Cursors, Layout, Schedule
from dataengine.loaders.windows import feature_documents, label_sets, resolve
from dataengine.loaders.worker import BatchMaker, Transform, Work
from dataengine.transforms.normalize import Mode, Normalize

logger = logging.getLogger(__name__)

STATE_VERSION = 2
CACHE = CacheOptions()


class Loader:
    """Batches from a place in an endless row of epochs. Made by `loader`.

    Each `for` loop goes on from that place to the end of its epoch (a weighted mixture has no end); the next one takes the next epoch. What a batch holds is a
    function of (mixture, fields, seed, epoch, place, rank, world size) and of nothing else.
    """

    def __init__(self, work: Work, opened: Any, workers: int, prefetch: int, framework: Framework, normalize: Normalize | None = None) -> None:
        self.normalize = normalize
        self._work, self._opened, self._framework = work, opened, framework
        self._maker = BatchMaker(work, opened)
        self._plan = self._maker.plan
        self._workers, self._prefetch = workers, prefetch
        self._crew: Crew | None = None
        self._pool = BlockPool()
        self._counters: dict[int, dict[str, int]] = {}
        self._damage: dict[int, dict[str, int]] = {}
        self._seek(self._plan.start(0), 0)

    def _seek(self, cursors: Cursors, made: int, done: int = 0) -> None:
        """Go to a place: so many batches after some cursors, before which `made` were made."""
        self._base, self._made_before, self._done = cursors, made, done
        self._schedule: Schedule = self._plan.begin(cursors, made)
        self._maker.begin()
        first = done * self._work.layout.split
        self._numbers = itertools.count(first) if self._schedule.steps is None else iter(range(first, self._schedule.steps))
        self._started = False

    def copy(self) -> Loader:
        """Return another loader at the same place, with workers and files of its own."""
        return _made_again(*self._recipe())

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, self._recipe()

    def _recipe(self) -> tuple[Any, ...]:
        return self._work, self._workers, self._prefetch, self._framework, self.normalize, self.state_dict()

    def __len__(self) -> int:
        """Return how many batches are left of the epoch, the same on every rank; raise TypeError for a weighted mixture, which has no end."""
        total = self._total
        if total is None:
            raise TypeError("a weighted mixture has no last batch: count the steps yourself")
        return total - self._done

    @property
    def steps(self) -> int:
        """Return how many batches the running epoch has on each rank, those that were handed out included; raise TypeError for a weighted mixture."""
        return len(self) + self._done

    def begin_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch, from 0; of a weighted mixture only 0 has one."""
        self._maker.reader.forget()
        self._seek(self._plan.start(epoch), 0)

    @property
    def epoch(self) -> int:
        """Return the running epoch, from 0; of a weighted mixture 0."""
        return 0 if self._plan.endless else int(self._base.epoch.max())

    @property
    def samples(self) -> int:
        """Return how many samples the mixture holds."""
        return int(
            sum(self._opened.segments.samples if each.segments is None else self._opened.segments.length[each.segments].sum() for each in self._work.components)
        )

    @property
    def datasets(self) -> list[str]:
        """Return the addresses that the numbers under `dataset` in a batch stand for."""
        return [part.address for part in self._opened.parts]

    @property
    def counters(self) -> dict[str, int]:
        """Return what reading took so far, over all workers: `frames_decoded`, `video_bytes_read`, `frames_used`, `samples`."""
        found = list(self._counters.values())
        return {name: sum(each[name] for each in found) for name in (found[0] if found else self._maker.reader.counters().as_dict())}

    @property
    def damage(self) -> dict[str, int]:
        """Return what could not be read so far, as messages, and how many samples were left out for each (with `on_damage="leave_out"`)."""
        found: Counter[str] = Counter()
        for damage in self._damage.values():
            found.update(damage)
        return dict(found)

    @property
    def episodes(self) -> int:
        """Return how many episodes the numbers under `episode` in a batch count, those of which no sample is read included."""
        return int(sum(len(table) for table in self._opened.tables))

    def episode_id(self, episode: int) -> str:
        """Return the id of the episode that a number under `episode` in a batch stands for."""
        return str(self._opened.episode_id(episode))

    def clip_of(self, samples: Array) -> Array:
        """Return numbers (N,) that are equal for samples (N,) of one clip."""
        return self._plan.clip_of(np.asarray(samples))

    @property
    def _total(self) -> int | None:
        """Return how many batches the schedule has, None where it has no end."""
        parts, layout = self._schedule.steps, self._work.layout
        return None if parts is None else parts // layout.split if layout.drop_last else -(-parts // layout.split)

    @property
    def _at_end(self) -> bool:
        return self._total is not None and self._done >= self._total

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._at_end and self._done:  # the last loop was left at its last batch
            self._seek(self._plan.start(self.epoch + 1), 0)
        while not self._at_end:
            batch = self._batch(self._done)
            self._done += 1
            yield self._as_asked(batch)
        self._seek(self._plan.start(self.epoch + 1), 0)

    def _batch(self, number: int) -> dict[str, Any]:
        """Return a batch, of its parts."""
        layout = self._work.layout
        first = number * layout.split
        last = first + layout.split if self._schedule.steps is None else min(first + layout.split, self._schedule.steps)
        try:
            parts = [self._take(part) for part in range(first, last)]
        except Exception:
            self._dismiss()
            self._seek(self._base, self._made_before, self._done)  # the next loop begins at this batch, with new workers
            raise
        return parts[0] if layout.split == 1 else joined(parts, layout.batch_size, layout.batch_size * layout.split, self._pool)

    def _take(self, number: int) -> dict[str, Any]:
        if not self._workers:
            that = self._maker.planned(self._schedule, self._numbers)
            assert that is not None
            return self._make(that)
        starting = self._crew is None
        if self._crew is None:
            self._crew = Crew(self._work, self._workers, self._prefetch)
        if not self._started:
            self._crew.begin(self._base, self._made_before, number + starting)
            self._started = True
        if starting:  # the workers need half a second until they are there: the very first batch, which is the same whoever makes it, need not wait
            batch = self._make(self._plan.batch(self._schedule, self._work.rank, number))
            self._maker.begin()
            return batch
        turn = self._schedule.maker(self._work.rank, number, self._workers)
        batch, made = self._crew.take(turn, number)
        self._note(turn, made.counters, made.damage)
        return batch

    def _make(self, that: BatchPlan) -> dict[str, Any]:
        """Make a batch in this process."""
        batch = self._maker.make(that, self._pool.block(self._maker.size))
        self._note(-1, self._maker.reader.counters().as_dict(), dict(self._maker.reader.damage))
        return batch

    def _note(self, worker: int, counters: dict[str, int], damage: dict[str, int]) -> None:
        """Keep what a worker has counted, and log what it could not read when that is new."""
        self._counters[worker] = counters
        for message in damage.keys() - self._damage.get(worker, {}).keys():
            logger.warning("left out: %s", message)
        self._damage[worker] = damage

    def _as_asked(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._framework == "numpy":
            return batch
        import torch

        return {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in batch.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the place between the last batch that was handed out and the next, as plain values, the same on every rank.

        It holds the cursors of all lanes of all ranks as the run began, and how many batches each rank has made since; from both follow the cursors now.
        """
        ended = self._at_end
        layout = self._work.layout
        return {
            "state_version": STATE_VERSION,
            "seed": self._work.seed,
            "order": self._work.order,
            "mixture": self._fingerprint(),
            "shuffle": {"clip_steps": self._work.shuffle.clip_steps, "spread": self._work.shuffle.spread},
            "layout": {
                "world_size": layout.world_size,
                "batch_size": layout.batch_size,
                "groups": layout.groups,
                "drop_last": layout.drop_last,
                "split": layout.split,
            },
            "cursors": (self._plan.start(self.epoch + 1) if ended else self._base).as_json(),
            "made": 0 if ended else self._made_before,
            "done": 0 if ended else self._done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the place of a state, also of one that was taken with another number of ranks or workers, or another batch size.

        With the same layout what follows is what would have followed without a stop, batch for batch; with another the same samples are left.

        Raises:
            UsageError: the state is of another mixture, seed or shuffle.
        """
        mine = self.state_dict()
        names = {
            "state_version": "format",
            "seed": "seed",
            "order": "order",
            "shuffle": "shuffle",
            "mixture": "mixture (stores, versions, datasets and conditions)",
        }
        for name, what in names.items():
            if state.get(name) != mine[name]:
                detail = f": {mine[name]!r} here, {state.get(name)!r} there" if name != "mixture" else f"; here it is {', '.join(self.datasets)}"
                raise UsageError(f"state: must be of the same {what}{detail}")
        cursors, made, done = Cursors.from_json(state["cursors"]), int(state["made"]), int(state["done"])
        if state["layout"] == mine["layout"]:
            self._seek(cursors, made, done)
            return
        if not made and not done and not cursors.emitted.any() and cursors.epoch.min() == cursors.epoch.max():
            self._seek(self._plan.start(int(cursors.epoch.max())), 0)  # between two epochs: the lanes are dealt anew for these ranks
            return
        layout = Layout(**state["layout"])
        parts = done * layout.split
        self._seek(self._plan.with_layout(layout).begin(cursors, made).cursors_after(parts), made + parts)

    def _fingerprint(self) -> str:
        """Return a digest of what the samples are, wherever the stores and the cache lie."""
        tables = [[part.dataset, part.version, digest_json([part.folder.rsplit("/", 1)[-1]])] for part in self._opened.parts]
        shares = [[None if each.segments is None else len(each.segments), each.share, each.cap] for each in self._work.components]
        return digest_json([tables, shares])

    def close(self) -> None:
        """End the workers and close all files; the place is kept."""
        self._dismiss()
        self._maker.reader.close()

    def _dismiss(self) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew, self._started = None, False

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _made_again(work: Work, workers: int, prefetch: int, framework: Framework, normalize: Normalize | None, state: Mapping[str, Any]) -> Loader:
    made = Loader(work, work.plan().opened, workers, prefetch, framework, normalize)
    made.load_state_dict(state)
    return made


def loader(
    mixture: Mixture | str | Sequence[str | Source] | Mapping[str, float],
    fields: Mapping[str, Field],
    batch_size: int,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    order: Order = "shuffled",
    shuffle: Shuffle | None = None,
    transforms: Sequence[Transform] = (),
    drop_last: bool = False,
    prefetch: int = 3,
    framework: Framework = "torch",
    cache: CacheOptions | None = CACHE,
    normalize: Mode | None = None,
    on_damage: OnDamage = "raise",
) -> Loader:
    """Return batches of a mixture.

    A batch is a dict: each field's values (B, ...), `<field>_is_pad`, where bodies differ in width `<field>_mask` (B, D), texts as lists, and of every sample `weight`
    (0 where the last batch is only filled up), `dataset`, `episode`, `step` and `sample`.

    Args:
        mixture: which data; an address stands for a mixture of it alone.
        fields: what a sample holds, by column or role (`camera:primary`, `state`, `action`, `task`).
        batch_size: samples of a batch on this rank.
        seed: of the order; the same seed gives the same batches whatever the number of workers and the timing.
        workers: processes that read ahead; 0 reads in this one.
        rank, world_size: this process among those that share the samples.
        order: "shuffled" reads clip by clip through a shuffle buffer; "random" is a perfect shuffle that reads each sample for itself; "sequential" keeps the order.
        shuffle: how thoroughly, see `Shuffle`; by default as thoroughly as about a GiB of waiting pictures on this rank allows.
        transforms: called one after the other on each batch where it is made, on a large one in parts: they must treat each row for itself.
        drop_last: leave out the last batches instead of filling them up.
        prefetch: batches that each worker makes ahead.
        framework: "torch" for tensors, "numpy" for arrays; both look at the worker's memory without a copy.
        normalize: "quantile", "mean_std" or "min_max": bring states and actions to a common scale by the statistics of their dataset, after the transforms;
            `loader(...).normalize` has the way back.
        on_damage: what happens where a sample cannot be read: "raise", or "leave_out": it gets weight 0, is logged and counted in `loader(...).damage`.
        cache: where blocks of remote stores are held on this machine, and how much of them; None for nothing.

    Raises:
        UsageError: an argument is wrong, or a field matches no column.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("world_size", world_size, 1), ("prefetch", prefetch, 1)):
        if value < least:
            raise UsageError(f"{name}: must be at least {least}, got {value}")
    if not 0 <= rank < world_size:
        raise UsageError(f"rank: must be from 0 to world_size - 1 = {world_size - 1}, got {rank}")
    if order not in ORDERS:
        raise UsageError(f"order: must be one of {', '.join(ORDERS)}, got {order!r}")
    if on_damage not in ON_DAMAGE:
        raise UsageError(f"on_damage: must be one of {', '.join(ON_DAMAGE)}, got {on_damage!r}")
    require_framework(framework)
    chosen = mixture if isinstance(mixture, Mixture) else Mixture(mixture)
    transforms = tuple(transforms) if isinstance(transforms, Sequence) else (transforms,)
    opened = open_mixture(chosen, label_sets(fields), cache)
    features = feature_documents(opened)
    windows = resolve(fields, opened, features)
    components = tuple(opened.components(chosen))
    shuffling = shuffle or fitted_shuffle(opened, windows)
    if order == "shuffled" and workers > shuffling.groups:
        raise UsageError(f"workers: at most {shuffling.groups} can share the groups of lanes of a rank, got {workers}; give shuffle=Shuffle(groups={workers})")
    normalizer = normalization(opened, chosen, windows, features, normalize, transforms) if normalize is not None else None
    split = split_of(batch_size, shuffling.lanes // shuffling.groups) if order == "shuffled" else 1
    layout = Layout(world_size, batch_size // split, shuffling.groups, drop_last, split)
    work = Work(
        opened.parts,
        components,
        windows,
        shuffling,
        layout,
        seed,
        order,
        chosen.weighted,
        rank,
        (*transforms, *([normalizer] if normalizer else [])),
        cache,
        on_damage,
    )
    made = Loader(work, opened, workers, prefetch, framework, normalizer)
    if drop_last and not chosen.weighted and not len(made):
        raise UsageError(
            f"drop_last: leaves no batch, since {made.samples} samples fill none of {batch_size} on each of {world_size} ranks; take smaller batches"
        )
    return made
