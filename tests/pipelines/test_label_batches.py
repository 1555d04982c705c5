"""Batches across episodes, and answers that find their steps in whatever order they come."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.label_batches import Answers, Batch, Cutter

LENGTHS = (5, 1, 12, 3)


def cut(size: int, lengths: tuple[int, ...] = LENGTHS) -> list[Batch]:
    """Cut batches of inputs that say which episode and step they are of."""
    cutter, found = Cutter(size), []
    for episode, length in enumerate(lengths):
        at = 0
        while at < length:
            steps = np.arange(at, min(length, at + cutter.room))
            found += cutter.add(episode, steps, {"x": (100 * episode + steps).astype(np.int32)[:, None], "flag": steps % 2 == 0})
            at += len(steps)
    return found + cutter.rest()


@pytest.mark.parametrize("size", [1, 4, 7, 21, 64])
def test_batches_are_full_and_every_row_knows_whose_it_is(size: int) -> None:
    batches = cut(size)
    assert [len(batch) for batch in batches] == [size] * (21 // size) + ([21 % size] if 21 % size else [])
    rows = [(int(e), int(s)) for batch in batches for e, s in zip(batch.episode, batch.step, strict=True)]
    assert rows == [(episode, step) for episode, length in enumerate(LENGTHS) for step in range(length)]
    for batch in batches:
        assert batch.inputs["x"][:, 0].tolist() == (100 * batch.episode + batch.step).tolist()
        assert batch.inputs["flag"].tolist() == (batch.step % 2 == 0).tolist()


def test_a_batch_is_not_overwritten_by_the_next() -> None:
    first, *_ = batches = cut(4)
    assert first.inputs["x"][:, 0].tolist() == [0, 1, 2, 3]
    assert len({id(batch.inputs["x"]) for batch in batches}) == len(batches)


def test_inputs_of_another_form_begin_a_batch_of_their_own() -> None:
    cutter = Cutter(8)
    assert cutter.add(0, np.arange(3), {"x": np.zeros((3, 2))}) == []
    (first,) = cutter.add(1, np.arange(2), {"x": np.ones((2, 5))})
    assert (len(first), first.episode.tolist()) == (3, [0, 0, 0])
    (second,) = cutter.rest()
    assert (second.inputs["x"].shape, second.episode.tolist()) == ((2, 5), [1, 1])
    assert cutter.rest() == []


def test_rows_that_do_not_answer_to_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="a row for each of 3 steps, got 2"):
        Cutter(8).add(0, np.arange(3), {"x": np.zeros(2)})
    with pytest.raises(ValueError, match="1 to 2 rows, got 3"):
        Cutter(2).add(0, np.arange(3), {"x": np.zeros(3)})


def test_answers_stand_at_their_steps_whatever_their_order() -> None:
    rng = np.random.default_rng(3)
    answers = Answers(10)
    for steps in np.split(rng.permutation(10), [1, 4, 9]):
        assert not answers.complete
        answers.put(steps, {"y": steps.astype(np.float32) ** 2})
    assert answers.complete
    assert answers.arrays()["y"].tolist() == [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]


def test_a_step_is_answered_once_and_none_is_left_out() -> None:
    answers = Answers(4)
    answers.put(np.array([0, 2]), {"y": np.array([1.0, 3.0])})
    with pytest.raises(ValueError, match=r"missing for 2, first \[1, 3\]"):
        answers.arrays()
    with pytest.raises(ValueError, match=r"once a step, came again for \[2\]"):
        answers.put(np.array([2, 3]), {"y": np.array([1.0, 3.0])})
    with pytest.raises(ValueError, match="once a step"):
        answers.put(np.array([1, 1]), {"y": np.array([1.0, 3.0])})
    with pytest.raises(ValueError, match="steps 0 to 3"):
        answers.put(np.array([4]), {"y": np.array([1.0])})
    with pytest.raises(ValueError, match="must be 1 rows of float64"):
        answers.put(np.array([1]), {"y": np.array([1.0, 2.0])})
    with pytest.raises(ValueError, match=r"the parts \['y'\], got \['z'\]"):
        answers.put(np.array([1]), {"z": np.array([1.0])})
