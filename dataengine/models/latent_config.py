"""What a model of latent actions is: its pictures, gaps, bottleneck, targets, and the few labels that it may be told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from dataengine.core.config import Config
from dataengine.models.augmentation import AugmentConfig
from dataengine.models.quantize import BottleneckConfig

Gap = Annotated[float, Setting(gt=0, le=60)]


class SupervisionConfig(Config):
    """Labels of a few episodes that draw the latent towards what can be controlled.

    Attributes:
        share: of the training episodes, each as a whole, chosen by hash; 0 for none.
        weight: of the squared error beside that of the pictures.
        targets: "state", its change over the gap; "action", the mean command in the gap, of absolute ones the change.
    """

    share: float = Setting(default=0.0, ge=0, le=1)
    weight: float = Setting(default=0.05, ge=0)
    targets: tuple[Literal["state", "action"], ...] = ("state",)


class FeatureConfig(Config):
    """A second target: features of the last picture, told from those of the first and the latent.

    `source` is "ema" for a slowly following copy of the decoder's own features, "frozen" for the patches of an encoder in the folder `frozen` (see `frozen_encoder`), "none" for
    pixels alone. Labelling needs none of it.
    """

    source: Literal["none", "ema", "frozen"] = "none"
    weight: float = Setting(default=0.1, ge=0)
    decay: float = Setting(default=0.99, gt=0, lt=1)
    depth: int = Setting(default=1, ge=1)
    frozen: str | None = None


class LatentActionConfig(Config):
    """A model of latent actions.

    Attributes:
        camera: column or role of the pictures, brought to `size` (height, width) px, multiples of 8, by `fit`.
        gaps_s: gaps in s between the first picture and the last, of which training draws one for each sample.
        gap_s: the gap in s that labels are made with.
        frames: pictures that the encoder sees of a gap, evenly spaced, the first and the last among them.
        encoder: "difference" of the two pictures' own embeddings, "pair" of both side by side, "transformer" over space and time.
        width, depth, heads: of the encoder.
        decoder_width, decoder_depth: of the decoder.
        paint: paint what the flow uncovers; without it the decoder can only move what is there.
        pixel_weight: of the pictures' squared error; `motion_weight` is how many times more a pixel counts that changes much.
        confidence: give with each label which share of the change between the pictures it tells.
    """

    camera: str = "camera:primary"
    size: tuple[int, int] = (64, 64)
    fit: Literal["stretch", "pad", "crop"] = "stretch"
    gaps_s: tuple[Gap, ...] = Setting(default=(0.1, 0.15, 0.2), min_length=1)
    gap_s: Gap = 0.1
    frames: int = Setting(default=2, ge=2, le=32)
    encoder: Literal["difference", "pair", "transformer"] = "difference"
    width: int = Setting(default=16, ge=8, multiple_of=8)
    depth: int = Setting(default=1, ge=1)
    heads: int = Setting(default=4, ge=1)
    decoder_width: int = Setting(default=16, ge=8, multiple_of=8)
    decoder_depth: int = Setting(default=1, ge=1)
    paint: bool = True
    bottleneck: BottleneckConfig = BottleneckConfig()
    augment: AugmentConfig = AugmentConfig()
    pixel_weight: float = Setting(default=4.0, ge=0)
    motion_weight: float = Setting(default=4.0, ge=0)
    features: FeatureConfig = FeatureConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    confidence: bool = True

    @model_validator(mode="after")
    def _sizes(self) -> LatentActionConfig:
        if any(side < 16 or side % 8 for side in self.size):
            raise ValueError("size: height and width must be multiples of 8, at least 16 px")
        if self.encoder == "difference" and self.frames != 2:
            raise ValueError("frames: the difference is of 2 pictures; take the encoder pair or transformer for more")
        return self

    @property
    def latent(self) -> int:
        """Return Z, the width of a latent with its tokens one after the other."""
        return self.bottleneck.tokens * self.bottleneck.channels

    def offsets(self, gap_s: float) -> tuple[float, ...]:
        """Return the times in s of the encoder's pictures from the first one's."""
        return tuple(round(gap_s * place / (self.frames - 1), 9) for place in range(self.frames))
