"""Read training samples with LeRobot, map-style or streaming, in its default output: run by `dataengine bench load --peers`."""

import os
from pathlib import Path
from typing import Any

import torch
from lerobot_environment import prepare
from measure import answer, asked, measure


def opener(spec: dict[str, Any]) -> Any:
    """Return a function that opens what is to be measured: the dataset and a DataLoader over it."""
    from lerobot.datasets import lerobot_dataset, streaming_dataset, video_utils
    from torch.utils.data import DataLoader

    chunk = {"action": [step / spec["rate_hz"] for step in range(spec["horizon"])]}
    workers = {"num_workers": spec["workers"], "persistent_workers": spec["workers"] > 0}
    # Its version 0.6 can hand out uint8.
    extra = {"return_uint8": True} if spec.get("uint8") else {}

    def open_map() -> Any:
        dataset = lerobot_dataset.LeRobotDataset("bench/load", root=spec["out"], delta_timestamps=chunk, **extra)
        # Decoders that were opened before a fork break in the workers.
        video_utils._default_decoder_cache.clear()
        return DataLoader(dataset, batch_size=spec["batch"], shuffle=True, **workers)

    def open_stream() -> Any:
        dataset = streaming_dataset.StreamingLeRobotDataset("bench/load", root=spec["out"], delta_timestamps=chunk, **extra)
        return DataLoader(dataset, batch_size=spec["batch"], **workers)

    return {"map": open_map, "stream": open_stream}[spec["way"]]


def main() -> None:
    """Print what `measure` returns."""
    spec = asked()
    os.environ.setdefault("HF_HOME", str(Path(spec["out"]).parent / "hub"))
    prepare()
    torch.manual_seed(0)
    answer(measure(opener(spec), lambda batch: len(batch["observation.state"]), spec["warmup"], spec["batches"], spec["seconds"]))


if __name__ == "__main__":
    main()
