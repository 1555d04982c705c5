"""A small labeller with a network in it: it finds the square of the moving-square world, so that a label that stands at the wrong step is seen at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.digest import digest_json
from dataengine.core.labelling import Needs, Watched
from dataengine.core.labels import Labels, LabelSet
from dataengine.labels.registry import Method
from dataengine.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

KIND = "square"
WINDOW_S = (-0.05, 0.0, 0.1)
CENTRE = Column("centre", dtype="float32", shape=(2,), dims=("x", "y"), unit="px", doc="where the square is")
MOVE = Column("move", dtype="float32", shape=(4,), meaning="action", action_source="idm", doc="what an untrained network says of a window")
NEEDS = Needs(("camera:primary",), (64, 64), columns=("state",), before_s=0.05, after_s=0.1)
TRAINED_ON = f"{'7' * 32}@3"


def network(width: int = 8) -> Any:
    """Return a convolutional network over a window of pictures."""
    import torch
    from torch import nn

    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(9, width, 5, 2), nn.GELU(), nn.Conv2d(width, 2 * width, 3, 2), nn.GELU(), nn.Flatten(), nn.LazyLinear(4))


def save_square_model(folder: Path, width: int = 8) -> Path:
    """Write the model into a folder."""
    import torch

    module = network(width)
    module(torch.zeros(1, 9, 64, 64))
    save_checkpoint(folder, Checkpoint(KIND, {"width": width, "window_s": list(WINDOW_S)}, module.state_dict(), {"trained_on": TRAINED_ON}))
    return folder


@dataclass
class SquareLabeller:
    """Answers with the centre of what is bright, and with what a network says of the window."""

    module: Any
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = NEEDS

    def label_set(self, name: str) -> LabelSet:
        """Say what the labels have in common."""
        return LabelSet(name, self.model, TRAINED_ON, digest_json(["size", 64, 64]), {"window_s": list(WINDOW_S)})

    def inputs(self, part: Watched, steps: Array) -> dict[str, Array]:
        """Return windows of pictures, (n, 3, 64, 64, 3) uint8."""
        near, _ = part.near(steps, WINDOW_S)
        pictures = part.pictures["camera:primary"]
        if self.options.get("odd") == part.episode_id:
            raise ValueError("this episode is odd")
        if self.options.get("deadly") == part.episode_id:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"pictures": pictures[near]}

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return centres (n, 2) and moves (n, 4)."""
        import torch

        if delay_s := float(self.options.get("delay_s", 0)):
            time.sleep(delay_s * (1 + os.getpid() % 3))  # processes differ in how fast they are
        pictures = torch.from_numpy(inputs["pictures"]).to(torch.float32) / 255  # (n, 3, H, W, 3)
        now = pictures[:, 1].mean(-1) - 30 / 255  # (n, H, W), 0 beside the square
        there = now.clamp(min=0)
        at = torch.arange(64, dtype=torch.float32)
        whole = there.sum((1, 2))
        centre = torch.stack([(there.sum(1) * at).sum(1) / whole, (there.sum(2) * at).sum(1) / whole], 1)
        windows = pictures.permute(0, 1, 4, 2, 3).flatten(1, 2)  # (n, 9, H, W)
        with torch.inference_mode():
            return {"centre": centre.numpy(), "move": self.module(windows).numpy()}

    def labels(self, episode: Watched, answers: Mapping[str, Array]) -> Labels:
        """Return labels whose confidence falls with the distance from the middle; the last step has no move."""
        centre, move = answers["centre"], answers["move"]
        away = np.linalg.norm(centre - 31.5, axis=1) / 32
        confidence = np.clip(1 - away, 0, 1).astype(np.float32)
        last = np.arange(episode.steps) < episode.steps - 1
        return Labels(
            {"centre": centre, "move": move},
            {"centre": CENTRE, "move": MOVE},
            {"move": last},
            {"centre": centre - 1},
            {"centre": centre + 1},
            {"centre": confidence},
        )


def open_square(checkpoint: Checkpoint, device: str, options: Mapping[str, Any]) -> SquareLabeller:
    """Open the model."""
    import torch

    module = network(int(checkpoint.config["width"]))
    module(torch.zeros(1, 9, 64, 64))
    checkpoint.load_into(module)
    return SquareLabeller(module.eval(), checkpoint.digest, options)


SQUARE = Method(open_square, options=("deadly", "delay_s", "odd"))


def opened(folder: Path, **options: Any) -> SquareLabeller:
    """Open the model of a folder in this process."""
    return open_square(load_checkpoint(folder), "cpu", options)
