"""Finite scalar quantisation: codes and channels tell the same, all levels are in use whatever the encoder's scale, gradients pass."""

import math

import pytest
import torch

from dataengine.models.scalar_codes import Fsq


def test_codes_to_values_to_codes_is_identity() -> None:
    book = Fsq(1, (3, 4, 5))
    codes = torch.arange(60)
    values = book.values(codes)
    assert book.codes(book._digits(values)).tolist() == codes.tolist()
    assert len({tuple(row) for row in values.tolist()}) == 60
    assert values[0].tolist() == [-1, -1, -1]
    assert values[59].tolist() == [1, 1, 1]
    assert values[1 * 20 + 3 * 5 + 2].tolist() == pytest.approx([0, 1, 0])  # the first channel counts most
    assert values[2 * 20 + 1 * 5 + 1].tolist() == pytest.approx([1, -1 / 3, -0.5])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_all_levels_are_in_use_from_the_first_step_whatever_the_scale(scale: float) -> None:
    torch.manual_seed(0)
    book = Fsq(2, (5, 5))
    passed = book(scale * torch.randn(512, 2, 2) + 3 * scale, torch.Generator())
    for token in range(2):
        for channel in range(2):
            share = torch.bincount(book._digits(passed.latent[:, token, channel : channel + 1].expand(-1, 2))[:, 0], minlength=5) / 512
            assert float(share.min()) > 0.05
            assert float(share.max()) < 0.45
    assert float(passed.figures["perplexity"]) > 18  # of 25: rounding to zero alone would be 1


def test_gradients_pass_as_if_nothing_was_rounded() -> None:
    book = Fsq(1, (5,))
    book.standardise = torch.nn.Identity()
    x = torch.tensor([[[0.3]], [[-2.0]]], requires_grad=True)
    passed = book(x, torch.Generator())
    assert passed.latent[:, 0, 0].tolist() == pytest.approx([0.5, -1.0])  # tanh 0.3 = 0.29, which lies nearer to 0.5 than to 0; tanh -2 = -0.96
    passed.latent.sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0, 0].tolist() == pytest.approx([1 - math.tanh(0.3) ** 2, 1 - math.tanh(-2.0) ** 2])


def test_a_row_stands_for_itself_where_labels_are_made() -> None:
    torch.manual_seed(1)
    book = Fsq(2, (5, 3))
    for _ in range(5):
        book(torch.randn(64, 2, 2) * 4 + 1, torch.Generator())
    book.eval()
    x = torch.randn(16, 2, 2) * 4 + 1
    latent, codes = book.encode(x)
    alone, code = book.encode(x[3:4])
    assert torch.equal(alone[0], latent[3])
    assert codes is not None
    assert torch.equal(book.values(codes), latent)
    assert code is not None
    assert torch.equal(code[0], codes[3])


def test_bits() -> None:
    assert Fsq(4, (5, 5)).bits() == pytest.approx(4 * math.log2(25))
