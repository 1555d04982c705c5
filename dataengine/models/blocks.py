"""Transformer blocks over space and time: attention within each frame, then of each place over the frames; optionally modulated by a condition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Norm(nn.LayerNorm):
    """Bring rows to mean 0 and variance 1, then scale them by learned factors.

    On a CPU it costs a third of the time of a root-mean-square norm, which no kernel does in one go there; it learns as well.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-5, bias=False)


def rotary(x: Tensor, positions: Tensor) -> Tensor:
    """Turn pairs of channels by angles that grow with the position (Su et al. 2021): x (..., N, D), positions (N,) or (..., N)."""
    half = x.shape[-1] // 2
    frequency = 100.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = positions.to(torch.float32)[..., None] * frequency  # (..., N, D/2)
    first, second = x[..., :half], x[..., half:]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Attention(nn.Module):
    """Self- or cross-attention with normalised queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.query_norm, self.key_norm = Norm(width // heads), Norm(width // heads)

    def forward(self, x: Tensor, context: Tensor | None = None, positions: Tensor | None = None, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        """Attend from x (B, N, C) to context (B, M, C), itself where there is none; `mask` (B, M) bool is True where there is something to attend to."""
        context = x if context is None else context
        query = self._split(self.query(x))  # (B, heads, N, C/heads)
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, dim=-1))
        query, key = self.query_norm(query), self.key_norm(key)
        if positions is not None:
            query, key = rotary(query, positions), rotary(key, positions)
        told = None if mask is None else mask[:, None, None, :]
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=told, is_causal=causal)
        return self.out(found.transpose(1, 2).flatten(2))  # (B, N, C)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two layers with a gate (SwiGLU)."""

    def __init__(self, width: int, factor: float = 8 / 3) -> None:
        super().__init__()
        inner = int(width * factor) // 8 * 8
        self.up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class Modulation(nn.Module):
    """Shift, scale and gate from a condition, the gate zero at first: a block begins as the identity."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.project = nn.Linear(width, 3 * parts * width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, condition: Tensor) -> list[Tensor]:
        """Return shift, scale and gate of each part, in the shape of `condition` (..., C)."""
        return list(self.project(F.silu(condition)).chunk(3 * self.parts, dim=-1))


class SpaceTimeBlock(nn.Module):
    """Attention over the tokens of each frame, attention of each token over the frames, two layers; each added to what it was given."""

    def __init__(self, width: int, heads: int, conditioned: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(width) for _ in range(3))
        self.space, self.time = Attention(width, heads), Attention(width, heads)
        self.feed = FeedForward(width)
        self.modulation = Modulation(width, 3) if conditioned else None

    def forward(self, x: Tensor, positions: Tensor, causal: bool = False, condition: Tensor | None = None) -> Tensor:
        """x (B, T, S, C) → the same; positions (T,) in time; condition (B, T, C), one for each frame, or (B, 1, C)."""
        batch, frames, places, _ = x.shape
        changes = self.modulation(condition[:, :, None, :]) if self.modulation is not None and condition is not None else None

        def ready(part: int) -> Tensor:
            normed = self.norms[part](x)
            return normed if changes is None else normed * (1 + changes[3 * part + 1]) + changes[3 * part]

        def gated(part: int, change: Tensor) -> Tensor:
            return change if changes is None else change * changes[3 * part + 2]

        within = self.space(ready(0).flatten(0, 1)).unflatten(0, (batch, frames))
        x = x + gated(0, within)
        across = ready(1).transpose(1, 2).flatten(0, 1)  # (B S, T, C)
        across = self.time(across, positions=positions, causal=causal).unflatten(0, (batch, places)).transpose(1, 2)
        x = x + gated(1, across)
        return x + gated(2, self.feed(ready(2)))


class SpaceTimeTransformer(nn.Module):
    """Blocks over tokens (B, T, S, C), without or with a condition, bidirectional or causal in time."""

    def __init__(self, width: int, depth: int, heads: int, conditioned: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SpaceTimeBlock(width, heads, conditioned) for _ in range(depth))
        self.norm = Norm(width)
        self.causal = causal

    def forward(self, x: Tensor, positions: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Return tokens (B, T, S, C); `positions` (T,) are times in any unit, the frames' numbers where not given."""
        positions = torch.arange(x.shape[1], device=x.device) if positions is None else positions
        for block in self.blocks:
            x = block(x, positions, self.causal, condition)
        return self.norm(x)
