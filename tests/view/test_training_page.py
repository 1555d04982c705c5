from __future__ import annotations

from dataengine.view.training_page import figure_rows, training_page

TRAIN = {
    "trained_on": "5f@3",
    "recipe": {
        "kind": "idm",
        "scale": "tiny",
        "datasets": ["<lab>"],
        "where": None,
        "seed": 4,
        "held_out": {"<lab>": ["a", "b"]},
        "model": {"width": 64, "window_s": [-0.05, 0.1]},
        "fit": {"steps": 40},
    },
    "split": "00ff",
    "samples": 1200,
    "parameters": 730_000,
    "device": "cpu",
    "code": "0.1",
    "fit": {"steps": 40, "seconds": 12.0, "cpu_seconds": 20.0},
    "held_out": {"command": {"r2": [0.81, 0.85], "gripper": {"balanced_accuracy": 0.93}}},
}


def test_figures_in_figures_are_rows_with_a_whole_name() -> None:
    assert figure_rows(TRAIN["held_out"]) == [["command.r2", "0.810, 0.850"], ["command.gripper.balanced_accuracy", "0.930"]]


def test_the_page_says_what_was_learned_from_and_escapes_names() -> None:
    curve = [{"step": step, "loss": 100.0 / step, "seconds": 0.1} for step in (10, 20, 40)]
    text = training_page("idm from <lab>", TRAIN, curve, "c0ffee")
    assert "&lt;lab&gt;" in text
    assert "<lab>" not in text
    for words in (
        "c0ffee",
        "5f@3",
        "2 episodes, split 00ff",
        "12 s, 20 s of CPU",
        "command.gripper.balanced_accuracy",
        "model.window_s",
        "-0.05".replace("-", "−"),
    ):
        assert words in text, words
    assert text.count("<svg") == 1  # the loss; seconds and steps are no curves


def test_a_training_without_a_curve_has_a_page_too() -> None:
    text = training_page("idm", {**TRAIN, "held_out": {}}, [], "c0ffee")
    assert "<svg" not in text
    assert "How it went" not in text
