"""Map-style access: any sample by number, alone or many at once, for any sampler."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, overload

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.loaders.batch import batch_layout, block_bytes, carve
from dataengine.loaders.field import Field
from dataengine.loaders.mixture import Mixture
from dataengine.loaders.opened import Opened
from dataengine.loaders.opening import open_mixture
from dataengine.loaders.sample_reader import SampleReader
from dataengine.loaders.windows import feature_documents, label_sets, resolve

Framework = Literal["numpy", "torch"]
FRAMEWORKS = ("numpy", "torch")


def require_framework(framework: str) -> None:
    """Raise UsageError for a framework that is unknown or not installed."""
    if framework not in FRAMEWORKS:
        raise UsageError(f"framework: must be one of {', '.join(FRAMEWORKS)}, got {framework!r}")
    if framework == "torch":
        try:
            import torch  # noqa: F401
        except ImportError:
            raise UsageError("framework='torch': torch is not installed: pip install 'robot-dataengine[torch]', or ask for framework='numpy'") from None


class MapDataset:
    """Samples of a mixture by number: `len(data)`, `data[i]`, `data[[3, 1, 2]]`. It may be pickled, and of a store on this machine also forked.

    The numbers run through the datasets in the order of the mixture, in each through its episodes in the order of their ids, in each through its steps.
    """

    def __init__(self, mixture: Mixture, fields: Mapping[str, Field], framework: Framework = "numpy") -> None:
        require_framework(framework)
        if mixture.weighted or isinstance(mixture.synthetic, float):
            raise UsageError("dataset: numbers samples without weights or caps; give the weights to your sampler, or use loader(...)")
        self._fields, self._framework = dict(fields), framework
        self._opened = open_mixture(mixture, label_sets(fields))
        self._windows = resolve(fields, self._opened, feature_documents(self._opened))
        components = self._opened.components(mixture)
        self._chosen = components[0].segments
        self._settle()

    def _settle(self) -> None:
        lengths = self._opened.segments.length if self._chosen is None else self._opened.segments.length[self._chosen]
        self._firsts = np.concatenate([[0], np.cumsum(lengths)])
        self._reader: SampleReader | None = None
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self._opened.parts, "windows": self._windows, "chosen": self._chosen, "fields": self._fields, "framework": self._framework}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._opened, self._windows, self._chosen = Opened(state["parts"]), state["windows"], state["chosen"]
        self._fields, self._framework = state["fields"], state["framework"]
        self._settle()

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def datasets(self) -> list[str]:
        """Return the addresses that the numbers under `dataset` in a sample stand for."""
        return [part.address for part in self._opened.parts]

    def episode_id(self, episode: int) -> str:
        """Return the id of the episode that a number under `episode` stands for."""
        return self._opened.episode_id(episode)

    def _samples(self, numbers: Sequence[int]) -> Array:
        """Return the samples' own numbers; raise IndexError."""
        wanted = np.asarray(numbers, dtype=np.int64)
        count = len(self)
        wrong = wanted[(wanted < -count) | (wanted >= count)]
        if len(wrong):
            raise IndexError(f"sample {int(wrong[0])} of {count}")
        wanted = np.where(wanted < 0, wanted + count, wanted)
        if self._chosen is None:
            return wanted
        at = np.searchsorted(self._firsts, wanted, side="right") - 1
        return np.asarray(self._opened.segments.offsets[self._chosen[at]] + wanted - self._firsts[at])

    def read(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return samples as one batch, a dict of arrays (n, ...) and lists of texts."""
        if self._reader is None or self._process != os.getpid():  # decoders and files belong to one process
            self._reader, self._process = SampleReader(self._opened, self._windows), os.getpid()
        specs = batch_layout(self._windows, len(numbers))
        arrays = carve(np.empty(block_bytes(specs), np.uint8), specs)
        texts = self._reader.read(self._samples(numbers), arrays)
        return arrays | texts

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return several samples, read together: what torch's DataLoader asks for, and much faster than one by one."""
        batch = self.read(numbers)
        arrays = {name: self._as_asked(values) for name, values in batch.items()}
        return [{name: values[at] for name, values in arrays.items()} for at in range(len(numbers))]

    def _as_asked(self, values: Any) -> Any:
        if self._framework == "numpy" or isinstance(values, list):
            return values
        import torch

        return torch.from_numpy(values)

    @overload
    def __getitem__(self, number: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, number: Sequence[int]) -> dict[str, Any]: ...

    def __getitem__(self, number: int | Sequence[int]) -> dict[str, Any]:
        if hasattr(number, "__index__") and getattr(number, "ndim", 0) == 0:  # also NumPy's and torch's whole numbers
            return self.__getitems__([operator.index(number)])[0]
        return {name: self._as_asked(values) for name, values in self.read(cast("Sequence[int]", number)).items()}


def dataset(mixture: Mixture | str | Sequence[str], fields: Mapping[str, Field], framework: Framework = "numpy") -> MapDataset:
    """Return the samples of a mixture for access by number.

    Args:
        mixture: which data; an address stands for a mixture of it alone.
        fields: what a sample holds, by column or role.
        framework: "numpy" or "torch", of the arrays.
    """
    return MapDataset(mixture if isinstance(mixture, Mixture) else Mixture(mixture), fields, framework)
