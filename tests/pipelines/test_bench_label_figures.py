"""The figures of the benchmark of labels, out of documents whose numbers are written down."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.bench_label_figures import downstream_figures, goals_met, idm_figures, latent_figures


def source(r2: tuple[float, ...], slope: float = 1.0, covered: float | None = None, accuracy: float | None = None) -> dict[str, Any]:
    """Return what `judged` says of a source whose numbers x, y, z have these R²."""
    numbers = {
        dim: {name: {"value": value, "low": None, "high": None} for name, value in (("r2", one), ("slope", slope), ("mae", 1 - one))}
        for dim, one in zip("xyz", r2, strict=False)
    }
    intervals = {"0.68": {dim: {"coverage": {"value": covered}, "width": 1.0} for dim in numbers}} if covered is not None else None
    classes = {"gripper": {"balanced_accuracy": {"value": accuracy}}} if accuracy is not None else None
    return {"numbers": numbers, "mean": None, "classes": classes, "intervals": intervals}


@pytest.fixture
def document() -> dict[str, Any]:
    command = {
        "dims": ["z", "x", "y", "gripper"],
        "classes": {"gripper": {"low": 0.0, "high": 0.6}},
        "sources": {
            "idm-0": source((0.8, 0.9, 0.7), 0.9, 0.6, 0.9),
            "idm-1": source((0.9, 0.9, 0.9), 1.0, 0.7, 1.0),
            "flow_ridge": source((0.5, 0.6, 0.7)),
            "flow_ridge_window": source((0.6, 0.6, 0.7)),
            "idm-single-frame": source((0.1, 0.2, 0.0)),
        },
    }
    return {"targets": {"command": command}}


def test_means_over_models_by_axis(document: dict[str, Any]) -> None:
    found = idm_figures(document, ["idm-0", "idm-1"], [100.0, 140.0])
    assert found["axes"] == {"command": ["x", "y", "z"]}  # the gripper is a class, and axes stand in their own order
    assert found["command_r2"] == pytest.approx([0.85, 0.9, 0.8])
    assert found["command_r2_by_seed"] == [[0.8, 0.9, 0.7], [0.9, 0.9, 0.9]]
    assert found["flow_ridge_command_r2"] == [0.5, 0.6, 0.7]
    assert found["single_frame_command_r2"] == [0.1, 0.2, 0.0]
    assert found["command_r2_over_flow_ridge"] == pytest.approx(0.1)  # of the worst axis, z
    assert found["gripper_balanced_accuracy"] == pytest.approx(0.95)
    assert found["slope"] == pytest.approx(0.95)
    assert found["coverage68_by_axis"] == pytest.approx([0.65, 0.65, 0.65])
    assert found["idm_cpu_seconds"] == 120.0


def test_goals_are_met_axis_by_axis(document: dict[str, Any]) -> None:
    found = idm_figures(document, ["idm-0", "idm-1"], [100.0, 140.0])
    judged = goals_met(found)
    assert judged["figures"]["command_r2"] == {"value": found["command_r2"], "least": [0.80, 0.85, 0.88], "most": None, "met": False}  # z
    assert judged["figures"]["coverage68_by_axis"]["met"] is True
    assert not judged["figures"]["command_r2_over_flow_ridge"]["met"]
    assert "latent.probe_r2" not in judged["figures"]  # what was not measured is not judged
    assert not judged["all_met"]
    assert goals_met({"downstream": {"gain_recovered": 0.81, "shuffled_gain": -0.2}})["all_met"]
    assert not goals_met({"downstream": {"gain_recovered": 0.81, "shuffled_gain": 0.11}})["all_met"]
    assert not goals_met({"command_r2": [0.99, 0.99]})["all_met"]  # stated for three axes


def test_slope_and_cover_are_judged_of_each_axis_and_not_of_their_mean() -> None:
    found = goals_met({"slope": 1.0, "slope_by_axis": [0.8, 1.0, 1.2], "coverage68": 0.68, "coverage68_by_axis": [0.68, 0.59, 0.77]})
    assert {name: each["met"] for name, each in found["figures"].items()} == {"slope_by_axis": False, "coverage68_by_axis": False}
    found = goals_met({"slope_by_axis": [0.9, 1.0, 1.1], "coverage68_by_axis": [0.6, 0.68, 0.76]})
    assert {name: each["met"] for name, each in found["figures"].items()} == {"slope_by_axis": True, "coverage68_by_axis": True}
    assert found["all_met"] is True


def test_what_could_not_be_worked_out_meets_no_goal() -> None:
    assert goals_met({})["all_met"] is False  # nothing was judged
    unknown = goals_met({"downstream": {"gain_recovered": None, "shuffled_gain": 0.0}, "latent": {"probe_r2": 0.5}})
    assert {name: each["met"] for name, each in unknown["figures"].items()} == {
        "latent.probe_r2": True,
        "downstream.gain_recovered": None,
        "downstream.shuffled_gain": True,
    }
    assert unknown["all_met"] is False
    assert {"command_r2", "latent.delta_psnr_db"} <= set(unknown["not_judged"])  # parts that were not run
    assert not {"downstream.gain_recovered", "latent.probe_r2"} & set(unknown["not_judged"])

    def met(value: object) -> object:
        return goals_met({"command_r2": value})["figures"]["command_r2"]["met"]

    assert met([0.9, None, 0.9]) is None
    assert met([0.9, None, 0.5]) is False  # z misses it, whatever y is
    assert goals_met({"slope_by_axis": []})["figures"]["slope_by_axis"]["met"] is None


def test_latents_name_what_fails() -> None:
    def model(probe: float, few: float) -> dict[str, Any]:
        return {"probe": source((probe, probe + 0.1)), "probe, 5 % of episodes": source((few, few)), "shuffled": source((0.0, 0.0))}

    models = {"vae-0": model(0.5, 0.3), "vae_5pct-0": model(0.6, 0.5), "vq-0": model(0.2, 0.1)}
    sources = {f"{name}: {what}": each for name, kinds in models.items() for what, each in kinds.items()}
    sources |= {"flow_ridge": source((0.7, 0.8)), "picture alone": source((0.1, 0.0))}
    psnr = {"vae-0": (2.0, 1.0), "vae_5pct-0": (2.1, 1.1), "vq-0": (1.0, -0.5)}
    document = {
        "targets": {"displacement": {"dims": ["x", "y"], "classes": {}, "sources": sources}},
        "latent": {name: {"bits": 30.0, "psnr": {"delta_psnr_db": delta, "psnr_over_copy_db": over, "psnr_db": 27.0}} for name, (delta, over) in psnr.items()},
    }
    found = latent_figures(document, ["vae", "vae_5pct", "vq"], [0], {"vae-0": 100.0, "vae_5pct-0": 120.0, "vq-0": 90.0})
    assert (found["probe_r2"], found["probe_r2_5pct"]) == (pytest.approx(0.55), pytest.approx(0.65))
    assert (found["delta_psnr_db"], found["psnr_over_copy_db"], found["cpu_seconds"]) == (2.0, 1.0, 120.0)
    assert found["flow_ridge_displacement_r2"] == [0.7, 0.8]
    assert found["variants"]["vae"]["fails"] == []
    assert found["variants"]["vq"]["fails"] == ["probe_r2", "delta_psnr_db", "psnr_over_copy_db"]


def test_gains_are_means_over_the_models_that_labelled() -> None:
    def gate(gain: float | None, shuffled: float, pseudo: float, **more: Any) -> dict[str, Any]:
        conditions = {"real": {"success": 0.2}, "pseudo": {"success": pseudo}, **more}
        intervals = {"gain_recovered": {"value": gain}, "shuffled_gain": {"value": shuffled}}
        return {**intervals, "verdict": "helps", "reason": "", "conditions": conditions, "settings": {"episodes": 200}}

    found = downstream_figures([gate(0.9, 0.0, 0.9, filtered={"success": 0.7}), gate(0.7, -0.2, 0.8)])
    assert (found["gain_recovered"], found["shuffled_gain"]) == (pytest.approx(0.8), pytest.approx(-0.1))
    assert found["success"] == {"real": pytest.approx(0.2), "pseudo": pytest.approx(0.85), "filtered": 0.7}
    assert downstream_figures([gate(None, 0.0, 0.9)])["gain_recovered"] is None
