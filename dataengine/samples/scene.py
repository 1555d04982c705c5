"""Pictures of the sample world: boxes in perspective over a textured table, seen by a fixed camera and by one on the hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dataengine.core.arrays import Array, read_only
from dataengine.samples.kinematics import GRIPPER_WIDTH_M, elbow_position
from dataengine.samples.physics import BLOCK_HEIGHT_M, BLOCK_SIDE_M, FINGER_RADIUS_M

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 45, 40),
    "green": (55, 160, 70),
    "blue": (45, 85, 200),
    "yellow": (225, 190, 45),
}
TABLE_LOW = (-0.25, -0.6)  # m, the corner of the table texture nearest to the robot's right
TABLE_SIZE_M = 1.2
TEXTURES = 4
NOISES = 32
LIGHT = np.array([0.35, -0.25, 0.9]) / np.linalg.norm([0.35, -0.25, 0.9])
FRONT_FOV_RAD, WRIST_FOV_RAD = 0.74, 1.25
WRIST_OFFSET_M, WRIST_HEIGHT_M, WRIST_TILT_RAD = 0.075, 0.13, 0.42

# Faces of a box by its corners (bit 0 = x, bit 1 = y, bit 2 = z), and their outward normals.
_FACES = np.array([[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]])
_NORMALS = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], dtype=np.float64)
_CORNERS = np.array([[bit & 1, bit >> 1 & 1, bit >> 2 & 1] for bit in range(8)], dtype=np.float64) - 0.5
_SHIFT = 4  # fractional bits of the corners that OpenCV draws


@dataclass(frozen=True, eq=False)
class Look:
    """What an episode looks like: the block's colour, the table, the light, the pad's place, and boxes that only lie there.

    `clutter` is (K, 8): x_m, y_m, yaw_rad, width_m, depth_m, height_m, hue (0..1), brightness.
    """

    colour: str
    texture: int
    gain: Array
    pad_xy: Array
    clutter: Array


@lru_cache(maxsize=TEXTURES)
def table_texture(which: int) -> Array:
    """Return a (1024, 1024, 3) uint8 texture of planks with grain, or of woven cloth."""
    import cv2

    rng = np.random.default_rng([7, which])
    size = 1024
    fine = rng.normal(0, 1, (size, size)).astype(np.float32)
    grain = cv2.GaussianBlur(fine, (0, 0), sigmaX=9, sigmaY=0.8) * 9
    rings = cv2.resize(rng.normal(0, 1, (24, 6)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    rows = np.arange(size, dtype=np.float32)[:, None]
    if which % 2 == 0:
        plank = np.repeat(rng.normal(0, 12, 8).astype(np.float32), size // 8)[:, None]
        seam = np.where(rows % (size // 8) < 3, -45.0, 0.0).astype(np.float32)
        value = 14 * np.sin(rows / 5 + 6 * rings) * 0.5 + grain * 4 + plank + seam
        base = np.array([168, 126, 84], dtype=np.float32) if which == 0 else np.array([118, 92, 74], dtype=np.float32)
    else:
        weave = 12 * (np.sin(rows / 3.1) + np.sin(rows.T / 3.1))
        blotch = cv2.GaussianBlur(fine, (0, 0), 12) * 130
        value = weave + blotch + fine * 5
        base = np.array([112, 128, 138], dtype=np.float32) if which == 1 else np.array([150, 146, 126], dtype=np.float32)
    return read_only(np.clip(base + value[..., None], 0, 255).astype(np.uint8))


@lru_cache(maxsize=4)
def _noise(height: int, width: int) -> tuple[Array, ...]:
    rng = np.random.default_rng([11, height, width])
    return tuple(read_only(np.clip(np.rint(rng.normal(0, 1.6, (height, width, 3))), -6, 6).astype(np.int16)) for _ in range(NOISES))


def _look_at(eye: Array, target: Array) -> Array:
    """Return (3, 4) camera_from_base: x right, y down, z forward."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return np.concatenate([rotation, -(rotation @ eye)[:, None]], axis=1)


def front_pose() -> Array:
    """Return (3, 4) camera_from_base of the fixed camera, which faces the robot: its left is on the picture's right."""
    return _look_at(np.array([0.98, 0.06, 0.52]), np.array([0.26, 0.0, 0.08]))


def wrist_pose(hand: Array) -> Array:
    """Return (3, 4) camera_from_base of the camera on the hand, at hand pose (x_m, y_m, z_m, yaw_rad)."""
    ahead = np.array([np.cos(hand[3]), np.sin(hand[3]), 0.0])
    eye = np.array([hand[0], hand[1], hand[2] + WRIST_HEIGHT_M]) + WRIST_OFFSET_M * ahead
    down = -np.cos(WRIST_TILT_RAD) * np.array([0.0, 0.0, 1.0]) - np.sin(WRIST_TILT_RAD) * ahead
    right = np.array([np.sin(hand[3]), -np.cos(hand[3]), 0.0])
    rotation = np.stack([right, np.cross(down, right), down])
    return np.concatenate([rotation, -(rotation @ eye)[:, None]], axis=1)


def intrinsics_px(camera: str, height: int, width: int) -> tuple[float, float, float, float]:
    """Return (fx, fy, cx, cy) in px of a camera ("front" or "wrist")."""
    fov = FRONT_FOV_RAD if camera == "front" else WRIST_FOV_RAD
    focal = height / 2 / float(np.tan(fov / 2))
    return focal, focal, (width - 1) / 2, (height - 1) / 2


def _projection(camera: str, pose: Array, height: int, width: int) -> Array:
    fx, fy, cx, cy = intrinsics_px(camera, height, width)
    return np.asarray(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]) @ pose)


def _table(camera: str, projection: Array, texture: int, height: int, width: int) -> Array:
    """Return the empty table (H, W, 3) uint8, and above its edge a wall."""
    import cv2

    scale = 1024 / TABLE_SIZE_M
    base_from_texel = np.array([[0, 1 / scale, TABLE_LOW[0]], [1 / scale, 0, TABLE_LOW[1]], [0, 0, 0], [0, 0, 1]])
    picture = cv2.warpPerspective(
        table_texture(texture), projection @ base_from_texel, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0)
    )
    if camera == "front":
        wall = np.linspace(205, 165, height, dtype=np.float32)[:, None, None] * np.array([0.93, 0.97, 1.0], dtype=np.float32)
        stripes = 6 * np.sin(np.arange(width, dtype=np.float32) * 40 / width)[None, :, None]
        picture = np.where(picture.any(axis=-1, keepdims=True), picture, (wall + stripes).astype(np.uint8))
    return np.ascontiguousarray(picture)


@lru_cache(maxsize=16)
def _front_table(texture: int, height: int, width: int) -> Array:
    return read_only(_table("front", _projection("front", front_pose(), height, width), texture, height, width))


def _box(centre: tuple[float, float, float], yaw: float, size: tuple[float, float, float], colour: tuple[float, ...]) -> tuple[float, ...]:
    return (*centre, yaw, *size, *colour)


def _beam(a: Array, b: Array, z: float, thick: float, colour: tuple[float, ...]) -> tuple[float, ...]:
    length = float(np.hypot(*(b - a)))
    return _box(((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, z), float(np.arctan2(b[1] - a[1], b[0] - a[0])), (length + thick, thick, thick), colour)


def _boxes(joints: Array, hand: Array, opening: float, block: Array, look: Look) -> Array:
    """Return (K, 10) boxes: centre (3), yaw, size (3), colour (3)."""
    steel, orange, dark = (188, 192, 198), (226, 122, 44), (62, 64, 70)
    elbow = elbow_position(joints)
    side = np.array([-np.sin(hand[3]), np.cos(hand[3])])
    reach = opening * GRIPPER_WIDTH_M / 2 + FINGER_RADIUS_M
    xy, z = hand[:2], hand[2]
    boxes = [
        _box((block[0], block[1], block[2] + BLOCK_HEIGHT_M / 2), block[3], (BLOCK_SIDE_M, BLOCK_SIDE_M, BLOCK_HEIGHT_M), COLOURS[look.colour]),
        _box((0, 0, 0.15), 0.0, (0.11, 0.11, 0.30), dark),
        _beam(np.zeros(2), elbow, 0.325, 0.05, orange),
        _beam(elbow, xy, 0.285, 0.04, steel),
        _box((xy[0], xy[1], (z + 0.36) / 2), hand[3], (0.022, 0.022, 0.36 - z - 0.12), steel),
        _box((xy[0], xy[1], z + 0.075), hand[3], (0.035, GRIPPER_WIDTH_M + 0.04, 0.03), dark),
    ]
    for sign in (1, -1):
        at = xy + sign * reach * side
        boxes.append(_box((at[0], at[1], z + 0.03), hand[3], (0.018, 2 * FINGER_RADIUS_M, 0.06), orange))
    for x, y, yaw, wide, deep, tall, hue, bright in look.clutter:
        tint = (90 + 120 * np.sin(2 * np.pi * hue) ** 2, 90 + 120 * np.sin(2 * np.pi * (hue + 0.33)) ** 2, 90 + 120 * np.sin(2 * np.pi * (hue + 0.66)) ** 2)
        boxes.append(_box((x, y, tall / 2), yaw, (wide, deep, tall), tuple(bright * value for value in tint)))
    return np.array(boxes, dtype=np.float64)


def _flat(outline: Array, projection: Array, image: Array, colour: tuple[float, ...]) -> None:
    """Fill an outline (P, 3) m in base coordinates, where all of it is before the camera."""
    import cv2

    seen = np.concatenate([outline, np.ones((len(outline), 1))], axis=1) @ projection.T
    if np.all(seen[:, 2] > 0.02):
        points = np.rint(seen[:, :2] / seen[:, 2:] * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(image, [points], colour, cv2.LINE_AA, _SHIFT)


def _square(x: float, y: float, z: float, yaw: float, half: float) -> Array:
    cosine, sine = np.cos(yaw) * half, np.sin(yaw) * half
    return np.array(
        [
            [x + cosine - sine, y + sine + cosine, z],
            [x - cosine - sine, y - sine + cosine, z],
            [x - cosine + sine, y - sine - cosine, z],
            [x + cosine + sine, y + sine - cosine, z],
        ]
    )


def _draw(boxes: Array, projection: Array, eye: Array, image: Array) -> None:
    """Draw the faces of boxes that are seen, far ones first."""
    import cv2

    cosine, sine = np.cos(boxes[:, 3]), np.sin(boxes[:, 3])
    turn = np.zeros((len(boxes), 3, 3))
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1], turn[:, 2, 2] = cosine, -sine, sine, cosine, 1.0
    corners = np.einsum("kij,kcj->kci", turn, _CORNERS[None] * boxes[:, None, 4:7]) + boxes[:, None, :3]  # (K, 8, 3)
    normals = np.einsum("kij,fj->kfi", turn, _NORMALS)  # (K, 6, 3)
    seen = corners @ projection[:, :3].T + projection[:, 3]  # (K, 8, 3)
    centres = corners[:, _FACES].mean(axis=2)  # (K, 6, 3)
    toward = np.einsum("kfi,kfi->kf", normals, eye - centres)
    visible = (toward > 0) & (seen[:, :, 2] > 0.02).all(axis=1)[:, None]
    points = np.rint(np.clip(seen[..., :2] / np.maximum(seen[..., 2:], 0.02), -4000, 4000) * (1 << _SHIFT)).astype(np.int32)
    shade = 0.55 + 0.45 * np.clip(normals @ LIGHT, -0.4, 1.0)
    distance = np.linalg.norm(boxes[:, :3] - eye, axis=1)
    for box in np.argsort(-distance, kind="stable"):
        for face in np.flatnonzero(visible[box]):
            colour = (boxes[box, 7:10] * shade[box, face]).tolist()
            cv2.fillConvexPoly(image, points[box, _FACES[face]], colour, cv2.LINE_AA, _SHIFT)


def render(camera: str, joints: Array, hand: Array, opening: float, block: Array, look: Look, height: int, width: int, grain: int) -> Array:
    """Return what a camera sees, (H, W, 3) uint8 RGB.

    Args:
        camera: "front" or "wrist".
        joints: (4,) joint positions.
        hand: (4,) hand pose (x_m, y_m, z_m, yaw_rad).
        opening: of the gripper, 0 closed to 1 open.
        block: (4,) block pose.
        look: the episode's colours, table and light.
        height: in px.
        width: in px.
        grain: picks the sensor noise, so that no two frames are alike.
    """
    import cv2

    pose = front_pose() if camera == "front" else wrist_pose(hand)
    projection = _projection(camera, pose, height, width)
    eye = -pose[:, :3].T @ pose[:, 3]
    image = _front_table(look.texture, height, width).copy() if camera == "front" else _table("wrist", projection, look.texture, height, width)
    x, y = look.pad_xy
    _flat(_square(x, y, 0.0005, 0.0, 0.045), projection, image, (232, 232, 226))
    _flat(_square(x, y, 0.0006, 0.0, 0.033), projection, image, (96, 96, 104))
    spread = 1 + 2 * block[2]
    _flat(
        _square(block[0] + 0.008 + 0.3 * block[2], block[1] - 0.006 - 0.2 * block[2], 0.001, block[3], BLOCK_SIDE_M / 2 * spread),
        projection,
        image,
        (58, 48, 42),
    )
    boxes = _boxes(joints, hand, opening, block, look)
    if camera == "front":
        _draw(boxes, projection, eye, image)
    else:
        _draw(np.concatenate([boxes[:1], boxes[6:]]), projection, eye, image)
    top = block[2] + BLOCK_HEIGHT_M + 0.0005
    if camera == "wrist":  # a mark on the block's top; from the front the hand may hide it
        mark = tuple(0.35 * value + 150 for value in COLOURS[look.colour])
        _flat(_square(block[0], block[1], top, block[3], BLOCK_SIDE_M * 0.22), projection, image, mark)
    noise = _noise(height, width)[grain % NOISES]
    lit = cv2.multiply(image, (*look.gain.tolist(), 0.0))
    return np.asarray(cv2.add(lit, noise, dtype=cv2.CV_8U))
