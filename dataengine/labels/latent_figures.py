"""What held-out episodes say of a model of latent actions: whether the latent matters to the picture, whether it tells the motion, and whether all codes are used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.labelling import Watched
from dataengine.core.randomness import hash64
from dataengine.labels.latent_labeller import CODE, LATENT, LatentLabeller
from dataengine.models.codebook_health import CodebookHealth

PENALTY = 1.0  # of the probe's ridge, on standardised latents


def held_out_figures(labeller: LatentLabeller, episodes: Iterable[Watched]) -> dict[str, Any]:
    """Return figures of a labeller on episodes: see `psnr_figures`; the codebook's; and R² of a linear probe of the state's change, fitted on every other episode."""
    health = None
    size = labeller.module.bottleneck.size
    if size is not None:
        health = CodebookHealth(labeller.config.bottleneck.tokens, size)
    latents, changes, groups, errors = [], [], [], []
    for number, episode in enumerate(episodes):
        steps = np.arange(episode.steps)
        last, there = labeller.ends(episode, steps)
        steps, last = steps[there], last[there]
        if not len(steps):
            continue
        answers = labeller.answer(labeller.inputs(episode, steps))
        latent = answers[LATENT]
        if health is not None:
            health.add(episode.dataset, answers[CODE])
        errors.append(_errors(labeller, episode, steps, last, latent, number))
        if "state" in episode.columns:
            state, valid = episode.columns["state"].reshape(episode.steps, -1).astype(np.float64), episode.valid["state"]
            known = valid[steps] & valid[last]
            latents.append(latent[known].astype(np.float64))
            changes.append((state[last] - state[steps])[known])
            groups.append((episode.dataset, number))
    if not errors:
        return {"pairs": 0}
    found: dict[str, Any] = {"pairs": int(sum(len(each) for each in errors)), "bits": labeller.bits, **psnr_figures(np.concatenate(errors))}
    for dataset in sorted({dataset for dataset, _ in groups}):
        mine = [place for place, (name, _) in enumerate(groups) if name == dataset]
        if len(mine) >= 2:
            found[f"probe_r2_state.{dataset}"] = _probe([latents[place] for place in mine], [changes[place] for place in mine])
    if health is not None:
        found["codes"] = health.report()
    return found


def _errors(labeller: LatentLabeller, episode: Watched, steps: Array, last: Array, latent: Array, number: int) -> Array:
    """Return the mean squared errors, in [0, 1], of the told picture, of that told by another step's latent, and of the first one: (n, 3)."""
    pictures = episode.pictures[labeller.config.camera]
    order = np.argsort(hash64(number, np.arange(len(steps))))
    true = pictures[last].astype(np.float64)
    told = [labeller.predict(episode, steps, latent), labeller.predict(episode, steps, latent[order]), pictures[steps]]
    return np.stack([np.square((each - true) / 255).mean(axis=(1, 2, 3)) for each in told], axis=1)


def psnr_figures(errors: Array) -> dict[str, float]:
    """Return `psnr_db`, `psnr_over_copy_db` and `delta_psnr_db` of mean squared errors (n, 3): of the told picture, of one told by a wrong latent, of the first picture."""
    told, shuffled, copied = -10 * np.log10(np.maximum(errors.mean(axis=0), 1e-12))
    return {"psnr_db": float(told), "psnr_over_copy_db": float(told - copied), "delta_psnr_db": float(told - shuffled)}


def _probe(latents: list[Array], changes: list[Array]) -> list[float]:
    """Return R² of each dimension of the changes on every other episode, of a ridge on the latents of the rest; NaN of one that does not change, or of which one half says nothing."""
    x, y = np.concatenate(latents[0::2]), np.concatenate(changes[0::2])
    true = np.concatenate(changes[1::2])
    if not len(x) or not len(true):
        return [float("nan")] * y.shape[1]
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    x = (x - mean) / spread
    weights = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    told = (np.concatenate(latents[1::2]) - mean) / spread @ weights + y.mean(axis=0)
    around = np.square(true - true.mean(axis=0)).sum(axis=0)
    return [float(value) for value in np.where(around > 0, 1 - np.square(true - told).sum(axis=0) / np.where(around > 0, around, 1), np.nan)]
