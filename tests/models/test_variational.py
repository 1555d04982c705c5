"""The continuous bottleneck: KL of known Gaussians, draws that a generator decides, and how much passes."""

import math

import pytest
import torch

from dataengine.models.variational import Vae, kl_to_standard


def test_kl_of_known_gaussians() -> None:
    mean, variance = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([1.0, 1.0, 4.0])
    expected = [0.0, 2.0, (4 - math.log(4) - 1) / 2]
    assert kl_to_standard(mean, variance.log()).tolist() == pytest.approx(expected)
    own = torch.distributions.kl_divergence(torch.distributions.Normal(1.5, 0.3), torch.distributions.Normal(0.0, 1.0))
    assert float(kl_to_standard(torch.tensor(1.5), torch.tensor(0.09).log())) == pytest.approx(float(own), abs=1e-6)


def test_the_loss_is_beta_times_the_kl_of_a_row() -> None:
    book = Vae(1, 2, beta=0.01)
    x = torch.tensor([[[1.0, -3.0, 2.0, 2.0]]])  # log variances 2 - 2 = 0: KL = (1 + 9) / 2
    passed = book(x, torch.Generator().manual_seed(0))
    assert float(passed.loss) == pytest.approx(0.05)
    assert book.bits() == pytest.approx(5 / math.log(2))
    book(torch.tensor([[[0.0, 0.0, 2.0, 2.0]]]), torch.Generator().manual_seed(0))
    assert book.bits() == pytest.approx(2.5 / math.log(2))  # a plain mean at first


def test_draws_come_from_the_generator_and_labels_are_the_mean() -> None:
    book = Vae(2, 3)
    x = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(5))
    one, same, other = (book(x, torch.Generator().manual_seed(seed)).latent for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    latent, codes = book.encode(x)
    assert codes is None
    assert torch.equal(latent, x[:, :, :3])


def test_draws_have_the_spread_that_is_said() -> None:
    book = Vae(1, 1)
    x = torch.tensor([[[0.5, 1.0]]]).expand(20000, 1, 2)  # log variance 1 - 2 = -1
    drawn = book(x, torch.Generator().manual_seed(0)).latent
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(drawn.std()) == pytest.approx(math.exp(-0.5), abs=0.02)
