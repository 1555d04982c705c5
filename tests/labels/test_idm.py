from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dataengine.core.arrays import Array
from dataengine.core.clock import nominal_timestamps_ns
from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.core.column_statistics import ColumnStatistics
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Watched
from dataengine.core.training import DatasetFacts, TrainingFacts
from dataengine.labels.idm import CONFIG, FITS, SCALES, IdmTrainee, open_idm
from dataengine.labels.idm_bodies import bodies_of, pooled
from dataengine.labels.idm_columns import displacement_column
from dataengine.labels.idm_fitting import told_truth
from dataengine.labels.idm_targets import lacks
from dataengine.labels.idm_windows import true_values
from dataengine.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dataengine.models.fit import FitConfig, fit
from dataengine.models.inverse_dynamics import InverseDynamicsConfig
from dataengine.models.tokenizers import TokenizerConfig
from dataengine.samples.moving_square import draw_square

RATE, SIDE = 10.0, 32
ACTION = Column(
    "action",
    shape=(3,),
    dims=("x", "y", "gripper"),
    meaning="action",
    action_source="commanded",
    action_space=ActionSpace("ee_delta", frame="base", absolute=False, gripper=Gripper(2, closed=1.0, open=0.0)),
)
STATE = Column("observation.state", shape=(2,), dims=("x", "y"), unit="px", meaning="state")
SMALL = InverseDynamicsConfig(
    size=(SIDE, SIDE),
    gap_s=0.1,
    before_s=0.1,
    after_s=0.2,
    width=32,
    depth=1,
    heads=2,
    tokenizer=TokenizerConfig(channels=(12, 16), strides=(4, 2), readout="flat"),
)


def film(seed: int, steps: int = 30, dataset: str = "square", embodiment: str | None = "square") -> Watched:
    """Return an episode of a square that moves right and down as commanded, and is brighter while its gripper is told to close."""
    rng = np.random.default_rng(seed)
    place, states, actions = np.array([16.0, 16.0]), [], []
    for step in range(steps):
        states.append(place)
        command = np.clip(rng.normal(size=2) - 0.1 * (place - 16), -2, 2)
        actions.append([*command, float(step % 10 < 3)])
        place = np.clip(place + command, 5, 27)
    numbers = np.array(actions, np.float32)
    where = np.array(states, np.float32)
    pictures = np.stack([draw_square(state, SIDE, SIDE) for state in where])
    pictures[..., 0] = (pictures[..., 0] * np.where(numbers[:, 2] > 0, 1.0, 0.4)[:, None, None]).astype(np.uint8)
    every = np.ones(steps, np.bool_)
    return Watched(
        f"{seed:032x}",
        dataset,
        steps,
        embodiment=embodiment,
        rate_hz=RATE,
        t_ns=nominal_timestamps_ns(steps, RATE),
        pictures={"camera:primary": pictures},
        seen={"camera:primary": every},
        columns={"action": numbers, "state": where},
        valid={"action": every, "state": every},
        specs={"action": ACTION, "state": STATE},
    )


def statistics(rows: Array) -> ColumnStatistics:
    width = rows.shape[1]
    told = {"mean": rows.mean(0), "std": rows.std(0), "min": rows.min(0), "max": rows.max(0)}
    told |= {f"q{share:02d}": np.quantile(rows, share / 100, axis=0) for share in (1, 10, 50, 90, 99)}
    distinct = tuple(min(3, len(np.unique(rows[:, entry]))) for entry in range(width))
    return ColumnStatistics(
        (width,), (len(rows),), (0,), (len(rows),) * width, (0,) * width, distinct, **{name: tuple(map(float, each)) for name, each in told.items()}
    )


def facts_of(episodes: Sequence[Watched], seed: int = 0) -> TrainingFacts:
    datasets = []
    for name in dict.fromkeys(episode.dataset for episode in episodes):
        own = [episode for episode in episodes if episode.dataset == name]
        found = {column: statistics(np.concatenate([episode.columns[column] for episode in own])) for column in own[0].columns}
        datasets.append(DatasetFacts(name, own[0].embodiment, own[0].rate_hz, dict(own[0].specs), found))
    return TrainingFacts(datasets, "store@3", seed)


class Windows:
    """Batches of windows drawn from episodes in memory, as a loader gives them."""

    def __init__(self, trainee: IdmTrainee, episodes: Sequence[Watched], size: int) -> None:
        self.fields, self.episodes, self.size, self.at = trainee.fields(), episodes, size, 0
        self.names = list(dict.fromkeys(episode.dataset for episode in episodes))

    def __iter__(self):  # type: ignore[no-untyped-def]
        while True:
            rng = np.random.default_rng(self.at)
            self.at += 1
            picks = [(int(rng.integers(len(self.episodes))), rng) for _ in range(self.size)]
            yield self.batch([(number, int(drawn.integers(self.episodes[number].steps))) for number, drawn in picks])

    def batch(self, picks: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
        found: dict[str, list[Array]] = {}
        wide = {"action": max(episode.columns["action"].shape[1] for episode in self.episodes if "action" in episode.columns), "state": 2}
        for number, step in picks:
            episode = self.episodes[number]
            for name, field in self.fields.items():
                assert field.seconds is not None
                places, beyond = episode.near(np.array([step]), field.seconds)
                group = episode.pictures if name in episode.pictures else episode.columns
                valid = episode.seen.get(name, episode.valid.get(name))
                if name in wide:
                    values = np.zeros((len(places[0]), wide[name]), np.float32)
                    if name in group:
                        values[:, : group[name].shape[1]] = group[name][places[0]]
                    found.setdefault(f"{name}_mask", []).append(np.arange(wide[name]) < (group[name].shape[1] if name in group else 0))
                else:
                    values = group[name][places[0]]
                found.setdefault(name, []).append(values)
                found.setdefault(f"{name}_is_pad", []).append(beyond[0] | (~valid[places[0]] if valid is not None else True))
            found.setdefault("dataset", []).append(np.array(self.names.index(episode.dataset)))
        batch = {name: torch.from_numpy(np.stack(rows)) for name, rows in found.items()}
        return {**batch, "weight": torch.ones(len(picks))}

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state) -> None:  # type: ignore[no-untyped-def]
        self.at = int(state["at"])


def trained(
    folder: Path, episodes: Sequence[Watched], held: Sequence[Watched], config: InverseDynamicsConfig = SMALL, steps: int = 150, seed: int = 0
) -> Checkpoint:
    trainee = IdmTrainee(config)
    fitted = trainee.begin(facts_of(episodes, seed), "cpu")
    fit(fitted, Windows(trainee, episodes, 32), FitConfig(steps=steps, batch_size=32, learning_rate=4e-3, warmup_steps=10, average=0.95), seed, folder)
    figures = trainee.calibrate(held)
    told, weights = trainee.checkpoint()
    return Checkpoint("idm", told, weights, {"trained_on": "store@3", "figures": figures})


def r2(value: Array, truth: Array) -> Array:
    known = np.isfinite(truth).all(1)
    value, truth = value[known], truth[known]
    return np.asarray(1 - np.square(value - truth).sum(0) / np.square(truth - truth.mean(0)).sum(0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.set_num_threads(1)
    return trained(tmp_path_factory.mktemp("run"), [film(seed) for seed in range(40)], [film(100 + seed) for seed in range(8)])


def test_actions_are_read_off_pictures(model: Checkpoint) -> None:
    labeller = open_idm(model)
    commands, truths, moves, moved, low, high = [], [], [], [], [], []
    for seed in range(200, 206):
        episode = film(seed)
        labels = labeller.labels(replace(episode, pictures={}, seen={}), labeller.answers(episode))
        commands.append(labels.columns["action"])
        truths.append(episode.columns["action"])
        moves.append(labels.columns["observation.state.delta"])
        moved.append(np.concatenate([np.diff(episode.columns["state"], axis=0), np.full((1, 2), np.nan)]))
        low.append(labels.low["action"])
        high.append(labels.high["action"])
    command, truth, low_end, high_end = (np.concatenate(each) for each in (commands, truths, low, high))
    inner = np.tile(np.arange(30) < 29, 6)  # what the last command does is not seen
    assert r2(command[inner, :2], truth[inner, :2]).min() > 0.8
    assert r2(np.concatenate(moves), np.concatenate(moved)).min() > 0.8
    assert set(np.unique(command[:, 2]).tolist()) <= {0.0, 1.0}
    assert (command[:, 2] == truth[:, 2]).mean() > 0.95
    covered = ((truth >= low_end) & (truth <= high_end))[inner, :2].mean()
    assert 0.5 < covered < 0.85


def test_labels_say_what_they_are(model: Checkpoint) -> None:
    labeller = open_idm(model)
    episode = film(300)
    labels = labeller.labels(replace(episode, pictures={}, seen={}), labeller.answers(episode))
    assert set(labels.columns) == {"action", "observation.state.delta"}
    assert labels.specs["action"].action_source == "idm"
    assert labels.specs["action"].dims == ("x", "y", "gripper")
    assert labels.specs["action"].action_space == ACTION.action_space
    assert labels.specs["observation.state.delta"].action_source == "idm"
    assert labels.valid["action"].tolist() == [True] * 29 + [False]  # what the last command does is not seen
    assert labels.valid["observation.state.delta"].tolist() == [True] * 29 + [False]  # nothing comes after the last step
    assert labels.confidence["action"][-1] == 0
    label_set = labeller.label_set("tries")
    assert (label_set.model, label_set.trained_on) == (model.digest, "store@3")
    assert label_set.parameters["gap_s"] == 0.1
    assert label_set.parameters["calibrated_on"] == {"command": 8, "displacement": 8}
    assert label_set.parameters["learned_from"] == list(labeller._bodies[0].datasets) != []
    assert label_set.preprocessing is not None


def test_a_step_is_answered_alike_in_any_batch(model: Checkpoint) -> None:
    labeller = open_idm(model)
    episode = film(301)
    whole = labeller.answer(labeller.inputs(episode, np.arange(30)))
    single = [labeller.answer(labeller.inputs(episode, np.array([step]))) for step in range(30)]
    for name, array in whole.items():
        together = np.concatenate([each[name] for each in single])
        assert np.abs(together.astype(np.float64) - array).max(initial=0) < 1e-5, name


def test_a_part_of_an_episode_is_answered_as_the_whole(model: Checkpoint) -> None:
    labeller = open_idm(model)
    episode = film(302)
    cut = {name: {key: value[8:25] for key, value in getattr(episode, name).items()} for name in ("pictures", "seen", "columns", "valid")}
    assert episode.t_ns is not None
    part = replace(episode, steps=17, first=8, t_ns=episode.t_ns[8:25], **cut)
    whole = labeller.answer(labeller.inputs(episode, np.arange(10, 20)))
    found = labeller.answer(labeller.inputs(part, np.arange(2, 12)))
    assert max(float(np.abs(found[name].astype(np.float64) - whole[name]).max(initial=0)) for name in whole) < 1e-6


def test_what_no_camera_shows_has_no_label_and_calibrates_nothing(model: Checkpoint) -> None:
    labeller = open_idm(model)
    episode = film(304)
    seen = np.ones(30, np.bool_)
    seen[10:15] = False  # no picture of steps 10 to 14: nothing shows the changes from 9 on up to that from 14 to 15
    torn = replace(episode, seen={"camera:primary": seen})
    answers = labeller.answers(torn)
    labels = labeller.labels(replace(torn, pictures={}, seen={}), answers)
    shown = [step not in range(9, 15) for step in range(29)] + [False]
    for name in ("action", "observation.state.delta"):
        assert labels.valid[name].tolist() == shown, name
        assert (labels.confidence[name][9:15] == 0).all(), name
    bodies, _ = bodies_of(facts_of([episode]).datasets, SMALL.targets)
    for target in SMALL.targets:
        told = told_truth(bodies[0], target, torn, answers, SMALL)
        assert told is not None
        _, places, counts, _ = told
        assert sorted(set(places[counts].tolist())) == [step for step in range(29) if shown[step]], target


def test_a_model_comes_back_from_disk(model: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", model)
    again = load_checkpoint(tmp_path / "model")
    assert again.digest == model.digest
    episode = film(303)
    first, second = (labeller.labels(replace(episode, pictures={}, seen={}), labeller.answers(episode)) for labeller in (open_idm(model), open_idm(again)))
    for name in first.columns:
        assert first.columns[name].tobytes() == second.columns[name].tobytes()
        assert first.low[name].tobytes() == second.low[name].tobytes()
        assert first.confidence[name].tobytes() == second.confidence[name].tobytes()


def test_the_same_seed_gives_the_same_model_and_another_one_another(tmp_path: Path) -> None:
    episodes, held = [film(seed) for seed in range(4)], [film(seed) for seed in (50, 51)]
    one, same, other = (trained(tmp_path / name, episodes, held, steps=4, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert one.digest == same.digest
    assert one.digest != other.digest


def test_figures_of_held_out_episodes_are_told_by_entry(model: Checkpoint) -> None:
    figures = model.train["figures"]["command"]
    assert figures["episodes"] == 8
    assert figures["x"]["r2"] > 0.8
    assert 0.8 < figures["y"]["slope"] < 1.2
    assert figures["gripper"]["balanced_accuracy"] > 0.9
    assert model.train["figures"]["displacement"]["steps"] == 8 * 29


@pytest.mark.slow
def test_shifted_labels_are_not_learned(model: Checkpoint, tmp_path: Path) -> None:
    """The same films with each command one step late: what is learned then scores far worse against the true commands."""

    def late(episode: Watched) -> Watched:
        shifted = np.concatenate([episode.columns["action"][:1], episode.columns["action"][:-1]])
        return replace(episode, columns={**episode.columns, "action": shifted})

    config = SMALL.model_copy(update={"targets": ("command",)})
    found = trained(tmp_path, [late(film(seed)) for seed in range(40)], [late(film(100 + seed)) for seed in range(8)], config)
    scores = []
    for checkpoint in (model, found):
        labeller = open_idm(checkpoint)
        said, truth = [], []
        for seed in range(200, 204):
            episode = film(seed)
            said.append(labeller.labels(episode, labeller.answers(episode)).columns["action"][:-1, :2])
            truth.append(episode.columns["action"][:-1, :2])
        scores.append(r2(np.concatenate(said), np.concatenate(truth)).min())
    assert scores[0] > 0.8
    assert scores[1] < 0.3


def test_two_bodies_are_trained_together_and_keep_their_own_heads(tmp_path: Path) -> None:
    def other(seed: int) -> Watched:
        episode = film(seed, dataset="other", embodiment="crab")
        wide = Column("action", shape=(4,), dims=("a", "b", "c", "d"), meaning="action")
        action = episode.columns["action"]
        doubled = np.concatenate([100 + 50 * action[:, [1, 0]], np.full((30, 1), 7.0, np.float32), action[:, 2:]], axis=1)
        columns = {"action": doubled}  # no state at all
        return replace(episode, columns=columns, valid={"action": np.ones(30, np.bool_)}, specs={"action": wide})

    episodes = [*[film(seed) for seed in range(20)], *[other(seed) for seed in range(20, 40)]]
    model = trained(tmp_path, episodes, [film(60), film(61), other(62), other(63)], steps=120)
    labeller = open_idm(model)
    mine, theirs = film(70), other(71)
    first = labeller.labels(mine, labeller.answers(mine))
    second = labeller.labels(theirs, labeller.answers(theirs))
    assert set(first.columns) == {"action", "observation.state.delta"}
    assert set(second.columns) == {"action"}
    assert second.columns["action"].shape == (30, 4)
    assert (second.columns["action"][:, 2] == 7.0).all()
    assert r2(second.columns["action"][:-1, :2], theirs.columns["action"][:-1, :2]).min() > 0.5
    assert r2(first.columns["action"][:-1, :2], mine.columns["action"][:-1, :2]).min() > 0.5
    together = {
        name: np.concatenate([labeller.inputs(mine, np.arange(4))[name], labeller.inputs(theirs, np.arange(4))[name]])
        for name in labeller.inputs(mine, np.arange(1))
    }
    mixed = labeller.answer(together)
    alone = labeller.answer(labeller.inputs(theirs, np.arange(4)))
    assert np.abs(mixed["command.value"][4:] - alone["command.value"]).max() < 1e-5
    stranger = film(72, dataset="third", embodiment="squid")
    with pytest.raises(UsageError, match=r"must be of a body that the model was trained on \(square, crab\), got squid"):
        labeller.answers(stranger)
    chosen = open_idm(model, body="crab")
    assert chosen.labels(stranger, chosen.answers(stranger)).specs["action"].dims == ("a", "b", "c", "d")
    assert chosen.label_set("x").parameters["body"] == "crab"


def test_datasets_of_one_body_share_heads() -> None:
    first, second = film(0), film(1, dataset="second")
    bodies, numbers = bodies_of(facts_of([first, second]).datasets, ("command", "displacement"))
    assert numbers == [0, 0]
    assert bodies[0].datasets == ("square", "second")
    renamed = replace(second, specs={**second.specs, "action": replace(ACTION, dims=("left", "up", "gripper"))})
    bodies, numbers = bodies_of(facts_of([first, renamed]).datasets, ("command",))
    assert numbers == [0, 1]
    assert [body.name for body in bodies] == ["square/square", "square/second"]


def test_statistics_of_several_datasets_are_pooled() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (300, 2)), rng.normal(5, 2, (100, 2))
    found, whole = pooled([statistics(one), statistics(other)]), np.concatenate([one, other])
    assert found.array("mean") == pytest.approx(whole.mean(0))
    assert found.array("std") == pytest.approx(whole.std(0))
    assert found.array("max") == pytest.approx(whole.max(0))


def test_what_is_not_known_is_not_learned() -> None:
    """Numbers in rows that are not valid, beyond the end, or of samples that only fill a batch change no loss."""
    episode = film(5)
    trainee = IdmTrainee(SMALL)
    holes = np.ones(30, np.bool_)
    holes[10] = False  # a step without a command; of the last one nothing is seen
    torn = replace(episode, valid={"action": holes, "state": np.ones(30, np.bool_)})
    losses = []
    for lie in (0.0, 50.0):
        wrong = episode.columns["action"].copy()
        wrong[[10, 29]] += lie
        fitted = trainee.begin(facts_of([episode]), "cpu")
        batch = Windows(trainee, [replace(torn, columns={**episode.columns, "action": wrong})], 4).batch([(0, 9), (0, 28), (0, 10), (0, 15)])
        batch["weight"][3] = 0
        batch["action"][3] += lie
        losses.append(float(fitted.loss(batch, torch.Generator().manual_seed(0))[0].detach()))
    assert losses[0] == losses[1]


def test_displacement_is_what_comes_before_the_next_state() -> None:
    episode = film(6)
    bodies, _ = bodies_of(facts_of([episode]).datasets, ("displacement",))
    found = true_values(bodies[0], "displacement", episode, SMALL)
    assert found is not None
    states = episode.columns["state"].astype(np.float64)
    assert found[:-1] == pytest.approx(states[1:] - states[:-1])
    assert np.isnan(found[-1]).all()


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (None, "must have one known rate"),
        (4.0, r"must have a whole number of steps, one or more, in the 0.1 s .*, got 0.4 at 4 steps a second; set gap_s to 0.25"),
        (15.0, r"must have a whole number of steps, .*, got 1.5 at 15 steps a second; set gap_s to 0.133333"),
    ],
)
def test_rates_that_do_not_go_with_the_window_are_refused(rate: float | None, words: str) -> None:
    facts = facts_of([replace(film(0), rate_hz=rate)])
    with pytest.raises(UsageError, match=f"dataset 'square': {words}"):
        IdmTrainee(SMALL).begin(facts, "cpu")


def test_an_episode_without_a_rate_is_not_labelled(model: Checkpoint) -> None:
    with pytest.raises(UsageError, match="must have one known rate"):
        open_idm(model).inputs(replace(film(0), rate_hz=None, t_ns=None), np.arange(3))


def test_an_episode_whose_steps_the_gap_does_not_hold_is_not_labelled(model: Checkpoint) -> None:
    with pytest.raises(UsageError, match=r"episode 0+ of square: .* got 1.5 at 15 steps a second; use a model that was trained with a gap_s of 0.133333"):
        open_idm(model).inputs(replace(film(0), rate_hz=15.0), np.arange(3))


def test_episodes_of_a_dataset_of_mixed_bodies_are_its_own(tmp_path: Path) -> None:
    """Half of the training episodes say what they are of: the body is that of the dataset, whatever a held-out episode says."""
    facts = facts_of([film(0)])
    trainee = IdmTrainee(SMALL)
    fitted = trainee.begin(TrainingFacts([replace(facts.datasets[0], embodiment=None)], "store@3", 0), "cpu")
    fit(fitted, Windows(trainee, [film(0)], 4), FitConfig(steps=1, batch_size=4), 0, tmp_path)
    figures = trainee.calibrate([film(1, embodiment="square"), film(2, embodiment=None), film(3, embodiment="crab")])
    assert figures["command"]["episodes"] == 3


def test_a_state_that_never_has_a_number_in_an_entry_is_refused() -> None:
    facts = facts_of([film(0)]).datasets[0]
    empty = replace(facts.statistics["state"], count=(30, 0))
    with pytest.raises(
        UsageError, match=r"column 'observation.state': each entry must have numbers in the training episodes, got none in y; leave the dataset out"
    ):
        bodies_of([replace(facts, statistics={**facts.statistics, "state": empty})], SMALL.targets)
    nothing = replace(facts.statistics["state"], count=(0, 0))
    (body,), _ = bodies_of([replace(facts, statistics={**facts.statistics, "state": nothing})], SMALL.targets)
    assert (body.command is None, body.displacement is None) == (False, True)  # as if there were no state at all


def test_a_displacement_that_was_never_seen_is_not_said() -> None:
    """Each row of the state lacks one of its entries: no change of it is known, and 0 would be a lie."""
    trainee = IdmTrainee(SMALL)
    trainee.begin(facts_of([film(0)]), "cpu")
    config, weights = trainee.checkpoint()  # before any batch
    labeller = open_idm(Checkpoint("idm", config, weights, {}))
    episode = film(305)
    labels = labeller.labels(replace(episode, pictures={}, seen={}), labeller.answers(episode))
    assert set(labels.columns) == {"action"}
    assert labeller.label_set("x").parameters["calibrated_on"] == {"command": 0}
    unsaid, uncalibrated = lacks(config["bodies"])
    assert "no displacement was seen" in unsaid
    assert "no held-out episode shows its command" in uncalibrated
    alone = IdmTrainee(SMALL.model_copy(update={"targets": ("displacement",)}))
    alone.begin(facts_of([film(0)]), "cpu")
    with pytest.raises(UsageError, match="body 'square': must have two steps a gap apart whose states are known"):
        alone.checkpoint()


def test_a_role_of_several_columns_keeps_its_rotations() -> None:
    facts = facts_of([film(0)]).datasets[0]
    place = Column("observation.state.place", shape=(2,), dims=("x", "y"), unit="m", meaning="state")
    turn = Column("observation.state.turn", shape=(3,), dims=("roll", "pitch", "yaw"), unit="deg", meaning="state")
    held = statistics(np.random.default_rng(0).normal(size=(30, 5)))
    several = replace(facts, columns={"action": ACTION}, members={"state": (place, turn)}, statistics={**facts.statistics, "state": held})
    (body,), _ = bodies_of([several], SMALL.targets)
    assert body.displacement is not None
    assert body.displacement.plain == (0, 1)
    assert [(each.kind, each.entries) for each in body.displacement.rotations] == [("rpy", (2, 3, 4))]
    assert body.displacement.rotations[0].gain == pytest.approx(np.pi / 180)
    assert body.displacement.dims == ("observation.state.place.x", "observation.state.place.y", "rotvec_x", "rotvec_y", "rotvec_z")
    assert body.state is not None
    assert displacement_column(body.state, body.displacement, 0.1, "idm", "said by a test").unit == "m, rad"
    assert bodies_of([several, replace(several, dataset="b", members={"state": (place, replace(turn, unit="rad"))})], SMALL.targets)[1] == [0, 1]


def test_a_dataset_without_numbers_is_refused() -> None:
    episode = replace(film(0), columns={}, valid={}, specs={})
    with pytest.raises(UsageError, match="must have an action or a state column to learn from"):
        IdmTrainee(SMALL).begin(facts_of([episode]), "cpu")


def test_a_model_of_one_frame_sees_one_frame() -> None:
    config = SCALES["single_frame"]
    trainee = IdmTrainee(config)
    fields = trainee.fields()
    assert fields["camera:primary"].seconds == (0.0,)
    assert fields["action"].seconds == (0.0,)
    assert fields["state"].seconds == (0.0, 0.05)
    assert (trainee.needs.before_s, trainee.needs.after_s) == (0.0, 0.0)


def test_every_scale_can_be_fitted_by_name() -> None:
    assert SCALES.keys() == FITS.keys()
    assert all(isinstance(config, CONFIG) for config in SCALES.values())
    tiny = IdmTrainee(SCALES["tiny"])
    assert tiny.fields()["camera:primary"].seconds == (-0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2)
    assert tiny.fields()["state"].seconds == (-0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2)
    assert (tiny.needs.before_s, tiny.needs.after_s) == (0.1, 0.2)
