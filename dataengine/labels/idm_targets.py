"""What a trained model says of each body, which body an episode has, and what the model was calibrated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataengine.core.action_spec import ActionSpec
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Watched
from dataengine.labels.idm_bodies import Body
from dataengine.models.calibration import Calibration
from dataengine.models.inverse_dynamics_fit import Usual


def targets_said(body: Body, usual: Usual | None) -> dict[str, ActionSpec]:
    """Return how each target of a body is predicted that was seen in training: of a displacement that never was, nothing can be said.

    Raises:
        UsageError: none was seen.
    """
    specs = {"command": body.command, "displacement": usual.spec(body.targets) if usual is not None and float(usual.count) else None}
    found = {name: spec for name, spec in specs.items() if spec is not None}
    if not found:
        raise UsageError(
            f"body {body.name!r}: must have two steps a gap apart whose states are known, pictures of them, and numbers in every entry, "
            f"found none in training; leave out {', '.join(body.datasets)}"
        )
    return found


def body_number(bodies: Sequence[Body], episode: Watched) -> int | None:
    """Return the number of the body that an episode has: that of its dataset, as far as embodiments are known; that of its embodiment; or the only one; None where it is another."""
    for number, body in enumerate(bodies):
        if episode.dataset in body.datasets and (None in (body.embodiment, episode.embodiment) or body.embodiment == episode.embodiment):
            return number
    if episode.embodiment is None:
        return 0 if len(bodies) == 1 else None
    return next((number for number, body in enumerate(bodies) if body.embodiment == episode.embodiment), None)


def named(bodies: Sequence[Body], number: int, target: str) -> str:
    """Return what a target is called among those of all bodies."""
    return f"{bodies[number].name}.{target}" if len(bodies) > 1 else target


def calibrated_on(bodies: Sequence[Body], calibrations: Sequence[Mapping[str, Calibration]]) -> dict[str, int]:
    """Return of each target on how many held-out episodes it was calibrated; where on none, its intervals are no more than what the model thinks of itself."""
    return {named(bodies, number, target): each.episodes for number, told in enumerate(calibrations) for target, each in told.items()}


def lacks(bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences on what a model, whose bodies are told as in its `config.json`, does not say, or says without having been calibrated."""
    found = []
    for body in bodies:
        for target in ("command", "displacement"):
            if body[target] is not None and target not in body["targets"]:
                found.append(
                    f"body {body['name']!r}: no {target} was seen whole in training, so that the model says none; see whether entries of the state are missing"
                )
        for target, each in body["targets"].items():
            if not each["calibration"]["episodes"]:
                found.append(
                    f"body {body['name']!r}: no held-out episode shows its {target}, so that it is not calibrated: intervals and confidences are what the model "
                    "thinks of itself; hold out more episodes (held_out in --config)"
                )
    return found
