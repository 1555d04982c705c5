"""How far things moved between two pictures, cell by cell, in closed form: no weights, a few sums a pixel.

Lucas and Kanade (1981): within a cell, brightness that moves by (u, v) changes by -(u gx + v gy); u and v are the least-squares answer over all pixels of a window
around the cell. A small term keeps flat cells still. It holds for motion of up to a few pixels, further on coarser copies of the pictures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STILL = 1e-3  # added to the sums of squared gradients (of values in [0, 1], a pixel), below which a cell counts as flat
FARTHEST_PX = 4.0  # what is said to move farther, in pixels of the copy, is wrong
GREY = (
    0.52,
    1.02,
    0.2,
)  # of red, green and blue: luma (ITU-R BT.601) times the root of 3, so that a grey picture has the gradients of its three colours together
SURE = 0.02  # a smaller eigenvalue of the gradients that makes a cell half sure


def cell_flow(clips: Tensor, cells: int, scales: tuple[int, ...]) -> Tensor:
    """Return flow between neighbouring frames.

    Args:
        clips: (B, T, 3, H, W) in [0, 1].
        cells: side of a cell in px; H and W are multiples of it.
        scales: copies of the pictures that are made smaller by these factors, each of which divides `cells`.

    Returns:
        (B, T - 1, 3 len(scales), H / cells, W / cells): for each scale u to the right and v down, in px of the copy, and how sure that is, in [0, 1].
    """
    batch, frames = clips.shape[:2]
    found = []
    flat = (clips.flatten(0, 1) * torch.tensor(GREY, device=clips.device)[:, None, None]).sum(
        dim=1, keepdim=True
    )  # colours apart tell hardly more, and take thrice the time
    for scale in scales:
        small = (F.avg_pool2d(flat, scale) if scale > 1 else flat).unflatten(0, (batch, frames))
        before, after = small[:, :-1].flatten(0, 1), small[:, 1:].flatten(0, 1)
        found.append(lucas_kanade(before, after, cells // scale).unflatten(0, (batch, frames - 1)))
    return torch.cat(found, dim=2)


def lucas_kanade(before: Tensor, after: Tensor, cell: int) -> Tensor:
    """Return (N, 3, H / cell, W / cell): u, v and how sure, of pictures (N, C, H, W), over windows of three cells a side."""
    middle, change = (before + after) / 2, after - before
    across = F.pad((middle[..., 2:] - middle[..., :-2]) / 2, (1, 1))
    down = F.pad((middle[..., 2:, :] - middle[..., :-2, :]) / 2, (0, 0, 1, 1))
    pairs = ((across, across), (across, down), (down, down), (across, change), (down, change))
    products = torch.stack([(one * other).sum(dim=1) for one, other in pairs], dim=1)  # (N, 5, H, W)
    sums = F.avg_pool2d(F.avg_pool2d(products, cell), 3, stride=1, padding=1, count_include_pad=False)
    xx, xy, yy, xt, yt = sums.unbind(1)
    lower = (xx + yy) / 2 - ((xx - yy).square() / 4 + xy.square()).sqrt()  # the smaller eigenvalue
    xx, yy = xx + STILL, yy + STILL
    whole = xx * yy - xy * xy
    u, v = (xy * yt - yy * xt) / whole, (xy * xt - xx * yt) / whole
    return torch.stack([u.clamp(-FARTHEST_PX, FARTHEST_PX), v.clamp(-FARTHEST_PX, FARTHEST_PX), lower / (lower + SURE)], dim=1)
