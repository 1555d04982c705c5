"""Ray Train and Ray Data over a store whose pictures and numbers say what they are: every sample once, right, and in order."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataengine.core.errors import UsageError
from dataengine.loaders import Field, Mixture, loader
from pipelines.ray_loaders import ray_dataset, train_loader
from tests.support.numbered import Numbered, numbered_store, what_is_seen
from tests.support.ray_training import CHECKPOINT_AT, FIELDS, OPTIONS, train

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

LENGTHS = (45, 30, 61, 12, 1, 38)
EVERYTHING = Counter((number, step) for number, steps in enumerate(LENGTHS) for step in range(steps))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("numbered") / "store"
    numbered_store(store, [Numbered(number, steps, wrist=True) for number, steps in enumerate(LENGTHS)])
    return store


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start Ray as a user would, with a cache folder of its own for all that it starts."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATAENGINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(num_cpus=3, include_dashboard=False, object_store_memory=256 << 20, log_to_driver=False, logging_level=logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        ray.shutdown()


def test_samples_come_once_and_in_order_from_ray_data(ray: Any, lab: Path) -> None:
    fields = {
        "camera:primary": Field(steps=[-1, 0]),
        "camera:wrist": Field(size=(32, 48)),
        "action": Field(steps=range(4)),
        "state": Field(),
        "task": Field(),
    }
    data = ray_dataset(Mixture(f"{lab}#lab", where="steps > 1"), fields, rows_per_block=40)
    assert not ray.data.DataContext.get_current().execution_options.preserve_order  # nobody else's datasets are changed
    schema = dict(zip(data.schema().names, map(str, data.schema().types), strict=True))
    assert schema["camera:primary"] == "ArrowTensorTypeV2(shape=(2, 64, 96, 3), dtype=uint8)"
    assert schema["camera:wrist"] == "ArrowTensorTypeV2(shape=(32, 48, 3), dtype=uint8)"
    assert schema["action"] == "ArrowTensorTypeV2(shape=(4, 2), dtype=float)"
    assert schema["action_is_pad"] == "ArrowTensorTypeV2(shape=(4,), dtype=bool)"
    assert (schema["step"], schema["weight"], schema["task"]) == ("int64", "float", "string")
    seen = []
    for at, row in enumerate(data.iter_rows()):
        number, step = (int(value) for value in row["state"][:2])
        assert (row["sample"], row["step"], row["task"]) == (at, step, f"task {number % 3}")
        assert [what_is_seen(picture) for picture in row["camera:primary"]] == [(number, max(step - 1, 0), 0), (number, step, 0)]
        assert row["action"].tolist() == [[number, min(step + ahead, LENGTHS[number] - 1)] for ahead in range(4)]
        seen.append((number, step))
    assert Counter(seen) == EVERYTHING - Counter([(4, 0)])
    assert [len(batch["step"]) for batch in data.drop_columns(["task"]).iter_torch_batches(batch_size=64)] == [64, 64, 58]
    batch = next(iter(data.drop_columns(["task"]).iter_torch_batches(batch_size=64)))
    assert tuple(batch["camera:primary"].shape) == (64, 2, 64, 96, 3)
    assert batch["step"].tolist() == [step for _, step in seen[:64]]


@pytest.mark.slow
def test_a_worker_of_ray_train_goes_on_after_a_failure(ray: Any, lab: Path, tmp_path: Path) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        train,
        train_loop_config={"address": f"{lab}#lab", "folder": str(tmp_path)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="run", storage_path=str(tmp_path / "runs"), failure_config=FailureConfig(max_failures=1)),
    )
    result = trainer.fit()
    told = {path.stem: Counter(map(tuple, json.loads(path.read_text()))) for path in tmp_path.glob("*.json")}
    assert sorted(told) == ["after-0-of-2", "after-1-of-2", "before-0-of-2", "before-1-of-2"]
    before = told["before-0-of-2"] + told["before-1-of-2"]
    assert before.total() == 2 * 8 * CHECKPOINT_AT
    assert before + told["after-0-of-2"] + told["after-1-of-2"] == EVERYTHING
    with result.checkpoint.as_directory() as folder, loader(f"{lab}#lab", FIELDS, **OPTIONS) as alone:  # the same state, one process
        alone.load_state_dict(json.loads(Path(folder, "loader.json").read_text()))
        rest = Counter((int(row[0]), int(row[1])) for batch in alone for row, weight in zip(batch["state"], batch["weight"], strict=True) if weight)
    assert before + rest == EVERYTHING


def test_wrong_calls_are_named(lab: Path) -> None:
    with pytest.raises(UsageError, match="must be called in the function that a Ray Train worker runs"):
        train_loader(f"{lab}#lab", FIELDS, 8)
    with pytest.raises(UsageError, match="must not have rank and world_size, which Ray Train decides"):
        train_loader(f"{lab}#lab", FIELDS, 8, rank=0, world_size=2)
    with pytest.raises(UsageError, match="rows_per_block: must be at least 1, got 0"):
        ray_dataset(f"{lab}#lab", FIELDS, rows_per_block=0)
    with pytest.raises(UsageError, match="numbers samples without weights"):
        ray_dataset(Mixture({f"{lab}#lab": 1.0}), FIELDS)
