"""A mixture as it was found: its stores at fixed versions, their episodes and samples by number, and the components that batches are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.cached_objects import CachedObjects, CacheOptions, reading_objects
from dataengine.core.errors import UsageError
from dataengine.core.objects import Objects
from dataengine.loaders.clips import Segments
from dataengine.loaders.episode_table import EpisodeTable
from dataengine.loaders.mixture import Mixture


@dataclass(frozen=True)
class Part:
    """One dataset of one source: where it lies, and the folder that holds the table of its episodes. Small, so that it can be handed to a worker."""

    source: int
    url: str
    dataset: str
    version: int | None
    folder: str
    label_sets: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    storage_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Return the address that names exactly this content."""
        return f"{self.url}@{'open' if self.version is None else self.version}#{self.dataset}"


@dataclass(frozen=True, eq=False)
class Component:
    """Segments that are drawn from by one share; `capped` marks those that take only so many samples of an epoch."""

    segments: Array | None
    share: float
    capped: Array | None = None
    cap: int = 0


class Opened:
    """The parts of a mixture, their episodes numbered through, and their samples.

    Made by `open_mixture`; a worker makes it from the parts and the cache's options alone, without a look at any catalog.
    """

    def __init__(self, parts: tuple[Part, ...], cache: CacheOptions | None = None) -> None:
        self.parts, self.cache = parts, cache
        self.tables = [EpisodeTable.load(Path(part.folder)) for part in parts]
        self.first_episode = np.concatenate([[0], np.cumsum([len(table) for table in self.tables])]).astype(np.int64)
        pieces = [table.segments for table in self.tables]
        self.segments = Segments(
            np.concatenate([piece.episode + first for piece, first in zip(pieces, self.first_episode, strict=False)]),
            np.concatenate([piece.start for piece in pieces]),
            np.concatenate([piece.length for piece in pieces]),
        )
        self.first_segment = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)

    @cached_property
    def objects(self) -> list[Objects]:
        """Return the root of each part's store."""
        return [reading_objects(part.url, part.storage_options, self.cache) for part in self.parts]

    @property
    def remote(self) -> bool:
        """Whether any part lies in an object store, so that reading ahead pays."""
        return any(isinstance(objects, CachedObjects) for objects in self.objects)

    def close(self) -> None:
        """End the threads that fetch ahead."""
        for objects in self.objects:
            if isinstance(objects, CachedObjects):
                objects.close()

    def part_of(self, episode: int) -> tuple[int, int]:
        """Return the part of an episode, and its number within the part."""
        part = int(np.searchsorted(self.first_episode, episode, side="right")) - 1
        return part, episode - int(self.first_episode[part])

    def parts_of(self, episodes: Array) -> Array:
        """Return the parts (N,) of episodes (N,)."""
        return np.asarray(np.searchsorted(self.first_episode, episodes, side="right") - 1)

    def episode_id(self, episode: int) -> str:
        """Return the id of an episode by its number."""
        part, local = self.part_of(episode)
        return bytes(self.tables[part].arrays["episode_id"][local]).decode()

    def _synthetic(self) -> Array:
        """Return which segments (S,) belong to imagined episodes."""
        flags = np.concatenate([table.arrays["synthetic"] for table in self.tables])
        return np.asarray(flags[self.segments.episode])

    def components(self, mixture: Mixture) -> list[Component]:
        """Return what batches are drawn from: all segments together, or for a weighted mixture each source's, the imagined ones apart where they are capped.

        Raises:
            UsageError: nothing is left.
        """
        synthetic = self._synthetic()
        allowed = np.ones(len(synthetic), bool)
        if mixture.synthetic == "exclude" or mixture.synthetic == 0:
            allowed = ~synthetic
        cap = mixture.synthetic if isinstance(mixture.synthetic, float) and mixture.synthetic > 0 else None
        lengths = self.segments.length
        if not allowed.any():
            raise UsageError(f"Mixture: holds no sample; {', '.join(part.address for part in self.parts)} hold {int(lengths.sum())} before its conditions")
        if not mixture.weighted:
            chosen = None if allowed.all() else np.flatnonzero(allowed)
            if cap is None or not synthetic.any():
                return [Component(chosen, 1.0)]
            most = int(cap / (1 - cap) * lengths[~synthetic].sum())
            if synthetic.all():
                raise UsageError(f"Mixture: imagined episodes may have at most {cap:g} of the samples, but nothing else is left to draw from")
            return [Component(chosen, 1.0, synthetic, most)]
        source_of = np.repeat([part.source for part in self.parts], np.diff(self.first_segment))
        shares, members = [], []
        for number, source in enumerate(mixture.listed):
            mine = allowed & (source_of == number)
            if not mine.any():
                raise UsageError(f"Mixture: source {source.address!r} holds no sample under its conditions; leave it out or correct them")
            shares.append(self._weight(mixture, source.weight, mine))
            members.append(mine)
        total = sum(shares)
        return _capped([Component(np.flatnonzero(mine), share / total) for mine, share in zip(members, shares, strict=True)], synthetic, lengths, cap)

    def _weight(self, mixture: Mixture, weight: float | None, mine: Array) -> float:
        if weight is not None:
            return weight
        if mixture.weigh == "samples":
            amount = int(self.segments.length[mine].sum())
        else:
            episodes = np.unique(self.segments.episode[mine])
            amount = len(episodes)
            if mixture.weigh == "steps":
                amount = int(np.concatenate([table.arrays["steps"] for table in self.tables])[episodes].sum())
        return float(amount ** (1 / mixture.temperature))


def _capped(components: list[Component], synthetic: Array, lengths: Array, cap: float | None) -> list[Component]:
    """Split components into recorded and imagined parts, so that the imagined ones together have at most the share `cap`."""
    if cap is None:
        return components
    split: list[tuple[Array, float, bool]] = []
    for component in components:
        assert component.segments is not None
        flags = synthetic[component.segments]
        amounts = [int(lengths[component.segments[flags == kind]].sum()) for kind in (False, True)]
        for kind in (False, True):
            if amounts[kind]:
                split.append((component.segments[flags == kind], component.share * amounts[kind] / sum(amounts), kind))
    imagined = sum(share for _, share, kind in split if kind)
    recorded = 1.0 - imagined
    if imagined <= cap:
        return [Component(segments, share) for segments, share, _ in split]
    if recorded <= 0:
        raise UsageError(f"Mixture: imagined episodes may have at most {cap:g} of the samples, but nothing else is left to draw from")
    return [Component(segments, share * (cap / imagined if kind else (1 - cap) / recorded)) for segments, share, kind in split]
