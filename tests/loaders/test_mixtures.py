"""Mixtures of unequal datasets: shares, masks, conditions, imagined episodes, and what is refused."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.loaders import Field, Mixture, Shuffle, Source, dataset, loader
from tests.support.numbered import what_is_seen

SMALL = Shuffle(clip_steps=20, spread=8, lanes=8, groups=2)
NUMBERS = {"action": Field(steps=[0, 1]), "state": Field(), "task": Field()}


def batches(mixture: Any, fields: dict[str, Field] = NUMBERS, **more: Any) -> Any:
    return loader(mixture, fields, **({"batch_size": 10, "seed": 3, "shuffle": SMALL, "framework": "numpy"} | more))


def names_of(found: Any, batch: dict[str, Any]) -> list[str]:
    return [found.datasets[number].rpartition("#")[2] for number in batch["dataset"][batch["weight"] > 0].tolist()]


def test_shares_are_those_of_the_weights_and_it_has_no_end(mixed: Path) -> None:
    found = batches(Mixture({f"{mixed}#one": 3, f"{mixed}#two": 1}))
    seen: Counter[str] = Counter()
    for batch in islice(found, 120):
        seen.update(names_of(found, batch))
        assert batch["weight"].all()
    assert seen["one"] == pytest.approx(900, abs=6)
    assert seen["two"] == 1200 - seen["one"]
    with pytest.raises(TypeError, match="has no last batch"):
        len(found)


@pytest.mark.parametrize(("weigh", "temperature", "share"), [("samples", 1.0, 166 / 346), ("episodes", 1.0, 4 / 10), ("episodes", 2.0, 2 / (2 + 6**0.5))])
def test_shares_by_size_and_temperature(mixed: Path, weigh: str, temperature: float, share: float) -> None:
    found = batches(Mixture([f"{mixed}#one", f"{mixed}#two"], weigh=weigh, temperature=temperature))  # type: ignore[arg-type]
    seen = Counter(name for batch in islice(found, 100) for name in names_of(found, batch))
    assert seen["one"] / 1000 == pytest.approx(share, abs=0.01)


def test_without_weights_each_sample_of_all_datasets_comes_once(mixed: Path) -> None:
    found = batches(Mixture([f"{mixed}#one", f"{mixed}#two"]))
    numbers = [number for batch in found for number in batch["sample"][batch["weight"] > 0].tolist()]
    assert sorted(numbers) == list(range(166 + 180))
    assert sorted(number for batch in batches(f"{mixed}#one") for number in batch["sample"][batch["weight"] > 0].tolist()) == list(range(166))


def test_a_body_with_fewer_joints_is_padded_and_masked(mixed: Path) -> None:
    found = batches(Mixture([f"{mixed}#one", f"{mixed}#two"]))
    for batch in found:
        assert batch["action"].shape == (10, 2, 4)
        assert batch["action_mask"].shape == (10, 4)
        assert "state_mask" not in batch
        for place in np.flatnonzero(batch["weight"]).tolist():
            number, step = batch["state"][place][:2].tolist()
            two = number >= 10
            assert batch["action_mask"][place].tolist() == [True, True, two, two]
            assert batch["action"][place, 0].tolist() == ([number, step, number, step] if two else [number, step, 0, 0])


def test_a_camera_that_a_dataset_lacks_is_black_and_padded(mixed: Path) -> None:
    fields = {"camera:primary": Field(), "camera:wrist": Field(size=(32, 48)), "state": Field()}
    for batch in batches(Mixture([f"{mixed}#one", f"{mixed}#two"]), fields):
        for place in np.flatnonzero(batch["weight"]).tolist():
            number, step = (int(value) for value in batch["state"][place][:2])
            lacking, there = ("camera:wrist", "camera:primary") if number < 10 else ("camera:primary", "camera:wrist")
            assert batch[lacking + "_is_pad"][place]
            assert not batch[lacking][place].any()
            assert not batch[there + "_is_pad"][place]
            if number < 10:
                assert what_is_seen(batch[there][place]) == (number, step, 0)


def test_a_source_says_which_column_a_field_is(mixed: Path) -> None:
    with_column = Source(f"{mixed}#two", columns={"camera:primary": "observation.images.wrist"})
    fields = {"camera:primary": Field(), "state": Field()}
    for batch in batches(Mixture([f"{mixed}#one", with_column]), fields):
        for place in np.flatnonzero(batch["weight"]).tolist():
            number, step = (int(value) for value in batch["state"][place][:2])
            assert what_is_seen(batch["camera:primary"][place]) == (number, step, 0 if number < 10 else 1)


def test_conditions_on_episodes(mixed: Path) -> None:
    found = batches(Mixture(f"{mixed}#one", where="array_contains(tasks, 'fold')"))
    states = np.concatenate([batch["state"][batch["weight"] > 0] for batch in found])
    assert set(states[:, 0].tolist()) == {1.0, 3.0}
    assert len(states) == 41 + 43
    with pytest.raises(UsageError, match="must be an SQL condition over episode columns"):
        batches(Mixture(f"{mixed}#one", where="taks = 'fold'"))
    with pytest.raises(UsageError, match="holds no episode under its conditions"):
        batches(Mixture(f"{mixed}#one", where="origin = 'policy'"))


def test_conditions_on_steps_choose_samples_and_windows_reach_over_the_others(mixed: Path) -> None:
    found = batches(Mixture(f"{mixed}#one", where_steps="reward > 0 and step >= 10"), {"action": Field(steps=range(8)), "state": Field()})
    states, actions, padded = [], [], []
    for batch in found:
        there = batch["weight"] > 0
        states.append(batch["state"][there])
        actions.append(batch["action"][there])
        padded.append(batch["action_is_pad"][there])
    state, action, pad = np.concatenate(states), np.concatenate(actions), np.concatenate(padded)
    expected = sorted((number, step) for number in range(4) for step in range(10, 40 + number) if step % 10 < 5)
    assert sorted(map(tuple, state[:, :2].astype(int).tolist())) == expected
    steps = state[:, 1:2] + np.arange(8)
    last = 39 + state[:, :1]
    assert np.array_equal(action[:, :, 1], np.minimum(steps, last))
    assert np.array_equal(pad, steps > last)
    with pytest.raises(UsageError, match=r"where_steps 'rewrad > 0': must be an SQL condition over step columns"):
        batches(Mixture(f"{mixed}#one", where_steps="rewrad > 0"))
    with pytest.raises(UsageError, match="must say true or false"):
        batches(Mixture(f"{mixed}#one", where_steps="reward + 1"))


def test_imagined_episodes_can_be_left_out_or_capped(mixed: Path) -> None:
    def imagined(mixture: Mixture, count: int | None = None) -> tuple[int, int]:
        states = np.concatenate([batch["state"][batch["weight"] > 0] for batch in islice(batches(mixture), count)])
        return int((states[:, 0] >= 12).sum()), len(states)

    assert imagined(Mixture(f"{mixed}#two")) == (120, 180)
    assert imagined(Mixture(f"{mixed}#two", synthetic="exclude")) == (0, 60)
    many, total = imagined(Mixture([f"{mixed}#one", f"{mixed}#two"], synthetic=0.2))
    assert total - many == 166 + 60
    assert 0.1 < many / total <= 0.2
    many, total = imagined(Mixture({f"{mixed}#one": 0.5, f"{mixed}#two": 0.5}, synthetic=0.1), 200)
    assert many / total == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture([]), "must name a source"),
        (lambda: Mixture({"a#b": 0.0}), "weights must be above 0"),
        (lambda: Mixture([Source("a#b", 1.0), "c#d"]), "must have a weight for each source or for none, got none for 'c#d'"),
        (lambda: Mixture({"a#b": 1.0}, weigh="samples"), "must have weights or weigh='samples', got both"),
        (lambda: Mixture("a#b", weigh="frames"), "weigh must be samples, steps or episodes"),  # type: ignore[arg-type]
        (lambda: Mixture("a#b", temperature=0), "temperature must be above 0"),
        (lambda: Mixture("a#b", synthetic=1.5), "synthetic must be a share from 0 to below 1"),
        (lambda: Mixture("a#b", synthetic="maybe"), "synthetic must be 'include', 'exclude' or a share"),  # type: ignore[arg-type]
        (lambda: Field(steps=[0], seconds=[0.0]), "must have one of steps, seconds and window"),
        (lambda: Field(steps=[]), "steps must be a list of whole numbers"),
        (lambda: Field(steps=[0.5]), "steps must be a list of whole numbers"),
        (lambda: Field(window=(-0.5, 0.0)), "window and rows go together"),
        (lambda: Field(window=(0.0, 0.0), rows=3), "must be \\(from, to\\) in s with from < to"),
        (lambda: Field(size=(0, 3)), "size must be \\(height, width\\)"),
        (lambda: Field(fit="squash"), "fit must be one of"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_offsets_in_seconds_take_the_nearest_step_and_need_a_rate(mixed: Path) -> None:
    data = dataset(f"{mixed}#one", {"action": Field(seconds=[-0.1, 0.0, 0.06, 0.5])})
    sample = data[3]
    episode = data[0]["action"][1, 0]
    assert sample["action"].tolist() == [[episode, 2], [episode, 3], [episode, 4], [episode, 8]]
    assert sample["action_is_pad"].tolist() == [False] * 4
    first = data[0]
    assert first["action_is_pad"].tolist() == [True, False, False, False]
    with pytest.raises(UsageError, match=r"seconds need a known rate, and that of episode [0-9a-f]{32} is unknown"):
        dataset(f"{mixed}#bare", {"action": Field(seconds=[0.1])})[0]


def test_a_window_of_native_samples(lab: Path) -> None:
    data = dataset(f"{lab}#lab", {"observation.force": Field(window=(-0.05, 0.0), rows=12), "state": Field()})
    for number in (0, 7, 60, 150):
        sample = data[number]
        recorded, step = sample["state"][:2].tolist()
        now_ms = step * 100.0
        expected = [ms for ms in np.arange(now_ms - 45, now_ms + 1, 5).tolist() if ms >= 0]
        there = ~sample["observation.force_is_pad"]
        assert there.sum() == len(expected)
        assert there[-len(expected) :].all()
        assert sample["observation.force"][there].tolist() == [[recorded, ms] for ms in expected]
        assert sample["observation.force_offset_ns"][there].tolist() == [round((ms - now_ms) * 1e6) for ms in expected]
    with pytest.raises(UsageError, match="does not stand at the steps; read its native samples"):
        dataset(f"{lab}#lab", {"observation.force": Field()})


def test_sizes(lab: Path) -> None:
    import cv2

    whole = dataset(f"{lab}#lab", {"camera:primary": Field(), "camera:wrist": Field()})[50]
    small = dataset(f"{lab}#lab", {"camera:primary": Field(steps=[0], size=(32, 48)), "camera:wrist": Field(size=(64, 64), fit="pad")})[50]
    assert small["camera:primary"].shape == (1, 32, 48, 3)
    assert np.array_equal(small["camera:primary"][0], cv2.resize(whole["camera:primary"], (48, 32), interpolation=cv2.INTER_AREA))
    assert small["camera:wrist"].shape == (64, 64, 3)
    assert not small["camera:wrist"][:10].any()
    with pytest.raises(UsageError, match="pictures keep their dtype"):
        dataset(f"{lab}#lab", {"camera:primary": Field(dtype="float32")})
    with pytest.raises(UsageError, match="size is for pictures"):
        dataset(f"{lab}#lab", {"state": Field(size=(3, 3))})


@pytest.mark.parametrize("mode", ["quantile", "mean_std", "min_max"])
def test_states_and_actions_are_brought_to_one_scale_and_back(mixed: Path, mode: str) -> None:
    raw = batches(Mixture([f"{mixed}#one", f"{mixed}#two"]))
    scaled = batches(Mixture([f"{mixed}#one", f"{mixed}#two"]), normalize=mode)
    assert scaled.normalize is not None
    for before, after in zip(raw, scaled, strict=True):
        assert before["sample"].tolist() == after["sample"].tolist()
        back = scaled.normalize.inverse(after)
        there = before["weight"] > 0
        assert np.allclose(back["state"][there], before["state"][there], atol=1e-4)
        assert np.allclose(back["action"][there], before["action"][there], atol=1e-4)
        if mode == "min_max":
            assert np.abs(after["state"][there]).max() <= 1 + 1e-6
        assert not np.array_equal(after["state"], before["state"])


def test_a_loader_that_was_pickled_knows_the_way_back_still(mixed: Path) -> None:
    scaled = batches(f"{mixed}#one", normalize="mean_std")
    for again in (pickle.loads(pickle.dumps(scaled)), scaled.copy()):
        assert again.normalize == scaled.normalize is not None
        assert np.array_equal(next(iter(again))["action"], next(iter(scaled.copy()))["action"])


def test_relative_actions_are_scaled_by_statistics_of_relative_actions(mixed: Path) -> None:
    from dataengine.transforms.relative import DeltaActions

    fields = {"action": Field(steps=range(4))}
    found = batches(f"{mixed}#one", fields, normalize="min_max", transforms=[DeltaActions(dims=(0, 1), to="first")])
    values = np.concatenate([batch["action"][(batch["weight"] > 0) & ~batch["action_is_pad"].any(axis=1)] for batch in found])
    assert np.allclose(values[:, 1:], 0)  # always the same step on from the first: constant for each step of the horizon
    assert values[:, 0, 1].min() == pytest.approx(-1)


def test_entries_that_stay_as_recorded_beside_relative_ones_are_scaled_as_such(mixed: Path) -> None:
    from dataengine.transforms.relative import DeltaActions

    found = batches(f"{mixed}#one", {"action": Field(steps=range(4))}, normalize="min_max", transforms=[DeltaActions(dims=(1,), to="first")])
    for batch in found:
        there = (batch["weight"] > 0) & ~batch["action_is_pad"].any(axis=1)
        # Entry 0 is the number of the episode, 0 to 3: from -1 to 1; entry 1 is the step, the same from the first on in all chunks.
        number = batch["action"][:, 0, 0]
        assert np.allclose(batch["action"][there][:, :, 0], number[there][:, None])
        assert set(np.round((number[there] + 1) * 1.5, 4).tolist()) <= {0.0, 1.0, 2.0, 3.0}
        assert np.allclose(batch["action"][there][:, 1:, 1], 0)
        back = found.normalize.inverse(batch)["action"][there]
        assert np.allclose(back[:, 1:, 1], [1, 2, 3])
        assert set(np.round(back[:, :, 0], 4).ravel().tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_a_weighted_mixture_goes_on_with_many_more_ranks(mixed: Path) -> None:
    mixture = Mixture({f"{mixed}#one": 1, f"{mixed}#two": 1})
    alone = batches(mixture)
    for _ in islice(alone, 3):
        pass
    state, lanes = alone.state_dict(), SMALL.lanes
    for ranks in (lanes // 2, lanes):
        for rank in range(ranks):
            again = batches(mixture, rank=rank, world_size=ranks)
            again.load_state_dict(state)
            assert [len(batch["weight"]) for batch in islice(again, 9)] == [10] * 9
    with pytest.raises(UsageError, match=f"its {lanes} lanes can be shared by as many ranks, got {lanes + 1}"):
        batches(mixture, world_size=lanes + 1).load_state_dict(state)


def test_nothing_of_epochs_that_are_past_is_kept(mixed: Path) -> None:
    endless = batches(Mixture({f"{mixed}#one": 1, f"{mixed}#two": 1}))
    for _ in islice(endless, 400):
        pass
    lanes = [lane for lane, pieces in endless._maker.reader._open.items() if pieces]
    assert len(endless._maker.reader._open) == len(lanes) <= 2 * 2 * SMALL.lanes


def test_imagined_episodes_alone_cannot_have_a_capped_share(mixed: Path) -> None:
    with pytest.raises(UsageError, match=r"at most 0.5 of the samples, but nothing else is left to draw from"):
        batches(Mixture(f"{mixed}#two", where="origin = 'world_model'", synthetic=0.5))


def test_what_a_dataset_lacks_is_said_and_a_misspelt_field_of_a_source_is_refused(mixed: Path, caplog: pytest.LogCaptureFixture) -> None:
    fields = {"camera:primary": Field(size=(32, 48)), "state": Field()}
    dataset(Mixture([f"{mixed}#one", f"{mixed}#two"]), fields)
    assert [record.getMessage() for record in caplog.records] == [
        f"field 'camera:primary': {mixed}@3#two has no such column; its samples are padded (camera:primary_is_pad)"
    ]
    with pytest.raises(UsageError, match=r"'camera:primry' is no field; fields: camera:primary, state"):
        dataset(Mixture([f"{mixed}#one", Source(f"{mixed}#two", columns={"camera:primry": "observation.images.wrist"})]), fields)


def test_a_list_in_a_condition_is_explained(mixed: Path) -> None:
    with pytest.raises(UsageError, match="array_contains"):
        dataset(Mixture(f"{mixed}#one", where="splits = 'val'"), {"state": Field()})
