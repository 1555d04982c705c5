"""What can be trained: which windows of the data it asks for, what it is told of the data, and what it must offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dataengine.core.column import Column
from dataengine.core.column_statistics import ColumnStatistics
from dataengine.core.labelling import Needs, Watched


@dataclass(frozen=True)
class FieldSpec:
    """A window of one column or role around a sample's step, as a loader's `Field` has it: offsets in seconds or steps, none for the step itself."""

    seconds: tuple[float, ...] | None = None
    steps: tuple[int, ...] | None = None
    size: tuple[int, int] | None = None
    fit: str = "stretch"


@dataclass(frozen=True, eq=False)
class DatasetFacts:
    """What a model is told of one dataset of the training data.

    `columns` by the names of the fields, where a field is one column, `members` where it is several, one after the other; `statistics` of the training episodes alone, by
    the same names. `embodiment` and `rate_hz` are those of its episodes, None where they differ or are unknown.
    """

    dataset: str
    embodiment: str | None
    rate_hz: float | None
    columns: Mapping[str, Column]
    statistics: Mapping[str, ColumnStatistics]
    members: Mapping[str, Sequence[Column]] = field(default_factory=dict)

    def recorded(self, name: str) -> tuple[Column, ...]:
        """Return the columns that a field stands for, one after the other."""
        return (self.columns[name],) if name in self.columns else tuple(self.members.get(name, ()))


@dataclass(frozen=True, eq=False)
class TrainingFacts:
    """What a model is told before it is trained.

    `datasets` stand in the order of the numbers under `dataset` in a batch. `trained_on` is `<store id>@<version>`. `notes["episodes"]` says of each episode, in the order of the
    numbers under `episode`, its "steps" and "success" (1, 0, or -1 where nobody said), as arrays (E,), and its "task", the instruction or else the dataset's name, as a list.
    """

    datasets: Sequence[DatasetFacts]
    trained_on: str
    seed: int
    notes: Mapping[str, Any] = field(default_factory=dict)


class Trainee(Protocol):
    """A kind of model with its configuration, before, during and after training.

    What `begin` returns goes to `dataengine.models.fit.fit`: it has a `module` and a `loss(batch, generator)`. A batch holds for each field `name` tensors (B, K, ...)
    (no K where the field is the step itself), `name_is_pad` (B, K), and `weight` (B,), 0 for samples that fill a batch up.
    """

    @property
    def kind(self) -> str:
        """The kind of model: "idm", "latent", "value"."""

    @property
    def needs(self) -> Needs:
        """What it must see of the episodes that are held out, to be calibrated."""

    def fields(self) -> Mapping[str, FieldSpec]:
        """Return the windows that a sample holds."""

    def begin(self, facts: TrainingFacts, device: str) -> Any:
        """Build the module from the seed, on a device ("cpu", "cuda"), and return what is fitted."""

    def calibrate(self, held_out: Iterable[Watched]) -> Mapping[str, Any]:
        """Fit what is fitted after training on episodes that were held out, and return figures of them."""

    def checkpoint(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the configuration (JSON) and the weights (tensors by name) of the trained model."""
