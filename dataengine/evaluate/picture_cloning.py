"""Behaviour cloning from pictures: a small convolutional network over the cameras' pictures, with the body's own numbers beside them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.evaluate.behaviour_cloning import CloningConfig, InputSpec, Levels, Rows, Scale, command, fit_rows
from dataengine.transforms.resizing import resized_into

CHANNELS = (16, 32, 48, 64)
SHIFT = 3  # px of random shift while it learns, by which a few demonstrations are not learned by heart


def stacked(pictures: Mapping[str, Array], cameras: tuple[str, ...]) -> Array:
    """Return (N, H, W, 3 c): the pictures of c cameras behind each other."""
    return np.concatenate([pictures[camera] for camera in cameras], axis=3)


@dataclass(frozen=True, eq=False)
class PicturePolicy:
    """A cloned network that sees pictures brought to `size`, as torch's module."""

    module: Any
    spec: InputSpec
    inputs: Scale
    actions: Scale
    levels: Levels | None
    cameras: tuple[str, ...]
    size: tuple[int, int]

    @property
    def sees_pictures(self) -> bool:
        """Return True."""
        return True

    def act(self, values: Mapping[str, Array], pictures: Mapping[str, Array], task: str) -> Array:
        """Return the command (A,)."""
        import torch

        seen = np.zeros((1, *self.size, 3 * len(self.cameras)), np.uint8)
        for at, camera in enumerate(self.cameras):
            one = np.zeros((*self.size, 3), np.uint8)
            resized_into(np.ascontiguousarray(pictures[camera]), one, "stretch")
            seen[0, :, :, 3 * at : 3 * at + 3] = one
        numbers = self.inputs.normal(_numbers(self.spec, values, task))
        with torch.inference_mode():
            answers = self.module((torch.from_numpy(seen), torch.from_numpy(numbers))).numpy()
        return np.asarray(command(answers, self.actions, self.levels)[0])


def _numbers(spec: InputSpec, values: Mapping[str, Array], task: str) -> Array:
    if not spec.columns and len(spec.tasks) < 2:
        return np.zeros((1, 1), np.float32)
    number = spec.tasks.index(task) if task in spec.tasks else -1
    return spec.rows({name: np.asarray(values[name])[None] for name in spec.columns}, np.asarray([number]))


def clone_pictures(
    rows: Rows,
    spec: InputSpec,
    inputs: Scale,
    actions: Scale,
    levels: Levels | None,
    config: CloningConfig,
    seed: int,
    cameras: tuple[str, ...],
    size: tuple[int, int],
) -> PicturePolicy:
    """Clone a policy that sees pictures; the arguments are those of `clone_state`, and the cameras whose pictures `rows.pictures` holds."""
    import torch

    assert rows.pictures is not None
    levels = levels if config.gripper == "class" else None
    generator = torch.Generator().manual_seed(seed)
    outputs = rows.actions.shape[1] + (len(levels.values) if levels is not None else 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _network(3 * len(cameras), rows.inputs.shape[1], outputs, config.hidden[-1], size)
    pictures, numbers = torch.from_numpy(rows.pictures), torch.from_numpy(inputs.normal(rows.inputs))

    def see(chosen: Any) -> Any:
        across, down = (int(torch.randint(-SHIFT, SHIFT + 1, (), generator=generator)) for _ in range(2))
        return torch.roll(pictures[chosen], (down, across), (1, 2)), numbers[chosen]

    fit_rows(module, see, rows, actions, levels, config, generator)
    return PicturePolicy(module, spec, inputs, actions, levels, cameras, size)


def _network(channels: int, numbers: int, outputs: int, width: int, size: tuple[int, int]) -> Any:
    import torch
    from torch import nn

    class Seeing(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            sizes = [channels, *CHANNELS]
            convolutions = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.ReLU()) for a, b in itertools.pairwise(sizes)]
            self.pictures = nn.Sequential(*convolutions, nn.Flatten())
            with torch.no_grad():
                length = self.pictures(torch.zeros(1, channels, *size)).shape[1]
            self.joined = nn.Sequential(nn.Linear(length + numbers, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))

        def forward(self, seen: tuple[Any, Any]) -> Any:
            pictures = seen[0].permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3 c, H, W)
            return self.joined(torch.cat([self.pictures(pictures), seen[1]], dim=1))

    return Seeing()
