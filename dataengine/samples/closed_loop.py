"""The sample arm under somebody else's command: begin an episode, look, give a command, look again, and say whether the task was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.samples.arm import CAMERAS, ArmConfig, episode_start, gripper_opening
from dataengine.samples.expert import TaskKind, succeeded
from dataengine.samples.kinematics import JOINT_HIGH, JOINT_LOW, forward
from dataengine.samples.physics import WorldState, advance
from dataengine.samples.scene import Look, render


@dataclass(frozen=True, eq=False)
class Situation:
    """An episode that is being played: the world as it is now, what is asked for, and how many commands were given.

    `command` is (5,): the last one; `first_block` is (4,), the block's pose as the episode began.
    """

    seed: int
    index: int
    config: ArmConfig
    kind: TaskKind
    task: str
    look: Look
    first_block: Array
    world: WorldState
    steps: int = 0

    @property
    def success(self) -> bool:
        """Whether the task is done as things are."""
        return succeeded(self.kind, self.first_block, self.world.block, self.world.grip is not None, self.look.pad_xy)


@dataclass(frozen=True, eq=False)
class Observation:
    """What a policy may see: `state` (5,) float64 as a recording has it, `images` by camera (H, W, 3) uint8 RGB, and the instruction."""

    state: Array
    images: Mapping[str, Array]
    task: str


def begin(seed: int, index: int, config: ArmConfig | None = None) -> Situation:
    """Return the beginning of episode `index` of the world with `seed`: the same task, block and looks as `record` gives it."""
    config = config or ArmConfig()
    kind, _, look, world, phrases = episode_start(seed, index, config)
    return Situation(seed, index, config, kind, phrases[0], look, world.block, world)


def observe(situation: Situation) -> Observation:
    """Return what is seen and measured now."""
    config, world = situation.config, situation.world
    opening = float(gripper_opening(world.servo[4], np.asarray(world.grip is not None)))
    hand = forward(world.servo[None, :4])[0]
    images = {}
    for number, camera in enumerate(CAMERAS):
        if camera in config.cameras:
            grain = situation.steps * 7 + number * 3 + situation.index
            images[camera] = render(camera, world.servo[:4], hand, opening, world.block, situation.look, config.height, config.width, grain)
    return Observation(np.append(world.servo[:4], opening), images, situation.task)


def step(situation: Situation, action: Array) -> Situation:
    """Command joint positions and gripper opening (5,) for one control period; return what is then. The arm keeps each command within its joints' limits.

    Raises:
        UsageError: the command is not five finite numbers.
    """
    command = np.asarray(action, dtype=np.float64)
    if command.shape != (5,) or not np.isfinite(command).all():
        raise UsageError(f"action: must be 5 finite numbers (shoulder, elbow, wrist, lift, gripper), got {action!r}")
    command = np.clip(command, [*JOINT_LOW, 0.0], [*JOINT_HIGH, 1.0])
    world, _ = advance(situation.world, command, situation.world.t_ns + round(1e9 / situation.config.control_hz))
    return replace(situation, world=world, steps=situation.steps + 1)


def play(policy: Callable[[Observation], Array], situation: Situation, steps: int) -> Situation:
    """Let a policy, which is asked before each command, act for so many control periods; return how it ended."""
    for _ in range(steps):
        situation = step(situation, policy(observe(situation)))
    return situation
