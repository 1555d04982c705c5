"""From latent actions to real ones: a small network on frozen latents, with the heads of an inverse-dynamics model; LAPA's third stage (Ye et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field as Setting
from torch import Tensor, nn

from dataengine.core.action_spec import ActionSpec
from dataengine.core.arrays import Array
from dataengine.core.config import Config
from dataengine.models.action_heads import ActionHead, HeadConfig, heads_of
from dataengine.models.inverse_dynamics_fit import SETTLED, BodyTargets, Usual, shapes_of
from dataengine.models.latent_action import LatentActionModel, channels_first

PLACES = 2  # a side of a picture that its features are pooled to
FAINT = 0.2  # features enter so much fainter than latents: there are many of them, and with a few labels they would be learned by heart


class MappedConfig(Config):
    """How latents become actions.

    Attributes:
        latent: folder of the model of latent actions; what is made from it holds its weights too, and needs the folder no more.
        share: of the training episodes whose labels are used, each as a whole, chosen by hash.
        targets: "command", "displacement" or both.
        hidden: width of the layer beside the linear map from latents to heads; 0 for the linear map alone.
        features: let that layer see the first picture too, in the decoder's own features: what a gripper is told to do depends on what it holds.
        dropout: share of the layer that is left out in each training step, so that a few labels are told by the latents where those suffice.
        heads: how numbers, grippers and rotations are said.
    """

    latent: str = ""
    share: float = Setting(default=1.0, gt=0, le=1)
    targets: tuple[Literal["command", "displacement"], ...] = Setting(default=("command", "displacement"), min_length=1)
    hidden: int = Setting(default=64, ge=0)
    features: bool = True
    dropout: float = Setting(default=0.5, ge=0, lt=1)
    heads: HeadConfig = HeadConfig(numbers="mixture")


class RunningScale(nn.Module):
    """Scale channels by the mean and spread of all rows so far: with few labels a batch is too small to be scaled by its own."""

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(width, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Scale x (B, C)."""
        if self.training and float(self.count) < SETTLED:
            seen = x.detach().double()
            self.count += len(x)
            self.total += seen.sum(0)
            self.squares += seen.square().sum(0)
        mean = self.total / self.count.clamp(min=1)
        spread = (self.squares / self.count.clamp(min=1) - mean.square()).clamp(min=1e-8).sqrt()
        return ((x - mean) / spread).to(x)


class MappedModule(nn.Module):
    """A frozen model of latent actions, a small network, and heads for each body."""

    def __init__(self, config: MappedConfig, latent: LatentActionModel, bodies: Sequence[BodyTargets]) -> None:
        super().__init__()
        self.config = config
        self.latent = latent.requires_grad_(False).eval()
        width = latent.config.latent
        features = 3 * latent.config.decoder_width * PLACES**2 if config.features and config.hidden else 0
        self.scale = RunningScale(width + features)
        self.between = nn.Linear(width + features, config.hidden) if config.hidden else None
        self.bodies = nn.ModuleList(heads_of(width + config.hidden, shapes_of(body), config.heads) for body in bodies)
        self.usual = nn.ModuleList(Usual(len(body.displacement.dims) if body.displacement is not None else 0) for body in bodies)

    def train(self, mode: bool = True) -> MappedModule:
        """Go into training, all but what is frozen."""
        super().train(mode)
        self.latent.eval()
        return self

    def forward(self, clips: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return what the heads read (B, C) of clips (B, F, H, W, 3) in [0, 1]; in training what is left out comes from the generator."""
        width = self.latent.config.latent
        with torch.no_grad():
            latent, _ = self.latent.encode(clips)
            seen = [latent]
            if self.between is not None and self.config.features:
                maps = self.latent.decoder.trunk(channels_first(clips[:, 0]))[-1]
                seen.append(F.adaptive_avg_pool2d(maps, PLACES).flatten(1))
        scaled = self.scale(torch.cat(seen, dim=1))
        if self.between is None:
            return scaled
        hidden = F.silu(self.between(torch.cat([scaled[:, :width], FAINT * scaled[:, width:]], dim=1)))
        if self.training and self.config.dropout:
            kept = torch.rand(hidden.shape, generator=generator, device=hidden.device) >= self.config.dropout
            hidden = hidden * kept / (1 - self.config.dropout)
        return torch.cat([scaled[:, :width], hidden], dim=1)

    def head(self, body: int, target: str) -> ActionHead:
        """Return the head of a body's target."""
        found = self.bodies[body][target]
        assert isinstance(found, ActionHead)
        return found


class MappedFit:
    """What `fit` fits: the network between frozen latents and actions.

    Args:
        module: what is trained, on its device.
        bodies: what each body's targets are.
        body_of_dataset: number of the body of each dataset.
        labelled: (E,) bool by episode number, whether its labels may be used.
    """

    def __init__(self, module: MappedModule, bodies: Sequence[BodyTargets], body_of_dataset: Sequence[int], labelled: Array) -> None:
        self.module: nn.Module = module
        self.inner = module
        self._bodies, self._labelled = bodies, labelled
        self._body_of_dataset = np.array(list(body_of_dataset))

    def loss(self, batch: Mapping[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts."""
        inner = self.inner
        camera = inner.latent.config.camera
        there = (batch["weight"] > 0) & ~batch[f"{camera}_is_pad"].any(1)
        there = there & torch.from_numpy(self._labelled).to(there.device)[batch["episode"]]
        rows = torch.nonzero(there)[:, 0]
        if not len(rows):
            return torch.stack([value.sum() * 0 for value in inner.parameters() if value.requires_grad]).sum(), {}
        read = self.module(batch[camera][rows].float() / 255, generator)
        body = self._body_of_dataset[batch["dataset"][rows].cpu().numpy()]
        found: dict[str, list[Tensor]] = {}
        for number in sorted(set(body.tolist())):
            mine = torch.from_numpy(np.flatnonzero(body == number)).to(rows.device)
            for target in inner.bodies[number]:
                spec, values, known = self._target(number, target, batch, rows[mine])
                told = spec.predicted(np.where(known[:, None], values, spec.blank()))
                head = inner.head(number, target)
                scaled, classes, rotations = (
                    torch.from_numpy(np.ascontiguousarray(each)).to(rows.device) for each in (told.scaled, told.classes, told.rotations)
                )
                losses = head.loss(head(read[mine]), scaled.float(), classes, rotations.float(), torch.from_numpy(known).to(rows.device))
                for sort, value in losses.items():
                    found.setdefault(f"{target}_{sort}", []).append(value * len(mine) / len(rows))
        figures = {name: torch.stack(values).sum() for name, values in found.items()}
        return torch.stack(list(figures.values())).sum(), figures

    def _target(self, number: int, target: str, batch: Mapping[str, Any], rows: Tensor) -> tuple[ActionSpec, Array, Array]:
        """Return how a target is predicted, its numbers (n, D), and (n,) bool where they are known."""
        body = self._bodies[number]
        if target == "command":
            assert body.command is not None
            values, there = _numbers(batch, "action", rows, body.command.width)
            return body.command, values[:, 0], there[:, 0] & body.command.usable(values[:, 0])
        assert body.displacement is not None
        width = len(body.displacement.plain) + sum(len(rotation.entries) for rotation in body.displacement.rotations)
        states, there = _numbers(batch, "state", rows, width)
        values = body.displacement.between(states[:, 0], states[:, 1])
        known: Array = np.asarray(there.all(axis=1) & np.isfinite(values).all(axis=1))
        usual = self.inner.usual[number]
        assert isinstance(usual, Usual)
        if self.inner.training:
            usual.see(values[known])
        return usual.spec(body), values, known


def _numbers(batch: Mapping[str, Any], name: str, rows: Tensor, width: int) -> tuple[Array, Array]:
    """Return the numbers (n, K, width) of a field as float64, and (n, K) bool where there are some."""
    values = batch[name][rows].cpu().numpy().astype(np.float64)
    known = ~batch[f"{name}_is_pad"][rows].cpu().numpy()
    if f"{name}_mask" in batch:
        known = known & batch[f"{name}_mask"][rows].cpu().numpy().reshape(len(rows), -1)[:, :width].all(axis=1)[:, None]
    return values.reshape(*values.shape[:2], -1)[..., :width], known
