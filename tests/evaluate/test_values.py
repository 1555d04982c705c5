import numpy as np
import pytest

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.evaluate.values import Told, evaluate_values, fixed_steps, interval, with_baselines


def told(name: str, success: bool, score: list[float] | Array, state: Array | None = None) -> Told:
    return Told(name, success, {"value": np.asarray(score, np.float64)}, {}, state)


def test_progress_and_what_remains_of_two_episodes_by_hand() -> None:
    # progress 0 .5 1 and 0 1; what remains -2 -1 0 and -1 0
    one, two = told("a", True, [-2.0, -1.0, 0.0]), told("b", True, [-1.0, 0.0])
    scores = evaluate_values([one, two])["scores"]["value"]
    assert scores["spearman_left"]["value"] == 1.0
    assert scores["kendall_left"]["value"] == 1.0
    assert scores["spearman_within"]["value"] == 1.0
    # ranks of the score 1 2.5 4.5 2.5 4.5, of the progress 1.5 3 4.5 1.5 4.5
    assert scores["spearman_progress"]["value"] == pytest.approx(8.25 / np.sqrt(9 * 9), abs=1e-4)


def test_the_number_of_the_step_orders_each_episode_right_and_knows_no_failure() -> None:
    generator = np.random.default_rng(0)
    episodes = [told(f"s{n}", True, generator.normal(size=length)) for n, length in enumerate((10, 20, 30, 40))]
    episodes += [told(f"f{n}", False, generator.normal(size=40)) for n in range(4)]
    scores = evaluate_values(episodes)["scores"]
    assert scores["time"]["spearman_within"]["value"] == 1.0
    assert scores["time"]["spearman_left"]["value"] < 0.7
    assert fixed_steps(episodes) == (0, 10, 20)  # the median has 40 steps; two successes only are longer than 20
    assert [scores["time"][f"auc_at_step_{step}"]["value"] for step in (0, 10, 20)] == [0.5, 0.5, 0.5]
    assert scores["time"]["auc_at_50_percent"]["value"] < 0.2  # failures are long, which time alone gives away
    assert scores["constant"]["spearman_within"]["value"] == 0.0
    assert scores["constant"]["auc_at_50_percent"]["value"] == 0.5
    assert scores["constant"]["spearman_progress"]["value"] is None


def test_failures_told_from_successes_at_a_share_of_the_episode() -> None:
    episodes = [told("a", True, [0, 5.0, 9]), told("b", True, [0, 3.0, 9]), told("c", False, [0, 4.0, 1]), told("d", False, [0, 1.0, 2])]
    scores = evaluate_values(episodes)["scores"]["value"]
    assert scores["auc_at_0_percent"]["value"] == 0.5
    assert scores["auc_at_50_percent"]["value"] == 0.75
    assert scores["auc_at_100_percent"]["value"] == 1.0
    assert scores["auc_at_100_percent"]["ci95"][1] == 1.0


def test_steps_that_the_model_left_out_are_left_out() -> None:
    one, two = told("a", True, [-2.0, np.nan, 0.0]), told("b", True, [-1.0, 0.0])
    assert evaluate_values([one, two])["scores"]["value"]["kendall_left"]["value"] == 1.0


def test_the_ridge_answers_for_episodes_that_it_did_not_learn_from() -> None:
    generator = np.random.default_rng(1)

    def episode(number: int, success: bool) -> Told:
        length = int(generator.integers(8, 20))
        left = np.arange(length)[::-1] if success else np.full(length, 60)
        state = np.stack([left + 0.1 * generator.normal(size=length), generator.normal(size=length)], axis=1)
        return told(str(number), success, np.zeros(length), state)

    episodes = [episode(number, number % 3 != 0) for number in range(15)]
    scores = evaluate_values(episodes)["scores"]
    assert scores["state_ridge"]["spearman_left"]["value"] > 0.98
    assert scores["state_ridge"]["auc_at_50_percent"]["value"] == 1.0
    # an episode whose state says something else changes what the others are told, never what it is told itself
    strange = [*episodes[:4], told("4", True, np.zeros(9), np.full((9, 2), 1e3)), *episodes[5:]]
    before, after = with_baselines(episodes), with_baselines(strange)
    assert np.array_equal(before[9].scores["state_ridge"], after[9].scores["state_ridge"])  # of the same fifth
    assert not np.allclose(before[8].scores["state_ridge"], after[8].scores["state_ridge"])
    other = with_baselines(episodes[:5], learned_from=episodes[5:])
    assert np.corrcoef(other[1].scores["state_ridge"], episodes[1].left)[0, 1] > 0.99


def test_steps_to_success_are_off_by_so_much_and_lie_in_their_interval_so_often() -> None:
    scores = {"value": np.arange(4.0), "steps_to_success": -np.array([4.0, 2.0, 1.0, 1.0])}  # the truth is 3 2 1 0
    ends = {"steps_to_success": (np.array([3.5, 1.5, 0.5, 0.5]), np.array([5.0, 3.0, 2.0, 2.0]))}
    found = evaluate_values([Told("a", True, scores, ends)])["steps_to_success"]
    assert found == {"mae": 0.5, "mae_of_the_mean": 1.0, "coverage68": 0.5}


def test_intervals_are_over_episodes_and_the_same_for_the_same_seed() -> None:
    generator = np.random.default_rng(2)
    few = [told(str(number), True, np.arange(30) + 12 * generator.normal(size=30)) for number in range(4)]
    statistic = lambda episodes, name: float(np.mean([each.scores[name][0] for each in episodes]))  # noqa: E731
    low, high = interval(statistic, few, "value", 0)
    firsts = [each.scores["value"][0] for each in few]
    assert low is not None
    assert high is not None
    assert min(firsts) <= low < float(np.mean(firsts)) < high <= max(firsts)
    assert interval(statistic, few, "value", 0) == [low, high]


def test_without_a_success_there_is_no_progress() -> None:
    with pytest.raises(UsageError, match="must have an episode that succeeded"):
        evaluate_values([told("a", False, [0.0, 1.0])])
