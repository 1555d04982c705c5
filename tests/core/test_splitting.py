from __future__ import annotations

import pytest

from dataengine.core.errors import UsageError
from dataengine.core.splitting import held_out

IDS = [f"{number:032x}" for number in range(200)]


def test_the_same_episodes_are_held_out_whatever_their_order() -> None:
    found = held_out(IDS, 7, 0.1)
    assert len(found) == 20
    assert found == sorted(found)
    assert held_out(reversed(IDS), 7, 0.1) == found
    assert held_out(IDS, 8, 0.1) != found


def test_an_episode_more_moves_at_most_one_other() -> None:
    before, after = set(held_out(IDS, 3, 0.1)), set(held_out([*IDS, "f" * 32], 3, 0.1))
    assert len(before & after) >= 19


@pytest.mark.parametrize(("count", "share", "most", "held"), [(2, 0.1, 9, 1), (1, 0.5, 9, 0), (10, 0.0, 9, 0), (100, 0.5, 9, 9), (2, 0.9, 9, 1)])
def test_how_many(count: int, share: float, most: int, held: int) -> None:
    assert len(held_out(IDS[:count], 0, share, most)) == held


def test_a_share_of_all_is_refused() -> None:
    with pytest.raises(UsageError, match="less than 1"):
        held_out(IDS, 0, 1.0)
