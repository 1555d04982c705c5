from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from dataengine.transforms.chain import Chain
from dataengine.transforms.fast_tokens import FastActionTokens, train_fast_tokens
from dataengine.transforms.images import CentreCrop, ColourJitter, RandomCrop, Resize, ToFloat
from dataengine.transforms.relative import DeltaActions, PoseEntries
from dataengine.transforms.rotations import ConvertRotation
from dataengine.transforms.tokens import UniformTokens

cv2.setNumThreads(1)


@dataclass(frozen=True)
class Plus:
    """Adds to the action."""

    number: float

    @property
    def inverse(self) -> Plus:
        return Plus(-self.number)

    def __call__(self, batch: Any) -> dict[str, Any]:
        return {**batch, "action": batch["action"] + self.number}


@dataclass(frozen=True)
class Times:
    """Multiplies the action."""

    number: float

    @property
    def inverse(self) -> Times:
        return Times(1 / self.number)

    def __call__(self, batch: Any) -> dict[str, Any]:
        return {**batch, "action": batch["action"] * self.number}


def drop_task(batch: Any) -> dict[str, Any]:
    """A plain function is a transform too; it has no way back."""
    return {name: value for name, value in batch.items() if name != "task"}


def test_in_order_and_back_last_first() -> None:
    chain = Chain((Plus(3), drop_task, Times(2)))
    batch = {"action": np.array([1.0, 5.0]), "task": ["a"]}
    done = chain(batch)
    assert {name: value.tolist() for name, value in done.items()} == {"action": [8, 16]}
    assert chain.inverse == Chain((Times(0.5), Plus(-3)))
    assert chain.inverse(done)["action"].tolist() == [1, 5]
    assert batch["action"].tolist() == [1, 5]
    assert Chain(())(batch) == batch
    assert Chain(())(batch) is not batch
    assert Chain((chain, Plus(1))).inverse(Chain((chain, Plus(1)))(batch))["action"].tolist() == [1, 5]


def everything() -> tuple[dict[str, Any], Chain]:
    """Return a batch as the loader makes it, of arrays that cannot be written, and a chain of all transforms."""
    rng = np.random.default_rng(3)
    batch = {
        "camera:primary": rng.integers(0, 256, (5, 2, 40, 48, 3), dtype=np.uint8),
        "camera:primary_is_pad": np.zeros((5, 2), bool),
        "camera:wrist": rng.integers(0, 256, (5, 30, 30, 3), dtype=np.uint8),
        "action": rng.uniform(-1, 1, (5, 16, 7)).astype(np.float32),
        "action_is_pad": np.arange(16) >= np.array([16, 16, 12, 3, 16])[:, None],
        "action_mask": np.ones((5, 7), bool),
        "state": rng.uniform(-1, 1, (5, 7)).astype(np.float32),
        "sample": np.arange(5) * 1000,
        "epoch": np.int64(3),
        "weight": np.ones(5, np.float32),
    }
    for value in batch.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    pose = PoseEntries(position=(0, 1, 2), rotation=(3, 4, 5, 6, 7, 8), kind="rot6d", state_rotation=(3, 4, 5), state_kind="rotvec")
    before = (
        Resize((32, 36), "crop"),
        RandomCrop((32, 36), pad=3, seed=1),
        RandomCrop((30, 30), seed=2),
        CentreCrop((28, 28)),
        ColourJitter(0.2, 0.2, 0.2, 0.05),
        ToFloat(channels="first"),
        ConvertRotation("action", 3, "rotvec", "rot6d"),
        DeltaActions(poses=(pose,)),
    )
    chunks = Chain(before)(batch)["action"]
    tokens = FastActionTokens(train_fast_tokens(chunks, 900, 20))
    bins = UniformTokens((-3,) * 10, (3,) * 10, into="bins")
    return {**batch, "task": ["a"] * 5}, Chain((*before, bins, tokens))


def test_all_of_them_write_into_nothing_and_come_back() -> None:
    batch, chain = everything()
    done = chain(batch)
    assert done["camera:primary"].shape == (5, 2, 3, 28, 28)
    assert done["camera:wrist"].shape == (5, 3, 28, 28)
    assert done["bins"].shape == (5, 16, 10)
    assert done["task"] is batch["task"]
    policy = {"action_tokens": done["action_tokens"], "bins": done["bins"], "state": batch["state"]}
    back = chain.inverse(policy)["action"]
    there = ~batch["action_is_pad"]
    position = np.abs(back - batch["action"])[there][:, :3]
    assert position.max() < 0.05 + 2 * 3 / 256  # of bins, which the chain decodes last, half of one; turned with the hand: times sqrt 3
    assert pickle.loads(pickle.dumps(chain)) == chain
    assert hash(chain) == hash(pickle.loads(pickle.dumps(chain)))


def test_the_same_whatever_the_batch() -> None:
    batch, chain = everything()
    whole = chain(batch)
    some = chain({name: value[2:4] if np.ndim(value) else value for name, value in batch.items()})
    for name in ("camera:primary", "camera:wrist", "action", "bins"):
        assert np.array_equal(some[name], whole[name][2:4]), name
