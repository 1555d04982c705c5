"""How a body is commanded, in words."""

from __future__ import annotations

from dataengine.core.column import ActionSpace, Column
from dataengine.core.control_mode import control_mode


def action(name: str, space: ActionSpace | None, frame: str | None = None) -> Column:
    return Column(name, shape=(3,), meaning="action", action_space=space, frame=frame)


def modes(*columns: Column) -> str | None:
    return control_mode({column.name: column for column in columns})


def test_of_one_column_everything_that_it_says() -> None:
    assert modes(action("action", ActionSpace("ee_delta", frame="base", absolute=False))) == "ee_delta, relative, in base"
    assert modes(action("action", ActionSpace("joint_position", absolute=True))) == "joint_position, absolute"
    assert modes(action("action", ActionSpace("ee_pose"), frame="world")) == "ee_pose, in world"


def test_several_columns_are_named_in_order() -> None:
    hand = action("action.hand", ActionSpace("other", absolute=True))
    assert modes(hand, action("action", ActionSpace("joint_velocity"))) == "action: joint_velocity; action.hand: other, absolute"
    assert modes(hand, action("action", None)) == "other, absolute"


def test_what_says_nothing_has_no_mode() -> None:
    assert modes(action("action", None)) is None
    state = Column("observation.state", shape=(3,), meaning="state", action_space=ActionSpace("ee_pose"))
    assert modes(state) is None
