"""An arm recording on its command clock, as a synchronous recorder (RLDS, ALOHA, robomimic) would have written it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.arm import ArmRecording


@dataclass(frozen=True, eq=False)
class ArmSteps:
    """T steps; row t is the newest sample at or before `t_ns[t]`, the instant at which `action[t]` was commanded.

    `qpos`, `qvel`, `effort`, `action` are (T, 5), `ee_pose` (T, 7) position and quat_xyzw, `block_pose` (T, 4), `contact` (T,),
    `reward` (T,) is 1 on the last step of a success. `frame[camera]` is (T,) the camera's frame that is seen at each step.
    """

    t_ns: Array
    qpos: Array
    qvel: Array
    effort: Array
    ee_pose: Array
    action: Array
    block_pose: Array
    contact: Array
    reward: Array
    frame: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.t_ns)


def newest_at(t_ns: Array, at_ns: Array) -> Array:
    """Return the row of the newest sample at or before each time (the first where there is none yet)."""
    return np.clip(np.searchsorted(t_ns, at_ns, side="right") - 1, 0, max(len(t_ns) - 1, 0))


def control_steps(recording: ArmRecording) -> ArmSteps:
    """Lay a recording on the clock of its commands."""
    at = recording.action_t_ns
    # A defect may have sent a clock backwards: the newest sample is then looked up in the order of arrival.
    joint = newest_at(np.maximum.accumulate(recording.joint_t_ns), at)
    truth = newest_at(recording.truth_t_ns, at)
    reward = np.zeros(len(at), dtype=np.float32)
    if recording.success and len(at):
        reward[-1] = 1.0
    return ArmSteps(
        t_ns=at,
        qpos=recording.joint_position[joint],
        qvel=recording.joint_velocity[joint],
        effort=recording.joint_effort[joint],
        ee_pose=np.concatenate([recording.ee_position, recording.ee_quat_xyzw], axis=1)[joint],
        action=recording.action,
        block_pose=recording.block_pose[truth],
        contact=recording.contact[truth],
        reward=reward,
        frame={name: newest_at(np.maximum.accumulate(track.t_ns), at) for name, track in recording.cameras.items()},
    )


def offset_rows(recording: ArmRecording, name: str, rows: Array) -> Array:
    """Return the rows of a stream as its `row_offsets` asks: the last one repeated, or the last ones missing."""
    offset = recording.row_offsets.get(name, 0)
    if offset < 0:
        return rows[:offset]
    return np.concatenate([rows, np.repeat(rows[-1:], offset, axis=0)]) if offset else rows
