"""What can be read out of latents: maps from them to what was measured, learned from all, 5 % or 1 % of the training episodes, with the controls that such a probe needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.labelling import Needs
from dataengine.core.randomness import hash64, text_key
from dataengine.evaluate.baselines import Setting
from dataengine.evaluate.folds import Part
from dataengine.evaluate.said import Said, Speaker
from dataengine.labels.motion_features import pooled
from dataengine.stats.ridge import fit_ridge

GROUPS = 3
GRID = 8
HIDDEN, MLP_STEPS, MLP_BATCH = 64, 600, 256


@dataclass(frozen=True, eq=False)
class Encoded:
    """Latents of a part: `values` (T, Z) float64, (T,) `valid`, and `codes` (T, L) int64 where they are discrete, each below `size`."""

    values: Array
    valid: Array
    codes: Array | None = None
    size: int = 0


Encoder = Callable[[Part], Encoded]
Mapped = Callable[[Array], Array]
Fit = Callable[[Array, Array, Array, int], Mapped]  # rows (N, Z), what was measured (N, D), groups (N,) and a seed → a map


def linear(x: Array, y: Array, group: Array, seed: int) -> Mapped:
    """Fit a ridge, its penalty chosen by groups that were left out."""
    return fit_ridge(x, y, group)[0]


def perceptron(x: Array, y: Array, group: Array, seed: int) -> Mapped:
    """Fit a network of one hidden layer, for what a linear map does not see."""
    import torch
    from torch import nn

    centre, spread = x.mean(0), x.std(0) + 1e-6
    middle, size = y.mean(0), y.std(0) + 1e-9
    rows, wanted = (torch.from_numpy(((each - a) / b).astype(np.float32)) for each, a, b in ((x, centre, spread), (y, middle, size)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.GELU(), nn.Linear(HIDDEN, y.shape[1]))
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(MLP_STEPS):
        chosen = torch.randint(len(rows), (min(MLP_BATCH, len(rows)),), generator=generator)
        loss = (module(rows[chosen]) - wanted[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def say(values: Array) -> Array:
        with torch.inference_mode():
            said = module(torch.from_numpy(((values - centre) / spread).astype(np.float32))).numpy()
        return np.asarray(said.astype(np.float64) * size + middle)

    return say


def probe(setting: Setting, encoder: Encoder, share: float = 1.0, fit: Fit = linear, shuffled: bool = False) -> Speaker:
    """Return what a probe of an encoder says.

    Args:
        setting: the fold and what is asked for.
        encoder: gives the features.
        share: of the training parts that have latents whose labels are used, chosen by a hash; at least two parts.
        fit: what kind of map.
        shuffled: learn with the numbers of other steps, anywhere in training: says nothing, or the probe itself knows too much.
    """
    parts = _share(setting, encoder, share)
    encoded = [encoder(part) for part in parts]
    maps: dict[str, Mapped | None] = {}
    for target in setting.targets if parts else ():
        x, y, group = [], [], []
        for number, (part, each) in enumerate(zip(parts, encoded, strict=True)):
            values, valid = target.measured(setting.viewer.measured(part))
            there = valid & each.valid
            x.append(each.values[there])
            y.append(values[there])
            group.append(np.full(int(there.sum()), number % GROUPS if len(parts) > 1 else 0))
        rows, wanted, groups = np.concatenate(x), np.concatenate(y), np.concatenate(group)
        if shuffled:
            wanted = wanted[np.argsort(hash64(setting.seed, 0x5F, np.arange(len(wanted))))]
        if len(parts) == 1 and len(rows):
            groups = np.arange(len(rows)) * GROUPS // len(rows)
        maps[target.labels.name] = fit(rows, wanted, groups, setting.seed) if len(rows) > GROUPS else None

    def say(part: Part) -> Mapping[str, Said]:
        each = encoder(part)
        if not each.valid.any():
            return {}
        return {name: Said(found(each.values), each.valid) for name, found in maps.items() if found is not None}

    return say


def _share(setting: Setting, encoder: Encoder, share: float) -> list[Part]:
    """Return the parts that a probe learns from; one without a single latent is passed over."""
    parts = list(setting.fold.train)
    wanted = len(parts)
    if share < 1:
        keys = hash64(setting.seed, text_key("share of labels"), np.array([text_key(part.name) for part in parts], np.uint64))
        parts, wanted = [parts[place] for place in np.argsort(keys, kind="stable")], max(2, round(share * len(parts)))
    return list(islice((part for part in parts if encoder(part).valid.any()), wanted))


def picture_alone(setting: Setting) -> Encoder:
    """Return the step's picture, pooled: what a latent must add to."""

    def encode(part: Part) -> Encoded:
        seen = setting.viewer.view(part, Needs(setting.cameras[:1], (setting.size, setting.size)))
        camera = setting.cameras[0]
        small = np.stack([pooled(picture.astype(np.float32), GRID).reshape(-1) / 255 for picture in seen.pictures[camera]])
        return Encoded(small.astype(np.float64), seen.seen[camera])

    return encode


def one_hot(encoder: Encoder) -> Encoder:
    """Return codes as ones and zeros instead of the values that they stand for."""

    def encode(part: Part) -> Encoded:
        found = encoder(part)
        if found.codes is None:  # an episode without labels
            return Encoded(np.zeros((len(found.valid), 1)), np.zeros(len(found.valid), np.bool_))
        ones = np.zeros((len(found.codes), found.codes.shape[1], found.size))
        np.put_along_axis(ones, np.clip(found.codes, 0, found.size - 1)[..., None], 1.0, axis=2)
        return Encoded(ones.reshape(len(ones), -1), found.valid)

    return encode


def mutual_information(a: Array, b: Array) -> float:
    """Return the normalised mutual information of two rows of labels (N,): 2 I(a; b) / (H(a) + H(b)), in [0, 1]; NaN where neither varies."""
    first, second = np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1]
    table = np.zeros((first.max(initial=0) + 1, second.max(initial=0) + 1))
    np.add.at(table, (first, second), 1)
    share = table / max(1, len(first))
    rows, columns = share.sum(1), share.sum(0)
    outer = rows[:, None] * columns[None]
    there = share > 0
    shared = float((share[there] * np.log(share[there] / outer[there])).sum())
    entropies = [float(-(each[each > 0] * np.log(each[each > 0])).sum()) for each in (rows, columns)]
    return 2 * shared / sum(entropies) if sum(entropies) > 0 else float("nan")


def thirds(values: Array) -> Array:
    """Return each row (N, D) as the number of the cell it lies in when every dimension that varies is cut into thirds, (N,) int64."""
    found = np.zeros(len(values), np.int64)
    for column in values.T:
        if column.std() > 1e-9:
            found = found * 3 + np.searchsorted(np.quantile(column, [1 / 3, 2 / 3]), column)
    return found
