"""Inverse dynamics: which action was taken between the frames of a window, from frames before and after it.

A window holds T frames at even distances in time. Every transition from one to the next has a query token beside the tokens of its first frame; blocks of attention
over space and time, in both directions, let it see all frames, and heads of each body say what was commanded and what was achieved. With a window of one frame it is
the model that sees only the present: what it scores is what can be guessed without motion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field as Setting
from torch import Tensor, nn

from dataengine.core.config import Config
from dataengine.core.errors import UsageError
from dataengine.models.action_heads import ActionHead, HeadConfig, TargetShape
from dataengine.models.augmentation import AugmentConfig
from dataengine.models.blocks import Norm, SpaceTimeTransformer
from dataengine.models.tokenizers import TokenizerConfig, tokenizer_of

Target = Literal["command", "displacement"]
TARGETS: tuple[Target, ...] = ("command", "displacement")


class InverseDynamicsConfig(Config):
    """A model of inverse dynamics.

    Attributes:
        cameras: columns or roles of the pictures; of a dataset that lacks one, what it shows is taken as not there.
        size: (height, width) of the pictures in px, and `fit` how they are brought to it.
        gap_s: time between two frames of the window in s: a control period, or several.
        before_s, after_s: how far the window reaches before and after the step that is labelled, in s; both 0 for a model of one frame.
        width, depth, heads: of the blocks.
        whole: give each transition, beside what the blocks say, what two layers make of all tokens of the window together. With few tokens and few data it finds
            much that attention would have to learn: an action is nearly a linear function of the motion around it.
        targets: "command", the action column; "displacement", the change of the state over a gap.
        displacement_weight: of its loss beside that of the command.
        gripper_weight: of the loss of grippers beside that of numbers, whose gradients are much the larger once they are known well.
        smoothness: weight of the squared change of the displacement from one transition to the next; 0 for none.
    """

    cameras: tuple[str, ...] = ("camera:primary",)
    size: tuple[int, int] = (64, 64)
    fit: Literal["stretch", "pad", "crop"] = "stretch"
    gap_s: float = Setting(default=0.05, gt=0)
    before_s: float = Setting(default=0.1, ge=0)
    after_s: float = Setting(default=0.2, ge=0)
    width: int = Setting(default=96, ge=8)
    depth: int = Setting(default=1, ge=1)
    heads: int = Setting(default=4, ge=1)
    whole: bool = True
    tokenizer: TokenizerConfig = TokenizerConfig()
    head: HeadConfig = HeadConfig()
    augment: AugmentConfig = AugmentConfig()
    targets: tuple[Target, ...] = TARGETS
    displacement_weight: float = Setting(default=1.0, ge=0)
    gripper_weight: float = Setting(default=16.0, ge=0)
    smoothness: float = Setting(default=0.0, ge=0)

    @property
    def frames(self) -> tuple[int, ...]:
        """Return the places of the frames, in gaps from the step that is labelled."""
        return tuple(range(-round(self.before_s / self.gap_s), round(self.after_s / self.gap_s) + 1))

    @property
    def transitions(self) -> tuple[int, ...]:
        """Return the places at which the transitions begin: all frames but the last, or the only one."""
        return self.frames[:-1] or self.frames


# What E.4 of the project's notes on models plans; the numbers of parameters are those with one body of 4 + 4 dimensions.
SCALES: dict[str, Mapping[str, Any]] = {
    "tiny": {"augment": {"shift": 0.03, "saturation": 0.0}},
    "single_frame": {"before_s": 0.0, "after_s": 0.0, "tokenizer": {"differences": False, "flow": []}},
    "small": {
        "width": 256,
        "depth": 6,
        "heads": 8,
        "whole": False,
        "size": [128, 128],
        "tokenizer": {"channels": [64, 128, 128], "strides": [8, 1, 2], "flow": [1, 2, 4], "readout": "grid"},
    },
    "base": {"width": 512, "depth": 12, "heads": 8, "whole": False, "size": [224, 224], "tokenizer": {"kind": "patch", "patch": 16, "depth": 4}},
    "large": {"width": 1024, "depth": 16, "heads": 16, "whole": False, "size": [224, 224], "tokenizer": {"kind": "patch", "patch": 14, "depth": 6}},
}


@dataclass(frozen=True, eq=False)
class Spoken:
    """What the heads of one body say of the rows (n, K) of a batch that are of it; by target, before it is read."""

    rows: Tensor
    said: Mapping[str, tuple[Tensor, Tensor, Tensor]]


class InverseDynamics(nn.Module):
    """Frames of a window into what was commanded and achieved at each of its transitions.

    `bodies` has for each body the shapes of its targets by name; a body is known by its place.
    """

    def __init__(self, config: InverseDynamicsConfig, bodies: Sequence[Mapping[str, TargetShape]]) -> None:
        super().__init__()
        if config.width % config.heads or (config.width // config.heads) % 2:
            raise UsageError(f"model: width must be heads times an even number, got {config.width} and {config.heads}")
        self.config = config
        self.tokenizer = tokenizer_of(config.tokenizer, config.width, config.size, config.heads)
        self.view = nn.Parameter(0.02 * torch.randn(len(config.cameras), config.width))
        self.absent = nn.Parameter(0.02 * torch.randn(config.width))
        self.query = nn.Parameter(0.02 * torch.randn(config.width))
        tokens = len(config.cameras) * int(self.tokenizer.tokens)
        self.pair = nn.Linear(2 * config.width, config.width) if len(config.frames) > 1 else None
        self.whole = WholeWindow(len(config.frames) * tokens, len(config.transitions), config.width) if config.whole else None
        self.blocks = SpaceTimeTransformer(config.width, config.depth, config.heads)
        self.bodies = nn.ModuleList(nn.ModuleDict({name: ActionHead(config.width, shape, config.head) for name, shape in shapes.items()}) for shapes in bodies)

    def forward(self, clips: Tensor, there: Tensor, body: Tensor) -> list[Spoken]:
        """Return what is said of each transition.

        Args:
            clips: (B, V, T, H, W, 3) in [0, 1], one for each camera.
            there: (B, V, T) bool, False where a frame is missing.
            body: (B,) int64, whose heads speak.
        """
        x = self.encoded(clips, there)
        return [
            Spoken(rows, {name: head(x[rows]) for name, head in self.bodies[number].items()})
            for number in range(len(self.bodies))
            if len(rows := torch.nonzero(body == number)[:, 0])
        ]

    def encoded(self, clips: Tensor, there: Tensor) -> Tensor:
        """Return the tokens (B, K, C) of the transitions."""
        batch, views, frames = there.shape
        tokens = self.tokenizer(clips.flatten(0, 1), there.flatten(0, 1)).unflatten(0, (batch, views))  # (B, V, T, S, C)
        tokens = torch.where(there[..., None, None], tokens, self.absent) + self.view[:, None, None, :]
        tokens = tokens.transpose(1, 2).flatten(2, 3)  # (B, T, V S, C)
        query = self.query.expand(batch, frames, 1, -1)
        if self.pair is not None:
            whole = tokens.mean(dim=2)
            after = torch.cat([whole[:, 1:], whole[:, -1:]], dim=1)
            query = query + self.pair(torch.cat([whole, after - whole], dim=-1))[:, :, None]
        places = torch.tensor(self.config.frames, device=clips.device, dtype=torch.float32)
        found = self.blocks(torch.cat([tokens, query], dim=2), positions=places - places[0])[:, : len(self.config.transitions), -1]
        return found if self.whole is None else found + self.whole(tokens)


class WholeWindow(nn.Module):
    """All tokens of a window into one for each transition, through a narrow layer, half of it linear."""

    def __init__(self, tokens: int, transitions: int, width: int) -> None:
        super().__init__()
        self.norm = Norm(tokens * width)
        self.inner, self.outer = nn.Linear(tokens * width, 2 * width), nn.Linear(4 * width, transitions * width)
        self.transitions = transitions

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, K, C) of tokens (B, T, S, C)."""
        x = self.inner(self.norm(tokens.flatten(1)))
        return self.outer(torch.cat([x, torch.nn.functional.silu(x)], dim=-1)).unflatten(-1, (self.transitions, -1))
