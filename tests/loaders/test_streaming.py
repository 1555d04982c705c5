"""Batches of a store whose pictures and numbers say what they are: none wrong, each once, the same for any workers, exact after a stop."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import DataEngineError, UsageError
from dataengine.loaders import Field, Loader, Mixture, Shuffle, dataset, episode_files, loader
from dataengine.loaders.crew import WorkerDied
from tests.loaders.conftest import LENGTHS
from tests.support.numbered import what_is_seen

FIELDS = {
    "camera:primary": Field(steps=[-1, 0]),
    "camera:wrist": Field(),
    "camera:secondary": Field(),
    "action": Field(steps=range(4)),
    "state": Field(),
    "task": Field(),
}
SMALL = Shuffle(clip_steps=20, spread=8, lanes=12, groups=4)


def batches_of(store: Path, **more: Any) -> Loader:
    settings: dict[str, Any] = {"batch_size": 16, "seed": 7, "shuffle": SMALL, "framework": "numpy"}
    return loader(f"{store}#lab", FIELDS, **(settings | more))


def numbers_of(batch: dict[str, Any]) -> list[tuple[int, int]]:
    """Return (episode as recorded, step) of the samples of a batch, which must all hold what they claim to hold."""
    found = []
    for place in np.flatnonzero(batch["weight"]).tolist():
        number, step = (int(value) for value in batch["state"][place][:2])
        assert int(batch["step"][place]) == step
        assert what_is_seen(batch["camera:primary"][place, 1]) == (number, step, 0)
        assert what_is_seen(batch["camera:primary"][place, 0]) == (number, max(step - 1, 0), 0)
        assert batch["camera:primary_is_pad"][place].tolist() == [step == 0, False]
        assert what_is_seen(batch["camera:wrist"][place]) == (number, step, 1)
        assert bool(batch["camera:secondary_is_pad"][place]) == (number >= 4)
        if number < 4:
            assert what_is_seen(batch["camera:secondary"][place]) == (number, step, 2)
        else:
            assert not batch["camera:secondary"][place].any()
        last = LENGTHS[number] - 1
        assert batch["action"][place].tolist() == [[number, min(step + ahead, last)] for ahead in range(4)]
        assert batch["action_is_pad"][place].tolist() == [step + ahead > last for ahead in range(4)]
        assert batch["task"][place] == f"task {number % 3}"
        found.append((number, step))
    return found


EVERYTHING = Counter((number, step) for number, steps in enumerate(LENGTHS) for step in range(steps))


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 1), (2, 1), (2, 4), (3, 2)])
def test_each_sample_comes_once_and_holds_what_it_claims(lab: Path, ranks: int, workers: int) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    counts = set()
    for rank in range(ranks):
        with batches_of(lab, rank=rank, world_size=ranks, workers=workers) as batches:
            counts.add(len(batches))
            for batch in batches:
                seen.update(numbers_of(batch))
    assert seen == EVERYTHING
    assert len(counts) == 1


def signature(batch: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(batch["sample"].tolist()), tuple(batch["weight"].tolist()), batch["camera:primary"].tobytes(), batch["action"].tobytes(), tuple(batch["task"])


def test_batches_are_the_same_for_any_number_of_workers(lab: Path) -> None:
    alone = [signature(batch) for batch in batches_of(lab)]
    assert len(alone) == len(set(alone)) == 20
    for workers in (1, 3):
        with batches_of(lab, workers=workers) as batches:
            assert [signature(batch) for batch in batches] == alone
    with batches_of(lab, seed=8) as others:
        assert [signature(batch) for batch in others] != alone


def test_the_next_loop_is_the_next_epoch_in_another_order(lab: Path) -> None:
    with batches_of(lab, workers=1) as batches:
        first = [tuple(batch["sample"].tolist()) for batch in batches]
        assert batches.epoch == 1
        second = [tuple(batch["sample"].tolist()) for batch in batches]
    assert Counter(number for batch in first for number in batch) == Counter(number for batch in second for number in batch)
    assert first != second
    alone = batches_of(lab)
    assert [tuple(batch["sample"].tolist()) for batch in alone] == first
    assert [tuple(batch["sample"].tolist()) for batch in alone] == second


@pytest.mark.parametrize("order", ["shuffled", "random", "sequential"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_goes_on_batch_for_batch(lab: Path, order: str, workers: int) -> None:
    whole = [signature(batch) for batch in batches_of(lab, order=order)]
    with batches_of(lab, order=order, workers=workers) as batches:
        for number, batch in enumerate(batches):
            assert signature(batch) == whole[number]
            if number == 6:
                break
        state = json.loads(json.dumps(batches.state_dict()))
    with batches_of(lab, order=order, workers=workers) as again:
        again.load_state_dict(state)
        assert len(again) == len(whole) - 7
        assert [signature(batch) for batch in again] == whole[7:]
        assert again.epoch == 1


@pytest.mark.parametrize("ranks", [(2, 3), (3, 1), (1, 2)])
def test_after_a_kill_other_ranks_read_what_is_left(lab: Path, ranks: tuple[int, int]) -> None:
    before, after = ranks
    seen: Counter[tuple[int, int]] = Counter()
    state: dict[str, Any] = {}
    for rank in range(before):
        batches = batches_of(lab, rank=rank, world_size=before, workers=2)
        for number, batch in enumerate(batches):
            seen.update(numbers_of(batch))
            if number == 3:
                break
        mine = json.loads(json.dumps(batches.state_dict()))
        assert state in ({}, mine)
        state = mine
        assert batches._crew is not None
        for worker in batches._crew._workers:
            os.kill(worker.process.pid, signal.SIGKILL)
        batches.close()
    for rank in range(after):
        with batches_of(lab, rank=rank, world_size=after, workers=1, batch_size=8) as batches:
            batches.load_state_dict(state)
            for batch in batches:
                seen.update(numbers_of(batch))
    assert seen == EVERYTHING


def test_a_worker_that_dies_is_reported_and_the_state_goes_on(lab: Path) -> None:
    whole = [signature(batch) for batch in batches_of(lab)]
    batches = batches_of(lab, workers=2, prefetch=1)
    for batch in batches:
        assert signature(batch) == whole[0]
        break
    assert batches._crew is not None
    os.kill(batches._crew._workers[1].process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="was killed by SIGKILL"):
        list(batches)
    state = batches.state_dict()
    batches.close()
    with batches_of(lab, workers=1) as again:
        again.load_state_dict(state)
        rest = [signature(batch) for batch in again]
    assert rest == whole[len(whole) - len(rest) :]
    assert len(rest) >= len(whole) - 8


def test_a_batch_that_is_kept_keeps_its_content(lab: Path) -> None:
    expected = [signature(batch) for batch in batches_of(lab)]
    with batches_of(lab, workers=2, prefetch=1) as batches:
        kept = list(batches)
        assert [signature(batch) for batch in kept] == expected
    gc.collect()
    assert [signature(batch) for batch in kept] == expected
    kept = list(batches_of(lab))
    assert [signature(batch) for batch in kept] == expected


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_map_style_and_streaming_give_the_same_values(lab: Path, order: str) -> None:
    data = dataset(f"{lab}#lab", FIELDS)
    assert len(data) == sum(LENGTHS)
    for batch in batches_of(lab, order=order):
        for place in np.flatnonzero(batch["weight"])[::5].tolist():
            sample = data[int(batch["sample"][place])]
            for name in ("camera:primary", "camera:primary_is_pad", "camera:wrist", "camera:secondary", "action", "action_is_pad", "state", "episode", "step"):
                assert np.array_equal(sample[name], batch[name][place]), name
            assert sample["task"] == batch["task"][place]


def test_a_frame_is_decoded_no_more_often_than_promised(lab: Path) -> None:
    fields = {"camera:primary": Field()}
    batches = loader(f"{lab}#lab", fields, 16, seed=1, shuffle=SMALL, framework="numpy")
    list(batches)
    counters = batches.counters
    assert counters["frames_used"] == counters["samples"] == sum(LENGTHS)
    clip = 10  # the shortest clip of a cut episode here
    assert counters["frames_decoded"] <= counters["frames_used"] * (1 + 5 / clip)


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_more_films_than_are_held_open_are_read_all_the_same(lab: Path, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [signature(batch) for batch in batches_of(lab, order=order)]
    monkeypatch.setattr(episode_files, "READER_FRAMES", 1)
    assert [signature(batch) for batch in batches_of(lab, order=order)] == expected


def test_the_last_batch_is_filled_up_with_weight_nought_or_dropped(lab: Path) -> None:
    total = sum(LENGTHS)
    batches = list(batches_of(lab, batch_size=50))
    assert [int(batch["weight"].sum()) for batch in batches] == [50] * (total // 50) + [total % 50]
    last = batches[-1]
    assert last["sample"][total % 50 :].tolist() == [-1] * (50 - total % 50)
    assert not last["camera:primary"][total % 50 :].any()
    assert last["action_is_pad"][total % 50 :].all()
    assert last["task"][total % 50 - 1 :] != [""] * (51 - total % 50)
    assert last["task"][total % 50 :] == [""] * (50 - total % 50)
    assert len(list(batches_of(lab, batch_size=50, drop_last=True))) == total // 50


def test_a_state_of_something_else_is_refused(lab: Path) -> None:
    state = batches_of(lab).state_dict()
    with pytest.raises(UsageError, match="same seed: 8 here, 7 there"):
        batches_of(lab, seed=8).load_state_dict(state)
    other = loader(Mixture(f"{lab}#lab", where="steps > 30"), FIELDS, 16, seed=7, shuffle=SMALL, framework="numpy")
    with pytest.raises(UsageError, match="same mixture"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"batch_size": 0}, "batch_size: must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "rank: must be from 0 to world_size - 1 = 1, got 2"),
        ({"order": "sorted"}, "order: must be one of shuffled, random, sequential, got 'sorted'"),
        ({"workers": 5}, r"workers: at most 4 can share the groups of lanes of a rank, got 5; give shuffle=Shuffle\(groups=5\)"),
        ({"on_damage": "ignore"}, "on_damage: must be one of raise, leave_out, got 'ignore'"),
        ({"framework": "jax"}, "framework: must be one of numpy, torch, got 'jax'"),
    ],
)
def test_wrong_arguments_are_named(lab: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        batches_of(lab, **more)


def test_the_next_epoch_after_other_ranks_is_that_of_a_new_run(lab: Path) -> None:
    alone = batches_of(lab)
    for _ in alone:
        pass
    at_the_end, two = alone.state_dict(), [batches_of(lab, rank=rank, world_size=2) for rank in range(2)]
    for loader_of_one in two:
        loader_of_one.begin_epoch(1)
    expected = [[signature(batch) for batch in each] for each in two]
    for rank in range(2):
        again = batches_of(lab, rank=rank, world_size=2)
        again.load_state_dict(at_the_end)
        assert [signature(batch) for batch in again] == expected[rank]


def with_tensors(batch: Mapping[str, Any], unused: bytes = b"") -> dict[str, Any]:
    """A transform that leaves torch's tensors."""
    import torch

    return {**batch, "halved": torch.from_numpy(batch["action"]) / 2}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_may_leave_tensors(lab: Path, workers: int) -> None:
    with batches_of(lab, workers=workers, transforms=(with_tensors,)) as batches:
        for batch in batches:
            assert isinstance(batch["halved"], np.ndarray)
            assert np.array_equal(batch["halved"] * 2, batch["action"])


def test_a_transform_of_the_running_program_is_refused_where_there_are_workers(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "of_main", with_tensors, raising=False)
    monkeypatch.setattr(with_tensors, "__module__", "__main__")
    monkeypatch.setattr(with_tensors, "__qualname__", "of_main")
    with pytest.raises(UsageError, match=r"transforms: must be importable by a worker.*__main__.*define it in a module, or use workers=0"):
        next(iter(batches_of(lab, workers=1, transforms=(with_tensors,))))
    assert next(iter(batches_of(lab, transforms=(with_tensors,))))["halved"].shape == (16, 4, 2)


@pytest.mark.parametrize("size", [10, 4_000_000])
def test_a_worker_that_does_not_start_is_reported(lab: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = batches_of(lab, workers=1, transforms=(partial(with_tensors, unused=b"x" * size),))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerDied, match="ended with 1"):
        list(batches)  # the first is made by the loader itself


@pytest.mark.parametrize("wrong", [{"dtype": "float33"}, {"dtype": "str"}, {"seconds": [0.0, float("nan")]}])
def test_fields_that_no_batch_can_hold_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"Field: (dtype|seconds) must be"):
        Field(**wrong)


def test_a_field_does_not_take_the_name_of_what_every_batch_has(lab: Path) -> None:
    with pytest.raises(UsageError, match="field 'weight': is the name of what every batch says"):
        loader(f"{lab}#lab", {"weight": Field()}, 4, framework="numpy")


def test_an_unknown_field_names_the_nearest(lab: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown field 'acton'.*did you mean 'action'"):
        loader(f"{lab}#lab", {"acton": Field()}, 4, framework="numpy")


WIDE = Shuffle(clip_steps=20, spread=8, lanes=32, groups=4)  # eight lanes a group: a batch of 24 is made of three parts


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_large_batch_is_made_of_parts_from_several_groups(lab: Path, drop_last: bool) -> None:
    alone = list(batches_of(lab, batch_size=24, shuffle=WIDE, drop_last=drop_last))
    total = sum(LENGTHS)
    assert [len(batch["weight"]) for batch in alone] == [24] * (total // 24 + (not drop_last))
    seen = Counter(where for batch in alone for where in numbers_of(batch))
    assert max(seen.values()) == 1
    assert sum(seen.values()) == (total // 24 * 24 if drop_last else total)
    signatures = [signature(batch) for batch in alone]
    with batches_of(lab, batch_size=24, shuffle=WIDE, drop_last=drop_last, workers=3) as batches:
        for number, batch in enumerate(batches):
            assert signature(batch) == signatures[number]
            if number == 4:
                break
        state = json.loads(json.dumps(batches.state_dict()))
    with batches_of(lab, batch_size=24, shuffle=WIDE, drop_last=drop_last, workers=1) as again:
        again.load_state_dict(state)
        assert [signature(batch) for batch in again] == signatures[5:]
        assert again.epoch == 1
        assert len(again) == len(signatures)


def test_parts_and_ranks_after_a_stop(lab: Path) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    states = []
    for rank in range(2):
        batches = batches_of(lab, batch_size=24, shuffle=WIDE, rank=rank, world_size=2)
        for number, batch in enumerate(batches):
            seen.update(numbers_of(batch))
            if number == 2:
                break
        states.append(batches.state_dict())
    assert states[0] == states[1]
    rest = batches_of(lab, batch_size=16, shuffle=WIDE)
    rest.load_state_dict(states[0])
    for batch in rest:
        seen.update(numbers_of(batch))
    assert seen == EVERYTHING


def halving(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "action": batch["action"] + 100.0, "note": {"a": 1}}


def breaking(batch: dict[str, Any]) -> dict[str, Any]:
    raise ValueError("no such thing")


def returning_nothing(batch: dict[str, Any]) -> None:
    return None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_that_breaks_says_where(lab: Path, workers: int) -> None:
    with batches_of(lab, workers=workers, transforms=(breaking,)) as batches:
        for _ in range(2):  # and the loader can be asked again
            with pytest.raises(DataEngineError, match=r"transform <function breaking.*ValueError: no such thing \(.*test_streaming.py:\d+, in breaking\)"):
                list(batches)
    with (
        batches_of(lab, workers=workers, transforms=(returning_nothing,)) as batches,
        pytest.raises(UsageError, match="must return the changed batch, a dict, got NoneType"),
    ):
        list(batches)


def plus_one_hundred(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "action": batch["action"] + 100.0}


@pytest.mark.parametrize(("size", "shuffle"), [(50, SMALL), (24, WIDE)])
def test_rows_that_fill_a_batch_up_stay_blank_whatever_transforms_do(lab: Path, size: int, shuffle: Shuffle) -> None:
    last = list(batches_of(lab, batch_size=size, shuffle=shuffle, transforms=(plus_one_hundred,)))[-1]
    filler = last["weight"] == 0
    assert filler.any()
    assert not last["action"][filler].any()
    assert (last["action"][~filler] >= 100).all()
    assert last["action_is_pad"][filler].all()


def test_parts_that_cannot_be_joined_are_refused(lab: Path) -> None:
    with pytest.raises(UsageError, match="transformed in 3 parts, so that 'note' must be an array or list with a row a sample"):
        next(iter(batches_of(lab, batch_size=24, shuffle=WIDE, transforms=(halving,))))


def test_a_batch_that_nothing_fills_is_refused(lab: Path) -> None:
    with pytest.raises(UsageError, match="drop_last: leaves no batch, since 314 samples fill none of 400 on each of 1 ranks"):
        batches_of(lab, batch_size=400, drop_last=True)


@pytest.mark.parametrize("fields", [["action"], {"action": [0, 1]}])
def test_fields_that_are_none_are_refused(lab: Path, fields: Any) -> None:
    with pytest.raises(UsageError, match="fields: must be a dict of Field by name"):
        loader(f"{lab}#lab", fields, 4, framework="numpy")
