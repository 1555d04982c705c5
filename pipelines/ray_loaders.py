"""Training on Ray: a loader inside a Ray Train worker, and the samples of a mixture as a dataset of Ray Data.

    def train(config):                                       # runs in each worker of a ray.train.torch.TorchTrainer
        batches = train_loader("s3://lab/store@12#bridge", FIELDS, batch_size=64, workers=4)
        checkpoint = ray.train.get_checkpoint()              # None at first; the last one after a failure
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                batches.load_state_dict(json.loads(Path(folder, "loader.json").read_text()))
        for number, batch in enumerate(batches):
            loss = step(model, batch)
            if number % 1000 == 999:
                with tempfile.TemporaryDirectory() as folder:
                    Path(folder, "loader.json").write_text(json.dumps(batches.state_dict()))   # the same on every rank
                    ...                                      # beside the model
                    first = ray.train.get_context().get_world_rank() == 0
                    ray.train.report({"loss": loss}, checkpoint=Checkpoint.from_directory(folder) if first else None)

A run that goes on with another number of workers reads exactly the samples that are left. Name a version in the address: each worker opens the store for itself, and
without one it opens the latest.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dataengine.core.errors import UsageError
from dataengine.loaders.field import Field
from dataengine.loaders.map_style import MapDataset, dataset
from dataengine.loaders.mixture import Mixture
from dataengine.loaders.opening import open_mixture
from dataengine.loaders.streaming import Loader, loader
from pipelines.runtime import dataset_of_blocks, train_rank


def train_loader(mixture: Mixture | str, fields: Mapping[str, Field], batch_size: int, **options: Any) -> Loader:
    """Return this Ray Train worker's batches: `loader` with the rank and the world size of the run.

    Args:
        mixture: which data.
        fields: what a sample holds.
        batch_size: samples of a batch on this worker.
        options: all else that `loader` takes.

    Raises:
        UsageError: it is not called inside a worker of Ray Train, or the rank is given beside it.
    """
    given = sorted({"rank", "world_size"} & set(options))
    if given:
        raise UsageError(f"train_loader: must not have {' and '.join(given)}, which Ray Train decides; use loader(...) to choose them")
    rank, world_size = train_rank()
    return loader(mixture, fields, batch_size, rank=rank, world_size=world_size, **options)


def ray_dataset(mixture: Mixture | str, fields: Mapping[str, Field], rows_per_block: int = 256) -> Any:
    """Return the samples of an unweighted mixture as a ray.data.Dataset, each once, in the order of `dataset(mixture, fields)`.

    A block is read by one task, neighbours together. Pictures and chunks are tensor columns of their own shapes and dtypes, masks too; texts are strings, which
    `iter_torch_batches` does not take: leave them out of the fields, or drop their columns. To train, `train_loader` is faster, shuffles and can be resumed.

    Args:
        mixture: which data.
        fields: what a sample holds.
        rows_per_block: samples that one task reads.

    Raises:
        UsageError: the mixture is weighted, or a field matches no column.
    """
    if rows_per_block < 1:
        raise UsageError(f"rows_per_block: must be at least 1, got {rows_per_block}")
    whole = Mixture(mixture) if isinstance(mixture, str) else mixture
    samples = len(dataset(whole, fields))
    pinned = pickle.dumps((_pinned(whole), dict(fields)))
    return dataset_of_blocks(_ReadBlock(pinned, samples, rows_per_block), -(-samples // rows_per_block))


def _pinned(mixture: Mixture) -> Mixture:
    """Return the mixture with the versions that it has now: each machine opens it for itself, whatever is committed meanwhile."""
    sources = mixture.listed
    parts = open_mixture(mixture).parts
    return Mixture([replace(sources[part.source], address=part.address) for part in parts], synthetic=mixture.synthetic)


class _ReadBlock:
    """Reads a block of samples by its number; what a process has opened serves its next block too."""

    def __init__(self, pickled: bytes, samples: int, rows: int) -> None:
        self._pickled, self._samples, self._rows = pickled, samples, rows

    def __call__(self, number: int) -> dict[str, Any]:
        first = number * self._rows
        return _opened(self._pickled).read(range(first, min(first + self._rows, self._samples)))


@lru_cache(maxsize=2)
def _opened(pickled: bytes) -> MapDataset:
    mixture, fields = pickle.loads(pickled)  # noqa: S301 - what our own driver wrote
    return dataset(mixture, fields)
