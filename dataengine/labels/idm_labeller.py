"""Labelling with a model of inverse dynamics: windows of frames in, labels with intervals and confidences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataengine.core.action_spec import ActionSpec
from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.labels import Labels, LabelSet
from dataengine.labels.idm_bodies import Body
from dataengine.labels.idm_columns import command_column, displacement_column
from dataengine.labels.idm_targets import body_number, calibrated_on
from dataengine.labels.idm_windows import needs_of, require_rate, step_places, target_answers, window_seconds
from dataengine.labels.voted_labels import VotedTarget, labels_of_votes
from dataengine.models.calibration import Calibration, vote
from dataengine.models.inverse_dynamics import InverseDynamicsConfig
from dataengine.models.inverse_dynamics_fit import IdmModule, seen_transitions

KIND = "idm"
BY = "said by an inverse-dynamics model"
MODEL_ROWS = 64  # steps that are answered for at once


class IdmLabeller:
    """Labels steps with a trained model: see `dataengine.core.labelling.Labeller`."""

    def __init__(
        self,
        config: InverseDynamicsConfig,
        module: IdmModule,
        bodies: Sequence[Body],
        specs: Sequence[Mapping[str, ActionSpec]],
        calibrations: Sequence[Mapping[str, Calibration]],
        model: str = "0" * 32,
        trained_on: str | None = None,
        body: str | None = None,
    ) -> None:
        self._config = config
        self._module: Any = module.eval()
        self._bodies, self._specs, self._calibrations = bodies, specs, calibrations
        self._model, self._trained_on = model, trained_on
        self._chosen = self._named(body) if body is not None else None

    def _named(self, name: str) -> int:
        for number, body in enumerate(self._bodies):
            if name in (body.name, body.embodiment, *body.datasets):
                return number
        raise UsageError(f"body {name!r}: must be one that the model was trained on, known: {', '.join(body.name for body in self._bodies)}")

    def body_of(self, episode: Watched) -> int:
        """Return the number of the body whose actions an episode is labelled with: the chosen one, that of its dataset or embodiment, or the only one where nobody knows.

        Raises:
            UsageError: the model was not trained on this body.
        """
        if self._chosen is not None:
            return self._chosen
        number = body_number(self._bodies, episode)
        if number is not None:
            return number
        known = ", ".join(body.name for body in self._bodies)
        raise UsageError(
            f"episode {episode.episode_id} of {episode.dataset}: must be of a body that the model was trained on ({known}), got {episode.embodiment or 'one that is not known'}; choose one of them as the body"
        )

    @property
    def needs(self) -> Needs:
        """What it must see."""
        return needs_of(self._config)

    def label_set(self, name: str) -> LabelSet:
        """Return what all its labels have in common."""
        config = self._config
        seen = {"cameras": list(config.cameras), "size": list(config.size), "fit": config.fit, "values": "RGB in [0, 1]"}
        parameters: dict[str, Any] = {"method": KIND, "window_s": list(window_seconds(config)), "gap_s": config.gap_s, "interval": 0.68}
        parameters |= {"calibration": digest_json([{k: c.as_json() for k, c in each.items()} for each in self._calibrations])}
        parameters |= {"calibrated_on": calibrated_on(self._bodies, self._calibrations)}
        parameters["learned_from"] = [dataset for body in self._bodies for dataset in body.datasets]
        if self._chosen is not None:
            parameters["body"] = self._bodies[self._chosen].name
        return LabelSet(name, self._model, self._trained_on, digest_json(seen), parameters)

    def inputs(self, part: Watched, steps: Array) -> dict[str, Array]:
        """Return the frames (n, T, H, W, 3) of each camera, where there are some (n, T), and the number of the body."""
        require_rate(self._config, f"episode {part.episode_id} of {part.dataset}", part.rate_hz, "use a model that was trained with a gap_s of {gap_s:g}")
        places, beyond = part.near(steps, window_seconds(self._config))
        found: dict[str, Array] = {"body": np.full(len(steps), self.body_of(part), np.int64)}
        for camera in self._config.cameras:
            found[camera] = part.pictures[camera][places]
            found[f"{camera}.there"] = ~beyond & part.seen[camera][places]
        return found

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return what the model says of each transition of each window, arrays (n, K, ...), as wide as the widest body needs, and whether a camera shows it, `seen` (n, K)."""
        import torch

        cameras = self._config.cameras
        device = self._module.network.query.device
        with torch.inference_mode():
            clips = torch.stack([torch.from_numpy(np.ascontiguousarray(inputs[camera])).to(device) for camera in cameras], dim=1).float() / 255
            there = torch.stack([torch.from_numpy(np.ascontiguousarray(inputs[f"{camera}.there"])).to(device) for camera in cameras], dim=1)
            spoken = self._module(clips, there, torch.from_numpy(np.ascontiguousarray(inputs["body"])).to(device))
            found = self._blank(len(inputs["body"])) | {"seen": seen_transitions(there).cpu().numpy()}
            for each in spoken:
                rows = each.rows.cpu().numpy()
                number = int(inputs["body"][rows[0]])
                for target in self._specs[number]:
                    read = self._module.network.bodies[number][target].read(each.said[target])
                    parts = {"value": read.value, "variance": read.variance, "rotation": read.rotation, "turn_variance": read.turn_variance}
                    parts |= {f"odds{place}": odds for place, odds in enumerate(read.odds)}
                    for name, tensor in parts.items():
                        array = tensor.float().cpu().numpy()
                        found[f"{target}.{name}"][(rows, *(slice(0, size) for size in array.shape[1:]))] = array
        return found

    def _blank(self, count: int) -> dict[str, Array]:
        """Return answers of zeros that have room for every body's."""
        transitions = len(self._config.transitions)
        found: dict[str, Array] = {}
        for target in self._config.targets:
            specs = [each[target] for each in self._specs if target in each]
            if not specs:
                continue
            wide, turns = max(len(spec.scaled_entries) for spec in specs), max(len(spec.of_kind("rotation")) for spec in specs)
            sizes = {"value": (wide,), "variance": (wide,), "rotation": (turns, 3, 3), "turn_variance": (turns,)}
            most = max(len(spec.level_counts) for spec in specs)
            for place in range(most):
                sizes[f"odds{place}"] = (max(spec.level_counts[place] for spec in specs if place < len(spec.level_counts)),)
            found |= {f"{target}.{name}": np.zeros((count, transitions, *size), np.float32) for name, size in sizes.items()}
        return found

    def answers(self, episode: Watched) -> dict[str, Array]:
        """Return the answers for all steps of an episode that is seen whole."""
        parts = [self.answer(self.inputs(episode, np.arange(start, min(start + MODEL_ROWS, episode.steps)))) for start in range(0, episode.steps, MODEL_ROWS)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def labels(self, episode: Watched, answers: Mapping[str, Array]) -> Labels:
        """Return the labels of an episode."""
        number = self.body_of(episode)
        rows = []
        for target, spec in self._specs[number].items():
            places, counts = step_places(target, episode, self._config)
            own = _own(target_answers(answers, target), spec)
            calibration = self._calibrations[number][target]
            voted = vote(places, counts & answers["seen"], own, calibration, episode.steps)
            rows.append(VotedTarget(self._column(number, target, spec), spec, voted, calibration))
        return labels_of_votes(rows)

    def _column(self, number: int, target: str, spec: ActionSpec) -> Column:
        body = self._bodies[number]
        if target == "command":
            assert body.action is not None
            return command_column(body.action, spec, "idm", BY)
        assert body.state is not None
        assert body.displacement is not None
        return displacement_column(body.state, body.displacement, self._config.gap_s, "idm", BY)


def _own(answers: Mapping[str, Array], spec: ActionSpec) -> dict[str, Array]:
    """Return answers as wide as a body's own."""
    wide, turns = len(spec.scaled_entries), len(spec.of_kind("rotation"))
    widths = {"value": wide, "variance": wide, "rotation": turns, "turn_variance": turns}
    widths |= {f"odds{place}": count for place, count in enumerate(spec.level_counts)}
    return {name: answers[name][:, :, :width] for name, width in widths.items()}
