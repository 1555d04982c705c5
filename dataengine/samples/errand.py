"""A square that fetches something and brings it somewhere: the smallest task that a few demonstrations do not teach and many do, played in microseconds a step.

It must come near a bright spot, take it (the gripper closed), and carry it to a dark one. Nothing of it needs a simulator.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Camera, Column, Gripper
from dataengine.core.environment import ACTION, EnvironmentFacts, Observed
from dataengine.samples.moving_square import draw_square

CAMERA = "observation.images.front"
STATE, WHOLE = "observation.state", "observation.environment_state"
STEP = 0.06  # of the world's side, which is 1: what a command of 1 moves the square
NEAR = 0.08  # how near it must be to take something, and the thing to its goal
STEPS = 80
RATE_HZ = 20.0
SPOT_SHARE = 0.35  # of the square's side: how large the two spots are drawn


def _columns(height: int, width: int) -> dict[str, Column]:
    space = ActionSpace("other", absolute=False, gripper=Gripper(2, closed=1.0, open=0.0), rate_hz=RATE_HZ)
    columns = [
        Column(ACTION, dtype="float32", shape=(3,), dims=("x", "y", "gripper"), meaning="action", action_source="commanded", action_space=space),
        Column(
            STATE,
            dtype="float32",
            shape=(3,),
            dims=("x", "y", "holding"),
            meaning="state",
            doc="the square in a world of side 1, and whether it holds the thing",
        ),
        Column(WHOLE, dtype="float32", shape=(4,), dims=("thing_x", "thing_y", "goal_x", "goal_y"), doc="where the thing is, and where it must go"),
        Column(CAMERA, kind="image", dtype="uint8", shape=(height, width, 3), camera=Camera("primary")),
    ]
    return {column.name: column for column in columns}


class Errand:
    """The world: a command (3,) moves the square right and down by its first two numbers and closes the gripper where the third is above a half."""

    def __init__(self, height: int = 64, width: int = 64) -> None:
        self.height, self.width = height, width
        self._facts = EnvironmentFacts(
            "errand",
            "1",
            _columns(height, width),
            RATE_HZ,
            np.array([-1.0, -1.0, 0.0]),
            np.ones(3),
            np.array([1.0, 1.0, 0.0]),
            STEPS,
            True,
            None,
            {"height": height, "width": width},
        )

    @property
    def facts(self) -> EnvironmentFacts:
        """What is true of every episode."""
        return self._facts

    @property
    def task(self) -> str:
        """The instruction."""
        return "bring the bright spot to the dark one"

    def reset(self, seed: int) -> Observed:
        """Put the square, the thing and its goal somewhere, the last two apart."""
        rng = np.random.default_rng([seed, 0xE4])
        self._at, self._thing, self._goal = rng.uniform(0.15, 0.85, (3, 2))
        while np.linalg.norm(self._goal - self._thing) < 0.25:
            self._goal = rng.uniform(0.15, 0.85, 2)
        self._holding = False
        return self._seen()

    def step(self, action: Array) -> Observed:
        """Move the square, then close or open its gripper."""
        command = np.clip(np.asarray(action, dtype=np.float64), self._facts.low, self._facts.high)
        self._at = np.clip(self._at + STEP * command[:2], 0.0, 1.0)
        if self._holding:  # also in the step in which it lets go
            self._thing = self._at.copy()
        near = float(np.linalg.norm(self._at - self._thing)) < NEAR
        self._holding = bool(command[2] > 0.5) and near
        return self._seen()

    def _seen(self) -> Observed:
        done = float(np.linalg.norm(self._thing - self._goal)) < NEAR
        state = np.array([*self._at, float(self._holding)], dtype=np.float32)
        return Observed({STATE: state, WHOLE: np.concatenate([self._thing, self._goal]).astype(np.float32)}, done, over=done)

    def render(self) -> Mapping[str, Array]:
        """Return the picture: the square grey, the thing bright red on it, the goal blue below it."""
        size = np.array([self.width - 1, self.height - 1])
        picture = draw_square(self._at * size, self.height, self.width)
        for place, colour in ((self._goal, (20, 40, 250)), (self._thing, (250, 60, 20))):
            x, y = (place * size).tolist()
            half = SPOT_SHARE * 0.1 * min(self.height, self.width) + 0.5
            rows, columns = np.ogrid[: self.height, : self.width]
            picture[(abs(rows - y) <= half) & (abs(columns - x) <= half)] = colour
        return {CAMERA: picture}

    def expert(self) -> Array | None:
        """Return the command straight towards the thing, or with it towards its goal; the gripper closes on arrival and stays closed."""
        target = self._goal if self._holding else self._thing
        away = target - self._at
        command = away / max(STEP, float(np.abs(away).max()))
        closed = self._holding or float(np.linalg.norm(self._at + STEP * command - target)) < NEAR / 2
        return np.array([*command, float(closed)])

    def sample(self, rng: np.random.Generator) -> Array:
        """Return a random command."""
        return np.array([*rng.uniform(-1.0, 1.0, 2), float(rng.integers(2))])

    def close(self) -> None:
        """Hold nothing."""
