"""Which body an episode has."""

from __future__ import annotations

import pytest

from dataengine.labels.idm_bodies import Body
from dataengine.labels.idm_targets import body_number, calibrated_on, lacks
from dataengine.models.calibration import Calibration
from tests.support.moving_squares import square_episode


def body(name: str, embodiment: str | None, *datasets: str) -> Body:
    return Body(name, datasets, embodiment, None, None, None, None)


BODIES = (body("first", "crab", "a", "b"), body("second", None, "mixed"), body("third", "squid", "c"))


@pytest.mark.parametrize(
    ("dataset", "embodiment", "number"),
    [
        ("b", "crab", 0),
        ("b", None, 0),  # what an episode does not say its dataset does
        ("mixed", "crab", 1),  # the dataset's own heads, whose actions those of its episodes are
        ("mixed", None, 1),
        ("b", "squid", 2),  # another body in the dataset
        ("new", "squid", 2),
        ("new", "whale", None),
        ("new", None, None),
    ],
)
def test_an_episode_has_the_body_of_its_dataset_or_embodiment(dataset: str, embodiment: str | None, number: int | None) -> None:
    assert body_number(BODIES, square_episode(0, steps=3, dataset=dataset, embodiment=embodiment)) == number


def test_where_there_is_one_body_an_unknown_episode_is_its() -> None:
    assert body_number(BODIES[:1], square_episode(0, steps=3, dataset="new", embodiment=None)) == 0
    assert body_number(BODIES[:1], square_episode(0, steps=3, dataset="new", embodiment="whale")) is None


def test_what_was_not_calibrated_is_told() -> None:
    fitted, none = (Calibration((1.0,), (0.0,), (), (1.0,), (2.0,), ((1.0,),), episodes) for episodes in (5, 0))
    assert calibrated_on(BODIES[:2], [{"command": fitted}, {"command": none, "displacement": fitted}]) == {
        "first.command": 5,
        "second.command": 0,
        "second.displacement": 5,
    }
    assert calibrated_on(BODIES[:1], [{"command": none}]) == {"command": 0}
    told = {"name": "crab", "command": {}, "displacement": None, "targets": {"command": {"calibration": {"episodes": 4}}}}
    assert lacks([told]) == []
    (said,) = lacks([{**told, "targets": {"command": {"calibration": {"episodes": 0}}}}])
    assert said.startswith("body 'crab': no held-out episode shows its command")
