"""Real actions out of latent ones: a mapping that a few labelled episodes teach, as a labeller of its own (LAPA's third stage)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dataengine.core.action_spec import ActionSpec, spec_of_json
from dataengine.core.arrays import Array
from dataengine.core.config import parse_config
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.training import FieldSpec, TrainingFacts
from dataengine.labels.idm_bodies import Body, bodies_of, body_of_json
from dataengine.labels.idm_figures import halves_figures
from dataengine.labels.idm_fitting import fit_calibration
from dataengine.labels.idm_targets import named, targets_said
from dataengine.labels.latent import open_latent
from dataengine.labels.latent_labeller import LatentLabeller, model_of
from dataengine.labels.latent_training import labelled_episodes
from dataengine.labels.mapped_labeller import KIND, MappedLabeller, Target, require_gap
from dataengine.models.calibration import calibration_of_json, no_calibration
from dataengine.models.fit import FitConfig
from dataengine.models.mapped_action import MappedConfig, MappedFit, MappedModule

if TYPE_CHECKING:
    from dataengine.models.checkpoint import Checkpoint

__all__ = ["CONFIG", "FITS", "SCALES", "MappedLabeller", "MappedTrainee", "open_mapped", "trainee"]

CONFIG = MappedConfig
LEARNED_FROM = ("datasets", "where", "held_out")  # what of a recipe says which episodes of a version
SCALES = {"tiny": MappedConfig(), "linear": MappedConfig(hidden=0, features=False)}
FITS = {
    "tiny": FitConfig(steps=400, batch_size=32, learning_rate=5e-3, warmup_steps=20),
    "linear": FitConfig(steps=400, batch_size=32, learning_rate=1e-2, warmup_steps=20),
}


class MappedTrainee:
    """A mapping from latents to actions before, during and after training: see `dataengine.core.training.Trainee`."""

    kind = KIND

    def __init__(self, config: MappedConfig) -> None:
        from dataengine.models.checkpoint import load_checkpoint

        if not config.latent:
            raise UsageError("model: latent must be the folder of a model of latent actions, got none; put it into the configuration under model")
        checkpoint = load_checkpoint(config.latent)
        if checkpoint.kind != "latent":
            raise UsageError(f"{config.latent}: must hold a model of the kind 'latent', found one of the kind {checkpoint.kind!r}")
        self._config, self._source = config, checkpoint
        self._latent = open_latent(checkpoint)
        self._module: MappedModule | None = None
        self._bodies: list[Body] = []
        self._targets: list[dict[str, Target]] = []
        self._facts: TrainingFacts | None = None

    @property
    def needs(self) -> Needs:
        return replace(self._latent.needs, columns=("action", "state"))

    def fields(self) -> Mapping[str, FieldSpec]:
        latent = self._latent.config
        found = {latent.camera: FieldSpec(seconds=latent.offsets(latent.gap_s), size=latent.size, fit=latent.fit)}
        if "command" in self._config.targets:
            found["action"] = FieldSpec(seconds=(0.0,))
        if "displacement" in self._config.targets:
            found["state"] = FieldSpec(seconds=(0.0, latent.gap_s))
        return found

    def begin(self, facts: TrainingFacts, device: str) -> MappedFit:
        import torch

        for each in facts.datasets:
            require_gap(self._latent.gap_s, f"dataset {each.dataset!r}", each.rate_hz)
        self._facts = facts
        self._bodies, numbers = bodies_of(facts.datasets, self._config.targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(facts.seed)
            module = MappedModule(self._config, self._latent.module, [body.targets for body in self._bodies])
        self._module = module.to(device)
        labelled = labelled_episodes(len(facts.notes["episodes"]["steps"]), self._config.share, facts.seed)
        return MappedFit(self._module, [body.targets for body in self._bodies], numbers, labelled)

    def _settle(self) -> MappedModule:
        """Note how each target is predicted, which is known once training is over."""
        module = self._module
        assert module is not None, "begin comes first"
        if not self._targets:
            usual = [each if body.displacement is not None else None for body, each in zip(self._bodies, module.usual, strict=True)]
            said = [targets_said(body, each) for body, each in zip(self._bodies, usual, strict=True)]
            self._targets = [{name: Target(spec, no_calibration(spec, 1)) for name, spec in specs.items()} for specs in said]
        return module

    def calibrate(self, held_out: Iterable[Watched]) -> Mapping[str, Any]:
        """Fit calibrations, and return figures by body and target: of halves of the episodes, each answered with what was fitted to the other."""
        labeller = self._labeller("0" * 32)
        told: list[dict[str, list[Any]]] = [{name: [] for name in targets} for targets in self._targets]
        for episode in held_out:
            number = labeller.body_of(episode)
            answers = labeller.answer(labeller.inputs(episode, np.arange(episode.steps)))
            for name in told[number]:
                truth = _truth(self._bodies[number], name, episode, labeller.latent)
                if truth is not None:
                    told[number][name].append((*labeller.spoken(answers, number, name), truth))
        figures: dict[str, Any] = {}
        for number, targets in enumerate(self._targets):
            for name, target in list(targets.items()):
                if told[number][name]:
                    targets[name] = Target(target.spec, fit_calibration(target.spec, told[number][name]))
                    figures[named(self._bodies, number, name)] = halves_figures(target.spec, told[number][name], fit_calibration)
        return figures

    def _labeller(self, model: str) -> MappedLabeller:
        module = self._settle().eval()
        latent = LatentLabeller(module.latent, self._source.digest, self._latent.trained_on)
        return MappedLabeller(module, latent, self._bodies, self._targets, model, self._facts.trained_on if self._facts is not None else None)

    def checkpoint(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        module = self._settle()
        bodies = [
            {**body.as_json(), "targets": {name: {"spec": each.spec.as_json(), "calibration": each.calibration.as_json()} for name, each in targets.items()}}
            for body, targets in zip(self._bodies, self._targets, strict=True)
        ]
        latent = {**self._source.config, "model": self._source.digest, "trained_on": self._latent.trained_on, "recipe": self._learned_from()}
        return {"settings": self._config.model_dump(mode="json"), "latent": latent, "bodies": bodies}, module.state_dict()

    def _learned_from(self) -> dict[str, Any] | None:
        """Return which episodes the latents were learned from, None where the model of latents does not tell; not where they lay, so that the mapping is the same wherever that is."""
        recipe = self._source.train.get("recipe")
        return {name: recipe[name] for name in LEARNED_FROM} if isinstance(recipe, Mapping) and all(name in recipe for name in LEARNED_FROM) else None


def _truth(body: Body, target: str, episode: Watched, latent: LatentLabeller) -> Array | None:
    """Return the numbers (T, D) of a target that were recorded, NaN where there are none; None where the episode has no such column."""
    name = {"command": "action", "displacement": "state"}[target]
    if name not in episode.columns:
        return None
    values = np.where(episode.valid[name][:, None], episode.columns[name].reshape(episode.steps, -1).astype(np.float64), np.nan)
    if target == "command":
        return values
    assert body.displacement is not None
    last, there = latent.ends(episode, np.arange(episode.steps))
    return np.where(there[:, None], body.displacement.between(values, values[last]), np.nan)


def trainee(config: MappedConfig) -> MappedTrainee:
    """Return what is trained."""
    return MappedTrainee(config)


def open_mapped(checkpoint: Checkpoint, device: str = "cpu") -> MappedLabeller:
    """Open a trained mapping for labelling: its folder holds the model of latent actions too.

    Raises:
        UsageError: the checkpoint is of another kind, or its files do not belong together.
    """
    if checkpoint.kind != KIND:
        raise UsageError(f"model: must be of the kind {KIND!r}, got {checkpoint.kind!r}; name a folder that `dataengine train {KIND}` wrote")
    told = checkpoint.config["latent"]
    bodies = [body_of_json(each) for each in checkpoint.config["bodies"]]
    module = MappedModule(parse_config(MappedConfig, checkpoint.config["settings"], "config.json: settings"), model_of(told), [body.targets for body in bodies])
    checkpoint.load_into(module)
    latent = LatentLabeller(module.to(device).latent, told["model"], told["trained_on"])
    return MappedLabeller(module, latent, bodies, _targets_of(checkpoint.config["bodies"]), checkpoint.digest, checkpoint.train.get("trained_on"))


def _targets_of(bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Target]]:
    found: list[dict[str, Target]] = []
    for each in bodies:
        specs: dict[str, ActionSpec] = {name: spec_of_json(target["spec"]) for name, target in each["targets"].items()}
        found.append({name: Target(spec, calibration_of_json(each["targets"][name]["calibration"])) for name, spec in specs.items()})
    return found
