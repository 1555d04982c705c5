"""A bright square on a dark field whose displacement is the command: the smallest world in which an action can be read off the pictures exactly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Camera, Column
from dataengine.core.environment import ACTION, EnvironmentFacts, Observed

CAMERA = "observation.images.front"
STATE = "observation.state"
SIDE_SHARE = 0.2  # of the picture: the square's side
STEP_PX = 3.0  # a command of 1 moves the square so far in a picture of 64 px
PULL = 0.15  # the script walks at random and is drawn back to the middle, so that walls hardly ever stop it
STEPS = 60


def draw_square(centre_px: Array, height: int, width: int) -> Array:
    """Return (H, W, 3) uint8 of a square around (x, y) px, edges at fractions of a pixel drawn as shades."""
    half = SIDE_SHARE * min(height, width) / 2
    covered = []
    for length, middle in ((width, float(centre_px[0])), (height, float(centre_px[1]))):
        edges = np.arange(length + 1) - 0.5
        inside = np.clip(edges, middle - half, middle + half)
        covered.append(np.diff(inside))  # share of each pixel between the square's sides
    shade = np.rint(30 + 190 * covered[1][:, None] * covered[0][None, :]).astype(np.uint8)  # (H, W)
    return np.repeat(shade[:, :, None], 3, axis=2)


class MovingSquare:
    """The square's world: a command (2,) in [-1, 1] moves it right and down at once, and stops it at the walls."""

    def __init__(self, height: int = 64, width: int = 64, max_steps: int = STEPS) -> None:
        self.height, self.width = height, width
        action = Column(
            ACTION, dtype="float32", shape=(2,), dims=("x", "y"), meaning="action", action_source="commanded", action_space=ActionSpace("other", absolute=False)
        )
        state = Column(STATE, dtype="float32", shape=(2,), dims=("x", "y"), unit="px", meaning="state")
        camera = Column(CAMERA, kind="image", dtype="uint8", shape=(height, width, 3), camera=Camera("primary"))
        self._facts = EnvironmentFacts(
            "square",
            "1",
            {ACTION: action, STATE: state, CAMERA: camera},
            20.0,
            -np.ones(2),
            np.ones(2),
            np.ones(2),
            max_steps,
            True,
            None,
            {"height": height, "width": width, "max_steps": max_steps},
        )
        self._size = np.array([width, height], dtype=np.float64)

    @property
    def facts(self) -> EnvironmentFacts:
        """What is true of every episode."""
        return self._facts

    @property
    def task(self) -> str:
        """The instruction."""
        return "move the square"

    def reset(self, seed: int) -> Observed:
        """Put the square somewhere near the middle."""
        self._rng = np.random.default_rng([seed, 0x50])
        self._at = self._size * self._rng.uniform(0.35, 0.65, 2)
        self._walk = np.zeros(2)
        self._steps = 0
        return self._seen()

    def step(self, action: Array) -> Observed:
        """Move the square."""
        half = SIDE_SHARE * float(self._size.min()) / 2
        moved = self._at + np.clip(action, -1.0, 1.0) * STEP_PX * float(self._size.min()) / 64
        self._at = np.clip(moved, half, self._size - 1 - half)
        self._steps += 1
        return self._seen()

    def _seen(self) -> Observed:
        return Observed({STATE: self._at.astype(np.float32)})

    def render(self) -> Mapping[str, Array]:
        """Return the picture."""
        return {CAMERA: draw_square(self._at, self.height, self.width)}

    def expert(self) -> Array | None:
        """Return the next move of a random walk with pauses, which stays near the middle."""
        if self._steps >= self._facts.max_steps:
            return None
        resting = self._rng.random() < 0.25
        away = (self._at / self._size - 0.5) * 2
        self._walk = 0.6 * self._walk + 0.5 * self._rng.normal(size=2) - PULL * away
        return np.zeros(2) if resting else np.clip(self._walk, -1.0, 1.0)

    def sample(self, rng: np.random.Generator) -> Array:
        """Return a random move."""
        return rng.uniform(-1.0, 1.0, 2)

    def close(self) -> None:
        """Hold nothing."""
