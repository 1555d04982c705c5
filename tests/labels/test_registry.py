"""Methods by name: each opens its own kind of model, and says which it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dataengine.core.errors import UsageError
from dataengine.labels.registry import LABELLERS, find_method, open_labeller
from dataengine.models.checkpoint import Checkpoint, save_checkpoint

OF_MODELS = sorted(name for name, method in LABELLERS.items() if method.of_model is not None)


def test_the_methods() -> None:
    assert sorted(LABELLERS) == ["flow_ridge", "idm", "latent", "mapped", "retarget", "value"]
    assert all((method.of_model is None) != (method.alone is None) for method in LABELLERS.values())
    with pytest.raises(UsageError, match=r"unknown labelling method 'latents': known: flow_ridge, .*, did you mean 'latent'"):
        find_method("latents")


@pytest.mark.parametrize("name", OF_MODELS)
def test_each_opens_models_of_its_kind_only(name: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint("idm" if name != "idm" else "latent", {}, {}, {}))
    other = "idm" if name != "idm" else "latent"
    with pytest.raises(UsageError, match=f"must hold a model of the kind '{name}', found one of the kind '{other}'; label with `dataengine label {other}`"):
        open_labeller(name, str(tmp_path))
    save_checkpoint(tmp_path, Checkpoint(name, {}, {}, {}))
    with pytest.raises(UsageError, match=r"config.json|model:"):
        open_labeller(name, str(tmp_path))


def test_what_needs_no_model_opens_without() -> None:
    labeller = open_labeller("retarget", None, options={"frame": "camera"})
    assert labeller.label_set("hands").trained_on is None
    assert labeller.label_set("hands").recipe != open_labeller("retarget", None).label_set("hands").recipe
    with pytest.raises(UsageError, match="label retarget: needs no model, got here; leave out --model"):
        open_labeller("retarget", "here")
    with pytest.raises(UsageError, match=r"'frames'.*did you mean 'frame'"):
        open_labeller("retarget", None, options={"frames": "camera"})


def test_options_that_a_method_does_not_know_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown option of latent 'body': known: none"):
        open_labeller("latent", "anywhere", options={"body": "arm"})


def test_to_know_the_methods_costs_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, dataengine.labels.registry; print(sorted({'torch', 'cv2', 'polars', 'ray'} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
