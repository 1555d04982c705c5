import math

import numpy as np
import pytest
import torch

from dataengine.core.pose import matrix_from_rotvec
from dataengine.models.action_heads import LEAST_SIGMA, ActionHead, HeadConfig, TargetShape, geodesic, rotation_of, symexp, symlog


def head(**settings: object) -> ActionHead:
    torch.manual_seed(0)
    return ActionHead(8, TargetShape(1), HeadConfig(**settings))  # type: ignore[arg-type]


def test_a_target_between_two_bins_counts_for_both() -> None:
    """Bins at -4, -2, 0, 2, 4: a target of 0.5 is a quarter of the way from 0 to 2."""
    logits = torch.log(torch.tensor([[[0.1, 0.1, 0.5, 0.2, 0.1]]]))
    said = (logits, torch.zeros(1, 0), torch.zeros(1, 0, 7))
    target = (torch.tensor([[0.5]]), torch.zeros(1, 0).long(), torch.zeros(1, 0, 3, 3), torch.tensor([True]))
    likelihood = -0.75 * math.log(0.5) - 0.25 * math.log(0.2)
    assert float(head(numbers="binned", bins=5, mean_weight=0).loss(said, *target)["numbers"]) == pytest.approx(likelihood)
    mean = -4 * 0.1 - 2 * 0.1 + 2 * 0.2 + 4 * 0.1
    assert float(head(numbers="binned", bins=5, mean_weight=3).loss(said, *target)["numbers"]) == pytest.approx(likelihood + 3 * (mean - 0.5) ** 2)


def test_bins_are_read_as_mean_median_and_mode() -> None:
    """Shares 0.6 at 0, 0.4 at 4: mean 1.6; the median lies where half is passed within the bin of 0, which spans -1 to 1."""
    logits = torch.log(torch.tensor([[1e-9, 1e-9, 0.6, 1e-9, 0.4]]))
    said = (logits[None], torch.zeros(1, 1, 0), torch.zeros(1, 1, 0, 7))
    found = {readout: head(numbers="binned", bins=5, readout=readout).read(said) for readout in ("mean", "median", "mode")}
    assert float(found["mean"].value) == pytest.approx(1.6, abs=1e-4)
    assert float(found["median"].value) == pytest.approx(-1 + 2 * 0.5 / 0.6, abs=1e-4)
    assert float(found["mode"].value) == pytest.approx(0.0, abs=1e-4)
    low, high = -1 + 2 * 0.16 / 0.6, 3 + 0.24 / 0.4  # the bin of 4 spans 3 to 4
    assert float(found["mean"].variance) == pytest.approx(((high - low) / 2) ** 2, abs=1e-3)


def test_a_mixture_is_read_as_mean_median_and_mode() -> None:
    """Two narrow components at -1 (0.7) and 3 (0.3): mean 0.2; half lies below a point within the first."""
    sigma = 0.2
    raw = math.log(math.expm1(sigma - LEAST_SIGMA))
    parts = torch.tensor([[math.log(0.7), -1.0, raw], [math.log(0.3), 3.0, raw], [-30.0, 0.0, raw]]).reshape(1, 1, 9)
    said = (parts, torch.zeros(1, 0), torch.zeros(1, 0, 7))
    found = {readout: head(numbers="mixture", readout=readout).read(said).value for readout in ("mean", "median", "mode")}
    assert float(found["mean"]) == pytest.approx(0.2, abs=1e-4)
    assert float(found["mode"]) == pytest.approx(-1.0, abs=1e-4)
    assert float(found["median"]) == pytest.approx(-1 + sigma * float(torch.special.ndtri(torch.tensor(0.5 / 0.7))), abs=1e-3)
    target = (torch.tensor([[3.0]]), torch.zeros(1, 0).long(), torch.zeros(1, 0, 3, 3), torch.tensor([True]))
    assert float(head(numbers="mixture", mean_weight=0).loss(said, *target)["numbers"]) == pytest.approx(-math.log(0.3 / sigma), abs=1e-3)
    assert float(head(numbers="mixture", mean_weight=2).loss(said, *target)["numbers"]) == pytest.approx(-math.log(0.3 / sigma) + 2 * (0.2 - 3) ** 2, abs=1e-3)


def test_a_rare_gripper_class_counts_as_much_as_a_common_one() -> None:
    one = ActionHead(8, TargetShape(0, levels=(2,)), HeadConfig())
    logits = torch.tensor([[2.0, 0.0]] * 9 + [[2.0, 0.0]])
    classes = torch.tensor([[0]] * 9 + [[1]])
    loss = one.loss(
        (torch.zeros(10, 0, 1), logits, torch.zeros(10, 0, 7)), torch.zeros(10, 0), classes, torch.zeros(10, 0, 3, 3), torch.ones(10, dtype=torch.bool)
    )
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert float(loss["grippers"]) == pytest.approx((right + wrong) / 2, rel=1e-5)


def test_rows_without_a_target_change_nothing() -> None:
    torch.manual_seed(1)
    for numbers in ("binned", "mixture"):
        one = ActionHead(8, TargetShape(2, (3,), (0.5,)), HeadConfig(numbers=numbers))  # type: ignore[arg-type]
        x, there = torch.randn(4, 8), torch.tensor([True, True, False, True])
        scaled, classes = torch.randn(4, 2), torch.tensor([[0], [1], [2], [1]])
        rotations = torch.from_numpy(matrix_from_rotvec(np.random.default_rng(0).normal(size=(4, 1, 3)))).float()
        first = one.loss(one(x), scaled, classes, rotations, there)
        scaled, rotations = scaled.clone(), rotations.clone()
        scaled[2], rotations[2] = float("nan"), torch.eye(3)
        second = one.loss(one(x), scaled, classes, rotations, there)
        assert {name: float(value.detach()) for name, value in first.items()} == pytest.approx({name: float(value.detach()) for name, value in second.items()})


def test_rotations_are_rotations_and_angles_are_angles() -> None:
    matrices = rotation_of(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(matrices @ matrices.transpose(-1, -2), torch.eye(3).expand(50, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(50), atol=1e-5)
    turned = torch.from_numpy(matrix_from_rotvec(np.array([[0.0, 0.3, 0.4], [3.0, 0.0, 0.0]]))).float()
    assert geodesic(turned, torch.eye(3).expand(2, 3, 3)).tolist() == pytest.approx([0.5, 3.0], abs=1e-3)


def test_a_head_begins_with_no_rotation_and_learns_one() -> None:
    torch.manual_seed(0)
    one = ActionHead(4, TargetShape(0, turns=(0.3,)), HeadConfig())
    x = torch.ones(1, 4)
    start = one.read(one(x)).rotation[0, 0]
    assert float(geodesic(start, torch.eye(3)).detach()) < 0.1
    goal = torch.from_numpy(matrix_from_rotvec(np.array([[[0.1, -0.2, 0.3]]]))).float()
    optimizer = torch.optim.Adam(one.parameters(), 0.02)
    for _ in range(300):
        loss = one.loss(one(x), torch.zeros(1, 0), torch.zeros(1, 0).long(), goal, torch.tensor([True]))["rotations"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(geodesic(one.read(one(x)).rotation[0, 0], goal[0, 0]).detach()) < 0.01


def test_symlog_comes_back_and_its_bins_are_finer_in_the_middle() -> None:
    x = torch.tensor([-5.0, -0.1, 0.0, 2.0])
    assert symexp(symlog(x)).tolist() == pytest.approx(x.tolist(), abs=1e-6)
    centres = head(scale="symlog", bins=11).centres
    assert float(centres[-1]) == pytest.approx(4.0, abs=1e-5)
    assert float(centres[6] - centres[5]) < float(centres[10] - centres[9]) / 3
