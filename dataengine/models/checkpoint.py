"""Models on disk: `model.safetensors`, `config.json` (all that labelling needs) and `train.json` (how it came about). Nothing is unpickled, weights load strictly.

The model's id is the digest of its configuration in canonical form and of its weights: 32 hex digits.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dataengine.core.digest import digest_bytes, digest_json
from dataengine.core.errors import UsageError
from dataengine.models.json_document import json_document

WEIGHTS, CONFIG, TRAIN = "model.safetensors", "config.json", "train.json"
FORMAT = "dataengine-model"
FORMAT_VERSION = 1
DOCUMENT = ("a model's JSON", "name a folder that `dataengine train` wrote")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as it lies on disk.

    `kind` is the name of the kind of model ("idm", "latent", ...), `config` all that is needed to build and use it, `weights` its tensors by name,
    `train` how it was trained: the store's id and version under "trained_on", seed, steps, figures.
    """

    kind: str
    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    train: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Return the model's id."""
        named = [(name, self.weights[name].detach().cpu().contiguous()) for name in sorted(self.weights)]
        facts = [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in named]
        content = [tensor.flatten().view(torch.uint8).numpy().data for _, tensor in named if tensor.numel()]
        return digest_bytes(digest_json([self.kind, dict(self.config), facts]).encode(), *content)

    def load_into(self, module: nn.Module) -> None:
        """Give a module its weights; raise UsageError where they are not those of its configuration."""
        try:
            module.load_state_dict(dict(self.weights), strict=True)
        except RuntimeError as error:
            raise UsageError(
                f"model: weights must be those of its configuration, got: {str(error)[:500]}; the folder's files do not belong together"
            ) from error


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write a model into a folder: all of it or nothing."""
    from safetensors.torch import save_file

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": checkpoint.kind, "model": checkpoint.digest, **checkpoint.config}
    texts = {CONFIG: json.dumps(document, indent=1, allow_nan=False), TRAIN: json.dumps(dict(checkpoint.train), indent=1, allow_nan=False)}
    scratch = Path(tempfile.mkdtemp(prefix=".model-", dir=target))
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}, scratch / WEIGHTS)
        for name, text in texts.items():
            (scratch / name).write_text(text)
        for name in (WEIGHTS, TRAIN, CONFIG):  # what has a config.json is whole
            os.replace(scratch / name, target / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a model from a folder.

    Raises:
        UsageError: there is no model, or its files are damaged or do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    source = Path(folder)
    config = json_document(source / CONFIG, *DOCUMENT)
    train = json_document(source / TRAIN, *DOCUMENT)
    if config.pop("format", None) != FORMAT or config.pop("format_version", None) != FORMAT_VERSION:
        raise UsageError(f"{source / CONFIG}: expected a {FORMAT} of version {FORMAT_VERSION}; use a dataengine that knows it")
    kind, digest = str(config.pop("kind", "")), config.pop("model", None)
    try:
        weights = load_file(source / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{source / WEIGHTS}: expected weights in safetensors, got: {str(error)[:200]}; copy the model's folder anew") from error
    found = Checkpoint(kind, config, weights, train)
    if digest != found.digest:
        raise UsageError(
            f"{source}: expected the model {digest}, found weights and a configuration whose digest is {found.digest}; copy the model's folder anew"
        )
    return found
