"""Torch's own loaders around a loader: the same batches, epoch after epoch, and exact after a stop in mid-epoch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

from dataengine.core.errors import UsageError  # noqa: E402
from dataengine.loaders import Field, Loader, Mixture, Shuffle, TorchStream, loader  # noqa: E402
from tests.loaders.conftest import LENGTHS  # noqa: E402
from tests.support.numbered import what_is_seen  # noqa: E402

FIELDS = {"camera:primary": Field(size=(64, 96)), "action": Field(steps=[0, 1]), "state": Field(), "task": Field()}
STEPS = 20  # 314 samples in batches of 16

# Torch warns of forking a process that has threads, which is what its own default does.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # which torchdata still calls
]
PROCESSES = [(0, None), (1, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)]  # a process that is spawned imports torch anew


def batches_of(store: Path, **more: Any) -> Loader:
    settings: dict[str, Any] = {"batch_size": 16, "seed": 7, "shuffle": Shuffle(clip_steps=20, spread=8, lanes=12, groups=4)}
    return loader(f"{store}#lab", FIELDS, **(settings | more))


def signature(batch: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a batch holds, after a look at whether it holds what it says."""
    for place in torch.nonzero(batch["weight"])[:, 0].tolist():
        number, step = (int(value) for value in batch["state"][place][:2])
        assert what_is_seen(batch["camera:primary"][place].numpy()) == (number, step, 0)
        assert batch["action"][place].tolist() == [[number, step], [number, min(step + 1, LENGTHS[number] - 1)]]
        assert batch["task"][place] == f"task {number % 3}"
    return tuple(batch["sample"].tolist()), tuple(batch["weight"].tolist()), batch["epoch"]


@pytest.fixture(scope="module")
def epochs(lab: Path) -> list[list[Any]]:
    """Return what two epochs of a bare loader hold, batch by batch."""
    alone = batches_of(lab)
    return [[signature(batch) for batch in alone] for _ in range(2)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("torch_workers", "context"), PROCESSES)
def test_the_batches_are_the_loaders_own_in_each_epoch(lab: Path, epochs: list[list[Any]], workers: int, torch_workers: int, context: str | None) -> None:
    assert [len(epoch) for epoch in epochs] == [STEPS, STEPS]
    assert epochs[0] != epochs[1]
    stream = TorchStream(batches_of(lab, workers=workers))
    torchs = DataLoader(stream, batch_size=None, num_workers=torch_workers, multiprocessing_context=context)
    assert len(torchs) == STEPS
    for epoch in epochs:
        assert [signature(batch) for batch in torchs] == epoch
    stream.close()


def test_a_loader_that_has_read_may_be_forked(lab: Path, epochs: list[list[Any]]) -> None:
    batches = batches_of(lab, workers=1)
    first = [signature(batch) for batch, _ in zip(batches, range(5), strict=False)]
    stream = TorchStream(batches)
    there = [signature(batch) for batch in DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="fork")]
    here = [signature(batch) for batch in batches]  # its own worker was left in peace
    batches.close()
    assert first == epochs[0][:5]
    assert there[-14:] == here[-14:] == epochs[0][6:]


def test_several_torch_workers_are_refused(lab: Path) -> None:
    with pytest.raises(UsageError, match=r"num_workers must be 0 or 1 around a TorchStream, got 2; give workers=N to loader"):
        list(DataLoader(TorchStream(batches_of(lab)), batch_size=None, num_workers=2))


@pytest.mark.parametrize(("torch_workers", "context"), PROCESSES)
@pytest.mark.parametrize("stop", [1, 7, STEPS])
def test_a_stateful_data_loader_goes_on_batch_for_batch(lab: Path, epochs: list[list[Any]], torch_workers: int, context: str | None, stop: int) -> None:
    def made() -> Any:
        return StatefulDataLoader(TorchStream(batches_of(lab, workers=1)), batch_size=None, num_workers=torch_workers, multiprocessing_context=context)

    before = made()
    rows: Iterator[Any] = iter(before)
    assert [signature(next(rows)) for _ in range(stop)] == epochs[0][:stop]
    state = pickle.loads(pickle.dumps(before.state_dict()))
    del rows
    again = made()
    assert len(again) == STEPS
    again.load_state_dict(copy.deepcopy(state))
    if stop < STEPS:  # a state after the last batch is the beginning of the next epoch
        assert [signature(batch) for batch in again] == epochs[0][stop:]
    assert [signature(batch) for batch in again] == epochs[1]


def test_a_pickled_loader_stands_where_it_stood(lab: Path, epochs: list[list[Any]]) -> None:
    batches = batches_of(lab)
    for number, _ in enumerate(batches):
        if number == 11:
            break
    again = pickle.loads(pickle.dumps(batches))
    assert (again.steps, len(again)) == (STEPS, 8)
    assert [signature(batch) for batch in again] == epochs[0][12:]
    again.begin_epoch(1)
    assert [signature(batch) for batch in again.copy()] == epochs[1]


def test_a_copy_is_normalised_as_its_original(lab: Path) -> None:
    batches = batches_of(lab, normalize="min_max")
    again = pickle.loads(pickle.dumps(batches))
    assert again.normalize == batches.normalize is not None
    one, other = next(iter(batches)), next(iter(again))
    assert torch.equal(one["action"], other["action"])
    assert -1 <= one["action"].min() < 0 < one["action"].max() <= 1
    back = again.normalize.inverse({name: other[name].numpy() for name in ("state", "dataset")})
    assert back["state"][:, 1].round().tolist() == one["step"].tolist()


def test_a_weighted_mixture_streams_without_end(lab: Path) -> None:
    batches = loader(Mixture({f"{lab}#lab": 1.0}), FIELDS, 16, seed=3)
    rows = iter(DataLoader(TorchStream(batches), batch_size=None, num_workers=1, multiprocessing_context="fork"))
    alone = loader(Mixture({f"{lab}#lab": 1.0}), FIELDS, 16, seed=3)
    for _, expected in zip(range(STEPS + 5), alone, strict=False):
        assert next(rows)["sample"].tolist() == expected["sample"].tolist()
    with pytest.raises(TypeError, match="has no last batch"):
        len(TorchStream(batches))
