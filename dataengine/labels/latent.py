"""Latent actions: training a model that tells what changes between two pictures in few numbers, and labelling with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dataengine.core.digest import digest_json
from dataengine.labels.latent_labeller import CODE, GAP, LATENT, LatentLabeller, model_of
from dataengine.labels.latent_training import LatentTrainee
from dataengine.models.latent_config import LatentActionConfig
from dataengine.models.latent_scales import FITS, SCALES

if TYPE_CHECKING:
    from dataengine.models.checkpoint import Checkpoint

__all__ = ["CODE", "CONFIG", "FITS", "GAP", "LATENT", "SCALES", "LatentLabeller", "LatentTrainee", "least_steps", "open_latent", "trainee", "untrained_latent"]

CONFIG = LatentActionConfig


def trainee(config: LatentActionConfig) -> LatentTrainee:
    """Return what is trained."""
    return LatentTrainee(config)


def least_steps(config: LatentActionConfig) -> int:
    """Return how many steps it must be trained for at least: codebooks begin with the first after the warm-up."""
    return config.bottleneck.warmup_steps + 1 if config.bottleneck.kind in ("vq", "nsvq") else 1


def open_latent(checkpoint: Checkpoint, device: str = "cpu") -> LatentLabeller:
    """Open a trained model of latent actions for labelling.

    Raises:
        UsageError: its weights are not those of its configuration.
    """
    module = model_of(checkpoint.config)
    checkpoint.load_into(module)
    recipe = checkpoint.train.get("recipe")
    learned_from = recipe.get("datasets") if isinstance(recipe, Mapping) else None
    return LatentLabeller(module.to(device), checkpoint.digest, checkpoint.train.get("trained_on"), learned_from=learned_from)


def untrained_latent(checkpoint: Checkpoint, seed: int, device: str = "cpu") -> LatentLabeller:
    """Open the same model with weights that were never trained: the control that says how much of a probe is the probe's own."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = model_of(checkpoint.config)
    return LatentLabeller(module.to(device), digest_json(["untrained", checkpoint.digest, seed]), None)
