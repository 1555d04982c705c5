"""Latents of a label set are judged by probes: also by halves, of some episodes only, and against commands alone; the page shows what there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataengine.core.column import Column
from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.labels import Labels
from dataengine.core.objects import open_objects
from dataengine.evaluate.folds import folds_of
from dataengine.evaluate.label_page import label_page
from dataengine.evaluate.label_trial import Judgement
from dataengine.evaluate.latent_trial import LatentSource, LatentTrial, tried_latents
from dataengine.store.store import open_store
from tests.support.labels import label, label_set
from tests.support.square_store import make_square_store, square_rows

LATENT = Column("latent", dtype="float32", shape=(2,), meaning="action", action_source="latent")
CODE = Column("code", dtype="int64", shape=(2,), meaning="action", action_source="latent", doc="codes in [0, 2), one a token")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of six episodes, the first five of which have latents that are their change over two steps, and codes that are its signs."""
    folder = make_square_store(tmp_path_factory.mktemp("square") / "store")
    opened = open_store(str(folder))

    def made(episode_id: str, steps: int) -> Labels:
        state = opened.read_trajectory(episode_id).columns["observation.state"].astype(np.float32)
        valid = np.arange(steps) < steps - 2
        moved = np.where(valid[:, None], np.roll(state, -2, axis=0) - state, 0).astype(np.float32)
        codes = (moved > 0).astype(np.int64)
        return Labels({"latent": moved, "code": codes}, {"latent": LATENT, "code": CODE}, {"latent": valid, "code": valid})

    ids = [row["episode_id"] for row in square_rows(folder)[:5]]
    label(open_objects(str(folder)), label_set("lam", gap_s=0.1), ids=ids, make=made)
    return folder


def tried(store: Path, split: str, kinds: tuple[str, ...], names: tuple[str, ...] = ("lam",), folds: int = 3) -> Judgement:
    opened = open_store(str(store))
    made = folds_of(split, square_rows(opened), [], folds)
    return tried_latents(LatentTrial(opened, "square", made, [LatentSource(name) for name in names], kinds=kinds))


def page(judgement: Judgement) -> str:
    document = {"title": "t", "store": "s@1", "split": "halves", "datasets": [judgement.document], "made_by": "m"}
    return label_page(document, [judgement])


def r2(judgement: Judgement, kind: str, name: str) -> float:
    value: float = judgement.document["targets"][kind]["sources"][name]["mean"]["r2"]["value"]
    return value


def test_halves_of_episodes_some_of_which_have_no_latents(store: Path) -> None:
    found = tried(store, "halves", ("displacement",))
    assert r2(found, "displacement", "lam: probe") > 0.99
    assert 0.4 < r2(found, "displacement", "lam: probe, codes") < 0.95
    assert (
        found.document["targets"]["displacement"]["steps"]["judged"] == 5 * 2 * 28
    )  # of halves of 30 steps the last two see no end, of the sixth episode none
    assert found.document["latent"]["lam"]["codes"]["dead"] == 0
    assert "probe over the picture alone" in page(found)


def test_flow_over_the_gap_stands_beside_them(store: Path) -> None:
    found = tried(store, "episodes", ("displacement",))
    assert found.document["gap_s"] == 0.1
    assert r2(found, "displacement", "flow_ridge") > 0.85  # of the change to the next step alone it would be a half


def test_commands_alone(store: Path) -> None:
    found = tried(store, "episodes", ("command",))
    assert list(found.document["targets"]) == ["command"]
    assert found.document["latent"]["lam"]["probe_over_controls"].keys() == {"command"}
    assert "what was not worked out" in page(found)


def test_a_fold_of_which_only_what_is_judged_has_latents(store: Path) -> None:
    found = tried(store, "each_episode", ("displacement",))
    assert r2(found, "displacement", "lam: probe") > 0.99


@pytest.mark.parametrize(("names", "error"), [(("lam", "nope"), UnknownName), (("lam", "lam"), UsageError)])
def test_what_is_not_there_and_what_is_there_twice_is_told(store: Path, names: tuple[str, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        tried(store, "episodes", ("displacement",), names)
