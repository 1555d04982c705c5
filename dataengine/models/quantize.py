"""Bottlenecks by name: what a configuration says, and the module it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from dataengine.core.config import Config
from dataengine.models.bottleneck import Bottleneck
from dataengine.models.scalar_codes import Fsq
from dataengine.models.variational import Vae
from dataengine.models.vector_codes import Nsvq, Vq

USUAL: dict[str, dict[str, Any]] = {  # what is taken of each kind where nothing else is said
    "vae": {"tokens": 1, "dimension": 16},
    "vq": {"tokens": 8, "dimension": 2, "codes": 16, "warmup_steps": 100},  # 32 bits; few channels a token, or most codes of a book lie where nothing is
    "nsvq": {"tokens": 8, "dimension": 2, "codes": 16, "warmup_steps": 100},
    "fsq": {"tokens": 8, "levels": (5, 5)},
}


class BottleneckConfig(Config):
    """A bottleneck: L tokens of D channels; what is not given is as usual for its kind.

    `codes`, `decay`, `commitment`, `warmup_steps` and `patience_steps` are of codebooks, `levels` of one token's channels under `fsq`, `beta` of `vae`.
    """

    kind: Literal["vae", "vq", "nsvq", "fsq"] = "vae"
    tokens: int = Setting(default=1, ge=1, le=256)
    dimension: int = Setting(default=16, ge=1, le=1024)
    beta: float = Setting(default=1e-4, ge=0)
    codes: int = Setting(default=16, ge=2, le=65536)
    decay: float = Setting(default=0.98, gt=0, lt=1)
    commitment: float = Setting(default=0.25, ge=0)
    warmup_steps: int = Setting(default=0, ge=0)
    patience_steps: int = Setting(default=50, ge=1)
    levels: tuple[Annotated[int, Setting(ge=2)], ...] = (5, 5, 5)

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        found = USUAL.get(str(given.get("kind", "vae")), {}) | dict(given)
        if isinstance(found.get("levels"), list):  # what has been looked at before it is checked no longer counts as JSON, where a list is a tuple
            found["levels"] = tuple(found["levels"])
        return found

    @property
    def channels(self) -> int:
        """Return D."""
        return len(self.levels) if self.kind == "fsq" else self.dimension


BOTTLENECKS: dict[str, Callable[[BottleneckConfig], Bottleneck]] = {
    "vae": lambda config: Vae(config.tokens, config.dimension, config.beta),
    "vq": lambda config: Vq(config.tokens, config.dimension, config.codes, config.decay, config.commitment, config.warmup_steps, config.patience_steps),
    "nsvq": lambda config: Nsvq(config.tokens, config.dimension, config.codes, config.warmup_steps, config.patience_steps),
    "fsq": lambda config: Fsq(config.tokens, config.levels),
}


def bottleneck(config: BottleneckConfig) -> Bottleneck:
    """Return the module that a configuration stands for."""
    return BOTTLENECKS[config.kind](config)
