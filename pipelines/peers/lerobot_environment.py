"""What every script needs before it can import LeRobot in the peers' environment."""

import torch

# The CPU torch has no torchvision operators; their schemas must exist before torchvision is imported.
LIBRARY = torch.library.Library("torchvision", "DEF")


def prepare() -> None:
    """Define the schemas where they are missing, and pin this process to one thread."""
    import importlib.util

    torch.set_num_threads(1)
    if "+cpu" in torch.__version__ and importlib.util.find_spec("torchvision") is not None:
        for name in ("nms", "qnms"):
            LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
