from __future__ import annotations

import pickle
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.randomness import text_key, uniforms
from dataengine.transforms.chain import Chain
from dataengine.transforms.images import CentreCrop, ColourJitter, FromFloat, RandomCrop, Resize, ToFloat, colour_matrix
from dataengine.transforms.resizing import resize, resized_into

cv2.setNumThreads(1)
GOLDEN_PLACES = [(5, 3), (1, 4), (5, 6)]


def pictures(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    array = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    array.flags.writeable = False
    return array


def batch_of(array: np.ndarray[Any, Any], samples: list[int], epoch: int = 0) -> dict[str, Any]:
    return {"camera:primary": array, "sample": np.array(samples), "epoch": epoch, "camera:primary_is_pad": np.zeros(array.shape[:2], bool)}


def grey(rows: list[list[int]]) -> np.ndarray[Any, Any]:
    return np.repeat(np.array(rows, np.uint8)[:, :, None], 3, axis=2)


# Sizes


def test_stretching_averages_what_shrinks() -> None:
    assert resize(grey([[0, 10, 20, 40], [30, 40, 60, 80]]), (1, 2)).tolist() == grey([[20, 50]]).tolist()


def test_stretching_interpolates_what_grows() -> None:
    assert resize(grey([[0, 100]]), (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100]  # centres at -0.25, 0.25, 0.75, 1.25 of the two


def test_one_axis_shrinks_and_the_other_grows() -> None:
    tall = grey([[0, 100], [40, 180]])  # first the rows to their means 20 and 140, then linearly to four columns
    assert resize(tall, (1, 4))[0, :, 0].tolist() == [20, 50, 110, 140]


def test_padding_keeps_the_aspect_with_black_bars() -> None:
    wide = np.full((2, 4, 3), 200, np.uint8)
    padded = resize(wide, (5, 4), "pad")[:, :, 0]
    assert padded.tolist() == [[0] * 4, [200] * 4, [200] * 4, [0] * 4, [0] * 4]  # 3 rows over: one above, two below
    tall = np.full((6, 3, 3), 9, np.uint8)
    assert resize(tall, (6, 7), "pad")[0, :, 0].tolist() == [0, 0, 9, 9, 9, 0, 0]


def test_cropping_keeps_the_aspect_and_cuts_the_middle_out() -> None:
    wide = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    assert resize(wide, (2, 2), "crop").tolist() == wide[:, 1:3].tolist()  # 3 columns over: one left, two right
    tall = np.arange(7 * 2 * 3, dtype=np.uint8).reshape(7, 2, 3)
    assert resize(tall, (2, 2), "crop").tolist() == tall[2:4].tolist()


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_into_memory_that_is_there_is_the_same(fit: Any) -> None:
    picture = pictures(37, 53)
    large = np.full((3, 40, 50, 3), 7, np.uint8)
    resized_into(picture, large[1, 3:35, 5:45], fit)
    assert np.array_equal(large[1, 3:35, 5:45], resize(picture, (32, 40), fit))
    large[1, 3:35, 5:45] = 7
    assert (large == 7).all()


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_into_memory_of_any_layout(fit: Any) -> None:
    picture = pictures(48, 64)
    planes = np.zeros((3, 30, 20), np.uint8).transpose(1, 2, 0)
    for out in (planes, np.zeros((30, 40, 3), np.uint8)[:, ::2], np.zeros((30, 20, 3), np.uint8)[::-1], np.zeros((30, 20, 6), np.uint8)[..., ::2]):
        resized_into(picture, out, fit)
        assert np.array_equal(out, resize(picture, (30, 20), fit))
    assert np.array_equal(resize(picture[::-1, ::-1], (30, 20), fit), resize(np.ascontiguousarray(picture[::-1, ::-1]), (30, 20), fit))


@given(st.tuples(*[st.integers(1, 40)] * 4), st.sampled_from(["stretch", "pad", "crop"]))
@settings(deadline=None, max_examples=60)
def test_any_size_becomes_any_size(sizes: tuple[int, int, int, int], fit: Any) -> None:
    resized = resize(np.full((*sizes[:2], 3), 50, np.uint8), sizes[2:], fit)
    assert resized.shape == (*sizes[2:], 3)
    assert set(np.unique(resized)) <= ({0, 50} if fit == "pad" else {50})


def test_resize_takes_any_leading_axes_and_leaves_the_rest_alone() -> None:
    array = pictures(2, 3, 8, 10)
    batch = {**batch_of(array, [0, 1]), "action": np.zeros((2, 4)), "task": ["a", "b"], "observation.images.wrist": array[0]}
    done = Resize((4, 5))(batch)
    assert done["camera:primary"].shape == (2, 3, 4, 5, 3)
    assert np.array_equal(done["camera:primary"][1, 2], resize(array[1, 2], (4, 5)))
    assert done["observation.images.wrist"].shape == (3, 4, 5, 3)
    assert done["action"] is batch["action"]
    assert batch["camera:primary"] is array
    assert Resize((8, 10))(batch)["camera:primary"] is array  # nothing to do: nothing is copied


# Cuts


def test_the_middle() -> None:
    array = pictures(2, 7, 6)
    assert np.array_equal(CentreCrop((4, 4))({"camera:a": array})["camera:a"], array[:, 1:5, 1:5])


def test_the_place_of_a_random_cut_is_what_the_hash_says() -> None:
    array = pictures(3, 2, 9, 12)
    done = RandomCrop((4, 5), seed=3)(batch_of(array, [5, 6, 700], epoch=2))["camera:primary"]
    top = uniforms(3, text_key("RandomCrop/top"), text_key("camera:primary"), 2, np.array([5, 6, 700]))
    left = uniforms(3, text_key("RandomCrop/left"), text_key("camera:primary"), 2, np.array([5, 6, 700]))
    for index in range(3):
        y, x = int(top[index] * 6), int(left[index] * 8)
        assert np.array_equal(done[index], array[index, :, y : y + 4, x : x + 5])
    assert [(int(y * 6), int(x * 8)) for y, x in zip(top, left, strict=True)] == GOLDEN_PLACES


@pytest.mark.parametrize("transform", [RandomCrop((20, 24), pad=4, seed=1), RandomCrop((11, 7), seed=1), ColourJitter(0.3, 0.3, 0.3, 0.1, seed=1)])
def test_a_sample_is_changed_alike_whatever_batch_it_comes_in(transform: Any) -> None:
    array = pictures(6, 2, 20, 24)
    together = transform(batch_of(array, [10, 11, 12, 13, 14, 15], epoch=1))["camera:primary"]
    order = [4, 1, 5]
    apart = transform(batch_of(array[order], [14, 11, 15], epoch=1))["camera:primary"]
    assert np.array_equal(apart, together[order])
    alone = transform({"camera:primary": array[2], "sample": np.int64(12), "epoch": 1})["camera:primary"]
    assert np.array_equal(alone, together[2])
    each = transform({**batch_of(array, [10, 11, 12, 13, 14, 15]), "epoch": np.array([0, 1, 0, 0, 0, 0])})["camera:primary"]
    assert np.array_equal(each[1], together[1])
    assert not np.array_equal(each[0], together[0])  # another epoch
    same = np.broadcast_to(array[:1, :1], array.shape)
    done = transform(batch_of(same, [10, 11, 12, 13, 14, 15]))["camera:primary"]
    assert np.array_equal(done[:, 0], done[:, 1])  # the frames of a sample alike
    assert not np.array_equal(done[0], done[1])  # two samples differently


def test_two_cameras_of_a_sample_draw_apart() -> None:
    array = pictures(8, 16, 16)
    done = RandomCrop((8, 8))({"camera:a": array, "camera:b": array, "sample": np.arange(8), "epoch": 0})
    assert not np.array_equal(done["camera:a"], done["camera:b"])


@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 12), st.integers(1, 30), st.integers(0, 50))
@settings(deadline=None, max_examples=80)
def test_a_padded_cut_is_a_cut_of_the_padded_picture(height: int, width: int, pad: int, side: int, sample: int) -> None:
    size = (min(side, height + 2 * pad), min(side + 1, width + 2 * pad))
    array = pictures(1, 1, height, width)
    done = RandomCrop(size, pad=pad)(batch_of(array, [sample]))["camera:primary"][0, 0]
    padded = np.pad(array[0, 0], ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    top = int(uniforms(0, text_key("RandomCrop/top"), text_key("camera:primary"), 0, sample) * (height + 2 * pad - size[0] + 1))
    left = int(uniforms(0, text_key("RandomCrop/left"), text_key("camera:primary"), 0, sample) * (width + 2 * pad - size[1] + 1))
    assert np.array_equal(done, padded[top : top + size[0], left : left + size[1]])


# Colours


def test_the_colour_matrix_by_hand() -> None:
    assert np.allclose(colour_matrix(0, 0, 0, 0), np.eye(3, 4), atol=1e-12)
    red = np.array([200.0, 100, 50, 1])
    assert np.allclose(colour_matrix(0.1, 0, 0, 0) @ red, [220, 110, 55])
    assert np.allclose(colour_matrix(0, 0.5, 0, 0) @ red, [236.25, 86.25, 11.25])  # 127.5 + 1.5 * (200 - 127.5), ...
    assert np.allclose(colour_matrix(0.1, 0.5, 0, 0) @ red, [266.25, 101.25, 18.75])  # brightness before contrast
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50  # 124.2
    assert np.allclose(colour_matrix(0, 0, -1, 0) @ red, [luma] * 3)
    assert np.allclose(colour_matrix(0, 0, 0.5, 0) @ red, [237.9, 87.9, 12.9])  # luma + 1.5 * (200 - 124.2), ...


def test_turning_the_hue_keeps_greys_and_the_luma() -> None:
    turned = colour_matrix(0, 0, 0, 0.5) @ np.array([200.0, 100, 50, 1])
    luma = np.array([0.299, 0.587, 0.114])
    assert np.isclose(luma @ turned, 124.2)
    assert np.allclose(turned, 2 * 124.2 - np.array([200, 100, 50]))  # half a turn: mirrored at its grey
    assert np.allclose(colour_matrix(0, 0, 0, 0.3) @ np.array([77.0, 77, 77, 1]), 77)
    quarter = colour_matrix(0, 0, 0, 0.25) @ np.array([200.0, 100, 50, 1])  # I = 75.655 and Q = 5.59 become -5.59 and 75.655
    assert np.isclose(np.array([0.5959, -0.2746, -0.3213]) @ quarter, -5.59)
    assert np.isclose(np.array([0.2115, -0.5227, 0.3112]) @ quarter, 75.655)
    third = colour_matrix(0, 0, 0, 1 / 3)[:, :3]
    assert np.allclose(third @ third @ third, np.eye(3))


def test_jitter_is_the_matrix_rounded_and_cut() -> None:
    array = pictures(5, 1, 30, 31)
    done = ColourJitter(0.9, 0.9, 0.9, 0.5, seed=2)(batch_of(array, [0, 1, 2, 3, 4]))["camera:primary"]
    for sample in range(5):
        factors = [
            (2 * float(uniforms(2, text_key(f"ColourJitter/{what}"), text_key("camera:primary"), 0, sample)) - 1) * most
            for what, most in (("brightness", 0.9), ("contrast", 0.9), ("saturation", 0.9), ("hue", 0.5))
        ]
        matrix = colour_matrix(*factors)
        exact = np.clip(array[sample] @ matrix[:, :3].T + matrix[:, 3], 0, 255)
        assert np.abs(done[sample] - exact).max() <= 1
    assert np.array_equal(ColourJitter()(batch_of(array, [0, 1, 2, 3, 4]))["camera:primary"], array)  # no strength, no change


# Floats


@pytest.mark.parametrize("channels", ["last", "first"])
@pytest.mark.parametrize("scale", [{}, {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}])
def test_floats_and_back_is_exact_for_every_value(channels: Any, scale: dict[str, Any]) -> None:
    array = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2], axis=-1).astype(np.uint8).reshape(1, 2, 8, 16, 3)
    transform = ToFloat(channels=channels, **scale)
    floats = transform({"camera:a": array})["camera:a"]
    assert floats.dtype == np.float32
    assert floats.shape == ((1, 2, 3, 8, 16) if channels == "first" else (1, 2, 8, 16, 3))
    back = transform.inverse({"camera:a": floats})["camera:a"]
    assert back.dtype == np.uint8
    assert np.array_equal(back, array)
    assert transform.inverse.inverse == transform


def test_floats_by_hand() -> None:
    array = np.array([[[51, 102, 255]]], np.uint8)
    assert np.allclose(ToFloat()({"camera:a": array})["camera:a"], [[[0.2, 0.4, 1.0]]])
    scaled = ToFloat(mean=(0.1, 0.2, 0.5), std=(0.5, 0.1, 0.8), channels="first")({"camera:a": array})["camera:a"]
    assert np.allclose(scaled[:, 0, 0], [0.2, 2.0, 0.625])
    assert FromFloat()({"action": np.zeros((4, 5, 3), np.float32)})["action"].dtype == np.float32  # no picture


def test_inverses_run_last_first_and_pass_over_what_a_policy_does_not_return() -> None:
    chain = Chain((Resize((4, 4)), RandomCrop((3, 3)), ToFloat(channels="first")))
    assert chain.inverse == Chain((FromFloat(channels="first"),))
    assert chain.inverse({"action": np.ones(3)})["action"].tolist() == [1, 1, 1]
    array = pictures(2, 8, 8)
    done = chain({"camera:a": array, "sample": np.arange(2), "epoch": 0})
    assert done["camera:a"].shape == (2, 3, 3, 3)


# What is wrong is named


@pytest.mark.parametrize(
    ("transform", "batch", "message"),
    [
        (Resize((4, 4)), {"action": np.zeros(3)}, r"must hold pictures.*got action float64 \(3,\)"),
        (Resize((4, 4), fields=("camera:b",)), {"camera:a": pictures(4, 4)}, "must hold 'camera:b'.*got camera:a"),
        (Resize((4, 4), fields=("a",)), {"a": np.zeros((4, 4, 3), np.float32)}, r"batch\['a'\]: must be uint8 pictures.*got float32 \(4, 4, 3\)"),
        (CentreCrop((9, 4)), {"camera:a": pictures(8, 8)}, r"batch\['camera:a'\]: must be at least 9x4 px.*\(8, 8\)"),
        (RandomCrop((4, 4)), {"camera:a": pictures(2, 8, 8), "epoch": 0}, "must hold 'sample'"),
        (RandomCrop((4, 4)), {"camera:a": pictures(2, 8, 8), "sample": np.arange(2)}, "must hold 'epoch'"),
        (RandomCrop((4, 4)), {"camera:a": pictures(2, 8, 8), "sample": np.arange(3), "epoch": 0}, r"batch\['sample'\].*\(2, 8, 8, 3\).*\(3,\)"),
        (RandomCrop((4, 4)), {"camera:a": pictures(2, 8, 8), "sample": np.arange(2), "epoch": 0.5}, r"batch\['epoch'\].*float64"),
        (FromFloat(fields=("a",)), {"a": pictures(8, 8)}, "must be float pictures"),
    ],
)
def test_what_does_not_fit_is_refused(transform: Any, batch: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        transform(batch)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"unknown fit 'strech'.*did you mean 'stretch'"):
        Resize((4, 4), "strech")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unknown fit"):
        resize(pictures(4, 4), (2, 2), "fill")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="size must be"):
        CentreCrop((0, 4))
    with pytest.raises(UsageError, match="hue must lie in"):
        ColourJitter(hue=0.7)
    with pytest.raises(UsageError, match="std must lie in"):
        ToFloat(std=(1, 0, 1))
    with pytest.raises(UsageError, match="mean must lie in"):
        FromFloat(mean=(123.7, 116.3, 103.5))
    with pytest.raises(UnknownName, match="channels"):
        ToFloat(channels="frist")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="pad must not"):
        RandomCrop((4, 4), pad=-1)
    with pytest.raises(UsageError, match="no empty side"):
        resize(np.zeros((0, 4, 3), np.uint8), (2, 2))


def test_transforms_are_values() -> None:
    chain = Chain((Resize([4, 4], "pad"), RandomCrop((3, 3), 1, 5), ColourJitter(0.1), ToFloat()))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(chain)) == chain
    assert hash(chain) == hash(pickle.loads(pickle.dumps(chain)))
    assert chain != Chain((Resize((4, 4), "pad"), RandomCrop((3, 3), 1, 6), ColourJitter(0.1), ToFloat()))
    assert repr(Resize((4, 4))) == "Resize(size=(4, 4), fit='stretch', fields=None)"
