"""Actions for video that has none: training and labelling with a model of inverse dynamics.

A label of a step is made of all windows that hold it, see `dataengine.models.calibration.vote`. There are two label columns: the command, under the name of the action column
that the model learned from, and what was achieved, `<state column>.delta`: the change of the state until one gap later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dataengine.core.action_spec import ActionSpec, spec_of_json
from dataengine.core.arrays import Array, require
from dataengine.core.config import parse_config
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.training import FieldSpec, TrainingFacts
from dataengine.labels.idm_bodies import Body, bodies_of, body_of_json
from dataengine.labels.idm_figures import halves_figures
from dataengine.labels.idm_fitting import fit_calibration, told_truth
from dataengine.labels.idm_labeller import KIND, IdmLabeller
from dataengine.labels.idm_targets import named, targets_said
from dataengine.labels.idm_windows import edge_seconds, needs_of, require_rate, window_seconds
from dataengine.models.calibration import Calibration, calibration_of_json, no_calibration
from dataengine.models.checkpoint import Checkpoint
from dataengine.models.fit import FitConfig
from dataengine.models.inverse_dynamics import SCALES as SCALE_SETTINGS
from dataengine.models.inverse_dynamics import InverseDynamicsConfig
from dataengine.models.inverse_dynamics_fit import FittedIdm, IdmModule

CONFIG = InverseDynamicsConfig
SCALES: dict[str, InverseDynamicsConfig] = {name: parse_config(InverseDynamicsConfig, dict(told), f"scale {name}") for name, told in SCALE_SETTINGS.items()}
_TINY = FitConfig(steps=900, batch_size=32, learning_rate=1.5e-3, average=0.99)
FITS: dict[str, FitConfig] = {
    "tiny": _TINY,
    "single_frame": _TINY,
    "small": FitConfig(steps=20_000, batch_size=64, learning_rate=5e-4, warmup_steps=500, average=0.999, precision="bfloat16"),
    "base": FitConfig(steps=60_000, batch_size=64, learning_rate=3e-4, warmup_steps=1000, average=0.9995, precision="bfloat16"),
    "large": FitConfig(steps=100_000, batch_size=64, learning_rate=1e-4, warmup_steps=2000, average=0.9995, precision="bfloat16"),
}


class IdmTrainee:
    """A model of inverse dynamics before, during and after training: see `dataengine.core.training.Trainee`."""

    kind = KIND

    def __init__(self, config: InverseDynamicsConfig) -> None:
        self._config = config
        self._fitted: FittedIdm | None = None
        self._bodies: list[Body] = []
        self._specs: list[dict[str, ActionSpec]] = []
        self._calibrations: list[dict[str, Calibration]] = []
        self._trained_on = ""

    @property
    def needs(self) -> Needs:
        """What it must see of held-out episodes."""
        return replace(needs_of(self._config), columns=("action", "state"))

    def fields(self) -> dict[str, FieldSpec]:
        """Return the windows that a sample holds."""
        config = self._config
        found = {camera: FieldSpec(seconds=window_seconds(config), size=config.size, fit=config.fit) for camera in config.cameras}
        if "command" in config.targets:
            found["action"] = FieldSpec(seconds=edge_seconds(config)[:-1])
        if "displacement" in config.targets:
            found["state"] = FieldSpec(seconds=edge_seconds(config))
        return found

    def begin(self, facts: TrainingFacts, device: str) -> FittedIdm:
        """Build the network from the seed."""
        import torch

        for dataset in facts.datasets:
            require_rate(self._config, f"dataset {dataset.dataset!r}", dataset.rate_hz)
        self._bodies, numbers = bodies_of(facts.datasets, self._config.targets)
        self._trained_on = facts.trained_on
        with torch.random.fork_rng(devices=[]):  # what else this process draws does not change
            torch.manual_seed(facts.seed)
            self._fitted = FittedIdm(self._config, [body.targets for body in self._bodies], numbers, device)
        return self._fitted

    def _module(self) -> IdmModule:
        require(self._fitted is not None, "idm: begin must come before calibrate and checkpoint")
        assert self._fitted is not None
        assert isinstance(self._fitted.inner, IdmModule)
        return self._fitted.inner

    def _settle(self) -> None:
        """Note how each target is predicted, which is known once training is over."""
        module = self._module()
        if not self._specs:
            usual = [module.usual[str(number)] if body.displacement is not None else None for number, body in enumerate(self._bodies)]
            self._specs = [targets_said(body, each) for body, each in zip(self._bodies, usual, strict=True)]
            count = len(self._config.transitions)
            self._calibrations = [{name: no_calibration(spec, count) for name, spec in specs.items()} for specs in self._specs]

    def calibrate(self, held_out: Iterable[Watched]) -> dict[str, Any]:
        """Fit calibrations, and return figures by body and target: of halves of the episodes, each answered with what was fitted to the other."""
        self._settle()
        module = self._module().eval()
        labeller = IdmLabeller(self._config, module, self._bodies, self._specs, self._calibrations)
        seen: list[list[tuple[Watched, dict[str, Array]]]] = [[] for _ in self._bodies]
        for episode in held_out:
            seen[labeller.body_of(episode)].append((replace(episode, pictures={}), labeller.answers(episode)))
        figures: dict[str, Any] = {}
        for number, body in enumerate(self._bodies):
            for target, spec in self._specs[number].items():
                found = [told_truth(body, target, episode, answers, self._config) for episode, answers in seen[number]]
                told = [each for each in found if each is not None]
                if told:
                    self._calibrations[number][target] = fit_calibration(spec, told)
                    figures[named(self._bodies, number, target)] = halves_figures(spec, told, fit_calibration)
        return figures

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the configuration and the weights."""
        self._settle()
        bodies = [
            {
                **body.as_json(),
                "targets": {name: {"spec": spec.as_json(), "calibration": calibrations[name].as_json()} for name, spec in specs.items()},
            }
            for body, specs, calibrations in zip(self._bodies, self._specs, self._calibrations, strict=True)
        ]
        config = self._config.model_dump(mode="json")
        return {"settings": config, "window_s": list(window_seconds(self._config)), "bodies": bodies}, dict(self._module().state_dict())


def trainee(config: InverseDynamicsConfig) -> IdmTrainee:
    """Return what is trained with a configuration."""
    return IdmTrainee(config)


def open_idm(checkpoint: Checkpoint, device: str = "cpu", body: str | None = None) -> IdmLabeller:
    """Open a trained model for labelling.

    Args:
        checkpoint: of the kind "idm".
        device: where it runs: "cpu", "cuda".
        body: whose actions are said, for episodes of a body that the model does not know: the name of a body, embodiment or dataset that it was trained on.

    Raises:
        UsageError: the checkpoint is of another kind, its files do not belong together, or there is no such body.
    """
    if checkpoint.kind != KIND:
        raise UsageError(f"model: must be of the kind {KIND!r}, got {checkpoint.kind!r}; name a folder that `dataengine train {KIND}` wrote")
    config = parse_config(InverseDynamicsConfig, checkpoint.config["settings"], "config.json: settings")
    told = checkpoint.config["bodies"]
    bodies = [body_of_json(each) for each in told]
    module = IdmModule(config, [body.targets for body in bodies])
    checkpoint.load_into(module)
    specs = [{name: spec_of_json(target["spec"]) for name, target in each["targets"].items()} for each in told]
    calibrations = [{name: calibration_of_json(target["calibration"]) for name, target in each["targets"].items()} for each in told]
    trained_on = checkpoint.train.get("trained_on")
    return IdmLabeller(config, module.to(device), bodies, specs, calibrations, checkpoint.digest, trained_on if isinstance(trained_on, str) else None, body)
