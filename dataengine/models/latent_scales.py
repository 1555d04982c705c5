"""Models of latent actions by size, each with how it is fitted: from one that two CPU cores train in minutes to one for many GPUs."""

from __future__ import annotations

from dataengine.models.fit import FitConfig
from dataengine.models.latent_config import LatentActionConfig
from dataengine.models.quantize import BottleneckConfig

SCALES: dict[str, LatentActionConfig] = {
    "tiny": LatentActionConfig(),
    "small": LatentActionConfig(
        size=(96, 96), encoder="transformer", width=256, depth=6, heads=4, decoder_width=64, decoder_depth=4, bottleneck=BottleneckConfig(dimension=32)
    ),
    "base": LatentActionConfig(
        size=(224, 224), encoder="transformer", width=512, depth=12, heads=8, decoder_width=128, decoder_depth=12, bottleneck=BottleneckConfig(dimension=32)
    ),
    "large": LatentActionConfig(
        size=(224, 224), encoder="transformer", width=1024, depth=16, heads=16, decoder_width=256, decoder_depth=16, bottleneck=BottleneckConfig(dimension=32)
    ),
}

FITS: dict[str, FitConfig] = {
    "tiny": FitConfig(steps=300, batch_size=32, learning_rate=2e-3),
    "small": FitConfig(steps=20_000, batch_size=128, learning_rate=3e-4, warmup_steps=500, precision="bfloat16", average=0.999),
    "base": FitConfig(steps=100_000, batch_size=128, learning_rate=1e-4, warmup_steps=2_000, precision="bfloat16", average=0.9995),
    "large": FitConfig(steps=100_000, batch_size=64, learning_rate=5e-5, warmup_steps=5_000, precision="bfloat16", average=0.9995),
}
