"""Labelling with a mapping from latent actions to real ones: values with intervals and confidences, in the columns that an inverse-dynamics model would fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from dataengine.labels.idm_windows import steps_in
from dataengine.labels.latent_labeller import GAP, ROWS, LatentLabeller
from dataengine.labels.voted_labels import VotedTarget, labels_of_votes
from dataengine.models.calibration import Calibration, vote

if TYPE_CHECKING:
    from dataengine.models.mapped_action import MappedModule

KIND = "mapped"
BY = "read off a latent action"
SAID = ("value", "variance", "rotation", "turn_variance")


def require_gap(gap_s: float, where: str, rate_hz: float | None) -> None:
    """Raise UsageError where the gap of the latents is no whole number of steps: a displacement over it would be one of now so many steps, now one more."""
    if rate_hz is not None and steps_in(gap_s, rate_hz) is None:
        raise UsageError(
            f"{where}: must have a whole number of steps, one or more, in the {gap_s:g} s that a latent tells, got {gap_s * rate_hz:.3g} at {rate_hz:g} steps a second; "
            f"use latents with a gap_s of {max(1, round(gap_s * rate_hz)) / rate_hz:g}"
        )


@dataclass(frozen=True, eq=False)
class Target:
    """How a target of a body is predicted, and how its predictions are corrected."""

    spec: ActionSpec
    calibration: Calibration


class MappedLabeller:
    """Labels each step with the command at it and the displacement until a gap later, read off the latent of that gap.

    Args:
        module: the mapping, on its device.
        latent: the labeller of its latents.
        bodies: whose actions it can say.
        targets: of each body by name.
        model: its digest.
        trained_on: `<store id>@<version>`.
    """

    def __init__(
        self,
        module: MappedModule,
        latent: LatentLabeller,
        bodies: Sequence[Body],
        targets: Sequence[Mapping[str, Target]],
        model: str,
        trained_on: str | None,
    ) -> None:
        self.module, self.latent = module.eval(), latent
        self._bodies, self._targets = bodies, targets
        self._model, self._trained_on = model, trained_on

    @property
    def needs(self) -> Needs:
        return self.latent.needs

    def label_set(self, name: str) -> LabelSet:
        seen = self.latent.label_set(name)
        calibration = digest_json([{target: each.calibration.as_json() for target, each in targets.items()} for targets in self._targets])
        parameters: dict[str, Any] = {
            "method": KIND,
            "gap_s": self.latent.gap_s,
            "latent_model": self.latent.model,
            "calibration": calibration,
            "interval": 0.68,
        }
        calibrations = [{target: each.calibration for target, each in targets.items()} for targets in self._targets]
        parameters |= {"calibrated_on": calibrated_on(self._bodies, calibrations)}
        parameters["learned_from"] = [dataset for body in self._bodies for dataset in body.datasets]
        return LabelSet(name, self._model, self._trained_on, seen.preprocessing, parameters)

    def body_of(self, episode: Watched) -> int:
        """Return the number of the body whose actions an episode is labelled with: that of its dataset or its embodiment, or the only one where nobody knows.

        Raises:
            UsageError: the mapping does not know this body.
        """
        number = body_number(self._bodies, episode)
        if number is not None:
            return number
        known = ", ".join(body.name for body in self._bodies)
        raise UsageError(
            f"episode {episode.episode_id} of {episode.dataset}: must be of a body that the mapping was trained on ({known}), got {episode.embodiment or 'one that is not known'}"
        )

    def inputs(self, part: Watched, steps: Array) -> dict[str, Array]:
        require_gap(self.latent.gap_s, f"episode {part.episode_id} of {part.dataset}", part.rate_hz)
        return {**self.latent.inputs(part, steps), "body": np.full(len(steps), self.body_of(part), np.int64)}

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        import torch

        count = len(inputs["body"])
        found = self._blank(count)
        found |= {"there": inputs["there"], GAP: inputs[GAP]}
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            for start in range(0, count, ROWS):
                clips = torch.from_numpy(np.array(inputs["pictures"][start : start + ROWS])).to(device).float() / 255
                read = self.module(clips)
                bodies = inputs["body"][start : start + ROWS]
                for number in sorted(set(bodies.tolist())):
                    mine = np.flatnonzero(bodies == number)
                    for target in self._targets[number]:
                        head = self.module.head(number, target)
                        said = head.read(head(read[torch.from_numpy(mine).to(device)]))
                        parts: dict[str, Any] = {name: getattr(said, name) for name in SAID} | {f"odds{place}": odds for place, odds in enumerate(said.odds)}
                        for name, tensor in parts.items():
                            array = tensor.float().cpu().numpy()
                            found[f"{target}.{name}"][start + mine, : array.shape[1]] = array
        return found

    def _blank(self, count: int) -> dict[str, Array]:
        """Return answers of zeros (n, ...) that have room for those of every body."""
        sizes: dict[str, list[int]] = {}
        for targets in self._targets:
            for target, each in targets.items():
                wide, turns = len(each.spec.scaled_entries), len(each.spec.of_kind("rotation"))
                widths = {"value": wide, "variance": wide, "rotation": turns, "turn_variance": turns}
                widths |= {f"odds{place}": levels for place, levels in enumerate(each.spec.level_counts)}
                for name, width in widths.items():
                    sizes.setdefault(f"{target}.{name}", []).append(width)
        return {name: np.zeros((count, max(widths), *((3, 3) if name.endswith(".rotation") else ())), np.float32) for name, widths in sizes.items()}

    def spoken(self, answers: Mapping[str, Array], number: int, target: str) -> tuple[dict[str, Array], Array, Array]:
        """Return what was said of a target of a body as of windows with one transition: parts (T, 1, ...), the steps (T, 1), and whether there is an answer (T, 1)."""
        spec = self._targets[number][target].spec
        wide, turns = len(spec.scaled_entries), len(spec.of_kind("rotation"))
        widths = {"value": wide, "variance": wide, "rotation": turns, "turn_variance": turns}
        widths |= {f"odds{place}": levels for place, levels in enumerate(spec.level_counts)}
        parts = {name: answers[f"{target}.{name}"][:, None, :width] for name, width in widths.items()}
        there = answers["there"].astype(np.bool_)
        return parts, np.arange(len(there))[:, None], there[:, None]

    def labels(self, episode: Watched, answers: Mapping[str, Array]) -> Labels:
        number = self.body_of(episode)
        rows = []
        for target, each in self._targets[number].items():
            parts, places, there = self.spoken(answers, number, target)
            voted = vote(places, there, parts, each.calibration, episode.steps)
            rows.append(VotedTarget(self._column(number, target, each.spec), each.spec, voted, each.calibration))
        return labels_of_votes(rows)

    def _column(self, number: int, target: str, spec: ActionSpec) -> Column:
        body = self._bodies[number]
        if target == "command":
            assert body.action is not None
            return command_column(body.action, spec, "latent", BY)
        assert body.state is not None
        assert body.displacement is not None
        return displacement_column(body.state, body.displacement, self.latent.gap_s, "latent", BY)
