"""Labels of a set as fields: each step's own label beside what was recorded, marked where the model abstained or an episode has none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dataengine import open_store
from dataengine.core.errors import UsageError
from dataengine.core.objects import LocalObjects
from dataengine.loaders import Field, Shuffle, dataset, loader
from tests.support.labels import label, made_labels

FIELDS = {"label:idm-small/action": Field(steps=[0, 1]), "label:idm-small/progress": Field(), "action": Field(), "state": Field()}


@pytest.fixture
def labelled(lab: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of the store in which five of the eight episodes are labelled."""
    shutil.copytree(lab, tmp_path / "store")
    ids = sorted(open_store(str(lab)).episodes().collect()["episode_id"])[:5]
    label(LocalObjects(tmp_path / "store"), ids=ids)
    return tmp_path / "store", ids


@pytest.mark.parametrize("workers", [0, 1])
def test_each_step_has_its_own_label(labelled: tuple[Path, list[str]], workers: int) -> None:
    store, ids = labelled
    shuffle = Shuffle(clip_steps=20, spread=8, lanes=8, groups=2)
    with loader(f"{store}#lab", FIELDS, 16, seed=1, shuffle=shuffle, workers=workers, framework="numpy") as batches:
        seen = 0
        for batch in batches:
            for place in np.flatnonzero(batch["weight"]).tolist():
                episode, step = batches.episode_id(int(batch["episode"][place])), int(batch["step"][place])
                assert batch["action"][place, 1] == step
                padded = batch["label:idm-small/action_is_pad"][place]
                if episode not in ids:
                    assert padded.all()
                    assert batch["label:idm-small/progress_is_pad"][place]
                    assert np.isnan(batch["label:idm-small/action_confidence"][place]).all()
                    continue
                seen += 1
                steps = open_steps(store, episode)
                expected = made_labels(episode, steps)
                there = [min(step + ahead, steps - 1) for ahead in range(2)]
                valid = expected.valid["action"][there]
                assert padded.tolist() == [not valid[ahead] or step + ahead >= steps for ahead in range(2)]
                assert np.array_equal(batch["label:idm-small/action"][place][valid], expected.columns["action"][there][valid])
                assert batch["label:idm-small/action_confidence"][place].tolist() == expected.confidence["action"][there].tolist()
                assert batch["label:idm-small/progress"][place].tolist() == [expected.columns["progress"][step]]
        assert seen > 50


def open_steps(store: Path, episode: str) -> int:
    return int(open_store(str(store)).row(episode)["steps"])


def test_the_version_before_the_labels_has_none(labelled: tuple[Path, list[str]]) -> None:
    store, _ = labelled
    with pytest.raises(UsageError, match="no episode has labels of a set 'idm-small'"):
        dataset(f"{store}@1#lab", FIELDS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("label:idm-small", "label:<set>/<column>"),
        ("label:idm-small/acton", "unknown column of a label set 'acton'.*did you mean 'action'"),
        ("label:other/action", "no episode has labels of a set 'other'"),
    ],
)
def test_a_label_field_that_names_nothing_is_refused(labelled: tuple[Path, list[str]], name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataset(f"{labelled[0]}#lab", {name: Field()})
