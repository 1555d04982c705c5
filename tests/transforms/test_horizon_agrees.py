"""Statistics of relative windows are of the very numbers that `relative_actions` gives a policy."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.transforms.from_columns import relative_actions
from dataengine.transforms.horizon import Horizon, window_plan

STEPS, WINDOW = 12, 4
BODIES = {
    "joints": (
        Column("action", shape=(3,), dims=("a", "b", "gripper"), meaning="action", action_space=ActionSpace("joint_position", absolute=True)),
        Column("observation.state", shape=(4,), dims=("b", "speed", "a", "gripper"), meaning="state"),
    )
}
for kind, dims, unit, gripper in (
    ("rotvec", ("x", "y", "z", "rotvec_x", "rotvec_y", "rotvec_z", "gripper"), "m, rad", Gripper(6, 0.0, 1.0)),
    ("quat_wxyz", ("x", "y", "z", "qw", "qx", "qy", "qz"), "m", None),
):
    space = ActionSpace("ee_pose", kind, frame="base", absolute=True, gripper=gripper)
    BODIES[kind] = tuple(
        Column(name, shape=(7,), dims=dims, unit=unit, meaning=meaning, action_space=space)
        for name, meaning in (("action", "action"), ("observation.state", "state"))
    )


@pytest.mark.parametrize("frame", ["tool", "base"])
@pytest.mark.parametrize(("reference", "to"), [("state", "state"), ("first", "first"), ("consecutive", "previous")])
@pytest.mark.parametrize("body", BODIES)
def test_they_agree(body, reference, to, frame) -> None:
    action, state = BODIES[body]
    rng = np.random.default_rng(1)
    rows, states = rng.normal(size=(STEPS, action.shape[0])), rng.normal(size=(STEPS, state.shape[0]))
    plan = window_plan({column.name: column for column in (action, state)}, Horizon(WINDOW, reference, frame=frame))
    found = plan.windows(rows, np.ones(STEPS, bool), states, np.ones(STEPS, bool), np.zeros(STEPS, int))
    whole = STEPS - WINDOW + 1
    batch = {"action": np.stack([rows[start : start + WINDOW] for start in range(whole)]), "state": states[:whole]}
    expected = relative_actions(action, state, to=to, frame=frame)(batch)["action"]
    for h, (values, _) in enumerate(found):
        np.testing.assert_allclose(values[:whole], expected[:, h], atol=1e-9)
