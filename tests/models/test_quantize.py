"""Bottlenecks by name, and what all of them have in common."""

import pytest
import torch

from dataengine.core.config import parse_config
from dataengine.core.errors import ConfigError
from dataengine.models.bottleneck import Standardiser
from dataengine.models.quantize import BOTTLENECKS, BottleneckConfig, bottleneck


@pytest.mark.parametrize("kind", list(BOTTLENECKS))
def test_what_all_bottlenecks_have_in_common(kind: str) -> None:
    config = parse_config(BottleneckConfig, {"kind": kind, "tokens": 3, "dimension": 2, "codes": 4, "levels": [3, 3]}, "test")
    torch.manual_seed(0)
    x = torch.randn(40, 3, 2 * (2 if kind == "vae" else 1))
    found = []
    for _ in range(2):
        book = bottleneck(config)
        assert book.inputs == x.shape[-1]
        assert (book.size is None) == (kind == "vae")
        for step in range(3):
            passed = book(x, torch.Generator().manual_seed(step))
        assert passed.latent.shape == (40, 3, config.channels)
        assert passed.loss.ndim == 0
        if passed.codes is not None:
            assert book.size is not None
            assert 0 <= int(passed.codes.min()) <= int(passed.codes.max()) < book.size
        assert book.bits() > 0
        assert isinstance(book, torch.nn.Module)
        found.append((passed, book.eval().encode(x)[0]))
    assert torch.equal(found[0][0].latent, found[1][0].latent)
    assert torch.equal(found[0][1], found[1][1])


def test_names_that_are_not_known_are_refused() -> None:
    with pytest.raises(ConfigError, match="kind"):
        parse_config(BottleneckConfig, {"kind": "vqvae"}, "test")
    with pytest.raises(ConfigError, match="did you mean 'codes'"):
        parse_config(BottleneckConfig, {"code": 3}, "test")


def test_a_standardiser_keeps_magnitudes_between_rows() -> None:
    scale = Standardiser((2,))
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    assert scale(x).flatten().tolist() == pytest.approx([-1, -1, 1, 1], abs=1e-3)
    scale.eval()
    assert scale(torch.tensor([[2.0, 40.0]]))[0].tolist() == pytest.approx([0.0, 2.0], abs=1e-3)
