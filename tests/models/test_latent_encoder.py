"""Encoders: where mass lies, differences that add up, and the shape of what they give."""

import pytest
import torch

from dataengine.models.latent_config import LatentActionConfig
from dataengine.models.latent_encoder import ENCODERS, DifferenceEncoder, expectation, with_changes
from dataengine.models.quantize import BottleneckConfig


def test_where_the_mass_lies() -> None:
    logits = torch.full((1, 2, 3, 5), -30.0)
    logits[0, 0, 2, 1] = 30.0  # all of it at the bottom, second column of five
    logits[0, 1, 0, 0] = logits[0, 1, 0, 4] = 30.0  # half of it at each end of the top row
    assert expectation(logits)[0].tolist() == [pytest.approx([-0.5, 1.0], abs=1e-5), pytest.approx([0.0, -1.0], abs=1e-5)]


def test_no_change_is_zero_and_the_parts_of_a_way_add_up() -> None:
    torch.manual_seed(0)
    encoder = DifferenceEncoder(LatentActionConfig(width=8), 6)
    a, b, c = torch.rand(3, 2, 3, 64, 64).unbind(0)
    way = {name: encoder(torch.stack(ends, dim=1)).detach() for name, ends in {"ab": (a, b), "ba": (b, a), "bc": (b, c), "ac": (a, c), "aa": (a, a)}.items()}
    assert float(way["aa"].abs().max()) == 0
    assert torch.equal(way["ab"], -way["ba"])
    assert torch.allclose(way["ab"] + way["bc"], way["ac"], atol=1e-6)
    assert float(way["ac"].abs().min(dim=1).values.max()) > 0


def test_changes_are_from_the_first_picture() -> None:
    clips = torch.arange(3.0).view(1, 3, 1, 1, 1).expand(1, 3, 3, 2, 2)
    assert with_changes(clips)[0, :, 0, 0, 0].tolist() == [0, 1, 2, 4, 8]


@pytest.mark.parametrize(("name", "frames"), [("difference", 2), ("pair", 2), ("pair", 3), ("transformer", 4)])
def test_encoders_give_every_output_and_use_the_last_picture(name: str, frames: int) -> None:
    torch.manual_seed(0)
    config = LatentActionConfig(encoder=name, frames=frames, size=(32, 48), width=16, heads=2, bottleneck=BottleneckConfig(tokens=2, dimension=3))  # type: ignore[arg-type]
    encoder = ENCODERS[name](config, 6)
    clips = torch.rand(2, frames, 3, 32, 48)
    found = encoder(clips).detach()
    assert found.shape == (2, 6)
    changed = clips.clone()
    changed[1, -1, :, 10:20, 10:20] = 1.0
    after = encoder(changed).detach()
    assert torch.allclose(found[0], after[0], atol=1e-6)
    assert float((found[1] - after[1]).abs().max()) > 1e-4
