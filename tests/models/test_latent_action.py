"""A model of latent actions: gaps that are drawn, labels that count only where they may, and what it learns of a square that moves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dataengine.core.action_spec import RotationEntries
from dataengine.core.errors import UsageError
from dataengine.models.augmentation import AugmentConfig
from dataengine.models.latent_action import Guided, GuideHead, LatentActionModel, LatentFit, drawn_gaps, motion
from dataengine.models.latent_config import FeatureConfig, LatentActionConfig, SupervisionConfig
from dataengine.models.quantize import BottleneckConfig
from tests.models.test_frozen_encoder import write_encoder

SMALL: dict[str, Any] = {
    "size": (32, 32),
    "width": 8,
    "decoder_width": 8,
    "gaps_s": (0.1, 0.2),
    "augment": AugmentConfig(shift=0.0, brightness=0.0, contrast=0.0, saturation=0.0),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def squares(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return three pictures (count, 3, 32, 32, 3) uint8 of a bright square on a dark ground, and its velocity (count, 2) in px from picture to picture, x and y."""
    rng = np.random.default_rng(seed)
    velocity = rng.integers(-2, 3, (count, 2))
    at = rng.integers(8, 17, (count, 2))
    pictures = np.full((count, 3, 32, 32, 3), 30, np.uint8)
    for row in range(count):
        for frame in range(3):
            x, y = at[row] + frame * velocity[row]
            pictures[row, frame, y : y + 7, x : x + 7] = (220, 160, 60)
    return torch.from_numpy(pictures), torch.from_numpy(velocity).float()


def batch_of(pictures: torch.Tensor, **others: Any) -> dict[str, Any]:
    count, frames = pictures.shape[:2]
    return {
        "camera:primary": pictures,
        "camera:primary_is_pad": torch.zeros(count, frames, dtype=torch.bool),
        "weight": torch.ones(count),
        "dataset": torch.zeros(count, dtype=torch.int64),
        "episode": torch.arange(count),
        **others,
    }


def fit_of(config: LatentActionConfig, guides: dict[str, tuple[int, int]] | None = None, allowed: list[bool] | None = None, labelled: Any = None) -> LatentFit:
    torch.manual_seed(0)
    model = LatentActionModel(config, guides)
    return LatentFit(
        model,
        places=[[0, 1], [0, 2]],
        allowed=torch.tensor([allowed or [True, True]]),
        labelled=torch.ones(1000, dtype=torch.bool) if labelled is None else labelled,
        bodies=torch.tensor([0]),
        absolute=torch.tensor([False]),
        action_counts=[1, 2],
    )


def test_a_guide_of_a_rotation_is_how_far_it_turned() -> None:
    """Dataset 0 holds a position and an angle about z in degrees, dataset 1 a quaternion; a turn across half a turn is a small one, -q is q, and the fourth number is not known."""
    fitted = fit_of(LatentActionConfig(**SMALL, supervision=SupervisionConfig(share=1.0, targets=("state",))), {"state": (1, 4)})
    fitted._bodies = torch.tensor([0, 0])
    fitted._turns = {"state": [(RotationEntries("rpy", (1, 2, 3), np.pi / 180),), (RotationEntries("quat_xyzw", (0, 1, 2, 3)),)]}
    half = np.deg2rad(20) / 2
    states = torch.tensor([[[5.0, 0, 0, 170], [7.0, 0, 0, -170]], [[0, 0, 0, 1.0], [0, 0, -np.sin(half), -np.cos(half)]]])
    batch = batch_of(torch.zeros(2, 2, 8, 8, 3), dataset=torch.tensor([0, 1]), state=states, state_is_pad=torch.zeros(2, 2, dtype=torch.bool))
    found = fitted._guided("state", batch, torch.arange(2), torch.zeros(2, dtype=torch.int64), torch.tensor([[0, 1]]))
    turn = float(np.deg2rad(20))
    assert found.values[0].tolist() == pytest.approx([2, 0, 0, turn], abs=1e-5)
    assert found.values[1, :3].tolist() == pytest.approx([0, 0, turn], abs=1e-5)
    assert found.known.tolist() == [[True] * 4, [True] * 3 + [False]]


def test_gaps_are_drawn_alike_among_those_that_are_free() -> None:
    free = torch.tensor([[True, True, True], [False, True, True], [True, False, False], [False, False, False]]).repeat(3000, 1)
    drawn = drawn_gaps(free, seeded()).view(3000, 4)
    assert torch.bincount(drawn[:, 0], minlength=3).tolist() == pytest.approx([1000, 1000, 1000], abs=120)
    assert torch.bincount(drawn[:, 1], minlength=3).tolist() == pytest.approx([0, 1500, 1500], abs=120)
    assert set(drawn[:, 2].tolist()) == {0}
    assert set(drawn[:, 3].tolist()) == {-1}
    assert torch.equal(drawn_gaps(free, seeded(1)), drawn_gaps(free, seeded(1)))


def test_places_that_change_weigh_more() -> None:
    first, last = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    last[0, :, 2, 3] = 0.9  # a mean of 0.1 over 3 x 3 px, four times as strong
    found = motion(first, last)[0, 0]
    assert float(found[3, 4]) == pytest.approx(0.4)
    assert float(found[2, 5]) == 0.0
    assert int((found > 0).sum()) == 9


def test_what_is_padded_or_only_fills_a_batch_up_is_not_learned_from() -> None:
    pictures, _ = squares(6, 0)
    plain = batch_of(pictures)
    plain["camera:primary_is_pad"][2, 1:] = True
    plain["camera:primary_is_pad"][4, 2] = True
    plain["weight"][5] = 0
    spoilt = {**plain, "camera:primary": pictures.clone()}
    spoilt["camera:primary"][2] = 255
    spoilt["camera:primary"][4, 2] = 255
    spoilt["camera:primary"][5] = 0
    fitted = fit_of(LatentActionConfig(**SMALL))
    one, two = (fitted.loss(batch, seeded(3))[0].detach() for batch in (plain, spoilt))
    assert float(one) == float(two)
    plain["weight"][:] = 0
    nothing, _ = fitted.loss(plain, seeded(3))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert all(value.grad is not None for value in fitted.module.parameters() if value.requires_grad)


def test_a_gap_that_is_shorter_than_a_dataset_s_steps_is_never_drawn() -> None:
    pictures, _ = squares(40, 0)
    spoilt = pictures.clone()
    spoilt[:, 1] = 255  # the picture of the short gap alone
    fitted = fit_of(LatentActionConfig(**SMALL), allowed=[False, True])
    assert float(fitted.loss(batch_of(pictures), seeded())[0].detach()) == float(fitted.loss(batch_of(spoilt), seeded())[0].detach())


def test_labels_count_only_of_chosen_episodes_and_where_there_is_one() -> None:
    config = LatentActionConfig(**SMALL, supervision=SupervisionConfig(share=0.5, weight=1.0))
    pictures, velocity = squares(8, 0)
    state = velocity[:, None] * torch.arange(3.0)[None, :, None]
    labelled = torch.tensor([True, False] * 4)

    def loss_of(numbers: torch.Tensor) -> float:
        fitted = fit_of(config, {"state": (1, 2)}, labelled=labelled)
        padded = torch.zeros(8, 3, dtype=torch.bool)
        padded[2] = True
        return float(fitted.loss(batch_of(pictures, state=numbers, state_is_pad=padded), seeded())[1]["guide_state"])

    spoilt = state.clone()
    spoilt[1::2] = 7777.0 * torch.arange(3.0)[None, :, None]  # of episodes that were not chosen
    spoilt[2] = 7777.0  # padded
    assert loss_of(spoilt) == loss_of(state)
    changed = state.clone()
    changed[4, 1:] += 5.0
    assert loss_of(changed) != loss_of(state)


def test_targets_of_labels_by_hand() -> None:
    fitted = fit_of(LatentActionConfig(**SMALL, supervision=SupervisionConfig(share=1.0, targets=("state", "action"))), {"state": (1, 2), "action": (1, 1)})
    pictures, _ = squares(2, 0)
    state = torch.tensor([[[1.0, 0.0], [3.0, 5.0], [9.0, 9.0]], [[0.0, 0.0], [1.0, 1.0], [4.0, 8.0]]])
    action = torch.tensor([[[2.0], [6.0]], [[10.0], [30.0]]])
    pads = {"state_is_pad": torch.zeros(2, 3, dtype=torch.bool), "action_is_pad": torch.zeros(2, 2, dtype=torch.bool)}
    batch = batch_of(pictures, state=state, action=action, **pads)
    kept, gaps, places = torch.arange(2), torch.tensor([0, 1]), torch.tensor([[0, 1], [0, 2]])
    assert fitted._guided("state", batch, kept, gaps, places).values.tolist() == [[2.0, 5.0], [4.0, 8.0]]
    assert fitted._guided("action", batch, kept, gaps, places).values.tolist() == [[2.0], [20.0]]
    fitted._absolute = torch.tensor([True])
    assert fitted._guided("action", batch, kept, gaps, places).values.tolist() == [[0.0], [20.0]]


def test_a_guide_does_not_mind_the_unit_of_what_it_is_told() -> None:
    latent, gap_s = torch.randn(64, 3, generator=seeded()), torch.full((64,), 0.1)
    values, known = torch.randn(64, 2, generator=seeded(1)), torch.ones(64, 2, dtype=torch.bool)
    losses = []
    for unit in (1.0, 1000.0):
        torch.manual_seed(0)
        head = GuideHead(1, 3, 2)
        losses.append(float(head(latent, gap_s, Guided(unit * values, known, torch.zeros(64, dtype=torch.int64))).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("bottleneck", "steps"),
    [
        pytest.param(BottleneckConfig(dimension=4), 80, id="vae"),
        pytest.param(BottleneckConfig(kind="vq", tokens=4, dimension=2, codes=8, warmup_steps=60, patience_steps=20), 220, id="vq", marks=pytest.mark.slow),
        pytest.param(BottleneckConfig(kind="nsvq", tokens=4, dimension=2, codes=8, warmup_steps=60, patience_steps=20), 220, id="nsvq", marks=pytest.mark.slow),
        pytest.param(BottleneckConfig(kind="fsq", tokens=4, levels=(5, 5)), 220, id="fsq", marks=pytest.mark.slow),
    ],
)
def test_a_moving_square_s_velocity_is_read_off_the_latent(bottleneck: BottleneckConfig, steps: int) -> None:
    config = LatentActionConfig(**SMALL, bottleneck=bottleneck)
    fitted = fit_of(config)
    pictures, _ = squares(2000, 0)
    optimizer = torch.optim.Adam(fitted.module.parameters(), lr=4e-3)
    fitted.module.train()
    for step in range(steps):
        rows = torch.randint(2000, (32,), generator=seeded(step))
        loss, _ = fitted.loss(batch_of(pictures[rows]), seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model = fitted.module.eval()
    seen, velocity = squares(600, 1)
    with torch.no_grad():
        clips = seen[:, [0, 2]].float() / 255
        latent, codes = model.encode(clips)
        told, shuffled = model.decode(clips[:, 0], latent), model.decode(clips[:, 0], latent.roll(7, 0))
    assert (codes is None) == (bottleneck.kind == "vae")
    x = torch.cat([latent, torch.ones(600, 1)], dim=1)
    weights = torch.linalg.lstsq(x[:300], velocity[:300]).solution
    error = (x[300:] @ weights - velocity[300:]).square().sum(0) / (velocity[300:] - velocity[300:].mean(0)).square().sum(0)
    assert float(error.max()) < 0.25, error
    errors = [float((each - clips[:, 1]).square().mean()) for each in (told, clips[:, 0], shuffled)]
    assert errors[0] < 0.5 * errors[1]  # far better than a copy of the first picture
    assert errors[0] < 0.4 * errors[2]  # and the latent is why


def test_features_are_told_and_followed_slowly() -> None:
    config = LatentActionConfig(**SMALL, features=FeatureConfig(source="ema", decay=0.75))
    fitted = fit_of(config)
    model = fitted.module
    mine, theirs = next(model.followed.parameters()), next(model.decoder.trunk.parameters())
    assert torch.equal(mine, theirs)
    assert not mine.requires_grad
    theirs.data += 1.0
    before = mine.clone()
    pictures, _ = squares(8, 0)
    model.train()
    loss, figures = fitted.loss(batch_of(pictures), seeded())
    assert torch.allclose(mine, before + 0.25)
    loss.backward()
    assert float(figures["features"]) > 0
    assert mine.grad is None
    model.eval()
    fitted.loss(batch_of(pictures), seeded())
    assert torch.allclose(mine, before + 0.25)


def test_the_decoder_s_start_and_the_encoder_s_pair_are_changed_differently() -> None:
    config = LatentActionConfig(**{**SMALL, "augment": AugmentConfig(shift=0.2)})
    fitted = fit_of(config)
    seen: dict[str, torch.Tensor] = {}
    fitted.module.encoder.register_forward_pre_hook(lambda _, given: seen.__setitem__("pair", given[0]))
    fitted.module.decoder.register_forward_pre_hook(lambda _, given: seen.__setitem__("first", given[0]))
    pictures, _ = squares(16, 0)
    fitted.loss(batch_of(pictures), seeded())
    same = [torch.equal(seen["pair"][row, 0], seen["first"][row]) for row in range(16)]
    assert sum(same) <= 1
    change = (seen["pair"][:, 0] - seen["pair"][:, 1]).abs().amax((1, 2, 3))
    still = (pictures[:, 0] == pictures[:, 1]).flatten(1).all(1)
    assert torch.equal(change == 0, still)  # both pictures of a pair in the same way


def test_a_frozen_encoder_s_patches_are_a_target_and_no_part_of_what_is_kept(tmp_path: Path) -> None:
    write_encoder(tmp_path, "dinov2")
    config = LatentActionConfig(**SMALL, features=FeatureConfig(source="frozen", frozen=str(tmp_path), weight=0.5))
    fitted = fit_of(config)
    model = fitted.module
    pictures, _ = squares(6, 0)
    loss, figures = fitted.loss(batch_of(pictures), seeded())
    loss.backward()
    assert float(figures["features"]) > 0
    assert float(model.features.out.weight.grad.abs().sum()) > 0
    assert not any(name.startswith(("features", "followed")) for name in model.kept())
    LatentActionModel(config, learning=False).load_state_dict(model.kept(), strict=True)  # and opens without the folder
    with pytest.raises(UsageError, match=r"features\.frozen must be the folder"):
        LatentActionModel(LatentActionConfig(**SMALL, features=FeatureConfig(source="frozen")))
