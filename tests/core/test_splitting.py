from __future__ import annotations

import pytest

from dataengine.core.errors import UsageError
from dataengine.core.splitting import part_of

SHARES = {"train": 0.7, "calibrate": 0.2, "test": 0.1}


def test_parts_have_their_shares_and_stay_where_they_are() -> None:
    ids = [f"{number:032x}" for number in range(4000)]
    parts = [part_of(one, 7, SHARES) for one in ids]
    counts = {part: parts.count(part) for part in SHARES}
    assert counts["train"] == pytest.approx(2800, abs=120)  # four standard deviations
    assert counts["test"] == pytest.approx(400, abs=80)
    assert parts == [part_of(one, 7, SHARES) for one in ids]
    assert parts != [part_of(one, 8, SHARES) for one in ids]


def test_an_empty_part_gets_nothing() -> None:
    assert {part_of(str(number), 0, {"train": 0.5, "none": 0.0, "test": 0.5}) for number in range(200)} == {"train", "test"}


def test_shares_must_add_up() -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        part_of("a", 0, {"train": 0.7, "test": 0.7})
