"""What is fitted when a model of inverse dynamics is trained: targets out of a batch, their losses, and what a displacement usually is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dataengine.core.action_spec import ActionSpec
from dataengine.core.arrays import Array
from dataengine.core.displacement import Displacement
from dataengine.models.action_heads import TargetShape
from dataengine.models.augmentation import jittered, moved
from dataengine.models.inverse_dynamics import InverseDynamics, InverseDynamicsConfig

SETTLED = 4000  # displacements; what is usual is known well enough by then, and stays


@dataclass(frozen=True, eq=False)
class BodyTargets:
    """What is learned of a body: how its command is predicted and what its displacement is made of, None where it has none."""

    command: ActionSpec | None
    displacement: Displacement | None


def shapes_of(body: BodyTargets) -> dict[str, TargetShape]:
    """Return what the heads of a body predict."""
    found = {}
    if body.command is not None:
        turns = tuple(part.spread[0] for part in body.command.of_kind("rotation"))
        found["command"] = TargetShape(len(body.command.scaled_entries), body.command.level_counts, turns)
    if body.displacement is not None:
        found["displacement"] = TargetShape(len(body.displacement.dims))
    return found


class Usual(nn.Module):
    """Mean, spread and bounds of the displacements of a body, from the first that are trained on: statistics of a dataset do not tell how far a state moves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("low", torch.full((width,), torch.inf, dtype=torch.float64))
        self.register_buffer("high", torch.full((width,), -torch.inf, dtype=torch.float64))

    def see(self, rows: Array) -> None:
        """Take displacements (n, D) into account; the bounds of all, the rest of the first ones."""
        if not len(rows):
            return
        seen = torch.from_numpy(rows).to(self.low)
        self.low.copy_(torch.minimum(self.low, seen.amin(0)))
        self.high.copy_(torch.maximum(self.high, seen.amax(0)))
        if float(self.count) < SETTLED:
            self.count += len(rows)
            self.total += seen.sum(0)
            self.squares += seen.square().sum(0)

    def spec(self, body: BodyTargets) -> ActionSpec:
        """Return how the displacement of a body is predicted; of one that was never seen, as if all were 0."""
        assert body.displacement is not None
        count = max(float(self.count), 1.0)
        mean = self.total.cpu().numpy() / count
        std = np.sqrt(np.maximum(self.squares.cpu().numpy() / count - mean**2, 0))
        low, high = (each.cpu().numpy() for each in (self.low, self.high))
        return body.displacement.spec(mean, std, np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0))


class IdmModule(nn.Module):
    """The network, and what displacements of each body are usual."""

    def __init__(self, config: InverseDynamicsConfig, bodies: Sequence[BodyTargets]) -> None:
        super().__init__()
        self.network = InverseDynamics(config, [shapes_of(body) for body in bodies])
        self.usual = nn.ModuleDict({str(number): Usual(len(body.displacement.dims)) for number, body in enumerate(bodies) if body.displacement is not None})

    def forward(self, clips: Tensor, there: Tensor, body: Tensor) -> Any:
        return self.network(clips, there, body)


class FittedIdm:
    """A model of inverse dynamics while it is fitted: see `dataengine.models.fit.Fitted`."""

    def __init__(self, config: InverseDynamicsConfig, bodies: Sequence[BodyTargets], body_of_dataset: Sequence[int], device: str) -> None:
        self.module: nn.Module = IdmModule(config, bodies).to(device)
        self.inner: Any = self.module  # the same, also where `module` is wrapped in one that trains together with others
        self._config, self._bodies = config, bodies
        self._body_of_dataset = torch.tensor(list(body_of_dataset), device=device)

    def loss(self, batch: Mapping[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts."""
        config = self._config
        clips, there = clips_of(batch, config)
        flat = clips.flatten(0, 1)  # (B V, T, H, W, 3)
        flat = jittered(moved(flat, config.augment, generator).float() / 255, config.augment, generator)
        body = self._body_of_dataset[batch["dataset"]]
        spoken = self.module(flat.unflatten(0, clips.shape[:2]), there, body)
        seen = seen_transitions(there).cpu().numpy()
        parts: dict[str, list[Tensor]] = {}
        for each in spoken:
            number = int(body[each.rows[0]])
            share = len(each.rows) / len(body)
            for target, said in each.said.items():
                spec, values, known = self._targets(number, target, batch, each.rows)
                known &= seen[each.rows.cpu().numpy()]
                for sort, value in self._losses(number, target, spec, said, values, known).items():
                    weight = config.displacement_weight if target == "displacement" else 1.0
                    weight *= config.gripper_weight if sort == "grippers" else 1.0
                    parts.setdefault(f"{target}_{sort}", []).append(share * weight * value)
        figures = {name: torch.stack(values).sum() for name, values in parts.items()}
        return torch.stack(list(figures.values())).sum(), figures

    def _losses(self, number: int, target: str, spec: ActionSpec, said: tuple[Tensor, Tensor, Tensor], values: Array, known: Array) -> dict[str, Tensor]:
        head = self.inner.network.bodies[number][target]
        device = said[0].device
        told = spec.predicted(np.where(known[..., None], values, spec.blank()))
        flat = tuple(part.flatten(0, 1) for part in said)
        scaled, classes, rotations = (
            torch.from_numpy(np.ascontiguousarray(each)).flatten(0, 1).to(device) for each in (told.scaled, told.classes, told.rotations)
        )
        found: dict[str, Tensor] = head.loss(flat, scaled.float(), classes, rotations.float(), torch.from_numpy(known).flatten().to(device))
        if target == "displacement" and self._config.smoothness and said[0].shape[1] > 1:
            change = head.read(said).value.diff(dim=1)
            found["smoothness"] = self._config.smoothness * change.square().mean()
        return found

    def _targets(self, number: int, target: str, batch: Mapping[str, Any], rows: Tensor) -> tuple[ActionSpec, Array, Array]:
        """Return the spec of a target, its numbers (n, K, D) and (n, K) bool where they are known."""
        body = self._bodies[number]
        weight = batch["weight"][rows].cpu().numpy() > 0
        transitions = len(self._config.transitions)
        if target == "command":
            assert body.command is not None
            values, known = _field(batch, "action", rows, body.command.width)
            return body.command, values, known & body.command.usable(values) & weight[:, None]
        assert body.displacement is not None
        states, there = _field(batch, "state", rows, _state_width(body))
        values = body.displacement.between(states[:, :transitions], states[:, 1 : transitions + 1])
        known = there[:, :transitions] & there[:, 1 : transitions + 1] & np.isfinite(values).all(axis=-1) & weight[:, None]
        usual: Usual = self.inner.usual[str(number)]
        if self.inner.training:
            usual.see(values[known])
        return usual.spec(body), values, known


def _state_width(body: BodyTargets) -> int:
    assert body.displacement is not None
    return len(body.displacement.plain) + sum(len(rotation.entries) for rotation in body.displacement.rotations)


def _field(batch: Mapping[str, Any], name: str, rows: Tensor, width: int) -> tuple[Array, Array]:
    """Return the numbers (n, K, width) of a field as float64, and (n, K) bool where there are some."""
    values = batch[name][rows].cpu().numpy().astype(np.float64)
    values = values.reshape(*values.shape[:2], -1)[..., :width]
    known = ~batch[f"{name}_is_pad"][rows].cpu().numpy()
    if f"{name}_mask" in batch:
        known = known & batch[f"{name}_mask"][rows].cpu().numpy().reshape(len(rows), -1)[:, :width].all(axis=-1)[:, None]
    return values, known


def seen_transitions(there: Tensor) -> Tensor:
    """Return (B, K) bool, whether a camera shows a transition from its first frame to its second, or the frame where a window has but one, given `there` (B, V, T)."""
    return (there[:, :, :-1] & there[:, :, 1:]).any(dim=1) if there.shape[2] > 1 else there.any(dim=1)


def clips_of(batch: Mapping[str, Any], config: InverseDynamicsConfig) -> tuple[Tensor, Tensor]:
    """Return the pictures (B, V, T, H, W, 3) uint8 of a batch, and (B, V, T) bool where there are some."""
    clips = torch.stack([batch[camera] for camera in config.cameras], dim=1)
    return clips, ~torch.stack([batch[f"{camera}_is_pad"] for camera in config.cameras], dim=1)
