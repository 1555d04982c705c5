"""The scripted operator of the sample arm: what it is asked to do, the path of its hand, and whether it worked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.physics import BLOCK_SIDE_M, FINGER_RADIUS_M

TaskKind = Literal["push_left", "push_right", "lift", "place"]
Fault = Literal["none", "missed", "too_short"]

TASK_KINDS: tuple[TaskKind, ...] = ("push_left", "lift", "push_right", "place")
PHRASES: dict[TaskKind, tuple[str, ...]] = {
    "push_left": ("push the {colour} block to the left", "move the {colour} block left", "slide the {colour} block over to the left side"),
    "push_right": ("push the {colour} block to the right", "move the {colour} block right", "slide the {colour} block over to the right side"),
    "lift": ("pick up the {colour} block", "lift the {colour} block", "grasp the {colour} block and raise it"),
    "place": ("put the {colour} block on the pad", "place the {colour} block onto the pad", "pick the {colour} block and set it down on the pad"),
}
HOME = np.array([0.24, 0.0, 0.16, 0.0])
HIGH_M, LOW_M, CARRY_M = 0.13, 0.012, 0.12
PUSH_M = 0.13
PUSH_OPENING = 0.14  # two fingers side by side: one alone would turn the block aside
PUSH_ENOUGH_M = 0.08
LIFT_ENOUGH_M = 0.06
PAD_RADIUS_M = 0.04


@dataclass(frozen=True, eq=False)
class Plan:
    """The path of the hand: waypoints (P, 5) of x_m, y_m, z_m, yaw_rad, opening, reached at `t_s` (P,) from the first command."""

    waypoints: Array
    t_s: Array

    @property
    def duration_s(self) -> float:
        """Return the time of the last waypoint."""
        return float(self.t_s[-1])


def _grasp_yaw(block_yaw: float) -> float:
    """Return the yaw nearest to 0 that lays the fingers on two faces of a block."""
    quarter = np.pi / 2
    return float((block_yaw + quarter / 2) % quarter - quarter / 2)


def make_plan(kind: TaskKind, fault: Fault, block: Array, pad_xy: Array, rng: np.random.Generator) -> Plan:
    """Return the path for a task.

    Args:
        kind: what is asked.
        fault: "missed" aims beside the block, "too_short" stops before it is done.
        block: (4,) pose of the block.
        pad_xy: (2,) centre of the pad in m.
        rng: draws the speed and the small choices of the path.
    """
    speed = rng.uniform(0.16, 0.28)  # m/s between waypoints, on average
    x, y, yaw = float(block[0]), float(block[1]), float(block[3])
    if fault == "missed":
        x -= 0.09
    points: list[tuple[float, ...]] = [(*HOME, 1.0)]
    if kind in ("push_left", "push_right"):
        sign = 1.0 if kind == "push_left" else -1.0
        start = y - sign * (BLOCK_SIDE_M * 0.71 + FINGER_RADIUS_M + rng.uniform(0.02, 0.035))
        travel = PUSH_M + BLOCK_SIDE_M * 0.2 if fault != "too_short" else 0.05
        x += rng.uniform(-0.004, 0.004)
        points += [
            (x, start, HIGH_M, np.pi / 2, PUSH_OPENING),
            (x, start, LOW_M, np.pi / 2, PUSH_OPENING),
            (x, start + sign * (travel + 0.03), LOW_M, np.pi / 2, PUSH_OPENING),
            (x, start + sign * (travel + 0.01), HIGH_M, np.pi / 2, PUSH_OPENING),
            (*HOME, PUSH_OPENING),
        ]
    else:
        turn = _grasp_yaw(yaw)
        points += [(x, y, HIGH_M, turn, 1.0), (x, y, LOW_M, turn, 1.0), (x, y, LOW_M, turn, 0.0)]
        lifted = CARRY_M if fault != "too_short" else 0.03
        points += [(x, y, lifted, turn, 0.0)]
        if kind == "place" and fault != "too_short":
            px, py = float(pad_xy[0]), float(pad_xy[1])
            points += [(px, py, CARRY_M, 0.0, 0.0), (px, py, LOW_M, 0.0, 0.0), (px, py, LOW_M, 0.0, 1.0), (px, py, HIGH_M, 0.0, 1.0), (*HOME, 1.0)]
    waypoints = np.array(points)
    length = np.linalg.norm(np.diff(waypoints[:, :3], axis=0), axis=1)
    turned = 0.12 * np.abs(np.diff(waypoints[:, 3]))
    gripped = 0.07 * np.abs(np.diff(waypoints[:, 4])) * (length < 1e-6)
    t_s = np.concatenate([[0.0], np.cumsum(np.maximum((length + turned + gripped) / speed, 0.3))])
    return Plan(waypoints, t_s)


def pose_on(plan: Plan, t_s: float) -> Array:
    """Return (5,) the planned hand pose and opening at a time: minimum-jerk moves from rest to rest between the waypoints."""
    leg = int(np.clip(np.searchsorted(plan.t_s, t_s, side="right") - 1, 0, len(plan.t_s) - 2))
    share = float(np.clip((t_s - plan.t_s[leg]) / (plan.t_s[leg + 1] - plan.t_s[leg]), 0.0, 1.0))
    weight = share**3 * (10 - 15 * share + 6 * share**2)
    return np.asarray(plan.waypoints[leg] + weight * (plan.waypoints[leg + 1] - plan.waypoints[leg]))


def succeeded(kind: TaskKind, first: Array, last: Array, held: bool, pad_xy: Array) -> bool:
    """Say whether the task was done, from the block's first and last pose (4,) and whether it is held at the end."""
    if kind == "push_left":
        return bool(last[1] - first[1] >= PUSH_ENOUGH_M)
    if kind == "push_right":
        return bool(first[1] - last[1] >= PUSH_ENOUGH_M)
    if kind == "lift":
        return bool(held and last[2] >= LIFT_ENOUGH_M)
    return bool(not held and last[2] < 0.005 and np.hypot(*(last[:2] - pad_xy)) <= PAD_RADIUS_M)
