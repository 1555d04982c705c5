"""Blocks over space and time: what may depend on what."""

from __future__ import annotations

import torch

from dataengine.models.blocks import Attention, Norm, SpaceTimeTransformer, rotary


def changed(causal: bool, frame: int) -> list[bool]:
    """Return which frames' tokens change when one frame's do."""
    torch.manual_seed(0)
    model = SpaceTimeTransformer(16, 2, 2, causal=causal).eval()
    x = torch.randn(1, 4, 3, 16)
    other = x.clone()
    other[0, frame, 1] += torch.linspace(0, 1, 16)  # a constant alone is no news: it is normalised away
    with torch.inference_mode():
        return ((model(x) - model(other)).abs().amax(dim=(0, 2, 3)) > 1e-6).tolist()


def test_a_causal_model_sees_no_later_frame() -> None:
    assert changed(True, 2) == [False, False, True, True]
    assert changed(False, 2) == [True, True, True, True]


def test_a_conditioned_block_begins_as_the_identity() -> None:
    torch.manual_seed(0)
    model = SpaceTimeTransformer(16, 2, 2, conditioned=True)
    x, condition = torch.randn(2, 3, 4, 16), torch.randn(2, 3, 16)
    assert torch.allclose(model(x, condition=condition), model.norm(x), atol=1e-6)


def test_each_frame_is_changed_by_its_own_condition() -> None:
    torch.manual_seed(0)
    model = SpaceTimeTransformer(16, 1, 2, conditioned=True, causal=True)
    torch.nn.init.normal_(model.blocks[0].modulation.project.weight, std=0.1)
    x, condition = torch.randn(1, 3, 4, 16), torch.randn(1, 3, 16)
    other = condition.clone()
    other[0, 1] += 1
    with torch.inference_mode():
        difference = (model(x, condition=condition) - model(x, condition=other)).abs().amax(dim=(0, 2, 3))
    assert (difference > 1e-6).tolist() == [False, True, True]


def test_attention_over_distances_in_time_alone() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 8), torch.randn(1, 1, 8)

    def score(at: float, of: float) -> float:
        return float((rotary(query, torch.tensor([at])) * rotary(key, torch.tensor([of]))).sum())

    assert abs(score(3, 5) - score(10, 12)) < 1e-5
    assert abs(score(3, 5) - score(5, 3)) > 1e-3


def test_masked_tokens_are_not_attended_to() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 2)
    x, context = torch.randn(1, 2, 16), torch.randn(1, 3, 16)
    other = context.clone()
    other[0, 2] += 5
    mask = torch.tensor([[True, True, False]])
    assert torch.equal(attention(x, context, mask=mask), attention(x, other, mask=mask))
    assert not torch.equal(attention(x, context), attention(x, other))


def test_the_norm_by_hand() -> None:
    assert torch.allclose(Norm(3)(torch.tensor([3.0, 4.0, 8.0])), torch.tensor([-2.0, -1.0, 3.0]) / (14 / 3) ** 0.5, atol=1e-5)
