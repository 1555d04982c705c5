"""A model of latent actions: what changes between two pictures, in few numbers, learned by telling the second from the first (Schmidt and Jiang 2024; Ye et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataengine.core.action_spec import RotationEntries
from dataengine.core.displacement import Displacement
from dataengine.core.errors import UsageError
from dataengine.models.augmentation import augmented
from dataengine.models.bottleneck import Bottleneck, Passed
from dataengine.models.frozen_encoder import FrozenVit
from dataengine.models.latent_config import LatentActionConfig
from dataengine.models.latent_decoder import FeatureDecoder, Told, Trunk, WarpDecoder
from dataengine.models.latent_encoder import ENCODERS
from dataengine.models.quantize import bottleneck
from dataengine.models.vector_codes import Nsvq


def channels_first(pictures: Tensor) -> Tensor:
    """Return pictures (..., H, W, 3) in [0, 1] as (..., 3, H, W) in [-1, 1], the range that the networks work in."""
    return (pictures * 2 - 1).movedim(-1, -3)


def motion(first: Tensor, last: Tensor) -> Tensor:
    """Return how much each place changes: (B, 3, H, W) twice → (B, 1, H, W) in [0, 1], spread over 3 px, 1 from an eighth of the range on."""
    change = F.avg_pool2d((last - first).abs().mean(1, keepdim=True), 3, 1, 1)
    return (4 * change).clamp(max=1)


@dataclass(frozen=True, eq=False)
class Guided:
    """A few labels: values (B, D) of a target, where they are known (B, D) bool, and whose they are (B,) int64."""

    values: Tensor
    known: Tensor
    body: Tensor


class GuideHead(nn.Module):
    """Reads a target from the latent: linear, one map for each body, and one for each from the gap.

    Squared errors are divided by the running mean square of the targets of that body, so that a dimension's unit does not matter.
    """

    squares: Tensor
    counts: Tensor

    def __init__(self, bodies: int, latent: int, dimensions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(bodies, latent + 1, dimensions) / (latent + 1) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(bodies, dimensions))
        self.register_buffer("squares", torch.zeros(bodies, dimensions))
        self.register_buffer("counts", torch.zeros(bodies, dimensions))

    def forward(self, latent: Tensor, gap_s: Tensor, guided: Guided) -> Tensor:
        """Return the loss, the mean over what is known, 0 where nothing is; latent (B, Z), gap_s (B,)."""
        known = guided.known.to(latent)
        values = torch.where(guided.known, guided.values, torch.zeros_like(guided.values))
        if self.training:
            with torch.no_grad():
                self.squares.index_add_(0, guided.body, values.square())
                self.counts.index_add_(0, guided.body, known)
        scale = torch.sqrt(self.squares / self.counts.clamp(min=1) + 1e-12)[guided.body]
        told = torch.einsum("bz,bzd->bd", torch.cat([latent, gap_s[:, None]], dim=1), self.weight[guided.body]) + self.bias[guided.body]
        return ((told - values / scale).square() * known).sum() / known.sum().clamp(min=1)


class LatentActionModel(nn.Module):
    """Encoder, bottleneck and decoder.

    Args:
        config: what it is.
        guides: of each supervised target the number of bodies and of dimensions.
        learning: with what only learning needs, the target of features; `kept` are the weights of the rest.
    """

    def __init__(self, config: LatentActionConfig, guides: dict[str, tuple[int, int]] | None = None, learning: bool = True) -> None:
        super().__init__()
        self.config = config
        tokens = config.bottleneck.tokens
        made = bottleneck(config.bottleneck)
        assert isinstance(made, nn.Module)
        self.narrow = made
        self.encoder = ENCODERS[config.encoder](config, tokens * made.inputs)
        self.decoder = WarpDecoder(config.decoder_width, config.latent, config.decoder_depth, config.paint)
        self.guides = nn.ModuleDict({name: GuideHead(bodies, config.latent, size) for name, (bodies, size) in (guides or {}).items()})
        self.features: nn.Module | None = None
        self.followed: nn.Module | None = None
        if config.features.source == "ema" and learning:
            self.followed = Trunk(config.decoder_width, config.decoder_depth).requires_grad_(False)
            self.followed.load_state_dict(self.decoder.trunk.state_dict())
            self.features = FeatureDecoder(3 * config.decoder_width, config.latent, config.features.depth)
        elif config.features.source == "frozen" and learning:
            if config.features.frozen is None:
                raise UsageError("model: features.frozen must be the folder of an encoder, got none; set it, or features.source to ema or none")
            self.followed = FrozenVit(config.features.frozen)
            self.features = FeatureDecoder(self.followed.width, config.latent, config.features.depth)

    def kept(self) -> dict[str, Tensor]:
        """Return the weights that labelling needs."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(("features.", "followed."))}

    @property
    def bottleneck(self) -> Bottleneck:
        """Return the bottleneck as what it is."""
        return self.narrow

    def _tokens(self, clips: Tensor) -> Tensor:
        return self.encoder(channels_first(clips)).unflatten(1, (self.config.bottleneck.tokens, -1))

    def encode(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return latents (B, Z) and codes (B, L) of clips (B, F, H, W, 3) in [0, 1]; codes are None where the latent is continuous."""
        latent, codes = self.bottleneck.encode(self._tokens(clips))
        return latent.flatten(1), codes

    def decode(self, first: Tensor, latent: Tensor) -> Tensor:
        """Return the pictures (B, H, W, 3) in [0, 1] that first pictures (B, H, W, 3) become under latents (B, Z)."""
        told: Told = self.decoder(channels_first(first), latent)
        return (told.picture.movedim(-3, -1) / 2 + 0.5).clamp(0, 1)

    def losses(self, clips: Tensor, gap_s: Tensor, guided: dict[str, Guided], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of clips (B, F, H, W, 3) in [0, 1] over gaps (B,) and figures.

        The encoder's clip and the decoder's two pictures are changed each in their own way, so that a place or a colour that passed through the latent would not fit.
        """
        config = self.config
        shown = augmented(clips, config.augment, generator)
        ends = channels_first(augmented(clips[:, [0, -1]], config.augment, generator))
        first, last = ends[:, 0], ends[:, 1]
        passed: Passed = self.bottleneck(self._tokens(shown), generator)
        latent = passed.latent.flatten(1)
        maps = self.decoder.trunk(first)
        told: Told = self.decoder(first, latent, maps)
        weight = 1 + config.motion_weight * motion(first, last)
        error = (told.picture - last).square()
        pixels = (weight * error).mean()
        loss = config.pixel_weight * pixels + passed.loss
        copied = (first - last).square().mean()
        figures = {"pixels": pixels.detach(), "over_copy_db": 10 * torch.log10(copied / error.detach().mean().clamp(min=1e-9)), **passed.figures}
        if self.features is not None:
            told_features = self._feature_loss(first, last, latent)
            loss = loss + config.features.weight * told_features
            figures["features"] = told_features.detach()
        for name, each in guided.items():
            guide = self.guides[name](latent, gap_s, each)
            loss = loss + config.supervision.weight * guide
            figures[f"guide_{name}"] = guide.detach()
        return loss, figures

    def _feature_loss(self, first: Tensor, last: Tensor, latent: Tensor) -> Tensor:
        assert self.features is not None
        assert self.followed is not None
        with torch.no_grad():
            if self.config.features.source == "ema":
                if self.training:
                    for mine, theirs in zip(self.followed.parameters(), self.decoder.trunk.parameters(), strict=True):
                        mine.lerp_(theirs.detach(), 1 - self.config.features.decay)
                before, after = (_normed(maps[-1].flatten(2).transpose(1, 2)) for maps in (self.followed(first), self.followed(last)))
            else:
                before, after = (_normed(self.followed((picture / 2 + 0.5).clamp(0, 1))) for picture in (first, last))
        return (self.features(before, latent) - after).square().mean()


def _normed(tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:])


class LatentFit:
    """What `fit` fits: a model on batches that hold the pictures of every gap, of which each sample draws one.

    Args:
        module: the model.
        places: of each gap the places (F,) of its pictures among those of a sample.
        allowed: (datasets, gaps) bool, False where a gap is shorter than a dataset's steps.
        labelled: by episode number, whether its labels may be used.
        bodies: by dataset number.
        absolute: by dataset number, whether actions are places to go to.
        action_counts: of each gap, how many actions are within it.
        turns: by target and dataset number the rotations among the numbers that a change is made of.
    """

    def __init__(
        self,
        module: LatentActionModel,
        places: Sequence[Sequence[int]],
        allowed: Tensor,
        labelled: Tensor,
        bodies: Tensor,
        absolute: Tensor,
        action_counts: Sequence[int],
        turns: Mapping[str, Sequence[Sequence[RotationEntries]]] | None = None,
    ) -> None:
        self.module: Any = module
        self._places = torch.tensor([list(one) for one in places])  # (G, F)
        self._allowed, self._labelled, self._bodies, self._absolute = allowed, labelled, bodies, absolute
        self._action_counts = torch.tensor(list(action_counts))
        self._turns = turns or {}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        config: LatentActionConfig = self.module.config
        if self.module.training and isinstance(self.module.narrow, Nsvq):
            self.module.narrow.agree()  # here, where every process comes by at every step, whether or not it has pictures to learn from
        pictures, padded = batch[config.camera], batch[config.camera + "_is_pad"]
        places = self._places.to(pictures.device)
        free = self._allowed.to(pictures.device)[batch["dataset"]] & ~padded[:, places].any(-1) & (batch["weight"] > 0)[:, None]  # (B, G)
        drawn = drawn_gaps(free, generator)
        kept = torch.nonzero(drawn >= 0)[:, 0]
        if not len(kept):  # nothing to learn from, yet all that is learned must be reached
            return sum((value.sum() * 0 for value in self.module.parameters()), torch.zeros((), device=pictures.device)), {}
        gaps = drawn[kept]
        clips = pictures[kept[:, None], places[gaps]].float() / 255  # (B', F, H, W, 3)
        gap_s = torch.tensor(config.gaps_s, device=pictures.device)[gaps]
        guided = {name: self._guided(name, batch, kept, gaps, places) for name in self.module.guides}
        return self.module.losses(clips, gap_s, guided, generator)

    def _guided(self, name: str, batch: dict[str, Any], kept: Tensor, gaps: Tensor, places: Tensor) -> Guided:
        values, padded = batch[name][kept].float(), batch[name + "_is_pad"][kept]  # (B', K, ...), (B', K)
        values = values.flatten(2) if values.ndim > 2 else values[..., None]
        dataset = batch["dataset"][kept]
        rows = torch.arange(len(kept), device=values.device)
        if name == "action":
            count = self._action_counts.to(values.device)[gaps]
            within = torch.arange(values.shape[1], device=values.device)[None] < count[:, None]  # (B', K)
            there = ~(padded & within).any(1)
            mean = (values * within[..., None]).sum(1) / count[:, None]
            absolute = self._absolute.to(values.device)[dataset][:, None]
            change = self._change(name, values[:, 0], values[rows, count - 1], dataset)
            target = torch.where(absolute, change, mean)
        else:
            first, last = places[gaps, 0], places[gaps, -1]
            there = ~(padded[rows, first] | padded[rows, last])
            target = self._change(name, values[rows, first], values[rows, last], dataset)
        there = there & self._labelled.to(values.device)[batch["episode"][kept]]
        known = there[:, None] & torch.isfinite(target)
        mask = batch.get(name + "_mask")
        if mask is not None:
            known = known & mask[kept].flatten(1)
        return Guided(target, known, self._bodies.to(values.device)[dataset])

    def _change(self, name: str, before: Tensor, after: Tensor, dataset: Tensor) -> Tensor:
        """Return the changes (B', D): differences, but of a rotation its rotation vector in rad in the first three of its entries, and nothing known in the others."""
        found = after - before
        for number, rotations in enumerate(self._turns.get(name, ())):
            mine = torch.nonzero(dataset == number)[:, 0]
            for rotation in rotations if len(mine) else ():
                entries = torch.tensor(rotation.entries, device=found.device)
                alone = Displacement("turn", (), (replace(rotation, entries=tuple(range(len(entries)))),), ("x", "y", "z"))
                turn = alone.between(*(each[mine][:, entries].cpu().numpy() for each in (before, after)))
                found[mine[:, None], entries] = torch.nan
                found[mine[:, None], entries[:3]] = torch.from_numpy(turn).to(found)
        return found


def drawn_gaps(free: Tensor, generator: torch.Generator) -> Tensor:
    """Return one of the gaps that each sample may have, all equally likely, -1 where there is none: free (B, G) bool → (B,) int64."""
    count = free.sum(1)
    draw = torch.rand(len(free), generator=generator, device=free.device)
    rank = (draw * count).long().clamp(max=free.shape[1] - 1)
    place = torch.cumsum(free, 1)  # the n-th free gap is where this first is n
    chosen = ((place == (rank + 1)[:, None]) & free).float().argmax(1)
    return torch.where(count > 0, chosen, torch.full_like(chosen, -1))
