"""Settings of a scale with a user's in their place."""

from dataengine.core.config import merged


def test_a_setting_deep_inside_leaves_its_neighbours_as_they_were() -> None:
    base = {"width": 256, "tokenizer": {"kind": "conv", "channels": [64, 128], "head": {"bins": 5, "smooth": 0.1}}}
    assert merged(base, {"tokenizer": {"channels": [8], "head": {"bins": 7}}}) == {
        "width": 256,
        "tokenizer": {"kind": "conv", "channels": [8], "head": {"bins": 7, "smooth": 0.1}},
    }
    assert base["tokenizer"] == {"kind": "conv", "channels": [64, 128], "head": {"bins": 5, "smooth": 0.1}}


def test_a_section_of_another_kind_begins_anew() -> None:
    base = {"bottleneck": {"kind": "vae", "tokens": 1, "dimension": 32}}
    assert merged(base, {"bottleneck": {"kind": "vq"}}) == {"bottleneck": {"kind": "vq"}}
    assert merged(base, {"bottleneck": {"kind": "vae", "tokens": 2}}) == {"bottleneck": {"kind": "vae", "tokens": 2, "dimension": 32}}


def test_what_is_no_section_is_taken_as_given() -> None:
    assert merged({"weights": None, "size": [96, 96]}, {"weights": {"a": 1.0}, "size": [64, 64], "new": 3}) == {
        "weights": {"a": 1.0},
        "size": [64, 64],
        "new": 3,
    }
