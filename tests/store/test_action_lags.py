from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataengine.align.config import ActionLagConfig, AlignConfig
from dataengine.core.column import ActionSpace
from dataengine.core.episode import Event
from dataengine.core.objects import LocalObjects, Objects
from dataengine.core.stream import Frames, Items, Rows
from dataengine.samples.moving_square import CAMERA, MovingSquare
from dataengine.store.landing import Landing, LandingPolicy
from dataengine.store.outcome import Outcome, Reading
from dataengine.store.shard import ShardPlace, ShardWriter
from dataengine.store.video_lane import VideoPolicy
from dataengine.synth.rollout import Play
from tests.support.stores import _Films, new_store


def shifted(seed: int, shift: int, jpeg: bool = False, still: bool = False) -> Iterator[Event]:
    """Yield a moving square whose actions stand `shift` rows too late; its pictures as JPEGs, or all the same."""
    for event in Play().events(MovingSquare(), seed):
        if isinstance(event, Rows) and event.stream == "action":
            yield Rows("action", np.roll(np.asarray(event.values), shift, axis=0), event.clocks)
        elif isinstance(event, Rows) and isinstance(event.values, Frames) and (jpeg or still):
            import cv2

            pixels = np.repeat(event.values.pixels[:1], len(event.values), axis=0) if still else event.values.pixels
            values = Items([bytes(cv2.imencode(".jpg", picture)[1]) for picture in pixels], "jpeg") if jpeg else Frames(pixels)
            yield Rows(event.stream, values, event.clocks)
        elif jpeg and not isinstance(event, Rows):
            columns = {**event.columns, CAMERA: replace(event.columns[CAMERA], encoding="jpeg")}  # type: ignore[union-attr]
            yield replace(event, columns=columns)  # type: ignore[type-var]
        else:
            yield event


def landed(objects: Objects, events: Iterator[Event], config: ActionLagConfig | None = None) -> Outcome:
    how = Reading("0" * 32, "made", "1", "square", "/a", "f", (), 1)
    with tempfile.TemporaryDirectory() as scratch:
        landing = Landing(
            lambda: ShardWriter(ShardPlace(objects, "square", "shard", "job", Path(scratch)), VideoPolicy()),
            1 << 30,
            100,
            (),
            {},
            None,
            LandingPolicy(AlignConfig(action_lag=config or ActionLagConfig())),
        )
        outcome = landing.land(how, events, _Films([]))  # type: ignore[arg-type]
        landing.close()
    return outcome


def lags(outcome: Outcome) -> tuple[dict[str, float], list[str], list[str]]:
    (row,) = outcome.episodes
    figures = {figure["name"]: figure["value"] for figure in row["figures"] if figure["name"].startswith("action_lag")}
    return figures, row["flags"], [problem["message"] for problem in outcome.problems if problem["check"] == "action_lag"]


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return new_store(tmp_path / "store")


def test_raw_frames_tell_the_lag_without_being_read_again(objects: LocalObjects) -> None:
    figures, flags, messages = lags(landed(objects, shifted(1, 0)))
    assert figures[f"action_lag.{CAMERA}"] == 0
    assert figures[f"action_lag_at_+0.{CAMERA}"] > 0.9
    assert figures[f"action_lag_at_+0.{CAMERA}"] - figures[f"action_lag_at_+1.{CAMERA}"] >= figures[f"action_lag_margin.{CAMERA}"] > 0.3
    assert figures[f"action_lag_confidence.{CAMERA}"] == 1.0
    assert (flags, messages) == ([], [])


def test_actions_that_stand_a_row_too_late_are_a_warning(objects: LocalObjects) -> None:
    figures, flags, (message,) = lags(landed(objects, shifted(1, 1)))
    assert figures[f"action_lag.{CAMERA}"] == 1
    assert flags == ["action_lag"]
    assert "expected actions -5 to 0 steps from the motion that they make, found them 1 step after the motion that they make" in message


def test_a_row_too_early_is_a_warning_where_nothing_lags(objects: LocalObjects, tmp_path: Path) -> None:
    figures, flags, messages = lags(landed(objects, shifted(1, -1)))
    assert (figures[f"action_lag.{CAMERA}"], flags, messages) == (-1, [], [])  # a controller may be that slow
    _, flags, (message,) = lags(landed(new_store(tmp_path / "other"), shifted(1, -1), ActionLagConfig(expected=[0, 0])))
    assert flags == ["action_lag"]
    assert "1 step before" in message


def test_still_pictures_abstain(objects: LocalObjects) -> None:
    figures, flags, _ = lags(landed(objects, shifted(1, 1, still=True)))
    assert (figures, flags) == ({f"action_lag_confidence.{CAMERA}": 0.0}, [])


def test_encoded_pictures_are_decoded_only_where_asked_or_sampled(objects: LocalObjects, tmp_path: Path) -> None:
    outcome = landed(objects, shifted(1, 1, jpeg=True))
    assert int(outcome.episodes[0]["episode_id"][:2], 16) >= 4  # no sampled one
    assert lags(outcome)[0] == {}
    figures, flags, _ = lags(landed(new_store(tmp_path / "always"), shifted(1, 1, jpeg=True), ActionLagConfig(estimate="always")))
    assert (figures[f"action_lag.{CAMERA}"], flags) == (1, ["action_lag"])
    assert lags(landed(new_store(tmp_path / "never"), shifted(1, 1), ActionLagConfig(estimate="never")))[0] == {}


def test_a_space_that_nobody_states_is_found_by_what_explains_the_pictures() -> None:
    assert MovingSquare().facts.columns["action"].action_space == ActionSpace("other", absolute=False)
