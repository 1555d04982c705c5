"""Episodes of the moving square as a labeller sees them, without a store: the displacement is the action."""

from __future__ import annotations

import numpy as np

from dataengine.core.clock import nominal_timestamps_ns
from dataengine.core.labelling import Watched
from dataengine.samples.moving_square import CAMERA, STATE, MovingSquare


def watched_square(seed: int, steps: int = 40, shift: int = 0, rate_hz: float = 20.0) -> Watched:
    """Return an episode of random commands; `shift` puts each command so many rows too late."""
    world = MovingSquare(max_steps=steps)
    rng = np.random.default_rng(seed)
    seen = world.reset(seed)
    pictures, states, actions = [], [], []
    for _ in range(steps):
        pictures.append(world.render()[CAMERA])
        states.append(seen.values[STATE])
        actions.append(rng.uniform(-0.8, 0.8, 2).astype(np.float32))
        seen = world.step(actions[-1])
    commands = np.roll(np.stack(actions), shift, axis=0)
    every = np.ones(steps, np.bool_)
    facts = world.facts.columns
    return Watched(
        episode_id=f"{seed:032x}",
        dataset="square",
        steps=steps,
        rate_hz=rate_hz,
        t_ns=nominal_timestamps_ns(steps, rate_hz),
        pictures={"camera:primary": np.stack(pictures)},
        seen={"camera:primary": every},
        columns={"action": commands, "state": np.stack(states).astype(np.float32)},
        valid={"action": every, "state": every},
        specs={"action": facts["action"], "state": facts[STATE]},
    )
