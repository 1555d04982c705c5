from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.errors import UsageError
from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.steps import control_steps
from dataengine.transforms.fast_tokens import FastActionTokens, FastTokens, dct_matrix, load_fast_tokens, save_fast_tokens, train_fast_tokens


def smooth(count: int, steps: int = 8, dims: int = 3, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return chunks that are slow sines."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps)[None, :, None]
    return np.sin(rng.uniform(0, 6, (count, 1, dims)) + t * rng.uniform(0, 0.3, (count, 1, dims))).astype(np.float32)


TRAINED = train_fast_tokens(smooth(500), vocab_size=300, scale=10)


def test_the_cosine_transform_by_hand() -> None:
    half = np.sqrt(0.5)
    assert np.allclose(dct_matrix(2), [[half, half], [half, -half]])
    assert np.allclose(dct_matrix(3), [[3**-0.5] * 3, [half, 0, -half], [6**-0.5, -2 * 6**-0.5, 6**-0.5]])
    for steps in (1, 4, 16, 50):
        assert np.allclose(dct_matrix(steps) @ dct_matrix(steps).T, np.eye(steps))


def test_coefficients_by_hand() -> None:
    """Two steps of two dims: (3, 1) gives 4 / sqrt 2 = 2.83 and 2 / sqrt 2 = 1.41; (0, -1) gives -0.71 and 0.71."""
    tokens = FastTokens(steps=2, dims=2, scale=10, low=-10, high=30, merges=())
    chunk = np.array([[[3.0, 0], [1, -1]]])
    assert tokens.quantise(chunk).tolist() == [[[28, -7], [14, 7]]]
    assert tokens.encode(chunk)[0].tolist() == [38, 3, 24, 17]  # the lowest frequency of all dims first, each less -10
    assert np.allclose(tokens.decode(tokens.encode(chunk)), [[[4.2 / 2**0.5, 0], [1.4 / 2**0.5, -1.4 / 2**0.5]]])
    assert np.isclose(tokens.max_error, 0.05 * 2**0.5)


def test_a_merge_is_one_token() -> None:
    tokens = FastTokens(steps=2, dims=2, scale=10, low=0, high=2, merges=((0, 0), (4, 0)))  # symbols 0 1 2, 3 escapes, 4 = 0 0, 5 = 0 0 0
    chunk = np.full((1, 2, 2), [0.1 / 2**0.5 * 1, 0])  # 1 in the first coefficient of the first dim
    assert tokens.quantise(chunk).tolist() == [[[1, 0], [0, 0]]]
    assert tokens.encode(chunk)[0].tolist() == [1, 5]
    assert tokens.vocab_size == 6
    assert tokens.coefficients([np.array([1, 5])]).tolist() == [[[1, 0], [0, 0]]]


def test_what_has_no_symbol_escapes() -> None:
    """Base 3, 21 digits: the smallest power of 3 beyond 2 ** 32. 7 is 14 = 112 in base 3; -7 is 13 = 111; the digits run from the lowest."""
    tokens = FastTokens(steps=1, dims=3, scale=1, low=0, high=2, merges=())
    chunk = np.array([[[7.0, 1, -7]]])
    assert tokens.encode(chunk)[0].tolist() == [3, 2, 1, 1, *[0] * 18, 1, 3, 1, 1, 1, *[0] * 18]
    assert tokens.decode(tokens.encode(chunk)).tolist() == chunk.tolist()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 1.0, 30.0, 1e5]), st.integers(1, 5))
@settings(deadline=None, max_examples=100)
def test_any_chunk_comes_back_as_its_rounded_coefficients(seed: int, size: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    chunks = np.concatenate([smooth(2, seed=seed), rng.normal(0, size, (count, 8, 3)).astype(np.float32)])
    chunks.flags.writeable = False
    encoded = TRAINED.encode(chunks)
    assert all(row.dtype == np.int64 and row.min() >= 0 and row.max() < TRAINED.vocab_size for row in encoded)
    assert np.array_equal(TRAINED.coefficients(encoded), TRAINED.quantise(chunks))
    decoded = TRAINED.decode(encoded)
    assert (np.abs(decoded - chunks) <= TRAINED.max_error + 1e-6 * np.abs(chunks).max()).all()
    if size < 1e4:  # beyond, float32 has no step of this scale
        assert np.array_equal(TRAINED.quantise(decoded), TRAINED.quantise(chunks))
    for number in range(len(chunks)):  # whichever chunks it comes with
        assert np.array_equal(TRAINED.encode(chunks[number : number + 1])[0], encoded[number])


def test_the_error_bound_is_tight() -> None:
    """Coefficients that are all half a step off, with the signs that add up at one step of the chunk."""
    matrix = dct_matrix(8)
    worst = int(np.argmax(np.abs(matrix).sum(axis=0)))
    coefficients = np.sign(matrix[:, worst]) * 0.0499999
    chunk = np.repeat((matrix.T @ coefficients)[None, :, None], 3, axis=2)
    assert (TRAINED.quantise(chunk) == 0).all()
    assert np.isclose(np.abs(chunk).max(), TRAINED.max_error, rtol=1e-4)


def test_training_is_deterministic_and_does_not_mind_the_order() -> None:
    chunks = smooth(300, seed=4)
    tokens = train_fast_tokens(chunks, 200, 10)
    assert tokens == train_fast_tokens(chunks[::-1], 200, 10)
    assert tokens.vocab_size == 200
    assert hash(tokens) == hash(train_fast_tokens(chunks, 200, 10))
    few = train_fast_tokens(np.zeros((1, 4, 1)), 50)
    assert (few.low, few.high, few.merges) == (0, 1, ((0, 0),))  # 0 0 0 0 has 0 0 three times; then 3 3 once
    assert few.encode(np.zeros((1, 4, 1)))[0].tolist() == [3, 3]


def test_smooth_actions_take_few_tokens() -> None:
    """The commands of the sample arm, 16 steps of 5 dims: 80 tokens of 256 bins each."""
    episodes = [control_steps(record(0, index, ArmConfig(cameras=()))).action for index in range(12)]
    low, high = np.quantile(np.concatenate(episodes), [0.01, 0.99], axis=0)
    chunks = np.concatenate(
        [np.stack([2 * (episode[start : start + 16] - low) / (high - low) - 1 for start in range(0, len(episode) - 16)]) for episode in episodes]
    )
    tokens = train_fast_tokens(chunks[::2], 1024, 10)
    unseen = chunks[1::2]
    encoded = tokens.encode(unseen)
    assert np.mean([len(row) for row in encoded]) < 80 / 4
    assert np.array_equal(tokens.coefficients(encoded), tokens.quantise(unseen))


def test_kept_as_json(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    save_fast_tokens(TRAINED, path)
    assert load_fast_tokens(path) == TRAINED
    assert json.loads(path.read_text())["format"] == "fast-tokens/1"
    good = '{"format": "fast-tokens/1", "steps": 2, "dims": 2, "scale": 1, "low": 0, "high": 1, "merges": []}'
    path.write_text(good)
    assert load_fast_tokens(path) == FastTokens(2, 2, 1.0, 0, 1, ())
    doubled = json.dumps([[0, 0], *[[symbol, symbol] for symbol in range(3, 80)]])  # stands for 2 ** 78 symbols
    absurd = [good.replace('"steps": 2', '"steps": 1000000'), good.replace('"low": 0', '"low": 0.5'), good.replace("[]", doubled)]
    absurd += [good.replace('"low": 0', '"low": -1000000000000'), good.replace('"scale": 1', '"scale": NaN'), good.replace('"scale": 1', '"scale": Infinity')]
    for wrong in (
        *absurd,
        "[]",
        "{",
        '{"format": "fast-tokens/2"}',
        '{"format": "fast-tokens/1", "merges": []}',
        '{"format": "fast-tokens/1", "merges": [[1]]}',
    ):
        path.write_text(wrong)
        with pytest.raises(UsageError, match=r"tokens.json: must hold a vocabulary of format 'fast-tokens/1'"):
            load_fast_tokens(path)


# In a batch


def test_a_batch_there_and_back() -> None:
    transform = FastActionTokens(TRAINED)
    batch = {"action": smooth(6, seed=9).reshape(2, 3, 8, 3), "task": ["a", "b"]}
    done = transform(batch)
    encoded = TRAINED.encode(batch["action"].reshape(6, 8, 3))
    lengths = [len(row) for row in encoded]
    assert len(set(lengths)) > 1
    assert done["action_tokens"].shape == (2, 3, max(lengths))
    assert (~done["action_tokens_is_pad"]).sum(axis=-1).ravel().tolist() == lengths
    assert done["action_tokens"][1, 0, : lengths[3]].tolist() == encoded[3].tolist()
    assert (done["action_tokens"][done["action_tokens_is_pad"]] == -1).all()
    del done["action"]
    back = transform.inverse(done)
    assert list(back) == ["task", "action"]
    assert np.abs(back["action"] - batch["action"]).max() <= TRAINED.max_error
    assert np.array_equal(FastActionTokens(TRAINED, length=max(lengths) + 5)(batch)["action_tokens"][..., : max(lengths)], done["action_tokens"])
    alone = transform({"action": batch["action"][0, 0]})["action_tokens"]
    assert alone.tolist() == encoded[0].tolist()
    assert pickle.loads(pickle.dumps(transform)) == transform == transform.inverse.inverse
    with pytest.raises(UsageError, match=f"must become at most 2 tokens a chunk, got {max(lengths)}"):
        FastActionTokens(TRAINED, length=2)(batch)


def test_padded_steps_hold_the_last_that_exists() -> None:
    """Before the start the first, after the end the last; of a chunk without any step nothing."""
    tokens = FastTokens(steps=4, dims=1, scale=100, low=-500, high=500, merges=())
    action = np.array([[[np.nan], [1], [3], [99]], [[5], [6], [7], [8]], [[np.nan]] * 4])
    padded = np.array([[True, False, False, True], [False] * 4, [True] * 4])
    done = FastActionTokens(tokens)({"action": action, "action_is_pad": padded})
    held = np.array([[[1.0], [1], [3], [3]], [[5], [6], [7], [8]], [[0]] * 4])
    assert done["action_tokens"].tolist() == FastActionTokens(tokens)({"action": held})["action_tokens"].tolist()
    assert done["action_is_pad"] is padded


def test_what_a_policy_says_need_not_be_whole() -> None:
    encoded = TRAINED.encode(smooth(1))[0]
    with pytest.raises(UsageError, match="must stand for 24 coefficients, got 25; strict=False"):
        TRAINED.decode([np.append(encoded, 0)])
    whole = TRAINED.coefficients([encoded]).ravel()
    over = TRAINED.coefficients([np.append(encoded, 0)], strict=False).ravel()
    assert np.array_equal(over, whole)
    short = TRAINED.coefficients([encoded[:1]], strict=False).ravel()
    assert np.array_equal(short[: np.count_nonzero(short)][:1], whole[:1])
    assert (TRAINED.decode([np.zeros(0, np.int64)], strict=False) == 0).all()
    escape = TRAINED.symbols - 1
    assert np.isfinite(TRAINED.decode([np.array([escape, *[5] * 40]), np.array([escape])], strict=False)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TRAINED.encode(np.zeros((2, 7, 3))), r"chunks: must be floats \(N, 8, 3\), got float64 \(2, 7, 3\)"),
        (lambda: TRAINED.encode(np.full((2, 8, 3), np.nan)), "must be finite, got 48 numbers that are not"),
        (lambda: TRAINED.encode(np.full((2, 8, 3), 1e9)), "must stay below"),
        (lambda: TRAINED.decode([np.array([TRAINED.vocab_size])]), r"tokens of chunk 0: must lie in \[0, 299\]"),
        (lambda: TRAINED.decode([np.array([0.5])]), "must be .* integers"),
        (lambda: train_fast_tokens(np.zeros((0, 8, 3))), "not empty"),
        (lambda: train_fast_tokens(smooth(9) * 100, 300), r"vocab_size: must hold the \d+ symbols of coefficients .*, got 300; take a smaller scale"),
        (lambda: train_fast_tokens(smooth(9), 5000), r"vocab_size: must lie in \[1, 4096\]"),
        (lambda: train_fast_tokens(smooth(9), 300, 0), "scale: must be positive"),
        (lambda: FastTokens(2, 2, 1, 3, 3, ()), "low must lie below high"),
        (lambda: FastTokens(2, 2, 1, 0, 1, ((0, 3),)), r"merge 0 must be of symbols before it, got \(0, 3\)"),
        (lambda: FastTokens(2, 2, 1, 0, 1, ((0, 1), (0, 1))), "no pair may be merged twice"),
        (lambda: FastActionTokens(TRAINED)({"action": np.zeros((2, 16, 3))}), r"batch\['action'\]: must be \(..., 8, 3\), as trained; got \(2, 16, 3\)"),
    ],
)
def test_what_is_wrong_is_named(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
