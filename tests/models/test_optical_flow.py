import math

import pytest
import torch

from dataengine.models.optical_flow import cell_flow, lucas_kanade


def waves(right: float, down: float, side: int = 32) -> torch.Tensor:
    """Return (1, 3, H, W) of smooth waves that were moved."""
    rows, columns = torch.meshgrid(torch.arange(side, dtype=torch.float32) - down, torch.arange(side, dtype=torch.float32) - right, indexing="ij")
    picture = 0.5 + 0.25 * torch.sin(columns / 2) + 0.25 * torch.cos(rows / 2 + columns / 7)
    return picture.expand(1, 3, side, side)


@pytest.mark.parametrize(("right", "down"), [(0.6, -0.3), (-0.2, 0.8), (1.0, 0.0)])
def test_motion_below_a_pixel_is_measured(right: float, down: float) -> None:
    found = lucas_kanade(waves(0, 0), waves(right, down), 4)[0, :, 1:-1, 1:-1]
    assert float(found[0].mean()) == pytest.approx(right, abs=0.08)
    assert float(found[1].mean()) == pytest.approx(down, abs=0.08)


def test_each_scale_measures_in_its_own_pixels() -> None:
    film = torch.stack([waves(0, 0), waves(0.8, 0), waves(0.8, -1.0)], dim=1)
    found = cell_flow(film, 4, (1, 2))
    assert found.shape == (1, 2, 6, 8, 8)
    # on the coarser copy the waves turn by a radian a pixel, of whose slope a central difference sees the share sin(1): motion looks so much longer
    assert float(found[0, 0, 3, 1:-1, 1:-1].mean()) == pytest.approx(0.4 / math.sin(1), abs=0.02)
    assert float(found[0, 1, 4, 1:-1, 1:-1].mean()) == pytest.approx(-0.5 / math.sin(1), abs=0.02)


def test_a_flat_cell_is_still_and_not_sure() -> None:
    flat = torch.full((1, 3, 16, 16), 0.4)
    found = lucas_kanade(flat, flat + 0.1, 4)
    assert float(found.abs().max()) < 1e-6
    assert float(lucas_kanade(waves(0, 0), waves(0.5, 0), 4)[0, 2].mean()) > 0.02
