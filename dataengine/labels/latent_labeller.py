"""Labels of latent actions: what changes from each step to one a gap later, in the few numbers that a model has learned to tell it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.config import parse_config
from dataengine.core.digest import digest_json
from dataengine.core.labelling import Needs, Watched
from dataengine.core.labels import Labels, LabelSet
from dataengine.models.latent_config import LatentActionConfig

if TYPE_CHECKING:
    from dataengine.models.latent_action import LatentActionModel

LATENT, CODE, GAP = "latent", "code", "gap_s"
ROWS = 256  # pairs that go through the model at once
STILL = (0.5 / 255) ** 2  # mean square change under which there is nothing to tell


class LatentLabeller:
    """Labels each step with the latent of what changes until a gap later.

    A step has no label where the episode ends before, where a picture is missing, or where the gap is shorter than the episode's own steps. Its confidence is which share of the
    change between the pictures the latent tells: 1 - squared error of the told picture / squared difference of the two, at least 0; NaN where nothing changes.

    Args:
        module: the model, on its device.
        model: its digest.
        trained_on: `<store id>@<version>`, None where it was not trained.
        gap_s: another gap than that of the configuration, in s.
        learned_from: the datasets that it was trained on; None where nobody says.
    """

    def __init__(
        self, module: LatentActionModel, model: str, trained_on: str | None, gap_s: float | None = None, learned_from: Sequence[str] | None = None
    ) -> None:
        self.module = module.eval()
        self.config: LatentActionConfig = module.config
        self.model, self.trained_on = model, trained_on
        self.gap_s = self.config.gap_s if gap_s is None else gap_s
        self.learned_from = learned_from

    @property
    def needs(self) -> Needs:
        return Needs(cameras=(self.config.camera,), size=self.config.size, fit=self.config.fit, after_s=self.gap_s)

    @property
    def discrete(self) -> bool:
        """Whether latents are of a finite number of codes."""
        return self.module.bottleneck.size is not None

    @property
    def bits(self) -> float:
        """Return the capacity of a latent in bits."""
        return float(self.module.bottleneck.bits())

    def label_set(self, name: str) -> LabelSet:
        seen = [self.config.camera, list(self.config.size), self.config.fit, self.config.frames, self.gap_s]
        parameters: dict[str, Any] = {"gap_s": self.gap_s, "bottleneck": self.config.bottleneck.kind, "bits": round(self.bits, 6)}
        if self.learned_from is not None:
            parameters["learned_from"] = list(self.learned_from)
        return LabelSet(name, self.model, self.trained_on, digest_json(seen), parameters)

    def ends(self, part: Watched, steps: Array) -> tuple[Array, Array]:
        """Return for steps (n,) of a part which step the label looks at last, (n,) int64, and whether there is one, (n,) bool."""
        near, there = self._near(part, steps)
        return near[:, -1], there

    def _near(self, part: Watched, steps: Array) -> tuple[Array, Array]:
        near, beyond = part.near(np.asarray(steps, dtype=np.int64), self.config.offsets(self.gap_s))
        there = ~beyond.any(axis=1) & (near[:, -1] > near[:, 0])
        seen = part.seen.get(self.config.camera)
        return near, there if seen is None else there & seen[near].all(axis=1)

    def inputs(self, part: Watched, steps: Array) -> dict[str, Array]:
        near, there = self._near(part, steps)
        assert part.t_ns is not None  # `near` has asked
        gap_s = (part.t_ns[near[:, -1]] - part.t_ns[near[:, 0]]) / 1e9
        return {"pictures": part.pictures[self.config.camera][near], "there": there, GAP: gap_s.astype(np.float32)}

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        import torch

        count = len(inputs["pictures"])
        found: dict[str, Array] = {LATENT: np.zeros((count, self.config.latent), np.float32), "there": inputs["there"], GAP: inputs[GAP]}
        if self.discrete:
            found[CODE] = np.zeros((count, self.config.bottleneck.tokens), np.int64)
        if self.config.confidence:
            found["explained"] = np.full(count, np.nan, np.float32)
        with torch.inference_mode():
            for start in range(0, count, ROWS):
                rows = slice(start, start + ROWS)
                clips = self._tensor(inputs["pictures"][rows])
                latent, codes = self.module.encode(clips)
                found[LATENT][rows] = latent.float().cpu().numpy()
                if codes is not None and self.discrete:
                    found[CODE][rows] = codes.cpu().numpy()
                if self.config.confidence:
                    told = self.module.decode(clips[:, 0], latent)
                    error = (told - clips[:, -1]).square().mean((1, 2, 3)).cpu().numpy()
                    change = (clips[:, 0] - clips[:, -1]).square().mean((1, 2, 3)).cpu().numpy()
                    found["explained"][rows] = np.where(change > STILL, 1 - error / np.maximum(change, STILL), np.nan)
        return found

    def _tensor(self, pictures: Array) -> Any:
        import torch

        device = next(self.module.parameters()).device
        return torch.from_numpy(np.array(pictures)).to(device).float() / 255

    def labels(self, episode: Watched, answers: Mapping[str, Array]) -> Labels:
        there = answers["there"].astype(np.bool_)
        columns: dict[str, Array] = {LATENT: answers[LATENT], GAP: answers[GAP]}
        doc = f"what changes until {self.gap_s:g} s later, in the terms of the model; capacity {self.bits:.3g} bits"
        specs = {
            LATENT: Column(LATENT, dtype="float32", shape=(self.config.latent,), meaning="action", action_source="latent", doc=doc),
            GAP: Column(GAP, dtype="float32", unit="s", meaning="time", doc="from the step to the picture that its latent tells"),
        }
        if self.discrete:
            columns[CODE] = answers[CODE]
            size, tokens = self.module.bottleneck.size, self.config.bottleneck.tokens
            specs[CODE] = Column(CODE, dtype="int64", shape=(tokens,), meaning="action", action_source="latent", doc=f"codes in [0, {size}), one a token")
        confidence: dict[str, Array] = {}
        if "explained" in answers:
            sure = np.where(there, np.clip(answers["explained"], 0, 1), np.nan).astype(np.float32)
            confidence = dict.fromkeys(columns, sure)  # the code says the same as the latent, and the gap is the latent's
        return Labels(columns, specs, valid=dict.fromkeys(columns, there), confidence=confidence)

    def predict(self, part: Watched, steps: Array, latents: Array) -> Array:
        """Return what the pictures at steps (n,) of a part become under latents (n, Z): (n, H, W, 3) uint8, to be compared with the pictures at `ends(part, steps)`."""
        import torch

        firsts = part.pictures[self.config.camera][np.asarray(steps, dtype=np.int64)]
        found = np.empty_like(firsts)
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(firsts), ROWS):
                rows = slice(start, start + ROWS)
                latent = torch.from_numpy(np.array(latents[rows], dtype=np.float32)).to(device)
                told = self.module.decode(self._tensor(firsts[rows]), latent)
                found[rows] = (told * 255).round().to(torch.uint8).cpu().numpy()
        return found


def model_of(config: Mapping[str, Any]) -> LatentActionModel:
    """Return the model of a checkpoint's configuration without its weights: fresh ones, drawn from torch's own generator."""
    from dataengine.models.latent_action import LatentActionModel

    guides = {name: (int(bodies), int(size)) for name, (bodies, size) in config["guides"].items()}
    return LatentActionModel(parse_config(LatentActionConfig, config["model_config"], "config.json"), guides, learning=False)
