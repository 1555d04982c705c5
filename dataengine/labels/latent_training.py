"""Training a model of latent actions: the windows that it asks for, which gaps and labels each dataset may have, and what held-out episodes say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dataengine.core.column import Column
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.randomness import hash64, text_key
from dataengine.core.training import FieldSpec, TrainingFacts
from dataengine.labels.idm_rotations import rotations_of
from dataengine.labels.latent_figures import held_out_figures
from dataengine.labels.latent_labeller import LatentLabeller
from dataengine.models.latent_config import LatentActionConfig

if TYPE_CHECKING:
    from dataengine.models.latent_action import LatentActionModel, LatentFit

PLACES = ("joint_position", "ee_pose")  # kinds of actions that are places to go to where nothing else is said
SHORTEST = 0.75  # of a step: a gap that is shorter would often lie within one


class LatentTrainee:
    """A model of latent actions before, during and after training."""

    kind = "latent"

    def __init__(self, config: LatentActionConfig) -> None:
        self.config = config
        self._module: LatentActionModel | None = None
        self._guides: dict[str, tuple[int, int]] = {}
        self._bodies: list[str] = []

    @property
    def needs(self) -> Needs:
        return Needs((self.config.camera,), self.config.size, self.config.fit, ("state",), after_s=max(*self.config.gaps_s, self.config.gap_s))

    @property
    def _offsets(self) -> tuple[float, ...]:
        return tuple(sorted({at for gap_s in self.config.gaps_s for at in self.config.offsets(gap_s)}))

    @property
    def _action_every(self) -> float:
        return min(self.config.gaps_s) / 2

    def _action_count(self, gap_s: float) -> int:
        return max(1, int(gap_s / self._action_every + 1e-6))

    def fields(self) -> Mapping[str, FieldSpec]:
        offsets = self._offsets
        found = {self.config.camera: FieldSpec(seconds=offsets, size=self.config.size, fit=self.config.fit)}
        if self.config.supervision.share:
            most = self._action_count(max(self.config.gaps_s))
            windows = {"state": offsets, "action": tuple(round(place * self._action_every, 9) for place in range(most))}
            found |= {name: FieldSpec(seconds=windows[name]) for name in self.config.supervision.targets}
        return found

    def begin(self, facts: TrainingFacts, device: str) -> LatentFit:
        import torch

        from dataengine.models.latent_action import LatentActionModel, LatentFit

        config = self.config
        self._bodies = sorted({each.embodiment or each.dataset for each in facts.datasets})
        self._guides = {}
        if config.supervision.share:
            for name in config.supervision.targets:
                widths = [each.statistics[name].shape[-1] for each in facts.datasets if name in each.statistics]
                self._guides[name] = (len(self._bodies), max(widths, default=1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(facts.seed)
            module = LatentActionModel(config, self._guides)
        self._module = module.to(device)
        offsets = self._offsets
        return LatentFit(
            self._module,
            places=[[offsets.index(at) for at in config.offsets(gap_s)] for gap_s in config.gaps_s],
            allowed=torch.from_numpy(_allowed(config, facts)),
            labelled=torch.from_numpy(labelled_episodes(len(facts.notes["episodes"]["steps"]), config.supervision.share, facts.seed)),
            bodies=torch.tensor([self._bodies.index(each.embodiment or each.dataset) for each in facts.datasets]),
            absolute=torch.tensor([_is_absolute(each.columns.get("action")) for each in facts.datasets]),
            action_counts=[self._action_count(gap_s) for gap_s in config.gaps_s],
            turns={name: [rotations_of(each.recorded(name)) for each in facts.datasets] for name in self._guides},
        )

    def calibrate(self, held_out: Iterable[Watched]) -> Mapping[str, Any]:
        assert self._module is not None, "begin comes first"
        return held_out_figures(LatentLabeller(self._module, "0" * 32, None), held_out)

    def checkpoint(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        assert self._module is not None, "begin comes first"
        guides = {name: list(sizes) for name, sizes in self._guides.items()}
        narrow: Any = self._module.narrow
        if hasattr(narrow, "started") and not bool(narrow.started):
            raise UsageError(
                f"model: its codebooks begin after {narrow.warmup} steps, and it was trained for {int(narrow.steps)}, so that it has no codes; "
                "train for more steps, or set bottleneck.warmup_steps lower"
            )
        config = {"model_config": self.config.model_dump(mode="json"), "guides": guides, "bodies": self._bodies, "bits": self._module.bottleneck.bits()}
        return config, self._module.kept()


def _allowed(config: LatentActionConfig, facts: TrainingFacts) -> Any:
    """Return (datasets, gaps) bool: whether a gap is no shorter than the dataset's steps."""
    found = np.ones((len(facts.datasets), len(config.gaps_s)), dtype=np.bool_)
    for number, each in enumerate(facts.datasets):
        if each.rate_hz is None:
            continue
        found[number] = [gap_s * each.rate_hz >= SHORTEST for gap_s in config.gaps_s]
        if not found[number].any():
            raise UsageError(
                f"dataset {each.dataset!r}: gaps_s must have one of at least a step, which is {1 / each.rate_hz:g} s, got {list(config.gaps_s)}; give longer ones"
            )
    return found


def _is_absolute(column: Column | None) -> bool:
    """Whether actions of a column are places to go to rather than changes: as it says, else as its kind has it."""
    space = column.action_space if column is not None else None
    if space is None:
        return False
    return space.kind in PLACES if space.absolute is None else space.absolute


def labelled_episodes(count: int, share: float, seed: int) -> Any:
    """Return (count,) bool: the episodes whose labels may be used, a share of them, rounded, at least one where the share is not 0; chosen by hash of their number."""
    found = np.zeros(count, dtype=np.bool_)
    if share and count:
        order = np.argsort(hash64(seed, text_key("labelled"), np.arange(count)), kind="stable")
        found[order[: max(1, round(share * count))]] = True
    return found
