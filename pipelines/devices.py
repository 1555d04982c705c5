"""Where models run on this machine."""

from __future__ import annotations

from dataengine.core.errors import UsageError


def chosen_device(asked: str) -> str:
    """Return "cpu" or "cuda" for what a user asks for: "auto" is a GPU where there is one.

    Raises:
        UsageError: it is something else, or a GPU is asked for and there is none.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device: must be auto, cpu or cuda, got {asked!r}")
    if asked == "cpu":
        return asked
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; say --device cpu")
    return "cuda" if torch.cuda.is_available() else "cpu"
