"""Gains, their intervals, and verdicts, from successes that are written down."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.evaluate.gain import Done, difference, gain, recovered, resampled, shares, verdict


def policies(*successes: int, of: int = 50) -> list[list[bool]]:
    """Return policies that succeed on the first so many of their episodes."""
    return [[at < count for at in range(of)] for count in successes]


def test_gain_by_hand() -> None:
    assert gain(0.8, 0.2, 0.95) == pytest.approx(0.6 / 0.75)
    assert gain(0.0, 0.175, 0.975) == pytest.approx(-0.175 / 0.8)
    assert gain(0.9, 0.9, 0.92) is None  # perfect labels hardly gain anything: a share of that means nothing
    assert gain(0.5, 0.9, 0.3) is None


def test_shares_count_policies_alike_whatever_their_episodes() -> None:
    done = {"real": [[True, False], [True, True, True, True]]}
    assert shares(done) == {"real": 0.75}  # not 5 of 6


def test_resampling_counts_what_policies_differ_by() -> None:
    alike, apart = resampled({"real": policies(25, 25, 25)})["real"], resampled({"real": policies(0, 25, 50)})["real"]
    assert alike.mean() == pytest.approx(0.5, abs=0.01)
    assert alike.std() == pytest.approx(0.5 / np.sqrt(150), rel=0.1)  # of 150 independent episodes
    assert apart.std() == pytest.approx(
        np.sqrt(1 / 6 / 3), rel=0.1
    )  # shares 0, 1/2, 1 have variance 1/6, the mean of three a third of it, and next to nothing more
    with pytest.raises(ValueError, match="as many policies and episodes"):
        resampled({"real": policies(1), "pseudo": policies(1, 2)})


def test_conditions_are_paired_by_their_episodes() -> None:
    mixed = [[at % 2 == 0 for at in range(50)]]
    found = difference({"real": mixed, "pseudo": mixed}, "pseudo", "real")
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_recovered() -> None:
    done: Done = {"real": policies(10, 8), "perfect": policies(50, 48), "pseudo": policies(40, 42), "shuffled": policies(2, 0)}
    found = recovered(done, "pseudo")
    assert found.value == pytest.approx((0.82 - 0.18) / (0.98 - 0.18))
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.8 < found.high <= 1.05
    shuffled = recovered(done, "shuffled")
    assert shuffled.value == pytest.approx((0.02 - 0.18) / 0.8)
    assert shuffled.high is not None
    assert shuffled.high < 0
    assert recovered({"real": done["real"], "pseudo": done["pseudo"]}, "pseudo").value is None  # nobody knows the true actions


def test_verdicts() -> None:
    real, perfect = policies(10, 8, 9), policies(50, 48, 49)
    said, reason = verdict({"real": real, "perfect": perfect, "pseudo": policies(40, 42, 41), "shuffled": policies(1, 0, 2)})
    assert said == "helps"
    assert reason.startswith("pseudo - real = +0.640 [")
    assert verdict({"real": real, "pseudo": policies(11, 9, 9)})[0] == "no evidence"
    assert verdict({"real": policies(30, 31, 29), "pseudo": policies(2, 0, 1)})[0] == "hurts"
    assert verdict({"real": real, "pseudo": policies(40, 5, 6)})[0] == "no evidence"  # one policy of three is not enough


def test_labels_that_help_no_more_than_those_of_other_episodes_do_not_help() -> None:
    said, reason = verdict({"real": policies(5, 6, 5), "pseudo": policies(40, 42, 41), "shuffled": policies(41, 40, 42)})
    assert said == "no evidence"
    assert "labels of other episodes do as well" in reason


def test_where_only_sure_labels_help_the_reason_says_so() -> None:
    said, reason = verdict({"real": policies(20, 21, 20), "pseudo": policies(3, 2, 4), "weighted": policies(40, 41, 43), "filtered": policies(20, 21, 20)})
    assert said == "hurts"
    assert "by their confidence they help: weighted - real = +0.420" in reason
    assert "filtered" not in reason
