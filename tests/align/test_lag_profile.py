from __future__ import annotations

import numpy as np
import pytest

from dataengine.align.lag_profile import LAGS, LagProfile, action_motions, lag_profile, plausible_lags
from dataengine.align.offset import ImageMotion
from dataengine.align.picture_change import ChangeMeter
from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.samples.moving_square import CAMERA, MovingSquare

PERIOD_NS = 50_000_000


def played(seed: int, policy: str = "expert") -> tuple[ImageMotion, np.ndarray]:
    """Return how the pictures of a moving square change, and the actions (60, 2) that moved it."""
    square, meter, rng = MovingSquare(), ChangeMeter(), np.random.default_rng(seed)
    square.reset(seed)
    actions = []
    for step in range(61):
        meter.add(step, np.ascontiguousarray(square.render()[CAMERA][:, :, 1]))
        if step < 60:
            actions.append(square.expert() if policy == "expert" else square.sample(rng))
            square.step(actions[-1])  # type: ignore[arg-type]
    return meter.motion(np.arange(61, dtype=np.int64) * PERIOD_NS), np.stack(actions)  # type: ignore[arg-type]


def profile(image: ImageMotion, actions: np.ndarray, space: ActionSpace | None = None) -> LagProfile:
    column = Column("action", shape=actions.shape[1:], meaning="action", action_space=space or ActionSpace("ee_delta"))
    return lag_profile(image, action_motions(column, actions, np.arange(len(actions), dtype=np.int64) * PERIOD_NS))


@pytest.mark.parametrize("policy", ["expert", "random"])
def test_labels_that_are_off_by_a_step_are_caught_in_both_directions(policy: str) -> None:
    for seed in range(10):
        image, actions = played(seed, policy)
        right = profile(image, actions)
        assert right.lag == 0
        assert not right.off((0, 0))
        late = profile(image, np.roll(actions, 1, axis=0))  # action t stands in row t + 1
        assert late.lag == 1
        assert late.off((0, 0))
        assert late.off(plausible_lags(20.0))  # no body moves before it is told to
        early = profile(image, np.roll(actions, -1, axis=0))
        assert early.lag == -1
        assert early.off((0, 0))
        assert not early.off(plausible_lags(20.0))  # a controller may be that slow
        assert min(one.margin for one in (right, late, early)) > 0.3


def test_actions_that_have_nothing_to_do_with_the_pictures_say_nothing() -> None:
    rng = np.random.default_rng(1)
    for seed in range(20):
        image, actions = played(seed)
        found = profile(image, rng.uniform(-1, 1, actions.shape))
        assert found.lag is None
        assert found.reason in ("weak_correlation", "ambiguous", "at_the_end")
        assert not found.off((0, 0))


def test_still_pictures_and_still_actions_say_nothing() -> None:
    image, actions = played(0)
    assert profile(ImageMotion(image.start_ns, image.end_ns, np.zeros(len(image))), actions).reason == "still_pictures"
    meter = ChangeMeter()
    for row in range(61):
        meter.add(row, np.full((64, 64), 90, dtype=np.uint8))
    assert profile(meter.motion(np.arange(61, dtype=np.int64) * PERIOD_NS), actions).reason == "few_pictures"  # the same picture all the time
    assert profile(image, np.ones_like(actions)).reason == "no_action"
    assert profile(ImageMotion(image.start_ns[:20], image.end_ns[:20], image.change[:20]), actions).reason == "few_pictures"


def test_a_command_of_places_is_judged_by_its_change() -> None:
    image, actions = played(3)
    places = np.cumsum(actions, axis=0)  # where the square is to be after the step
    assert profile(image, places, ActionSpace("ee_pose")).lag == 0
    assert profile(image, np.roll(places, 1, axis=0), ActionSpace("ee_pose")).lag == 1
    assert profile(image, places, ActionSpace("other")).lag == 0  # nobody says what it is: the reading that explains the pictures counts
    assert profile(image, actions, ActionSpace("other")).lag == 0


def test_a_gripper_does_not_count() -> None:
    _, actions = played(3)
    grip = np.where(np.arange(60) % 10 < 5, 1.0, -1.0)[:, None]
    column = Column("action", shape=(3,), meaning="action", action_space=ActionSpace("ee_delta", gripper=Gripper(2, 1.0, -1.0)))
    times = np.arange(60, dtype=np.int64)
    (with_it,) = action_motions(column, np.concatenate([actions, grip], axis=1), times)
    (without,) = action_motions(Column("action", shape=(2,), meaning="action", action_space=ActionSpace("ee_delta")), actions, times)
    assert np.array_equal(with_it.amount, without.amount)
    assert action_motions(Column("action", meaning="action", action_space=ActionSpace("joint_torque")), actions, times) == []


def test_every_second_picture_is_as_good() -> None:
    square, meter = MovingSquare(max_steps=160), ChangeMeter()
    square.reset(4)
    actions = []
    for step in range(161):
        if step % 2 == 0:
            meter.add(step // 2, np.ascontiguousarray(square.render()[CAMERA][:, :, 1]))
        if step < 160:
            actions.append(square.expert())
            square.step(actions[-1])  # type: ignore[arg-type]
    image = meter.motion(np.arange(81, dtype=np.int64) * 2 * PERIOD_NS)
    stacked = np.stack(actions)  # type: ignore[arg-type]
    assert [profile(image, np.roll(stacked, shift, axis=0)).lag for shift in (-2, 0, 2)] == [-2, 0, 2]


def test_what_a_sound_recording_may_have() -> None:
    assert plausible_lags(5.0) == (-2, 0)  # a quarter of a second is 1.25 steps
    assert plausible_lags(20.0) == (-5, 0)
    assert plausible_lags(200.0) == (-5, 0)
    assert plausible_lags(1.0) == (-1, 0)
    assert plausible_lags(None) == (-2, 0)


def test_the_lead_is_counted_from_what_was_expected() -> None:
    curve = [0.0] * len(LAGS)
    curve[LAGS.index(1)], curve[LAGS.index(0)], curve[LAGS.index(-2)] = 0.8, 0.6, 0.7
    found = LagProfile(tuple(curve), 1, 0.8, 0.1, 1.0, 60)
    assert found.lead((0, 0)) == pytest.approx(0.2)
    assert found.lead((-5, 0)) == pytest.approx(0.1)
    assert found.lead((-5, 1)) == 0.0
