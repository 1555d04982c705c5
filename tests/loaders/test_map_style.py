"""Samples by number under torch's loaders and samplers: every one right, whoever reads it; and what may be done with the arrays."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, DistributedSampler, RandomSampler  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

from dataengine.core.errors import UsageError  # noqa: E402
from dataengine.loaders import Field, MapDataset, Mixture, dataset, loader  # noqa: E402
from tests.loaders.conftest import LENGTHS  # noqa: E402
from tests.support.numbered import Numbered, numbered_store, what_is_seen  # noqa: E402

FIELDS = {
    "camera:primary": Field(steps=[-1, 0]),
    "camera:wrist": Field(steps=[-1, 0]),
    "action": Field(steps=range(4)),
    "state": Field(),
    "reward": Field(),
    "task": Field(),
}
EVERYTHING = Counter((number, step) for number, steps in enumerate(LENGTHS) for step in range(steps))

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # which torchdata still calls
]
PROCESSES = [(0, None), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)]  # a process that is spawned imports torch anew


def numbers_of(batch: dict[str, Any]) -> list[tuple[int, int]]:
    """Return (episode as recorded, step) of the samples of a collated batch, which must all hold what they claim to hold."""
    assert all(isinstance(batch[name], torch.Tensor) for name in batch if name != "task"), {name: type(value) for name, value in batch.items()}
    assert (batch["camera:primary"].dtype, batch["action"].dtype, batch["action_is_pad"].dtype) == (torch.uint8, torch.float32, torch.bool)
    assert (batch["step"].dtype, batch["weight"].dtype, batch["reward"].shape) == (torch.int64, torch.float32, (len(batch["task"]), 1))
    found = []
    for place in range(len(batch["step"])):
        number, step = (int(value) for value in batch["state"][place][:2])
        assert int(batch["step"][place]) == step
        for camera, name in enumerate(("camera:primary", "camera:wrist")):
            assert [what_is_seen(picture.numpy()) for picture in batch[name][place]] == [(number, max(step - 1, 0), camera), (number, step, camera)]
            assert batch[f"{name}_is_pad"][place].tolist() == [step == 0, False]
        last = LENGTHS[number] - 1
        assert batch["action"][place].tolist() == [[number, min(step + ahead, last)] for ahead in range(4)]
        assert batch["action_is_pad"][place].tolist() == [step + ahead > last for ahead in range(4)]
        assert batch["reward"][place].item() == float(step % 10 < 5)
        assert batch["task"][place] == f"task {number % 3}"
        found.append((number, step))
    return found


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize(("workers", "context"), PROCESSES)
def test_random_access_under_a_data_loader(lab: Path, framework: Any, workers: int, context: str | None) -> None:
    data = dataset(f"{lab}#lab", FIELDS, framework)
    data[5]  # what this process has opened must not be used by another
    sampler = RandomSampler(data, generator=torch.Generator().manual_seed(3))
    seen: list[tuple[int, int]] = []
    for batch in DataLoader(data, batch_size=32, sampler=sampler, num_workers=workers, multiprocessing_context=context):
        seen += numbers_of(batch)
    assert Counter(seen) == EVERYTHING
    assert seen != sorted(seen)


@pytest.mark.parametrize(("workers", "context"), PROCESSES[:2])
def test_a_distributed_sampler_shares_the_samples(lab: Path, workers: int, context: str | None) -> None:
    data = dataset(f"{lab}#lab", FIELDS)
    seen: Counter[tuple[int, int]] = Counter()
    for rank in range(3):
        sampler = DistributedSampler(data, num_replicas=3, rank=rank, seed=5, drop_last=False)
        for batch in DataLoader(data, batch_size=32, sampler=sampler, num_workers=workers, multiprocessing_context=context):
            seen.update(numbers_of(batch))
    assert sum(seen.values()) == -(-len(data) // 3) * 3  # the sampler repeats one sample: 314 are no multiple of 3
    assert set(seen) == set(EVERYTHING)


@pytest.mark.parametrize(("workers", "context"), PROCESSES[:2])
def test_a_stateful_data_loader_goes_on(lab: Path, workers: int, context: str | None) -> None:
    def made() -> Any:
        data = dataset(f"{lab}#lab", FIELDS)
        return StatefulDataLoader(
            data, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(1), num_workers=workers, multiprocessing_context=context
        )

    before, seen = made(), []
    for number, batch in enumerate(before):
        seen += numbers_of(batch)
        if number == 3:
            state = pickle.loads(pickle.dumps(before.state_dict()))
            break
    again = made()
    again.load_state_dict(state)
    for batch in again:
        seen += numbers_of(batch)
    assert Counter(seen) == EVERYTHING


def test_masks_of_bodies_of_unequal_width_collate(tmp_path: Path) -> None:
    numbered_store(tmp_path / "store", [Numbered(0, 3, front=False)], dataset="one")
    numbered_store(tmp_path / "store", [Numbered(1, 3, front=False, arms=2)], dataset="two")
    data = dataset(Mixture([f"{tmp_path}/store#one", f"{tmp_path}/store#two"]), {"action": Field(steps=[0, 1]), "task": Field()})
    (batch,) = DataLoader(data, batch_size=6)
    assert batch["action_mask"].tolist() == [[True, True, False, False]] * 3 + [[True] * 4] * 3
    assert batch["action"][4].tolist() == [[1, 1, 1, 1], [1, 2, 1, 2]]
    assert batch["dataset"].tolist() == [0, 0, 0, 1, 1, 1]
    assert batch["task"] == ["task 0"] * 3 + ["task 1"] * 3


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_numbers_slices_and_lists(lab: Path, framework: Any) -> None:
    data: MapDataset = pickle.loads(pickle.dumps(dataset(f"{lab}#lab", FIELDS, framework)))
    last = data[-1]
    assert last["state"][:2].tolist() == data[len(data) - 1]["state"][:2].tolist()
    assert int(last["step"]) in {steps - 1 for steps in LENGTHS}
    some = data[[7, 3, 7]]
    assert some["action"].shape == (3, 4, 2)
    assert some["step"].tolist() == [int(data[number]["step"]) for number in (7, 3, 7)]
    assert data[torch.tensor(3)]["step"] == data[np.int32(3)]["step"] == data[3]["step"]
    assert data[torch.tensor([7, 3])]["step"].tolist() == data[np.array([7, 3])]["step"].tolist() == some["step"][:2].tolist()
    with pytest.raises(IndexError, match="sample 314 of 314"):
        data[314]
    with pytest.raises(UsageError, match="give the weights to your sampler"):
        dataset(Mixture({f"{lab}#lab": 1.0}), FIELDS)


def test_a_sample_may_be_changed_and_kept(lab: Path) -> None:
    data = dataset(f"{lab}#lab", FIELDS)
    kept = data[10]
    kept["camera:primary"][:] = 0
    kept["state"] += 1
    assert data[10]["camera:primary"].any()
    assert data[10]["state"].tolist() == (kept["state"] - 1).tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_arrays_of_a_numpy_batch_are_the_users(lab: Path, workers: int) -> None:
    """They may be kept and written into: a block goes back to its worker when nobody looks at it any more."""
    expected = [batch["state"].copy() for batch in loader(f"{lab}#lab", FIELDS, 16, framework="numpy")]
    kept = []
    with loader(f"{lab}#lab", FIELDS, 16, framework="numpy", workers=workers, prefetch=1) as batches:
        for number, batch in enumerate(batches):
            assert np.array_equal(batch["state"], expected[number])
            assert batch["camera:primary"].flags.writeable
            batch["camera:primary"][:] = number
            batch["state"] += 1000
            kept.append(batch["camera:primary"][0, 0])  # a view alone keeps its block
    assert [np.unique(picture).tolist() for picture in kept] == [[number] for number in range(len(kept))]


@pytest.mark.parametrize("workers", [0, 1])
def test_whoever_holds_the_memory_keeps_it(lab: Path, workers: int) -> None:
    """As JAX does, which holds a buffer or a DLPack capsule of an array as long as a device reads it."""
    expected = [batch["state"].copy() for batch in loader(f"{lab}#lab", FIELDS, 16, framework="numpy")]
    held: list[Any] = []
    with loader(f"{lab}#lab", FIELDS, 16, framework="numpy", workers=workers, prefetch=1) as batches:
        for number, batch in enumerate(batches):
            arrays = {name: value for name, value in batch.items() if isinstance(value, np.ndarray)}
            assert set(batch) - set(arrays) == {"task", "epoch"}
            held.append(memoryview(arrays["state"]) if number % 2 else np.from_dlpack(arrays["state"]))
            del batch, arrays
    for state, should in zip(held, expected, strict=True):
        assert np.array_equal(np.asarray(state), should)
