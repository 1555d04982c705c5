"""A trained model's folder: the model itself, and the page about its training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataengine.view.training_page import training_page

if TYPE_CHECKING:
    from dataengine.models.checkpoint import Checkpoint

REPORT = "report.html"


def write_model(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write a model and its page; the curve, where there is one, lies in the folder already. What has a config.json is whole."""
    from dataengine.models.checkpoint import save_checkpoint
    from dataengine.models.fit import curve

    whole = replace(checkpoint, train=finite(json.loads(json.dumps(dict(checkpoint.train), default=_plain))))
    title = f"Model of kind {whole.kind}, trained on {', '.join(whole.train['recipe']['datasets'])}"
    (Path(folder) / REPORT).write_text(training_page(title, whole.train, curve(folder), whole.digest))
    save_checkpoint(folder, whole)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def finite(value: Any) -> Any:
    """Return JSON values with null where a number is not finite: a figure that nobody can tell must not keep a model from being written."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
