"""What moves in the sample world: joints that follow commands with a known lag, and a block that moves only when it is touched.

Joints and gripper are critically damped servos: x'' = w^2 (command - x) - 2 w x'. A command acts `DEAD_TIME_NS` after it was given and is held
until the next one acts, so the state has a closed form between commands, and a steady ramp is followed `LAG_NS` = dead time + 2 / w later.
The block is pushed quasi-statically: a finger that would enter it displaces it along the contact normal and turns it about its centre, as
an ellipsoidal limit surface says (Goyal, Ruina, Papadopoulos 1991), and it is held once both fingers close on opposite faces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.kinematics import GRIPPER_WIDTH_M, forward

SERVO_RAD_S = 40.0
DEAD_TIME_NS = 10_000_000
LAG_NS = DEAD_TIME_NS + int(2e9 / SERVO_RAD_S)  # 60 ms
SUBSTEP_NS = 2_500_000
BLOCK_SIDE_M = 0.05
BLOCK_HEIGHT_M = 0.045
FINGER_RADIUS_M = 0.008
PATCH_RADIUS_M = 0.4 * BLOCK_SIDE_M  # of the limit surface: moment over force
CONTACT_PASSES = 12
HELD_OPENING = BLOCK_SIDE_M / GRIPPER_WIDTH_M


def follow(position: Array, velocity: Array, command: Array, elapsed_s: Array | float) -> tuple[Array, Array, Array]:
    """Return position, velocity and acceleration of servos `elapsed_s` after a command began to act."""
    offset = position - command
    slope = velocity + SERVO_RAD_S * offset
    decay = np.exp(-SERVO_RAD_S * np.asarray(elapsed_s))
    x = (offset + slope * elapsed_s) * decay
    v = (velocity - SERVO_RAD_S * slope * elapsed_s) * decay
    return command + x, v, -(SERVO_RAD_S**2) * x - 2 * SERVO_RAD_S * v


@dataclass(frozen=True, eq=False)
class WorldState:
    """The world at one instant.

    `servo` and `servo_velocity` are (5,): four joints (rad, rad, rad, m) and the gripper's free opening (0 closed, 1 open);
    `command` (5,) is what acts now. `block` is (4,): x_m, y_m, z_m of its bottom, yaw_rad. `grip` is the block's pose in the hand while it is held.
    """

    t_ns: int
    servo: Array
    servo_velocity: Array
    command: Array
    block: Array
    grip: Array | None = None
    contact: bool = False


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened between two commands: M instants with the block's pose (M, 4), contact (M,), held (M,); and the knots of the servos."""

    t_ns: Array
    block: Array
    contact: Array
    held: Array
    knots: tuple[tuple[int, Array, Array, Array], ...]


def _push(block: Array, finger_xy: tuple[float, float]) -> Array | None:
    """Return the block's pose after a finger at `finger_xy` has displaced it, None where they do not touch."""
    cosine, sine = np.cos(block[3]), np.sin(block[3])
    dx, dy = finger_xy[0] - block[0], finger_xy[1] - block[1]
    local_x, local_y = cosine * dx + sine * dy, -sine * dx + cosine * dy
    half = BLOCK_SIDE_M / 2
    near_x, near_y = min(max(local_x, -half), half), min(max(local_y, -half), half)
    gap_x, gap_y = near_x - local_x, near_y - local_y
    distance = float(np.hypot(gap_x, gap_y))
    if distance >= FINGER_RADIUS_M:
        return None
    if distance > 1e-9:
        normal_x, normal_y, depth = gap_x / distance, gap_y / distance, FINGER_RADIUS_M - distance
    else:  # the finger's axis is inside: out through the nearest face
        to_x, to_y = half - abs(local_x), half - abs(local_y)
        if to_x <= to_y:
            normal_x, normal_y, depth = -float(np.sign(local_x) or 1.0), 0.0, to_x + FINGER_RADIUS_M
        else:
            normal_x, normal_y, depth = 0.0, -float(np.sign(local_y) or 1.0), to_y + FINGER_RADIUS_M
    lever = near_x * normal_y - near_y * normal_x
    travel = depth / (1 + (lever / PATCH_RADIUS_M) ** 2)
    turn = travel * lever / PATCH_RADIUS_M**2
    return np.array(
        [
            block[0] + travel * (cosine * normal_x - sine * normal_y),
            block[1] + travel * (sine * normal_x + cosine * normal_y),
            block[2],
            block[3] + turn,
        ]
    )


def _fingers(hand: Array, opening: float) -> tuple[tuple[float, float], ...]:
    """Return the axes of both fingers on the table: left and right of the hand, inner faces `opening` apart."""
    reach = max(opening, 0.0) * GRIPPER_WIDTH_M / 2 + FINGER_RADIUS_M
    side_x, side_y = -np.sin(hand[3]) * reach, np.cos(hand[3]) * reach
    return (hand[0] + side_x, hand[1] + side_y), (hand[0] - side_x, hand[1] - side_y)


def _held_pose(hand: Array, grip: Array) -> Array:
    cosine, sine = np.cos(hand[3]), np.sin(hand[3])
    return np.array([hand[0] + cosine * grip[0] - sine * grip[1], hand[1] + sine * grip[0] + cosine * grip[1], max(hand[2] + grip[2], 0.0), hand[3] + grip[3]])


def _grip_pose(hand: Array, block: Array) -> Array:
    cosine, sine = np.cos(hand[3]), np.sin(hand[3])
    dx, dy = block[0] - hand[0], block[1] - hand[1]
    return np.array([cosine * dx + sine * dy, -sine * dx + cosine * dy, block[2] - hand[2], block[3] - hand[3]])


def _meet(block: Array, grip: Array | None, hand: Array, opening: float) -> tuple[Array, Array | None, bool]:
    """Let the hand act on the block for one substep; return the block's pose, its pose in the hand while held, and whether they touch."""
    if grip is not None:
        if opening <= HELD_OPENING + 0.02:
            return _held_pose(hand, grip), grip, True
        # Let go: it drops to the table within this substep, which is the last one of the contact.
        return np.array([block[0], block[1], 0.0, block[3]]), None, True
    if hand[2] >= BLOCK_HEIGHT_M or np.hypot(hand[0] - block[0], hand[1] - block[1]) > 0.13:
        return block, None, False
    fingers = _fingers(hand, opening)
    moved, touched = block, False
    for _ in range(CONTACT_PASSES):
        clear = True
        for finger in fingers:
            after = _push(moved, finger)
            if after is not None:
                clear = clear and bool(np.abs(after - moved).max() < 1e-6)
                moved, touched = after, True
        if clear:
            break
        fingers = fingers[::-1]  # neither finger goes first for good, or the block would creep round
    if not touched:
        return block, None, False
    if HELD_OPENING - 0.05 < opening <= HELD_OPENING + 0.01:
        grip = _grip_pose(hand, moved)
        if abs(grip[0]) < BLOCK_SIDE_M / 3 and abs(grip[1]) < FINGER_RADIUS_M:
            return moved, grip, True
    return moved, None, True


def advance(state: WorldState, command: Array, until_ns: int) -> tuple[WorldState, Trace]:
    """Give `command` (5,) at the state's time and return the world at `until_ns`, with what happened on the way.

    The command acts `DEAD_TIME_NS` later: the interval must be longer than that.
    """
    acts_ns = state.t_ns + DEAD_TIME_NS
    if until_ns <= acts_ns:
        raise ValueError(f"until_ns: commands must be more than {DEAD_TIME_NS} ns apart, got {until_ns - state.t_ns}")
    pre = (acts_ns - state.t_ns) * 1e-9
    middle, middle_velocity, _ = follow(state.servo, state.servo_velocity, state.command, pre)
    count = -(-(until_ns - state.t_ns) // SUBSTEP_NS)
    t_ns = state.t_ns + (np.arange(1, count + 1, dtype=np.int64) * (until_ns - state.t_ns)) // count
    late = t_ns >= acts_ns
    elapsed = np.where(late, t_ns - acts_ns, t_ns - state.t_ns)[:, None] * 1e-9
    servo, servo_velocity, _ = follow(
        np.where(late[:, None], middle, state.servo),
        np.where(late[:, None], middle_velocity, state.servo_velocity),
        np.where(late[:, None], command, state.command),
        elapsed,
    )  # (M, 5)
    hands = forward(servo[:, :4])  # (M, 4)
    block, grip, contact = state.block, state.grip, state.contact
    blocks, contacts, held = np.empty((count, 4)), np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    for row in range(count):
        block, grip, contact = _meet(block, grip, hands[row], float(servo[row, 4]))
        blocks[row], contacts[row], held[row] = block, contact, grip is not None
    knots = (
        (state.t_ns, state.servo, state.servo_velocity, state.command),
        (acts_ns, middle, middle_velocity, np.asarray(command, dtype=np.float64)),
    )
    after = replace(state, t_ns=until_ns, servo=servo[-1], servo_velocity=servo_velocity[-1], command=knots[1][3], block=block, grip=grip, contact=contact)
    return after, Trace(t_ns, blocks, contacts, held, knots)
