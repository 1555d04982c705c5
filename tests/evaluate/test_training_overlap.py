"""What models and label sets have seen of the judged episodes, counted by hand, at the version that they learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dataengine.core.objects import open_objects
from dataengine.evaluate.folds import Fold, whole
from dataengine.evaluate.training_overlap import cautions, training_overlap
from dataengine.models.checkpoint import Checkpoint, save_checkpoint
from dataengine.store.store import Store, open_store, require_store
from tests.support.labels import label, label_set
from tests.support.square_store import make_square_store, square_rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store of four episodes at version 1 and of six since, all of which have labels of several sets."""
    folder = make_square_store(tmp_path_factory.mktemp("square") / "store", episodes=4)
    make_square_store(folder, episodes=6)
    objects = open_objects(str(folder))
    own = f"{require_store(objects)['store_id']}@1"
    for name, trained_on, more in (
        ("told", own, {"learned_from": ["square"]}),
        ("untold", own, {}),
        ("elsewhere", own, {"learned_from": ["circle"]}),
        ("foreign", f"{'5' * 32}@1", {}),
        ("untrained", None, {}),
    ):
        made = label_set(name, **more)
        label(objects, type(made)(name, made.model, trained_on, made.preprocessing, made.parameters))
    return open_store(str(folder))


def model(folder: Path, store: Store, version: int = 1, held: int = 1, **more: Any) -> str:
    """Write a model that learned from the episodes of a version but the first so many."""
    ids = [row["episode_id"] for row in square_rows(store)[:held]]
    recipe = {"version": version, "datasets": ["square"], "where": None, "held_out": {"square": ids}}
    train = {"trained_on": f"{require_store(store.objects)['store_id']}@{version}", "recipe": recipe} | more
    save_checkpoint(folder, Checkpoint("idm", {}, {"w": torch.zeros(1)}, train))
    return str(folder)


def overlap(store: Store, models: list[str], label_sets: list[str]) -> dict[str, Any]:
    folds = [Fold("f", (), tuple(map(whole, square_rows(store))))]
    return training_overlap(store, "square", folds, models, label_sets)


def test_what_a_model_has_seen_is_counted_at_its_version(store: Store, tmp_path: Path) -> None:
    found = overlap(
        store, [model(tmp_path / "idm", store), model(tmp_path / "silent", store, recipe=None), model(tmp_path / "other", store, trained_on="x@1")], []
    )
    assert found["seen_in_training"] == {"idm": 3, "silent": None, "other": 0}  # of the four of version 1 one was held out; the other two came later
    assert found["calibrated_on"] == {"idm": 1, "silent": None, "other": 0}
    assert found["learned_from"] == {"idm": ["square"], "silent": None, "other": ["square"]}


def test_a_version_that_is_gone_says_nothing(store: Store, tmp_path: Path) -> None:
    assert overlap(store, [model(tmp_path / "idm", store, version=99)], [])["seen_in_training"] == {"idm": None}


def test_label_sets_name_datasets_not_episodes(store: Store) -> None:
    found = overlap(store, [], ["told", "untold", "elsewhere", "foreign", "untrained"])
    assert found["seen_in_training"] == {"told": None, "untold": None, "elsewhere": 0, "foreign": 0, "untrained": 0}
    assert found["learned_from"]["told"] == ["square"]
    said = cautions({"dataset": "square", **found})
    assert len(said) == 2
    assert said[0].startswith("told: its model learned from dataset square")
    assert said[1].startswith("untold: what its model learned from is not known")


def test_cautions_count(store: Store, tmp_path: Path) -> None:
    said = cautions({"dataset": "square", **overlap(store, [model(tmp_path / "idm", store, held=2)], [])})
    assert [one.split(";")[0] for one in said] == ["idm: learned from 2 of the judged episodes", "idm: was calibrated on 2 of the judged episodes"]


def test_episodes_that_latents_have_seen_and_those_of_calibration_are_counted(store: Store, tmp_path: Path) -> None:
    ids = [row["episode_id"] for row in square_rows(store)]
    here = f"{require_store(store.objects)['store_id']}@2"

    def recipe(held: list[str], **more: Any) -> dict[str, Any]:
        return {"datasets": ["square"], "where": None, "held_out": {"square": held}, **more}

    weights = {"w": torch.zeros(1)}
    own = {"trained_on": here, "recipe": recipe(ids[:2], seed=0)}
    latents = {
        "mapped": {"trained_on": here, "recipe": recipe([])},
        "mapped-of-other-store": {"trained_on": "0" * 32 + "@1", "recipe": recipe([])},
        "mapped-of-old": {"trained_on": here, "recipe": None},
    }
    for name, latent in latents.items():
        save_checkpoint(tmp_path / name, Checkpoint("mapped", {"latent": latent}, weights, own))
    for kind in ("idm", "latent"):
        save_checkpoint(tmp_path / kind, Checkpoint(kind, {}, weights, own))
    save_checkpoint(tmp_path / "silent", Checkpoint("idm", {}, weights, {}))
    found = overlap(store, [str(tmp_path / name) for name in (*latents, "idm", "latent", "silent")], [])
    assert found["seen_in_training"] == {"mapped": 6, "mapped-of-other-store": 4, "mapped-of-old": None, "idm": 4, "latent": 4, "silent": None}
    assert found["calibrated_on"] == {"mapped": 2, "mapped-of-other-store": 2, "mapped-of-old": 2, "idm": 2, "latent": 0, "silent": None}
