"""The sample arm as an environment: its scripted operator plays it, or anyone who commands joints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Camera, CameraRole, Column, Gripper
from dataengine.core.environment import ACTION, EnvironmentFacts, Observed
from dataengine.samples.arm import CAMERAS, QPOS_NAMES, ArmConfig
from dataengine.samples.closed_loop import Situation, begin, observe, step
from dataengine.samples.expert import Fault, make_plan, pose_on
from dataengine.samples.kinematics import JOINT_HIGH, JOINT_LOW, inverse
from dataengine.samples.scene import intrinsics_px

STATE = "observation.state"
BLOCK = "observation.environment_state"
CONTACT = "contact"
ROLES: dict[str, CameraRole] = {"front": "primary", "wrist": "wrist"}
NOISE_SCALE = (0.1, 0.1, 0.1, 0.03, 0.0)  # rad and m: a perturbation of 1 puts the hand some 4 cm off its path
LOW, HIGH = (*JOINT_LOW, 0.0), (*JOINT_HIGH, 1.0)  # what the arm keeps commands within, so that the one recorded is the one that acted
SETTLE_S = 0.25  # the script waits so long after its last waypoint, as the recorded operator does
MAX_STEPS = 240


def _columns(config: ArmConfig) -> dict[str, Column]:
    gripper = Gripper(4, closed=0.0, open=1.0)
    joints = ActionSpace("joint_position", absolute=True, gripper=gripper, rate_hz=config.control_hz)
    columns = [
        Column(ACTION, dtype="float32", shape=(5,), dims=QPOS_NAMES, unit="rad, m", meaning="action", action_source="commanded", action_space=joints),
        Column(STATE, dtype="float32", shape=(5,), dims=QPOS_NAMES, unit="rad, m", meaning="state", action_space=joints),
        Column(BLOCK, dtype="float32", shape=(4,), dims=("x", "y", "z", "yaw"), unit="m, rad", doc="the block's pose in the arm's base"),
        Column(CONTACT, dtype="bool", meaning="flag", doc="whether the fingers touch the block"),
    ]
    for camera in config.cameras:
        shape = (config.height, config.width, 3)
        seen = Camera(ROLES[camera], intrinsics_px(camera, config.height, config.width))
        columns.append(Column(f"observation.images.{camera}", kind="image", dtype="uint8", shape=shape, camera=seen))
    return {column.name: column for column in columns}


class ArmEnvironment:
    """The sample arm, commanded by absolute joint positions and the gripper's opening, (5,), at 20 Hz.

    The script is the recorded operator's path, with its faults (a share of `ArmConfig.failure_rate`), without its tremor: perturbation is what the caller adds.
    """

    def __init__(self, config: ArmConfig | None = None) -> None:
        self.config = replace(config or ArmConfig(), jitter_ns=0)
        chosen = {"height": self.config.height, "width": self.config.width, "cameras": list(self.config.cameras), "failure_rate": self.config.failure_rate}
        self._facts = EnvironmentFacts(
            "arm",
            "1",
            _columns(self.config),
            self.config.control_hz,
            np.array(LOW),
            np.array(HIGH),
            np.array(NOISE_SCALE),
            MAX_STEPS,
            True,
            "sample_arm",
            chosen,
        )

    @property
    def facts(self) -> EnvironmentFacts:
        """What is true of every episode."""
        return self._facts

    @property
    def task(self) -> str:
        """The instruction of the running episode."""
        return self._now.task

    def reset(self, seed: int) -> Observed:
        """Begin the episode of a seed: task, block, looks and the operator's path all follow from it."""
        self._now = begin(seed, seed % 1_000_000, self.config)
        rng = np.random.default_rng([seed, 3])
        fault: Fault = "none"
        if rng.random() < self.config.failure_rate:
            fault = "missed" if rng.random() < 0.5 else "too_short"
        self._plan = make_plan(self._now.kind, fault, self._now.first_block, self._now.look.pad_xy, rng)
        self._script_steps = int(np.ceil((self._plan.duration_s + SETTLE_S) * self.config.control_hz))
        return self._seen(self._now)

    def step(self, action: Array) -> Observed:
        """Command the joints."""
        self._now = step(self._now, action)
        return self._seen(self._now)

    def _seen(self, situation: Situation) -> Observed:
        state = observe(replace(situation, config=replace(self.config, cameras=()))).state
        values = {
            STATE: state.astype(np.float32),
            BLOCK: situation.world.block.astype(np.float32),
            CONTACT: np.asarray(situation.world.contact),
        }
        return Observed(values, situation.success)

    def render(self) -> Mapping[str, Array]:
        """Return what the cameras see."""
        return {f"observation.images.{name}": image for name, image in observe(self._now).images.items()}

    def expert(self) -> Array | None:
        """Return the operator's next command."""
        if self._now.steps >= self._script_steps:
            return None
        pose = pose_on(self._plan, self._now.steps / self.config.control_hz)
        return np.append(inverse(pose[:4]), pose[4])

    def sample(self, rng: np.random.Generator) -> Array:
        """Return the last command moved by a random step, and now and then another opening."""
        before = self._now.world.command
        command = before + rng.normal(size=5) * self._facts.noise_scale
        command[4] = rng.integers(2) if rng.random() < 0.1 else before[4]
        return np.clip(command, self._facts.low, self._facts.high)

    def close(self) -> None:
        """Hold nothing."""


def arm_environment(height: int = 128, width: int = 128, cameras: tuple[str, ...] = CAMERAS) -> ArmEnvironment:
    """Return the arm with pictures of a size."""
    return ArmEnvironment(ArmConfig(height=height, width=width, cameras=cameras))
