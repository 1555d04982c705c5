import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.column_statistics import column_statistics
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Watched
from dataengine.core.labels import Labels
from dataengine.core.training import DatasetFacts, TrainingFacts
from dataengine.evaluate.ranking import auc, spearman
from dataengine.labels.value import FITS, SCALES, ValueTrainee, open_value
from dataengine.labels.value_labeller import ValueLabeller
from dataengine.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dataengine.models.fit import FitConfig, fit
from dataengine.models.value import ValueConfig

CONFIG = ValueConfig(size=(16, 16), width=16, depth=1, heads=2, bins=21, seconds=(-0.1, 0.0), shift_px=0, jitter=0.0, blind=0.0)
LONGEST = 20
RATE_HZ = 10


def film(steps: int, success: bool) -> Array:
    """Return pictures (T, 16, 16, 3) in which a bar falls from wherever it begins, and reaches the ground where the episode succeeds; a failure is red from its middle on."""
    pictures = np.zeros((steps, 16, 16, 3), np.uint8)
    for step in range(steps):
        left = steps - 1 - step if success else LONGEST - step // 2
        row = min(15, max(0, 15 - round(left * 15 / LONGEST)))
        pictures[step, row, :, 1] = 255
        if not success and step > steps // 2:
            pictures[step, :, :8, 0] = 200
    return pictures


def episode(number: int, success: bool | None, dataset: str = "bars", steps: int | None = None) -> Watched:
    steps = steps or 6 + number % 15
    pictures = film(steps, bool(success))
    state = np.random.default_rng(number).normal(3.0, 2.0, (steps, 2)).astype(np.float32)
    state[:, 1] = 4.0  # never changes
    times = np.arange(steps, dtype=np.int64) * (1_000_000_000 // RATE_HZ)
    every = np.ones(steps, bool)
    return Watched(
        f"e{number}", dataset, steps, embodiment="crane", rate_hz=RATE_HZ, t_ns=times, pictures={"camera:primary": pictures}, seen={"camera:primary": every},
        columns={"state": state}, valid={"state": every}, specs={"state": Column("observation.state", shape=(2,))}, tasks=("drop the bar",), success=success,
    )  # fmt: skip


class Bars:
    """Batches as the loader gives them: samples of episodes by a generator."""

    def __init__(self, episodes: list[Watched], labeller: Any) -> None:
        self._episodes, self._near, self._number = episodes, labeller, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        import torch

        while True:
            generator = np.random.default_rng(self._number)
            self._number += 1
            which = generator.integers(0, len(self._episodes), 32)
            rows = [(int(one), int(generator.integers(0, self._episodes[one].steps))) for one in which]
            at = [self._episodes[one].near(np.array([step]), CONFIG.seconds) for one, step in rows]
            pictures = np.stack([self._episodes[one].pictures["camera:primary"][near[0]] for (one, _), (near, _) in zip(rows, at, strict=True)])
            state = np.stack([self._episodes[one].columns["state"][near[0]] for (one, _), (near, _) in zip(rows, at, strict=True)])
            beyond = torch.tensor(np.concatenate([each for _, each in at]))
            yield {
                "camera:primary": torch.tensor(pictures),
                "camera:primary_is_pad": beyond,
                "state": torch.tensor(state),
                "state_is_pad": beyond,
                "weight": torch.ones(32),
                "dataset": torch.zeros(32, dtype=torch.int64),
                "episode": torch.tensor([one for one, _ in rows]),
                "step": torch.tensor([step for _, step in rows]),
            }

    def state_dict(self) -> dict[str, Any]:
        return {"number": self._number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._number = state["number"]


def facts_of(episodes: list[Watched], **more: Any) -> TrainingFacts:
    states = np.concatenate([each.columns["state"] for each in episodes])
    numbers = {name: getattr(states, name)(axis=0).tolist() for name in ("mean", "std", "min", "max")} | {
        name: [0.0, 0.0] for name in ("q01", "q10", "q50", "q90", "q99")
    }
    entry = numbers | {"count": [len(states)] * 2, "not_finite": [0, 0], "distinct": [3, 1], "rows": len(states), "nulls": 0, "rank_error": 0.0}
    known = {
        "steps": np.array([each.steps for each in episodes]),
        "success": np.array([-1 if each.success is None else int(each.success) for each in episodes]),
    }
    dataset = DatasetFacts("bars", "crane", float(RATE_HZ), {}, {"state": column_statistics(entry)})
    return TrainingFacts([dataset], "0123@4", 0, {"episodes": known | more})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Return a model that was trained for a few seconds, as it lies on disk."""
    folder = tmp_path_factory.mktemp("value")
    episodes = [episode(number, number % 3 != 0) for number in range(30)] + [episode(90, None)]
    trainee = ValueTrainee(CONFIG)
    fitted = trainee.begin(facts_of(episodes), "cpu")
    fit(fitted, Bars(episodes, None), FitConfig(steps=110, batch_size=32, learning_rate=5e-3, warmup_steps=10), 0, folder / "run")
    figures = trainee.calibrate([episode(number, number % 3 != 0) for number in range(40, 52)] + [episode(91, None)])
    assert figures["episodes"] == 12
    assert figures["nll"] <= figures["nll_before"]
    config, weights = trainee.checkpoint()
    save_checkpoint(folder / "model", Checkpoint("value", config, weights, {"trained_on": "0123@4"}))
    return load_checkpoint(folder / "model")


def test_calibration_keeps_no_pictures_and_runs_where_the_model_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    trainee, devices, alive = ValueTrainee(CONFIG), [], []
    trainee.begin(facts_of([episode(number, number % 3 != 0) for number in range(6)]), "cpu:0")

    def opened(checkpoint: Checkpoint, device: str = "cpu") -> ValueLabeller:
        devices.append(device)
        return ValueLabeller(checkpoint, device)

    def held_out() -> Iterator[Watched]:
        films: list[weakref.ref[Array]] = []
        for number in range(40, 45):
            seen = episode(number, number % 3 != 0)
            films.append(weakref.ref(seen.pictures["camera:primary"]))
            yield seen
            del seen
            alive.append(sum(film() is not None for film in films))

    monkeypatch.setattr("dataengine.labels.value.ValueLabeller", opened)
    assert trainee.calibrate(held_out())["episodes"] == 5
    assert devices == ["cpu:0"]
    assert max(alive) <= 1  # the loop's own


def label(labeller: ValueLabeller, watched: Watched, batch: int = 64) -> Labels:
    steps = np.arange(watched.steps)
    answers = [labeller.answer(labeller.inputs(watched, steps[start : start + batch])) for start in range(0, len(steps), batch)]
    return labeller.labels(watched, {name: np.concatenate([each[name] for each in answers]) for name in answers[0]})


def test_unseen_episodes_are_ordered_by_what_remains_and_failures_are_told_from_successes(checkpoint: Checkpoint) -> None:
    labeller = open_value(checkpoint)
    seen = [episode(number, number % 3 != 0) for number in range(60, 84)]
    found = [label(labeller, each) for each in seen]
    reached = [(labels, each) for labels, each in zip(found, seen, strict=True) if each.success]
    left = np.concatenate([np.arange(each.steps)[::-1] for _, each in reached])
    told = np.concatenate([labels.columns["steps_to_success"] for labels, _ in reached])
    assert spearman(told, left) > 0.95
    assert np.abs(told - left).mean() < 1.5
    assert spearman(np.concatenate([labels.columns["value"] for labels, _ in reached]), -left) > 0.9
    ends = np.array([labels.columns["success_probability"][-1] for labels in found])
    assert auc(ends, np.array([bool(each.success) for each in seen])) > 0.95
    for labels, each in zip(found, seen, strict=True):
        columns = labels.columns
        assert np.all((columns["value"] >= CONFIG.failure) & (columns["value"] <= 0))
        assert np.all((columns["progress"] >= 0) & (columns["progress"] <= 1))
        np.testing.assert_allclose(columns["progress"], 1 - columns["steps_to_success"] / 19, atol=1e-5)  # the longest taught has 20 steps
        assert all(np.all(labels.low[name] <= labels.high[name]) for name in labels.low)
        assert set(labels.confidence) == set(columns)
        assert each.success is not None


def test_an_advantage_is_the_return_at_the_end_less_what_was_expected(checkpoint: Checkpoint) -> None:
    labeller = open_value(checkpoint)
    watched = episode(64, True, steps=9)
    found = label(labeller, watched)
    value, advantage = found.columns["value"], found.columns["advantage"]
    # half a second is 5 steps of 1/19: steps 0 to 2 look ahead within the episode, the rest to its end
    assert advantage[1] == pytest.approx(-5 / 19 + value[6] - value[1], abs=1e-5)
    assert advantage[4] == pytest.approx(-4 / 19 - value[4], abs=1e-5)
    failed = label(labeller, Watched(**{**watched.__dict__, "success": False}))
    assert failed.columns["advantage"][4] == pytest.approx(-2 - value[4], abs=1e-5)
    unknown = label(labeller, Watched(**{**watched.__dict__, "success": None}))
    assert unknown.valid["advantage"].tolist() == [True] * 8 + [False]
    chance = unknown.columns["success_probability"][4]  # steps cost what they would on the way to success, which is not sure
    assert unknown.columns["advantage"][4] == pytest.approx(-4 / 19 * chance + value[8] - value[4], abs=1e-5)


def test_the_same_labels_however_they_are_batched_and_cut(checkpoint: Checkpoint) -> None:
    labeller, watched = open_value(checkpoint), episode(67, True, steps=14)
    whole, single = label(labeller, watched), label(open_value(checkpoint), watched, batch=1)
    for name in whole.columns:
        np.testing.assert_allclose(whole.columns[name], single.columns[name], atol=1e-5)
        np.testing.assert_allclose(whole.confidence[name], single.confidence[name], atol=1e-5)
    assert all(np.array_equal(whole.columns[name], label(labeller, watched).columns[name]) for name in whole.columns)
    rows = slice(4, 12)  # a part, with the steps before it that its answers need
    part = Watched(
        watched.episode_id, watched.dataset, 8, 4, "crane", RATE_HZ, watched.t_ns[rows] if watched.t_ns is not None else None, {"camera:primary": watched.pictures["camera:primary"][rows]},
        {"camera:primary": np.ones(8, bool)}, {"state": watched.columns["state"][rows]}, {"state": np.ones(8, bool)}, watched.specs, watched.tasks, True,
    )  # fmt: skip
    full = labeller.answer(labeller.inputs(watched, np.arange(14)))["histogram"]
    np.testing.assert_allclose(labeller.answer(labeller.inputs(part, np.arange(1, 8)))["histogram"], full[5:12], atol=1e-5)


def test_a_value_knows_nothing_of_what_comes_later(checkpoint: Checkpoint) -> None:
    labeller, watched = open_value(checkpoint), episode(67, True, steps=14)
    changed = watched.pictures["camera:primary"].copy()
    changed[9:] = 255
    other = Watched(**{**watched.__dict__, "pictures": {"camera:primary": changed}})
    first, second = (labeller.answer(labeller.inputs(each, np.arange(14)))["histogram"] for each in (watched, other))
    assert np.array_equal(first[:9], second[:9])
    assert not np.array_equal(first[9], second[9])
    assert labeller.needs.after_s == 0


def test_what_is_not_seen_has_no_value(checkpoint: Checkpoint) -> None:
    watched = episode(67, True, steps=14)
    seen = np.ones(14, bool)
    seen[[3, 8]] = False
    found = label(open_value(checkpoint), Watched(**{**watched.__dict__, "seen": {"camera:primary": seen}}))
    assert found.valid["value"].tolist() == seen.tolist()
    assert np.flatnonzero(~found.valid["advantage"]).tolist() == [3, 8]  # 5 steps ahead of 3 lies 8


def test_what_the_label_set_says(checkpoint: Checkpoint) -> None:
    labeller = open_value(checkpoint)
    found = labeller.label_set("values")
    assert (found.model, found.trained_on) == (checkpoint.digest, "0123@4")
    assert found.parameters["longest"] == {"bars": 19.0}
    assert found.parameters["learned_from"] == ["bars"]
    assert len(found.preprocessing or "") == 32


def test_another_dataset_of_the_same_body_is_labelled_and_an_unknown_body_is_not(checkpoint: Checkpoint) -> None:
    labeller = open_value(checkpoint)
    label(labeller, episode(64, None, dataset="others"))
    with pytest.raises(UsageError, match="must be of a dataset or a body that the value model learned from"):
        label(labeller, Watched(**{**episode(64, None, dataset="others").__dict__, "embodiment": "boat"}))
    with pytest.raises(UsageError, match="must hold 2 numbers"):
        label(labeller, Watched(**{**episode(64, None).__dict__, "columns": {"state": np.zeros((10, 3), np.float32)}}))


def test_what_cannot_be_learned_from_is_said() -> None:
    with pytest.raises(UsageError, match="must have an episode that succeeded, got 2 that failed and 1 of unknown outcome"):
        ValueTrainee(CONFIG).begin(facts_of([episode(1, False), episode(2, False), episode(3, None)]), "cpu")
    with pytest.raises(UsageError, match="must be of the kind 'value'"):
        open_value(Checkpoint("idm", {}, {}, {}))


def test_returns_are_shares_of_the_longest_episode_of_the_task() -> None:
    import torch

    episodes = [episode(1, True, steps=11), episode(2, True, steps=5), episode(3, False, steps=21), episode(4, None, steps=99)]
    trainee = ValueTrainee(CONFIG)
    fitted = trainee.begin(facts_of(episodes, task=["lift", "drop", "lift", "drop"]), "cpu")
    assert fitted.targets(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 1])).tolist() == pytest.approx([-9 / 20, -3 / 4, -2.0])
    assert trainee.checkpoint()[0]["data"]["longest"] == {"lift": 20.0, "drop": 4.0}


def test_every_scale_has_a_way_to_fit_it() -> None:
    assert SCALES.keys() == FITS.keys()
    assert {name: (scale.width, scale.depth) for name, scale in SCALES.items()} == {"tiny": (64, 1), "small": (256, 6), "base": (512, 12), "large": (1024, 16)}
    assert set(ValueTrainee(SCALES["small"]).fields()) == {"camera:primary", "state"}


def test_columns_of_bodies_of_different_width_stand_in_slots() -> None:
    from dataengine.labels.value_data import Learned

    narrow = {"dataset": "a", "embodiment": None, "centre": [1.0, 2.0], "scale": [3.0, 4.0], "widths": [1, 1]}
    wide = {"dataset": "b", "embodiment": None, "centre": [5.0, 6.0, 7.0], "scale": [8.0, 9.0, 10.0], "widths": [2, 1]}
    learned = Learned((narrow, wide), {"": 1.0})
    assert learned.width == 3
    assert learned.laid_out(narrow, "centre").tolist() == [1, 0, 2]
    assert learned.laid_out(wide, "scale").tolist() == [8, 9, 10]


def test_models_lie_in_a_folder(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path, checkpoint)
    watched = episode(64, True)
    first, second = (label(open_value(each), watched) for each in (checkpoint, load_checkpoint(tmp_path)))
    assert np.array_equal(first.columns["value"], second.columns["value"])
