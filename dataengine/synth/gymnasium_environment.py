"""Any environment of Gymnasium that renders pictures, by its id: numbers observed, pictures rendered, commands drawn at random."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Camera, Column
from dataengine.core.environment import ACTION, EnvironmentFacts, Observed
from dataengine.core.errors import UsageError
from dataengine.synth.metaworld_environment import INSTALL, render_library

VERSION = "1"
STREAM, STATE = "observation.images.front", "observation.state"
UNSTATED_HZ = 20.0  # where an environment does not say how fast it is shown
MAX_STEPS = 300


class GymnasiumEnvironment:
    """An environment by its Gymnasium id; a discrete action is the number of the choice, a dictionary of observations is joined in the order of its names."""

    def __init__(self, name: str, height: int | None = None, width: int | None = None) -> None:
        if importlib.util.find_spec("gymnasium") is None:
            raise UsageError(f"gym:{name}: needs gymnasium, found none; install it with: {INSTALL}")
        library = render_library()
        if library is not None:
            os.environ.setdefault("MUJOCO_GL", library)
        gymnasium: Any = importlib.import_module("gymnasium")
        try:
            self._world: Any = gymnasium.make(name, render_mode="rgb_array")
            self._world.reset(seed=0)
            picture = self._picture()
        except Exception as error:
            raise UsageError(f"gym:{name}: must be an installed environment that renders rgb_array, got {type(error).__name__}: {str(error)[:300]}") from error
        self._size = height or picture.shape[0], width or picture.shape[1]
        self._space: Any = self._world.action_space
        self._discrete = type(self._space).__name__ == "Discrete"
        if not self._discrete and (type(self._space).__name__ != "Box" or len(self._space.shape) != 1):
            raise UsageError(f"gym:{name}: its action must be one row of numbers or one choice, got {self._space}")
        self._facts = self._describe(name)

    def _describe(self, name: str) -> EnvironmentFacts:
        rate_hz = float(self._world.metadata.get("render_fps") or UNSTATED_HZ)
        dims = 1 if self._discrete else self._space.shape[0]
        space = ActionSpace("other", absolute=None, rate_hz=rate_hz)
        columns = [
            Column(ACTION, dtype="int64" if self._discrete else "float32", shape=(dims,), meaning="action", action_source="commanded", action_space=space),
            Column(STREAM, kind="image", dtype="uint8", shape=(*self._size, 3), camera=Camera("primary")),
        ]
        values = self._flat(self._world.reset(seed=0)[0])
        if values is not None:
            columns.append(Column(STATE, dtype="float32", shape=(len(values),), meaning="state"))
        low = np.zeros(1) if self._discrete else np.asarray(self._space.low, dtype=np.float64)
        high = np.array([self._space.n - 1.0]) if self._discrete else np.asarray(self._space.high, dtype=np.float64)
        settings = {"height": self._size[0], "width": self._size[1]}
        return EnvironmentFacts(
            f"gym:{name}", VERSION, {column.name: column for column in columns}, rate_hz, low, high, np.zeros(dims), MAX_STEPS, False, None, settings
        )

    @property
    def facts(self) -> EnvironmentFacts:
        """What is true of every episode."""
        return self._facts

    @property
    def task(self) -> str:
        """Nothing: such an environment has no instruction."""
        return ""

    def _flat(self, observation: Any) -> Array | None:
        """Return an observation as one row of numbers, None where it holds pictures or anything else."""
        parts = [observation[name] for name in sorted(observation)] if isinstance(observation, Mapping) else [observation]
        arrays = [np.asarray(part) for part in parts]
        if any(array.ndim > 1 or array.dtype.kind not in "fiub" for array in arrays):
            return None
        return np.concatenate([array.reshape(-1).astype(np.float32) for array in arrays])

    def _seen(self, observation: Any, success: bool | None, over: bool) -> Observed:
        values = self._flat(observation)
        return Observed({} if values is None else {STATE: values}, success, over)

    def reset(self, seed: int) -> Observed:
        """Begin the episode of a seed."""
        return self._seen(self._world.reset(seed=seed)[0], None, False)

    def step(self, action: Array) -> Observed:
        """Give a command; the episode is over where the environment says so."""
        given = int(action[0]) if self._discrete else np.asarray(action, dtype=self._space.dtype)
        observation, _, ended, cut, info = self._world.step(given)
        said = info.get("is_success", info.get("success"))
        return self._seen(observation, None if said is None else bool(said), bool(ended or cut))

    def _picture(self) -> Array:
        picture = np.asarray(self._world.render())
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"a picture must be (H, W, 3) uint8, got {picture.shape} {picture.dtype}")
        return picture

    def render(self) -> Mapping[str, Array]:
        """Return the picture, brought to the size that was asked for."""
        import cv2

        picture, (height, width) = self._picture(), self._size
        if picture.shape[:2] != (height, width):
            picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
        return {STREAM: picture}

    def expert(self) -> Array | None:
        """Return nothing: there is no script."""
        return None

    def sample(self, rng: np.random.Generator) -> Array:
        """Return a random command; an unbounded dimension is drawn from the standard normal distribution."""
        low, high = self._facts.low, self._facts.high
        if self._discrete:
            return rng.integers(0, int(high[0]) + 1, 1)
        bounded = np.isfinite(low) & np.isfinite(high)
        drawn = rng.uniform(np.where(bounded, low, 0.0), np.where(bounded, high, 1.0))
        return np.where(bounded, drawn, np.clip(rng.normal(size=len(low)), low, high))

    def close(self) -> None:
        """Close the environment."""
        self._world.close()
