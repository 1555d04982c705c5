"""What a worker of Ray Train runs in a test: it reads a numbered store, says what it saw, and fails once after a checkpoint."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from dataengine.loaders import Field, Shuffle
from pipelines.ray_loaders import train_loader

FIELDS = {"state": Field(), "camera:primary": Field()}
OPTIONS: dict[str, Any] = {"batch_size": 8, "seed": 7, "shuffle": Shuffle(clip_steps=20, spread=8, lanes=12, groups=4), "framework": "numpy"}
CHECKPOINT_AT = 4


def train(config: dict[str, Any]) -> None:
    """Read an epoch; the first attempt reports a checkpoint after some batches, reads on and fails."""
    import ray.train

    context = ray.train.get_context()
    checkpoint = ray.train.get_checkpoint()
    batches = train_loader(config["address"], FIELDS, workers=1, **OPTIONS)
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            batches.load_state_dict(json.loads(Path(folder, "loader.json").read_text()))
    seen = []
    for number, batch in enumerate(batches, start=1):
        seen += [[int(value) for value in row[:2]] for row, weight in zip(batch["state"], batch["weight"], strict=True) if weight]
        if number == CHECKPOINT_AT and checkpoint is None:
            _write(config, "before", context, seen)
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "loader.json").write_text(json.dumps(batches.state_dict()))
                first = context.get_world_rank() == 0
                ray.train.report({"seen": len(seen)}, checkpoint=ray.train.Checkpoint.from_directory(folder) if first else None)
        if number == CHECKPOINT_AT + 2 and checkpoint is None:
            raise RuntimeError("the machine is gone")
    _write(config, "after", context, seen)
    batches.close()


def _write(config: dict[str, Any], name: str, context: Any, seen: list[list[int]]) -> None:
    path = Path(config["folder"], f"{name}-{context.get_world_rank()}-of-{context.get_world_size()}.json")
    path.write_text(json.dumps(seen))
