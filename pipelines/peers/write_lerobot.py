"""Write steps as a LeRobot dataset in its default settings: run by `dataengine bench ingest --peers` in the `lerobot` environment."""

import json
import resource
import sys
import time

import numpy as np
import torch

# The CPU torch has no torchvision operators; their schemas must exist before torchvision is imported.
_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    """Usage: write_lerobot.py STEPS.npz OUT_FOLDER; prints {"steps", "cpu_s", "wall_s"}."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    torch.set_num_threads(1)
    steps = dict(np.load(sys.argv[1]))
    cameras = [key for key, values in steps.items() if values.ndim == 4]
    features = {f"observation.images.{key}": {"dtype": "video", "shape": steps[key].shape[1:], "names": ["height", "width", "channels"]} for key in cameras}
    features["action"] = {"dtype": "float32", "shape": steps["action"].shape[1:], "names": None}
    dataset = LeRobotDataset.create("bench/rlds", fps=10, features=features, root=sys.argv[2], robot_type="bench")
    before, started = _cpu_s(), time.perf_counter()
    count = len(steps["action"])
    for row in range(count):
        frame = {f"observation.images.{key}": steps[key][row] for key in cameras}
        dataset.add_frame({**frame, "action": steps["action"][row].astype(np.float32), "task": "bench"})
        if row % 50 == 49 or row == count - 1:
            dataset.save_episode()
    dataset.finalize()
    print(json.dumps({"steps": count, "cpu_s": _cpu_s() - before, "wall_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
