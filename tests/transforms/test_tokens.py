from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.errors import UsageError
from dataengine.transforms.tokens import UniformNumbers, UniformTokens


def test_tokens_by_hand() -> None:
    """Bins of 0.5 from -1 to 1, and of 2.5 from 0 to 10."""
    tokens = UniformTokens(low=(-1, 0), high=(1, 10), bins=4)
    numbers = np.array([[-1, 0], [-0.51, 2.49], [-0.5, 2.5], [0.99, 9.9], [1, 10], [7, -3]], np.float32)
    numbers.flags.writeable = False
    done = tokens({"action": numbers})["action"]
    assert done.dtype == np.int64
    assert done.tolist() == [[0, 0], [0, 0], [1, 1], [3, 3], [3, 3], [3, 0]]
    assert tokens.inverse({"action": done})["action"].tolist() == [[-0.75, 1.25]] * 2 + [[-0.25, 3.75]] + [[0.75, 8.75]] * 2 + [[0.75, 1.25]]
    assert tokens.max_error == (0.25, 1.25)
    assert UniformTokens((-1,), (1,)).max_error == (1 / 256,)


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(0.01, 100), st.floats(0, 1)), min_size=1, max_size=5),
    st.sampled_from([2, 3, 255, 256, 1000]),
    st.sampled_from([(), (3,), (2, 3)]),
)
@settings(deadline=None, max_examples=150)
def test_what_comes_back_is_off_by_half_a_bin_at_most(rows: Any, bins: int, leading: tuple[int, ...]) -> None:
    low, width, share = np.array(rows).T
    tokens = UniformTokens(tuple(low), tuple(low + width), bins)
    numbers = np.broadcast_to(low + share * width, (*leading, len(low)))
    encoded = tokens.encode(numbers)
    decoded = tokens.decode(encoded)
    assert decoded.shape == numbers.shape
    assert (np.abs(decoded - numbers) <= np.array(tokens.max_error) + 1e-5 * (1 + np.abs(numbers))).all()
    if (width / bins > 1e-4 * (1 + np.abs(low))).all():  # float32 holds the middle of each bin
        assert np.array_equal(tokens.encode(decoded), encoded)


def test_every_token_of_256_comes_back() -> None:
    tokens = UniformTokens((-1.0,), (1.0,))
    every = np.arange(256)[:, None]
    assert np.array_equal(tokens.encode(tokens.decode(every)), every)
    assert tokens.decode(every)[[0, 255], 0].tolist() == [-1 + 1 / 256, 1 - 1 / 256]


def test_a_dim_that_does_not_move() -> None:
    tokens = UniformTokens((0.5, 0), (0.5, 1))
    assert tokens.encode(np.array([[0.5, 0.5], [0.6, 0.5]])).tolist() == [[0, 128]] * 2
    assert tokens.decode(np.array([[0, 128]]))[0, 0] == 0.5


def test_tokens_beside_the_numbers() -> None:
    tokens = UniformTokens((0,), (1,), into="action_tokens")
    batch = {"action": np.array([[[0.25]]], np.float32), "task": ["a"]}
    done = tokens(batch)
    assert done["action_tokens"].tolist() == [[[64]]]
    assert done["action"] is batch["action"]
    back = tokens.inverse({"action_tokens": done["action_tokens"]})
    assert list(back) == ["action"]
    assert back["action"].item() == (64.5) / 256


def test_padded_steps_need_hold_no_number() -> None:
    tokens = UniformTokens((-1, -1), (1, 1), bins=2)
    batch = {"action": np.array([[0.5, -0.5], [np.nan, 0.5]]), "action_is_pad": np.array([False, True])}
    assert tokens(batch)["action"].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: UniformTokens((0, 1), (1,)), "one for each dim"),
        (lambda: UniformTokens((2,), (1,)), "low <= high"),
        (lambda: UniformTokens((), ()), "one for each dim"),
        (lambda: UniformTokens((0,), (np.inf,)), "must be finite"),
        (lambda: UniformTokens((0,), (1,), bins=1), "bins must lie in"),
        (lambda: UniformTokens((0,), (1,))({"action": np.zeros((2, 3))}), r"batch\['action'\]: must be \(..., 1\).*\(2, 3\)"),
        (lambda: UniformTokens((0,), (1,))({"action": np.array([np.nan])}), r"batch\['action'\]: must be finite"),
        (lambda: UniformTokens((0,), (1,))({"state": np.zeros(1)}), "must hold 'action'"),
        (lambda: UniformTokens((0,), (1,)).decode(np.array([256])), r"must lie in \[0, 255\], got 256 to 256"),
        (lambda: UniformTokens((0,), (1,)).decode(np.array([0.5])), "must be integers"),
    ],
)
def test_what_is_wrong_is_named(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_transforms_are_values() -> None:
    tokens = UniformTokens([0, 0], [1, 2])  # type: ignore[arg-type]
    assert tokens == UniformTokens((0.0, 0.0), (1.0, 2.0))
    assert pickle.loads(pickle.dumps(tokens.inverse)) == UniformNumbers(tokens)
    assert tokens.inverse.inverse == tokens
    assert repr(tokens) == "UniformTokens(low=(0.0, 0.0), high=(1.0, 2.0), bins=256, name='action', into=None)"
