"""Meta-World's tasks as environments: commands held to 20 Hz, pictures without what software renderers are slow at.

The library renders with shadows, reflections and multisampling, which cost ten times the rest where no GPU renders; this one asks for none of them, in a renderer of its own.
A pixel is the mean of what is rendered within it, as in a camera, at twice the time of one point for each: of points alone, motion of less than a pixel is hardly to be seen.
"""

from __future__ import annotations

import ctypes.util
import importlib
import importlib.util
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Camera, Column, Gripper
from dataengine.core.environment import ACTION, EnvironmentFacts, Observed
from dataengine.core.errors import UnknownName, UsageError

VERSION = "2"  # 1 rendered one point a pixel
HELD = 4  # simulated control steps of 12.5 ms for one command, each of which moves the target of the hand by 0.01 m: 20 Hz
RATE_HZ = 20.0
MAX_STEPS = 60  # the scripts of most tasks are done within 20; the simulator itself allows 125
CAMERA = "corner2"
CAMERA_AT_M = (0.75, 0.075, 0.7)  # nearer than the library has it: the arm fills a small picture
STREAM = "observation.images.front"
STATE, WHOLE, CONTACT = "observation.state", "observation.environment_state", "contact"
SHADOW_PX = 256
POINTS = 4  # along each side of a pixel
OBSERVATION = 39
INSTALL = "pip install 'robot-dataengine[sim]'"


def render_library() -> str | None:
    """Return the offscreen library that MuJoCo can be told to use here: by `MUJOCO_GL`, else EGL, else OSMesa; None where there is none."""
    asked = os.environ.get("MUJOCO_GL")
    if asked:
        return asked
    return next((name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if ctypes.util.find_library(library)), None)


def require_simulator() -> str:
    """Return the offscreen library to render with.

    Raises:
        UsageError: the extra or a library of the system is missing; it says what to install.
    """
    missing = [name for name in ("metaworld", "mujoco") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"metaworld: needs {' and '.join(missing)}, found none; install them with: {INSTALL}")
    library = render_library()
    if library is None:
        raise UsageError("metaworld: needs EGL or OSMesa to render without a screen, found neither; install one with: apt-get install libegl1 (or libosmesa6)")
    return library


def _columns(height: int, width: int) -> dict[str, Column]:
    gripper = Gripper(3, closed=1.0, open=-1.0)
    space = ActionSpace("ee_delta", frame="base", absolute=False, gripper=gripper, rate_hz=RATE_HZ)
    columns = [
        Column(
            ACTION, dtype="float32", shape=(4,), dims=("x", "y", "z", "gripper"), unit="0.04 m", meaning="action", action_source="commanded", action_space=space
        ),
        Column(STATE, dtype="float32", shape=(4,), dims=("x", "y", "z", "gripper"), unit="m", meaning="state", doc="hand, and the gripper's opening (1 open)"),
        Column(WHOLE, dtype="float32", shape=(OBSERVATION,), doc="what the library calls the observation, goal included"),
        Column(CONTACT, dtype="bool", meaning="flag", doc="whether both fingers touch the object"),
        Column(STREAM, kind="image", dtype="uint8", shape=(height, width, 3), camera=Camera("primary")),
    ]
    return {column.name: column for column in columns}


def pixel_means(picture: Array, points: int) -> Array:
    """Return a picture (H, W, 3) uint8 whose pixels are the means of so many points along each side, of one (points H, points W, 3), rounded to the nearest."""
    height, width = (side // points for side in picture.shape[:2])
    sums = picture.reshape(height, points, width, points, 3).sum(axis=(1, 3), dtype=np.uint32)
    return np.asarray((sums + points**2 // 2) // points**2, dtype=np.uint8)


class MetaWorldEnvironment:
    """One task of Meta-World, by name ("push-v3"), seen by the camera `corner2` from nearer by, which stands on its head in the library and upright here."""

    def __init__(self, task: str, height: int = 64, width: int = 64) -> None:
        os.environ["MUJOCO_GL"] = require_simulator()
        os.environ.setdefault("LP_NUM_THREADS", "1")  # a software renderer in each worker: their own threads would only get in each other's way
        tasks = importlib.import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
        scripts = importlib.import_module("metaworld.policies").ENV_POLICY_MAP
        self._mujoco: Any = importlib.import_module("mujoco")
        if task not in scripts:
            raise UnknownName("Meta-World task", task, scripts)
        self._world: Any = tasks[f"{task}-goal-observable"](seed=0)
        self._world.seeded_rand_vec, self._world._freeze_rand_vec = True, False  # the places of things are drawn anew, from the seed
        self._script: Any = scripts[task]()
        self._task = task.rsplit("-", 1)[0].replace("-", " ")
        settings = {"height": height, "width": width, "camera": CAMERA, "camera_at_m": list(CAMERA_AT_M), "held": HELD, "points_a_pixel": POINTS**2}
        self._facts = EnvironmentFacts(
            f"metaworld:{task}",
            VERSION,
            _columns(height, width),
            RATE_HZ,
            -np.ones(4),
            np.ones(4),
            np.array([1.0, 1.0, 1.0, 0.0]),
            MAX_STEPS,
            True,
            "metaworld_sawyer",
            settings,
        )
        self._renderer = self._open(POINTS * height, POINTS * width)

    def _open(self, height: int, width: int) -> Any:
        model, flag = self._world.model, self._mujoco.mjtRndFlag
        model.vis.quality.shadowsize, model.vis.quality.offsamples = SHADOW_PX, 0
        model.vis.global_.offheight, model.vis.global_.offwidth = max(height, model.vis.global_.offheight), max(width, model.vis.global_.offwidth)
        model.camera(CAMERA).pos[:] = CAMERA_AT_M
        try:
            renderer = self._mujoco.Renderer(model, height, width)
        except Exception as error:
            raise UsageError(
                f"metaworld: MuJoCo must be able to render with {os.environ['MUJOCO_GL']}, got {type(error).__name__}: {str(error)[:200]}; install a software "
                "renderer with: apt-get install libegl1 libgl1-mesa-dri (or libosmesa6 and MUJOCO_GL=osmesa)"
            ) from error
        for name in (flag.mjRND_SHADOW, flag.mjRND_REFLECTION, flag.mjRND_SKYBOX, flag.mjRND_HAZE):
            renderer.scene.flags[name] = 0
        return renderer

    @property
    def facts(self) -> EnvironmentFacts:
        """What is true of every episode."""
        return self._facts

    @property
    def task(self) -> str:
        """The instruction."""
        return self._task

    def reset(self, seed: int) -> Observed:
        """Begin the episode of a seed, whatever was played before."""
        self._mujoco.mj_resetData(self._world.model, self._world.data)
        self._world.seed(seed)
        self._whole = np.asarray(self._world.reset()[0])
        return self._seen(False)

    def step(self, action: Array) -> Observed:
        """Hold a command for 50 ms; an episode is over once its task is done."""
        success = False
        for _ in range(HELD):
            whole, _, _, cut, info = self._world.step(np.asarray(action, dtype=np.float32))
            success = success or bool(info["success"])
            if cut:
                break
        self._whole = np.asarray(whole)
        return self._seen(success)

    def _seen(self, success: bool) -> Observed:
        whole = self._whole.astype(np.float32)
        return Observed({STATE: whole[:4], WHOLE: whole, CONTACT: np.asarray(bool(self._world.touching_main_object))}, success, over=success)

    def render(self) -> Mapping[str, Array]:
        """Return the picture, upright."""
        self._renderer.update_scene(self._world.data, camera=CAMERA)
        upright = self._renderer.render()[::-1, ::-1]  # rolled by half a turn: one flip alone would mirror the world
        return {STREAM: pixel_means(upright, POINTS)}

    def expert(self) -> Array | None:
        """Return what the library's script for the task would do."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its commands go beyond the bounds, which are kept here
            wanted = self._script.get_action(self._whole)
        return np.clip(np.asarray(wanted, dtype=np.float64), -1.0, 1.0)

    def sample(self, rng: np.random.Generator) -> Array:
        """Return a random command."""
        return rng.uniform(-1.0, 1.0, 4)

    def close(self) -> None:
        """Close the renderer."""
        self._renderer.close()
