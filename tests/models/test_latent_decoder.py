"""The decoder: moving by whole and half pixels, flow that is linear in the latent, and rest at zero."""

import pytest
import torch

from dataengine.models.latent_decoder import FeatureDecoder, WarpDecoder, warped


def test_pictures_move_by_the_flow_right_and_down() -> None:
    picture = torch.zeros(1, 1, 4, 6)
    picture[0, 0, 1, 2] = 8.0
    flow = torch.zeros(1, 2, 4, 6)
    flow[:, 0], flow[:, 1] = 3.0, 1.0  # x, then y
    moved = warped(picture, flow)
    assert torch.allclose(moved[0, 0, 2], torch.tensor([0, 0, 0, 0, 0, 8.0]), atol=1e-5)
    assert float(moved.sum()) == pytest.approx(8.0, abs=1e-4)
    flow[:, 0], flow[:, 1] = 0.25, 0.0
    assert torch.allclose(warped(picture, flow)[0, 0, 1], torch.tensor([0, 0, 6.0, 2.0, 0, 0]), atol=1e-5)


def test_flow_is_linear_in_the_latent_and_zero_is_rest() -> None:
    torch.manual_seed(0)
    decoder = WarpDecoder(8, latent=3, depth=1, paint=True)
    torch.nn.init.normal_(decoder.fields.weight, std=0.2)
    first = torch.rand(2, 3, 32, 48) * 2 - 1
    one, two = torch.randn(2, 3), torch.randn(2, 3)
    flows = [decoder(first, latent).flow for latent in (one, two, 2 * one - two)]
    assert torch.allclose(2 * flows[0] - flows[1], flows[2], atol=1e-4)
    assert float(flows[0].detach().abs().max()) > 0.1
    still = WarpDecoder(8, latent=3, depth=1, paint=False)(first, torch.zeros(2, 3))
    assert float(still.flow.detach().abs().max()) == 0
    assert torch.allclose(still.picture, first, atol=1e-5)


def test_nothing_is_painted_at_first() -> None:
    torch.manual_seed(0)
    decoder = WarpDecoder(8, latent=2, depth=1, paint=True)
    first, latent = torch.rand(1, 3, 16, 16), torch.tensor([[0.3, -2.0]])
    told = decoder(first, latent)
    assert torch.allclose(told.picture, warped(first, told.flow), atol=1e-6)


def test_features_begin_as_those_of_the_first_picture_changed_by_the_latent() -> None:
    torch.manual_seed(0)
    decoder = FeatureDecoder(12, latent=2, depth=1)
    first = torch.randn(3, 5, 12)
    told = decoder(first, torch.randn(3, 2))
    assert told.shape == (3, 5, 12)
    decoder.out.weight.data.zero_()
    decoder.out.bias.data.zero_()
    assert torch.equal(decoder(first, torch.randn(3, 2)), first)
