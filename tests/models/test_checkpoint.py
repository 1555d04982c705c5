from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dataengine.core.errors import UsageError
from dataengine.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

WEIGHTS = {
    "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a.steps": torch.tensor(7),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "none": torch.zeros(0, 4),
}
MODEL = Checkpoint("idm", {"width": 3, "gap_s": 0.05}, WEIGHTS, {"trained_on": "abc@3"})


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", MODEL)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors", "train.json"]
    found = load_checkpoint(tmp_path / "model")
    assert (found.kind, found.config, found.train) == ("idm", {"width": 3, "gap_s": 0.05}, {"trained_on": "abc@3"})
    assert all(torch.equal(found.weights[name], WEIGHTS[name]) for name in WEIGHTS)
    assert found.digest == MODEL.digest


def test_the_digest_is_of_configuration_and_weights_and_not_of_how_it_was_trained() -> None:
    other = {**WEIGHTS, "a.steps": torch.tensor(8)}
    digests = {
        MODEL.digest,
        Checkpoint("idm", {"width": 3, "gap_s": 0.1}, WEIGHTS, MODEL.train).digest,
        Checkpoint("idm", MODEL.config, other, MODEL.train).digest,
        Checkpoint("latent", MODEL.config, WEIGHTS, MODEL.train).digest,
        Checkpoint("idm", MODEL.config, {**WEIGHTS, "a.weight": WEIGHTS["a.weight"].reshape(3, 2)}, MODEL.train).digest,
    }
    assert len(digests) == 5
    assert Checkpoint("idm", MODEL.config, WEIGHTS, {"trained_on": "other@1"}).digest == MODEL.digest


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, MODEL)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "gap_s": 0.06}))
    with pytest.raises(UsageError, match="copy the model's folder anew"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "train.json", "model.safetensors"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, MODEL)
    (tmp_path / name).write_bytes(b"\x80\x04 no model")
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        load_checkpoint(tmp_path)


def test_a_folder_without_a_model_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dataengine train"):
        load_checkpoint(tmp_path)


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(UsageError, match="weights must be those of its configuration"):
        MODEL.load_into(torch.nn.Linear(2, 2))
