"""The sample world recorded: a pure function of (seed, index) that returns every sensor on its own clock, and the truth.

Clocks start at the episode's start: joints and the inertial sensor at 200 Hz, each camera at 30 Hz, commands at the control rate, each with
its own offset and jitter. A command is given at `action_t_ns[k]`, acts `physics.DEAD_TIME_NS` later, and the joints then follow with
`physics.LAG_NS` on a ramp. `control_steps` (in `steps.py`) lays all of it on the command clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dataengine.core.arrays import Array, read_only
from dataengine.samples.barcode import Barcode, stamp
from dataengine.samples.expert import HOME, PHRASES, TASK_KINDS, Fault, TaskKind, make_plan, pose_on, succeeded
from dataengine.samples.kinematics import JOINT_NAMES, forward, inverse, quat_xyzw_from_yaw
from dataengine.samples.physics import HELD_OPENING, WorldState, advance, follow
from dataengine.samples.scene import COLOURS, TEXTURES, Look, intrinsics_px, render

CAMERAS = ("front", "wrist")
QPOS_NAMES = (*JOINT_NAMES, "gripper")
EPOCH_NS = 1_760_000_000_000_000_000  # when the first episode of every seed starts, 2025-10-09
EPISODE_SPACING_NS = 120_000_000_000
INERTIA = np.array([0.9, 0.35, 0.05, 3.0, 0.2])  # of each servo: effort = inertia * acceleration + friction * velocity
FRICTION = np.array([2.0, 1.2, 0.2, 14.0, 0.5])


@dataclass(frozen=True)
class ArmConfig:
    """How the world is recorded.

    Args:
        height: of pictures in px.
        width: of pictures in px.
        cameras: which of "front" and "wrist" to render; () for numbers only.
        control_hz: rate of commands.
        camera_hz: rate of each camera.
        joint_hz: rate of joint and inertial samples.
        jitter_ns: standard deviation of every sample's time.
        action_noise_m: size of the operator's slow tremor.
        failure_rate: share of episodes in which the operator fails.
        barcode: whether each picture carries its frame, camera and episode as a strip of blocks.
        max_steps: cut the episode after so many commands (success is judged by then); None for the whole task.
    """

    height: int = 128
    width: int = 128
    cameras: tuple[str, ...] = CAMERAS
    control_hz: float = 20.0
    camera_hz: float = 30.0
    joint_hz: float = 200.0
    jitter_ns: int = 150_000
    action_noise_m: float = 0.0015
    failure_rate: float = 0.15
    barcode: bool = False
    max_steps: int | None = None


@dataclass(frozen=True, eq=False)
class CameraTrack:
    """What one camera saw: `t_ns` (N,) int64, `images` (N, H, W, 3) uint8 RGB, intrinsics (fx, fy, cx, cy) in px, and where the block was.

    `replaced` gives, for single frames, bytes that a writer of encoded pictures uses instead of the encoded image: the defects' door.
    """

    t_ns: Array
    images: Array
    intrinsics_px: tuple[float, float, float, float]
    replaced: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ArmRecording:
    """One episode: streams at their native rates (times int64 ns from `start_ns`, which is ns since the epoch), and the truth.

    `joint_position`, `joint_velocity`, `joint_effort` are (N, 5) float64: shoulder, elbow, wrist (rad), lift (m), gripper (0 closed, 1 open).
    `ee_position` is (N, 3) m and `ee_quat_xyzw` (N, 4), base from hand. `linear_acceleration` (N, 3) m/s^2, gravity included, and
    `angular_velocity` (N, 3) rad/s are in the hand's frame, at `imu_t_ns` (which is not the joints' clock).
    `action` is (K, 5): the commanded joint positions and gripper opening, absolute. Truth: at `truth_t_ns` (M,) the block's pose (M, 4) as
    x_m, y_m, z_m, yaw_rad, whether the hand touched it in the step that ends then, and whether it is held. `row_offsets` names streams of
    step-based formats that are to be written with so many rows more or fewer than the others.
    """

    seed: int
    index: int
    config: ArmConfig
    kind: TaskKind
    fault: Fault
    task: str
    phrases: tuple[str, ...]
    success: bool
    colour: str
    start_ns: int
    joint_t_ns: Array
    joint_position: Array
    joint_velocity: Array
    joint_effort: Array
    ee_position: Array
    ee_quat_xyzw: Array
    imu_t_ns: Array
    linear_acceleration: Array
    angular_velocity: Array
    action_t_ns: Array
    action: Array
    cameras: Mapping[str, CameraTrack]
    truth_t_ns: Array
    block_pose: Array
    contact: Array
    held: Array
    pad_xy: Array
    row_offsets: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                object.__setattr__(self, name, read_only(value))

    @property
    def name(self) -> str:
        """Return a name for files of this episode."""
        return f"episode_{self.index:06d}"


@dataclass(frozen=True, eq=False)
class _Motion:
    """The servos over time in closed form: knots (P,) and the state (P, 5) from which each piece starts."""

    t_ns: Array
    servo: Array
    velocity: Array
    command: Array

    def at(self, t_ns: Array) -> tuple[Array, Array, Array]:
        piece = np.clip(np.searchsorted(self.t_ns, t_ns, side="right") - 1, 0, len(self.t_ns) - 1)
        elapsed = (t_ns - self.t_ns[piece])[:, None] * 1e-9
        return follow(self.servo[piece], self.velocity[piece], self.command[piece], elapsed)


def _clock(rng: np.random.Generator, offset_ns: int, rate_hz: float, until_ns: int, jitter_ns: int) -> Array:
    """Return times from `offset_ns` to before `until_ns`, each off by a jitter of at most a fifth of the period: strictly increasing."""
    period = 1e9 / rate_hz
    count = max(int((until_ns - offset_ns) / period), 0)
    jitter = np.clip(rng.normal(0, jitter_ns, count), -period / 5, period / 5) if jitter_ns else np.zeros(count)
    times = offset_ns + np.rint(np.arange(count) * period + jitter)
    return np.asarray(np.maximum(times, 0).astype(np.int64))


def episode_start(seed: int, index: int, config: ArmConfig) -> tuple[TaskKind, Fault, Look, WorldState, tuple[str, ...]]:
    """Draw what an episode is about and the world in which it starts."""
    rng = np.random.default_rng([seed, index, 0])
    kind = TASK_KINDS[(index + int(np.random.default_rng([seed, 99]).integers(4))) % 4]
    fault: Fault = "none"
    if rng.random() < config.failure_rate:
        fault = "missed" if rng.random() < 0.5 else "too_short"
    colour = tuple(COLOURS)[int(rng.integers(len(COLOURS)))]
    block = np.array([rng.uniform(0.27, 0.37), rng.uniform(-0.11, 0.11), 0.0, rng.uniform(-0.45, 0.45)])
    pad_y = float(block[1]) + float(rng.choice([-1.0, 1.0]) if abs(block[1]) < 0.03 else -np.sign(block[1])) * rng.uniform(0.12, 0.2)
    pad_xy = np.array([rng.uniform(0.26, 0.36), pad_y])
    clutter = [
        (rng.uniform(-0.05, 0.5), side * rng.uniform(0.34, 0.5), rng.uniform(-1.5, 1.5), *rng.uniform(0.03, 0.09, 3), rng.random(), rng.uniform(0.6, 1.1))
        for side in (-1, 1, -1, 1)
    ]
    gain = rng.uniform(0.85, 1.1) * rng.uniform(0.95, 1.05, 3)
    look = Look(colour, int(rng.integers(TEXTURES)), gain, pad_xy, np.array(clutter))
    order = rng.permutation(len(PHRASES[kind]))
    phrases = tuple(PHRASES[kind][row].format(colour=colour) for row in order)
    servo = np.concatenate([inverse(HOME), [1.0]])
    return kind, fault, look, WorldState(0, servo, np.zeros(5), servo, block), phrases


def _operate(
    seed: int, index: int, config: ArmConfig, kind: TaskKind, fault: Fault, look: Look, first: WorldState
) -> tuple[Array, Array, _Motion, Array, Array, Array, Array]:
    """Let the operator do the task; return the commands' times (K,) and values (K, 5), the motion, and the truth."""
    rng = np.random.default_rng([seed, index, 1])
    plan = make_plan(kind, fault, first.block, look.pad_xy, rng)
    period_ns = 1e9 / config.control_hz
    lead_ns = max(50_000_000, round(1.2e9 / config.camera_hz))  # every sensor has spoken before the first command
    count = int(np.ceil((plan.duration_s + 0.25) * config.control_hz))
    count = min(count, config.max_steps) if config.max_steps is not None else count
    t_ns = _clock(rng, lead_ns, config.control_hz, lead_ns + round((count + 0.5) * period_ns), config.jitter_ns)[:count]
    state, trace = advance(first, first.command, int(t_ns[0]))
    traces, actions, tremor = [trace], np.empty((count, 5)), np.zeros(3)
    for step in range(count):
        pose = pose_on(plan, (int(t_ns[step]) - int(t_ns[0])) * 1e-9)
        tremor = 0.9 * tremor + 0.436 * rng.normal(0, config.action_noise_m, 3)  # sqrt(1 - 0.9^2): its size stays the same
        actions[step, :4] = inverse(pose[:4] + np.array([tremor[0], tremor[1], abs(tremor[2]) * 0.5, 0.0]))
        actions[step, 4] = pose[4]
        until = int(t_ns[step + 1]) if step + 1 < count else int(t_ns[step]) + round(period_ns)
        state, trace = advance(state, actions[step], until)
        traces.append(trace)
    knots = [knot for trace in traces for knot in trace.knots]
    motion = _Motion(np.array([knot[0] for knot in knots], dtype=np.int64), *(np.stack([knot[part] for knot in knots]) for part in (1, 2, 3)))
    truth_t = np.concatenate([[0], *(trace.t_ns for trace in traces)]).astype(np.int64)
    block = np.concatenate([first.block[None], *(trace.block for trace in traces)])
    contact = np.concatenate([[False], *(trace.contact for trace in traces)])
    held = np.concatenate([[False], *(trace.held for trace in traces)])
    return t_ns, actions, motion, truth_t, block, contact, held


def _block_at(t_ns: Array, truth_t_ns: Array, block: Array, held: Array) -> tuple[Array, Array]:
    """Return the block's pose (N, 4) and whether it is held (N,), at the last instant of the truth at or before each time."""
    row = np.clip(np.searchsorted(truth_t_ns, t_ns, side="right") - 1, 0, len(truth_t_ns) - 1)
    return block[row], held[row]


def gripper_opening(servo: Array, held: Array) -> Array:
    """Return the gripper's measured opening: what it holds stops it."""
    return np.where(held, np.maximum(servo, HELD_OPENING), servo)


def record(seed: int, index: int, config: ArmConfig | None = None) -> ArmRecording:
    """Record episode `index` of the world with `seed`."""
    config = config or ArmConfig()
    kind, fault, look, first, phrases = episode_start(seed, index, config)
    action_t_ns, action, motion, truth_t_ns, block, contact, held = _operate(seed, index, config, kind, fault, look, first)
    end_ns = int(truth_t_ns[-1])
    rng = np.random.default_rng([seed, index, 2])

    joint_t_ns = _clock(rng, int(rng.integers(0, 3_000_000)), config.joint_hz, end_ns, config.jitter_ns)
    servo, velocity, acceleration = motion.at(joint_t_ns)
    joint_held = _block_at(joint_t_ns, truth_t_ns, block, held)[1]
    position = np.concatenate([servo[:, :4], gripper_opening(servo[:, 4], joint_held)[:, None]], axis=1)
    velocity[:, 4] = np.where(joint_held & (servo[:, 4] < HELD_OPENING), 0.0, velocity[:, 4])
    effort = acceleration * INERTIA + velocity * FRICTION + rng.normal(0, 0.01, velocity.shape)
    effort[:, 4] += np.where(joint_held, -2.0, 0.0)
    hand = forward(position[:, :4])

    imu_t_ns = _clock(rng, int(rng.integers(0, 3_000_000)), config.joint_hz, end_ns, config.jitter_ns)
    around = [forward(motion.at(imu_t_ns + shift)[0][:, :4]) for shift in (-1_000_000, 0, 1_000_000)]
    felt = (around[0] - 2 * around[1] + around[2])[:, :3] / 1e-6 + np.array([0.0, 0.0, 9.81])
    cosine, sine = np.cos(around[1][:, 3]), np.sin(around[1][:, 3])
    felt = np.stack([cosine * felt[:, 0] + sine * felt[:, 1], -sine * felt[:, 0] + cosine * felt[:, 1], felt[:, 2]], axis=1)
    turning = np.zeros_like(felt)
    turning[:, 2] = (around[2][:, 3] - around[0][:, 3]) / 2e-3

    cameras = {}
    for number, camera in enumerate(config.cameras):
        t_ns = _clock(rng, int(rng.integers(1_000_000, 5_000_000)), config.camera_hz, end_ns, config.jitter_ns)
        seen, _, _ = motion.at(t_ns)
        where, gripped = _block_at(t_ns, truth_t_ns, block, held)
        hands, openings = forward(seen[:, :4]), gripper_opening(seen[:, 4], gripped)
        images = np.empty((len(t_ns), config.height, config.width, 3), dtype=np.uint8)
        for frame in range(len(t_ns)):
            grain = frame * 7 + number * 3 + index
            images[frame] = render(camera, seen[frame, :4], hands[frame], openings[frame], where[frame], look, config.height, config.width, grain)
            if config.barcode:
                stamp(images[frame], Barcode(frame, CAMERAS.index(camera), index))
        cameras[camera] = CameraTrack(t_ns, read_only(images), intrinsics_px(camera, config.height, config.width))

    return ArmRecording(
        seed=seed,
        index=index,
        config=config,
        kind=kind,
        fault=fault,
        task=phrases[0],
        phrases=phrases,
        success=succeeded(kind, block[0], block[-1], bool(held[-1]), look.pad_xy),
        colour=look.colour,
        start_ns=EPOCH_NS + index * EPISODE_SPACING_NS,
        joint_t_ns=joint_t_ns,
        joint_position=position,
        joint_velocity=velocity,
        joint_effort=effort,
        ee_position=hand[:, :3],
        ee_quat_xyzw=quat_xyzw_from_yaw(hand[:, 3]),
        imu_t_ns=imu_t_ns,
        linear_acceleration=felt + rng.normal(0, 0.02, felt.shape),
        angular_velocity=turning + rng.normal(0, 0.002, turning.shape),
        action_t_ns=action_t_ns,
        action=action,
        cameras=cameras,
        truth_t_ns=truth_t_ns,
        block_pose=block,
        contact=contact,
        held=held,
        pad_xy=look.pad_xy,
    )
