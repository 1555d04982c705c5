"""Finding faces in a picture: the detector that comes with scikit-image, one of the user's own, and what identifies either."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import ConfigError, UsageError
from dataengine.privacy.config import FacesConfig

ADVICE = "install it with `pip install 'robot-dataengine[privacy]'`"
MAX_CASCADE_BYTES = 16 << 20
# Two windows show one face where they share this part of the smaller one.
SAME_WINDOW = 0.5


class Box(NamedTuple):
    """A face in a picture: its upper left corner and size in px, and how sure the detector is (infinite where it does not say)."""

    top: float
    left: float
    height: float
    width: float
    score: float = float("inf")


class Detector(Protocol):
    """Finds faces. One detector belongs to one process."""

    def detect(self, frame: Array) -> Sequence[Box]:
        """Return the faces in an (H, W, 3) uint8 RGB picture; a box may be any sequence of (top, left, height, width[, score]) in px."""


@dataclass(frozen=True)
class DetectorIdentity:
    """What a detector is: part of the digest of a reading, and of the audit record."""

    name: str
    digest: str
    library: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields as a dict for JSON."""
        return {"name": self.name, "digest": self.digest, "library": self.library}


def _scikit_image() -> tuple[Any, Any, str]:
    try:
        from importlib.metadata import version

        from skimage import data, feature
    except ImportError as error:
        raise UsageError(f"--blur-faces: the face detector 'lbp' needs scikit-image, which is not installed here ({error}); {ADVICE}") from error
    return feature.Cascade, data.lbp_frontal_face_cascade_filename, version("scikit-image")


def _cascade_file(config: FacesConfig) -> Path:
    _, default, _ = _scikit_image()
    path = Path(default()) if config.detector == "lbp" else Path(config.detector).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"privacy.faces.detector: {config.detector!r}: must be 'lbp', the path of a cascade file, or 'module:function'; there is no such file"
        )
    if path.stat().st_size > MAX_CASCADE_BYTES:
        raise ConfigError(f"privacy.faces.detector: {config.detector!r}: a cascade file has at most {MAX_CASCADE_BYTES} bytes")
    return path


def _function(config: FacesConfig) -> Callable[..., Any] | None:
    """Return the user's own function, None where the detector is a cascade."""
    module_name, colon, name = config.detector.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        return None
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"privacy.faces.detector: {config.detector!r}: {error}; install the module, or correct the name") from error
    if not callable(function):
        raise ConfigError(f"privacy.faces.detector: {config.detector!r}: must be a function that returns a detector")
    return cast("Callable[..., Any]", function)


@lru_cache(maxsize=16)
def _identify(detector: str) -> DetectorIdentity:
    return _identity(FacesConfig(detector=detector))


def identify(config: FacesConfig) -> DetectorIdentity:
    """Return what the configured detector is; raise UsageError where it is not there, before anything is read."""
    return _identify(config.detector)


def _identity(config: FacesConfig) -> DetectorIdentity:
    function = _function(config)
    if function is not None:
        source = getattr(importlib.import_module(config.detector.partition(":")[0]), "__file__", None)
        content = Path(source).read_bytes() if source and Path(source).is_file() else config.detector.encode()
        return DetectorIdentity(config.detector, hashlib.sha256(content).hexdigest(), config.detector.partition(":")[0])
    path = _cascade_file(config)
    return DetectorIdentity(
        "lbp" if config.detector == "lbp" else path.name, hashlib.sha256(path.read_bytes()).hexdigest(), f"scikit-image {_scikit_image()[2]}"
    )


def together(windows: Array) -> list[Box]:
    """Return the windows, (n, 4) float64 as top, left, height, width, that show one thing as one box each, their mean; the score is how many they are."""
    left = windows
    found = []
    while len(left):
        first = left[0]
        group = np.zeros(len(left), dtype=bool)
        group[0] = True
        while True:
            bottom, right = np.minimum(first[0] + first[2], left[:, 0] + left[:, 2]), np.minimum(first[1] + first[3], left[:, 1] + left[:, 3])
            shared = np.clip(bottom - np.maximum(first[0], left[:, 0]), 0, None) * np.clip(right - np.maximum(first[1], left[:, 1]), 0, None)
            same = shared > SAME_WINDOW * np.minimum(first[2] * first[3], left[:, 2] * left[:, 3])
            if not (same & ~group).any():
                break
            group |= same
            first = left[group].mean(axis=0)
        top, column, height, width = left[group].mean(axis=0).tolist()
        found.append(Box(top, column, height, width, float(group.sum())))
        left = left[~group]
    return found


class CascadeDetector:
    """A cascade of local binary patterns as OpenCV writes them, run by scikit-image: frontal faces, turned by no more than some 15 degrees.

    Source: S. Liao et al., Learning Multi-scale Block Local Binary Patterns for Face Recognition (2007).
    """

    def __init__(self, path: Path, config: FacesConfig) -> None:
        cascade, _, _ = _scikit_image()
        try:
            self._cascade = cascade(str(path))
        except (ValueError, TypeError, AttributeError, SyntaxError, IndexError, OSError) as error:
            raise ConfigError(f"privacy.faces.detector: {path.name}: is no cascade of local binary patterns as scikit-image reads them: {error}") from error
        self._config = config

    def detect(self, frame: Array) -> Sequence[Box]:
        """Return the faces in an (H, W, 3) uint8 RGB picture."""
        config = self._config
        shortest = min(frame.shape[:2])
        if shortest < config.smallest_px:
            return []
        found = self._cascade.detect_multi_scale(
            img=np.ascontiguousarray(frame),
            scale_factor=config.scale_step,
            step_ratio=config.window_step,
            min_size=(config.smallest_px, config.smallest_px),
            max_size=(shortest, shortest),
            min_neighbor_number=1,
            intersection_score_threshold=1.1,  # more than any two windows have in common: they are put together below, and counted
        )
        windows = np.array([(box["r"], box["c"], box["height"], box["width"]) for box in found], dtype=np.float64).reshape(-1, 4)
        return [box for box in together(windows) if box.score >= config.unsure]


def open_detector(config: FacesConfig) -> Detector:
    """Return the configured detector.

    Raises:
        UsageError: its library is not installed.
        ConfigError: it is not there, or is no detector.
    """
    function = _function(config)
    if function is None:
        return CascadeDetector(_cascade_file(config), config)
    detector = function(**config.parameters)
    if not callable(getattr(detector, "detect", None)):
        raise ConfigError(f"privacy.faces.detector: {config.detector!r}: must return an object with `detect(frame)`, got {type(detector).__name__}")
    return cast("Detector", detector)


def boxes_in(detector: Detector, frame: Array, longest_px: int, turns: int = 0) -> list[Box]:
    """Return the faces in a picture of any size, in its own px.

    Args:
        detector: finds them.
        frame: (H, W, 3) uint8 RGB.
        longest_px: a larger picture is made smaller for the search.
        turns: quarter turns counter-clockwise after which the picture stands upright.
    """
    height, width = frame.shape[:2]
    scale = max(height, width) / longest_px
    small = frame
    if scale > 1:
        import cv2

        small = cv2.resize(frame, (max(1, round(width / scale)), max(1, round(height / scale))), interpolation=cv2.INTER_AREA)
    else:
        scale = 1.0
    upright = np.ascontiguousarray(np.rot90(small, turns % 4))
    found = []
    for given in detector.detect(upright):
        values = [float(value) for value in given]
        if len(values) not in (4, 5) or not all(np.isfinite(values[:4])) or values[2] <= 0 or values[3] <= 0:
            raise ConfigError(f"privacy.faces.detector: a box must be (top, left, height, width[, score]) in px with a size, got {values}")
        top, left, tall, wide = values[:4]
        rows, columns = small.shape[:2]
        # Back through the quarter turns: each one maps (row, column) of the upright picture to (column, width - row) of the one before.
        if turns % 4 == 1:
            top, left, tall, wide = left, columns - top - tall, wide, tall
        elif turns % 4 == 2:
            top, left = rows - top - tall, columns - left - wide
        elif turns % 4 == 3:
            top, left, tall, wide = rows - left - wide, top, wide, tall
        found.append(Box(top * scale, left * scale, tall * scale, wide * scale, values[4] if len(values) == 5 else float("inf")))
    return found


def parameters_of(config: FacesConfig) -> Mapping[str, Any]:
    """Return what the audit says of how faces were looked for."""
    return config.model_dump(mode="json", exclude={"detector"})
