"""Frozen image encoders from a folder of the user's: DINO, DINOv2 (with and without registers), SigLIP and V-JEPA 2, as their publishers lay them out on Hugging Face.

A folder holds `config.json` and `model.safetensors` (or several files and `model.safetensors.index.json`), perhaps `preprocessor_config.json`. Nothing is downloaded and nothing
unpickled. The weights do not change and are no part of the model that is trained: its checkpoint names the folder's digest, and opening it again needs the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataengine.core.digest import digest_bytes
from dataengine.core.errors import UnknownName, UsageError
from dataengine.models.json_document import json_document

DOCUMENT = ("the JSON of an encoder", "name a folder with config.json and model.safetensors")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
}


@dataclass(frozen=True)
class Layout:
    """How a family of encoders names its weights, below `prefix`; `{}` is the number of a layer.

    `first` is what stands before the patches (class token, registers), `places` the learned places, None where attention is told of them.
    """

    prefix: str
    patch: str
    places: str | None
    first: tuple[str, ...]
    layer: str
    names: Mapping[str, str]
    last_norm: str
    normalised: tuple[tuple[float, ...], tuple[float, ...]]
    antialias: bool = False


_HF_ATTENTION = {"query": "attention.attention.query", "key": "attention.attention.key", "value": "attention.attention.value", "out": "attention.output.dense"}
_DINOV2_NAMES = {
    "norm1": "norm1",
    **_HF_ATTENTION,
    "scale1": "layer_scale1.lambda1",
    "norm2": "norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "scale2": "layer_scale2.lambda1",
}
_EMBEDDINGS = ("embeddings.patch_embeddings.projection", "embeddings.position_embeddings")
LAYOUTS: dict[str, Layout] = {
    "dinov2": Layout("", *_EMBEDDINGS, ("embeddings.cls_token",), "encoder.layer.{}.", _DINOV2_NAMES, "layernorm", IMAGENET),
    "dinov2_with_registers": Layout(
        "", *_EMBEDDINGS, ("embeddings.cls_token", "embeddings.register_tokens"), "encoder.layer.{}.", _DINOV2_NAMES, "layernorm", IMAGENET, True
    ),
    "vit": Layout(
        "",
        *_EMBEDDINGS,
        ("embeddings.cls_token",),
        "encoder.layer.{}.",
        {"norm1": "layernorm_before", **_HF_ATTENTION, "norm2": "layernorm_after", "up": "intermediate.dense", "down": "output.dense"},
        "layernorm",
        IMAGENET,
    ),
    "siglip_vision_model": Layout(
        "vision_model.",
        "embeddings.patch_embedding",
        "embeddings.position_embedding.weight",
        (),
        "encoder.layers.{}.",
        {
            "norm1": "layer_norm1",
            "query": "self_attn.q_proj",
            "key": "self_attn.k_proj",
            "value": "self_attn.v_proj",
            "out": "self_attn.out_proj",
            "norm2": "layer_norm2",
            "up": "mlp.fc1",
            "down": "mlp.fc2",
        },
        "post_layernorm",
        HALF,
    ),
    "vjepa2": Layout(
        "encoder.",
        "embeddings.patch_embeddings.proj",
        None,
        (),
        "layer.{}.",
        {
            "norm1": "norm1",
            "query": "attention.query",
            "key": "attention.key",
            "value": "attention.value",
            "out": "attention.proj",
            "norm2": "norm2",
            "up": "mlp.fc1",
            "down": "mlp.fc2",
        },
        "layernorm",
        IMAGENET,
    ),
}
ALIASES = {"siglip": "siglip_vision_model"}


def _weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a folder by name, and the digest of the files that hold them."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    files = [folder / "model.safetensors"]
    if not files[0].exists() and index.exists():
        names = sorted({str(name) for name in json_document(index, *DOCUMENT).get("weight_map", {}).values()})
        files = [folder / name for name in names if "/" not in name and "\\" not in name]
    found: dict[str, Tensor] = {}
    try:
        for file in files:
            found |= load_file(file)
        return found, digest_bytes(*[file.read_bytes() for file in files])
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{folder}: expected weights in safetensors, got: {str(error)[:200]}; other forms of weights are not read") from error


class FrozenVit(nn.Module):
    """A vision transformer whose weights come from a folder and do not change: pictures (N, 3, H, W) in [0, 1] → patch tokens (N, h w, C)."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        folder = Path(folder)
        config = json_document(folder / "config.json", *DOCUMENT)
        kind = str(config.get("model_type"))
        kind = ALIASES.get(kind, kind)
        if kind not in LAYOUTS:
            raise UnknownName(f"model_type of {folder / 'config.json'}", kind, (*LAYOUTS, *ALIASES))
        self.layout, self.kind = LAYOUTS[kind], kind
        told = {**config, **config["vision_config"]} if isinstance(config.get("vision_config"), dict) else config
        self._read_config(told, folder)
        tensors, self.digest = _weights(folder)
        # Kept out of parameters and state: they belong to the user's folder, not to the checkpoint of what is trained on top of them.
        self._tensors = self._own(tensors, folder)

    def _read_config(self, told: Mapping[str, Any], folder: Path) -> None:
        try:
            self.width, self.depth, self.heads = int(told["hidden_size"]), int(told["num_hidden_layers"]), int(told["num_attention_heads"])
            self.patch = int(told["patch_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{folder / 'config.json'}: must say hidden_size, num_hidden_layers, num_attention_heads and patch_size: {error}") from error
        self.eps = float(told.get("layer_norm_eps", 1e-6))
        act = str(told.get("hidden_act", "gelu"))
        if act not in ACTIVATIONS:
            raise UnknownName("hidden_act of an encoder", act, ACTIVATIONS)
        self.act = ACTIVATIONS[act]
        self.registers = int(told.get("num_register_tokens", 0))
        self.tubelet = int(told.get("tubelet_size", 1))
        mean, std = self.layout.normalised
        steps = folder / "preprocessor_config.json"
        if steps.exists():
            document = json_document(steps, *DOCUMENT)
            mean, std = document.get("image_mean") or mean, document.get("image_std") or std
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def _own(self, tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
        """Return the tensors that are needed, by the names of this class; raise UsageError where one is not there."""
        layout = self.layout
        # A folder may hold the encoder alone or as a part of something larger, and the name of the part or none before its weights.
        roots = [root + prefix for prefix in (layout.prefix, "") for root in ("", f"{self.kind}.", "model.")]
        root = next((root for root in roots if f"{root}{layout.patch}.weight" in tensors), layout.prefix)
        wanted: dict[str, str] = {"patch.weight": f"{layout.patch}.weight", "patch.bias": f"{layout.patch}.bias"}
        wanted |= {f"first.{place}": name for place, name in enumerate(layout.first)}
        if layout.places is not None:
            wanted["places"] = layout.places
        gated = f"{root}{layout.layer.format(0)}mlp.weights_in.weight" in tensors  # DINOv2 giant
        for layer in range(self.depth):
            for mine, theirs in layout.names.items():
                theirs = {"up": "mlp.weights_in", "down": "mlp.weights_out"}.get(mine, theirs) if gated else theirs
                full = layout.layer.format(layer) + theirs
                wanted |= (
                    {f"{layer}.{mine}": full}
                    if mine.startswith("scale")
                    else {f"{layer}.{mine}.weight": f"{full}.weight", f"{layer}.{mine}.bias": f"{full}.bias"}
                )
        wanted |= {"last.weight": f"{layout.last_norm}.weight", "last.bias": f"{layout.last_norm}.bias"}
        self.gated = gated
        named = {mine: f"{root}{theirs}" for mine, theirs in wanted.items()}
        optional = {mine for mine in named if mine.endswith(("query.bias", "key.bias", "value.bias"))}
        lacking = [theirs for mine, theirs in named.items() if theirs not in tensors and mine not in optional]
        if lacking:
            raise UsageError(f"{folder}: must hold the weights of a {self.kind} of {self.depth} layers, but lacks {lacking[0]} and {len(lacking) - 1} more")
        return {mine: tensors[theirs].float() for mine, theirs in named.items() if theirs in tensors}

    def train(self, mode: bool = True) -> FrozenVit:
        """Stay as it is used for labelling, whatever is trained around it."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenVit:
        super()._apply(fn, recurse)
        self._tensors = {name: fn(tensor) for name, tensor in self._tensors.items()}
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the tokens of the patches after the last norm; sides that are no multiple of the patch are scaled to the nearest."""
        with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
            return self._encoded(pictures.float())

    def _encoded(self, pictures: Tensor) -> Tensor:
        own = self._tensors
        height, width = (max(1, round(side / self.patch)) for side in pictures.shape[-2:])
        if (height * self.patch, width * self.patch) != tuple(pictures.shape[-2:]):
            pictures = F.interpolate(pictures, (height * self.patch, width * self.patch), mode="bilinear", antialias=True)
        x = (pictures - self.mean) / self.std
        if own["patch.weight"].ndim == 5:  # a film: a picture stands for a clip in which nothing moves
            clip = x[:, :, None].expand(-1, -1, self.tubelet, -1, -1)
            x = F.conv3d(clip, own["patch.weight"], own["patch.bias"], stride=(self.tubelet, self.patch, self.patch))[:, :, 0]
        else:
            x = F.conv2d(x, own["patch.weight"], own["patch.bias"], stride=self.patch)
        x = x.flatten(2).transpose(1, 2)  # (N, h w, C)
        places = self._places(height, width)
        before = 0
        if self.layout.first:
            start = own["first.0"].expand(len(x), -1, -1)
            x = torch.cat([start, x], dim=1) + places
            before = 1
            for number in range(1, len(self.layout.first)):
                more = own[f"first.{number}"].expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], more, x[:, 1:]], dim=1)
                before += more.shape[1]
        elif places is not None:
            x = x + places
        for layer in range(self.depth):
            x = self._layer(x, layer, (height, width))
        x = F.layer_norm(x, (self.width,), own["last.weight"], own["last.bias"], self.eps)
        return x[:, before:]

    def _layer(self, x: Tensor, layer: int, grid: tuple[int, int]) -> Tensor:
        own = self._tensors

        def line(name: str, of: Tensor) -> Tensor:
            return F.linear(of, own[f"{layer}.{name}.weight"], own.get(f"{layer}.{name}.bias"))

        def norm(name: str, of: Tensor) -> Tensor:
            return F.layer_norm(of, (self.width,), own[f"{layer}.{name}.weight"], own[f"{layer}.{name}.bias"], self.eps)

        normed = norm("norm1", x)
        query, key, value = (line(name, normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in ("query", "key", "value"))
        if self.layout.places is None:
            query, key = turned_by_place(query, grid), turned_by_place(key, grid)
        within = line("out", F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        x = x + within * own.get(f"{layer}.scale1", 1.0)
        normed = line("up", norm("norm2", x))
        if self.gated:
            gate, normed = normed.chunk(2, dim=-1)
            fed = line("down", F.silu(gate) * normed)
        else:
            fed = line("down", self.act(normed))
        return x + fed * own.get(f"{layer}.scale2", 1.0)

    def _places(self, height: int, width: int) -> Any:
        """Return the learned places, scaled to another size of picture where needed: (1, S, C), None where there are none."""
        if self.layout.places is None:
            return None
        places = self._tensors["places"]
        places = places if places.ndim == 3 else places[None]
        alone = 1 if self.layout.first else 0
        side = round((places.shape[1] - alone) ** 0.5)
        if (height, width) == (side, side):
            return places
        grid = places[:, alone:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False, antialias=self.layout.antialias)
        return torch.cat([places[:, :alone], grid.flatten(2).transpose(1, 2)], dim=1)


def turned_by_place(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn queries or keys (N, heads, h w, D) by their place in time (always the first), row and column, a third of the channels each, as V-JEPA 2 does."""
    height, width = grid
    count = height * width
    number = torch.arange(count, device=x.device)
    each = 2 * ((x.shape[-1] // 3) // 2)
    parts = [x[..., :each]]  # time 0 turns nothing
    for place, positions in enumerate((number // width, number % width), start=1):
        part = x[..., place * each : (place + 1) * each]
        omega = 10000.0 ** -(torch.arange(each // 2, device=x.device, dtype=x.dtype) / (each / 2))
        angle = (positions[:, None] * omega).repeat(1, 2)  # published weights were trained with the angles one after the other and the pairs side by side
        pairs = part.unflatten(-1, (-1, 2))
        swapped = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
        parts.append(part * angle.cos() + swapped * angle.sin())
    return torch.cat([*parts, x[..., 3 * each :]], dim=-1)
