"""Which datasets are read, which of their episodes and steps, and in what proportion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dataengine.core.errors import UsageError

Weigh = Literal["samples", "steps", "episodes"]


@dataclass(frozen=True)
class Source:
    """One address in a mixture.

    Attributes:
        address: `STORE[@REF][#dataset]`; without a dataset all of them together.
        weight: its share relative to the other sources', None for an unweighted mixture.
        where: a Polars SQL condition over episode columns (`origin = 'teleop' and success`).
        where_steps: a Polars SQL condition over step columns (`reward > 0`); steps where it does not hold are no samples, though windows may reach over them.
        columns: which column a field reads in this source where its name and role do not say: {"camera:primary": "observation.images.front"}.
        storage_options: of the object store.
    """

    address: str
    weight: float | None = None
    where: str | None = None
    where_steps: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    storage_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mixture:
    """Sources and how they are mixed.

    Unweighted (addresses alone), each sample comes once in an epoch. Weighted (a mapping of address to weight, or `weigh`), batches are drawn without end by the
    sources' shares, and each source walks through its own permutation, epoch after epoch.

    Attributes:
        sources: an address, a list of addresses or `Source`s, or a mapping of address to weight.
        where, where_steps: conditions for all sources, beside each one's own.
        weigh: give the sources shares by how many samples, steps or episodes they hold, to the power of 1 / `temperature`.
        temperature: 1 keeps proportions, larger ones level them.
        synthetic: whether episodes imagined by a world model take part: "include", "exclude", or the largest share of samples they may have.
        storage_options: for all sources.
    """

    sources: str | Source | Mapping[str, float] | Sequence[str | Source]
    where: str | None = None
    where_steps: str | None = None
    weigh: Weigh | None = None
    temperature: float = 1.0
    synthetic: Literal["include", "exclude"] | float = "include"
    storage_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = self.sources
        if isinstance(given, str | Source):
            given = [given]
        if isinstance(given, Mapping):
            listed = [Source(address, weight) for address, weight in given.items()]
        else:
            listed = [Source(one) if isinstance(one, str) else one for one in given]
        if not listed:
            raise UsageError("Mixture: must name a source, got none")
        weighted = [source for source in listed if source.weight is not None]
        if weighted and len(weighted) < len(listed):
            missing = next(source.address for source in listed if source.weight is None)
            raise UsageError(f"Mixture: must have a weight for each source or for none, got none for {missing!r}")
        if any(not source.weight > 0 for source in weighted if source.weight is not None):
            raise UsageError(f"Mixture: weights must be above 0, got {[source.weight for source in weighted]}; leave a source out instead")
        if weighted and self.weigh is not None:
            raise UsageError(f"Mixture: must have weights or weigh={self.weigh!r}, got both")
        if self.weigh not in (None, "samples", "steps", "episodes"):
            raise UsageError(f"Mixture: weigh must be samples, steps or episodes, got {self.weigh!r}")
        if not self.temperature > 0:
            raise UsageError(f"Mixture: temperature must be above 0, got {self.temperature}")
        if isinstance(self.synthetic, str):
            if self.synthetic not in ("include", "exclude"):
                raise UsageError(f"Mixture: synthetic must be 'include', 'exclude' or a share below 1, got {self.synthetic!r}")
        elif not 0 <= self.synthetic < 1:
            raise UsageError(f"Mixture: synthetic must be a share from 0 to below 1, got {self.synthetic}")
        whole = [
            replace(
                source,
                where=_both(source.where, self.where),
                where_steps=_both(source.where_steps, self.where_steps),
                storage_options={**self.storage_options, **source.storage_options},
            )
            for source in listed
        ]
        object.__setattr__(self, "sources", tuple(whole))

    @property
    def listed(self) -> tuple[Source, ...]:
        """Return the sources with the mixture's own conditions and options."""
        assert isinstance(self.sources, tuple)
        return self.sources

    @property
    def weighted(self) -> bool:
        """Whether batches are drawn by shares, without end."""
        return self.weigh is not None or self.listed[0].weight is not None


def _both(one: str | None, other: str | None) -> str | None:
    """Return the condition that both hold."""
    return f"({one}) and ({other})" if one and other else one or other
