import pytest
import torch

from dataengine.core.errors import UsageError
from dataengine.models.tokenizers import ConvStem, PatchViT, TokenizerConfig, tokenizer_of, with_differences


def clips(batch: int = 2, frames: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(batch, frames, side, side, 3, generator=torch.Generator().manual_seed(0))


def test_differences_are_those_to_the_frames_before_and_after() -> None:
    film = torch.zeros(1, 3, 1, 1, 3)
    film[0, :, 0, 0, 0] = torch.tensor([0.25, 0.5, 1.0])
    there = torch.ones(1, 3, dtype=torch.bool)
    found = with_differences(film, there)[0, :, 0, 0]
    assert found[:, 0].tolist() == [-0.5, 0.0, 1.0]
    assert found[:, 3].tolist() == [0.0, 1.0, 2.0]  # four times what changed since the frame before
    assert found[:, 6].tolist() == [1.0, 2.0, 0.0]
    there[0, 1] = False
    found = with_differences(film, there)[0, :, 0, 0]
    assert found[:, 3:].abs().sum() == 0
    assert found[1].abs().sum() == 0


@pytest.mark.parametrize(("readout", "tokens"), [("grid", 16), ("flat", 1), ("points", 1), ("both", 2)])
def test_a_stem_gives_the_tokens_that_it_says(readout: str, tokens: int) -> None:
    torch.manual_seed(0)
    stem = ConvStem(TokenizerConfig(channels=(8, 16, 16), strides=(2, 2, 1), flow=(1, 2), readout=readout), 24, (16, 16))  # type: ignore[arg-type]
    assert stem.tokens == tokens
    assert stem(clips(), torch.ones(2, 3, dtype=torch.bool)).shape == (2, 3, tokens, 24)


def test_points_are_where_a_map_is_strongest() -> None:
    torch.manual_seed(0)
    stem = ConvStem(TokenizerConfig(channels=(8, 8), strides=(2, 1), flow=(), readout="points", differences=False), 16, (32, 32))
    heat = torch.full((1, 8, 256), -20.0)
    heat[0, :, 16 * 12 + 4] = 20.0  # row 12 and column 4 of 16
    where = heat.softmax(-1) @ stem.places
    assert where[0, 0].tolist() == pytest.approx([-1 + 2 * 12 / 15, -1 + 2 * 4 / 15], abs=1e-5)


def test_a_vit_tells_places_apart() -> None:
    torch.manual_seed(0)
    vit = PatchViT(TokenizerConfig(kind="patch", patch=8, depth=1, differences=False), 16, (16, 24), 2)
    assert vit.tokens == 6
    same = torch.full((1, 1, 16, 24, 3), 0.3)
    found = vit(same, torch.ones(1, 1, dtype=torch.bool))[0, 0]
    assert not torch.allclose(found[0], found[5])


def test_a_frozen_encoder_needs_a_folder() -> None:
    with pytest.raises(UsageError, match=r"set tokenizer\.folder"):
        tokenizer_of(TokenizerConfig(kind="frozen"), 16, (16, 16), 2)
