"""Codebooks: nearest codes, k-means, one step of running means by hand, revival of dead codes, and noise in place of rounding."""

import math

import pytest
import torch

from dataengine.models.vector_codes import Nsvq, Vq, k_means, looked_up, nearest_codes, perplexity


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_is(book: torch.nn.Module) -> torch.nn.Module:
    """Leave what comes in unscaled, so that numbers can be worked out by hand."""
    book.standardise = torch.nn.Identity()
    return book


def started(book: torch.nn.Module, codes: list[list[list[float]]], count: float) -> torch.nn.Module:
    as_is(book)
    book.codes.data.copy_(torch.tensor(codes))
    book.started.fill_(True)
    book.use.fill_(1 / book.size)
    if isinstance(book, Vq):
        book.counts.fill_(count)
        book.sums.copy_(book.codes * count)
    return book


def test_each_token_takes_the_nearest_code_of_its_own_book() -> None:
    codes = torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[5.0, 5.0], [-1.0, 2.0]]])
    x = torch.tensor([[[0.6, 0.1], [0.0, 1.0]], [[0.4, 9.0], [4.0, 4.0]]])
    chosen = nearest_codes(x, codes)
    assert chosen.tolist() == [[1, 1], [0, 0]]
    assert looked_up(codes, chosen).tolist() == [[[1.0, 0.0], [-1.0, 2.0]], [[0.0, 0.0], [5.0, 5.0]]]


def test_k_means_finds_clusters_of_unequal_size() -> None:
    x = torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.1, 0.3], [10.0, 0.0], [0.0, -7.0], [0.0, -8.0]])
    means = sorted(k_means(x, 3, seeded()).tolist(), key=lambda row: row[1])
    assert means[0] == pytest.approx([0.0, -7.5])
    assert means[1] == pytest.approx([10.0, 0.0])
    assert means[2] == pytest.approx([0.1, 0.1])


def test_one_step_of_running_means_by_hand() -> None:
    book = started(Vq(1, 1, size=2, decay=0.75, commitment=0.5), [[[0.0], [4.0]]], count=2.0)
    passed = book(torch.tensor([[[1.0]], [[1.0]], [[3.0]]]), seeded())
    # nearest before the step: 0, 0, 4; n = .75·2 + .25·(2, 1) = (2, 1.75), m = .75·(0, 8) + .25·(2, 3) = (.5, 6.75)
    assert passed.codes is not None
    assert passed.codes[:, 0].tolist() == [0, 0, 1]
    assert passed.latent[:, 0, 0].tolist() == [0.0, 0.0, 4.0]
    assert book.counts[0].tolist() == [2.0, 1.75]
    assert book.codes[0, :, 0].tolist() == pytest.approx([0.25, 6.75 / 1.75])
    assert float(passed.loss) == pytest.approx(0.5 * (1 + 1 + 1) / 3)


def test_gradients_pass_straight_through_and_draw_to_the_code() -> None:
    book = started(Vq(1, 1, size=2, commitment=0.5), [[[0.0], [4.0]]], count=2.0)
    x = torch.tensor([[[1.0]], [[3.0]]], requires_grad=True)
    passed = book(x, seeded())
    (3 * passed.latent.sum() + passed.loss).backward()
    assert x.grad is not None
    assert x.grad[:, 0, 0].tolist() == [3 + 0.5 * 2 * 1 / 2, 3 + 0.5 * 2 * -1 / 2]


def test_dead_codes_become_current_encoder_outputs_and_living_ones_stay() -> None:
    book = started(Vq(1, 2, size=4, decay=0.5, patience=2), [[[0.0, 0.0], [1.0, 0.0], [90.0, 0.0], [0.0, 90.0]]], count=1.0)
    x = torch.tensor([[[0.1, 0.0]], [[0.2, 0.0]], [[0.9, 0.0]], [[0.8, 0.3]]])
    for step in range(6):
        book(x, seeded(step))
    rows = {tuple(row) for row in x[:, 0].tolist()}
    far = [tuple(code) for code in book.codes[0].tolist() if max(code) > 1]
    assert far == []  # both that nothing used are gone
    assert sum(min(math.dist(code, row) for row in rows) < 0.11 for code in book.codes[0].tolist()) == 4


def test_no_code_is_revived_while_all_are_in_use() -> None:
    book = started(Vq(1, 1, size=2, decay=0.999, patience=2), [[[0.0], [4.0]]], count=100.0)
    for step in range(20):
        book(torch.tensor([[[0.0]], [[4.0]], [[4.0]]]), seeded(step))
    assert book.codes[0, :, 0].tolist() == pytest.approx([0.0, 4.0], abs=1e-5)


def test_a_warm_up_passes_the_latent_as_it_is_and_then_the_first_batch_makes_the_codes() -> None:
    book = as_is(Vq(1, 1, size=2, warmup=2))
    x = torch.tensor([[[1.0]], [[1.2]], [[7.0]]])
    for step in range(2):
        passed = book(x, seeded(step))
        assert passed.codes is None
        assert torch.equal(passed.latent, x)
        assert not bool(book.started)
    passed = book(x, seeded(2))
    assert passed.codes is not None
    assert sorted(book.codes[0, :, 0].tolist()) == pytest.approx([1.1, 7.0])
    assert passed.codes[0, 0] == passed.codes[1, 0] != passed.codes[2, 0]


def test_noise_is_as_large_as_the_error_and_gradients_reach_the_codes() -> None:
    book = started(Nsvq(1, 2, size=2), [[[0.0, 0.0], [5.0, 0.0]]], count=1.0)
    x = torch.tensor([[[3.0, 4.0]], [[5.0, 0.5]]])
    passed = book(x, seeded(3))
    assert passed.codes is not None
    assert passed.codes[:, 0].tolist() == [1, 1]
    distance = (passed.latent - x).norm(dim=-1)[:, 0]
    assert distance.tolist() == pytest.approx([math.hypot(2, 4), 0.5], abs=1e-5)
    (passed.latent * torch.tensor([1.0, 2.0])).sum().backward()
    assert float(book.codes.grad[0, 1].abs().sum()) > 0
    assert float(book.codes.grad[0, 0].abs().sum()) == 0
    assert torch.equal(passed.latent, book(x, seeded(3)).latent)
    assert not torch.equal(passed.latent, book(x, seeded(4)).latent)


def test_where_labels_are_made_a_row_stands_for_itself() -> None:
    torch.manual_seed(0)
    for book in (Vq(3, 2, size=4), Nsvq(3, 2, size=4)):
        x = torch.randn(32, 3, 2)
        for step in range(3):
            book(x + 0.1 * step, seeded(step))
        book.eval()
        latent, codes = book.encode(x)
        alone, code = book.encode(x[5:6])
        assert torch.equal(alone[0], latent[5])
        assert torch.equal(code[0], codes[5])
        assert torch.equal(looked_up(book.codes, codes), latent)


def test_processes_that_train_together_take_over_the_codes_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    first = started(Nsvq(1, 2, size=2), [[[0.0, 1.0], [5.0, -2.0]]], count=1.0)
    other = started(Nsvq(1, 2, size=2), [[[9.0, 9.0], [8.0, 8.0]]], count=1.0)
    other.agree()  # alone
    assert other.codes[0, 0].tolist() == [9.0, 9.0]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, source: tensor.copy_(first.codes.data if source == 0 else tensor))
    other.agree()
    assert torch.equal(other.codes, first.codes)
    assert other.codes.requires_grad


def test_bits_and_perplexity() -> None:
    assert Vq(4, 2, size=16).bits() == 16.0
    assert Nsvq(2, 2, size=8).bits() == 6.0
    assert float(perplexity(torch.tensor([[0], [0], [1], [2]]), 4)) == pytest.approx(2 ** (0.5 * 1 + 2 * 0.25 * 2))
