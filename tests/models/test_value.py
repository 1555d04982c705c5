import pytest
import torch

from dataengine.core.config import parse_config
from dataengine.core.errors import ConfigError
from dataengine.models.value import ValueConfig, ValueFit, ValueNet, as_pictures, augmented, normalised, two_hot

TINY = ValueConfig(size=(16, 16), width=16, depth=1, heads=2, bins=5)


def fit_of(config: ValueConfig = TINY, success: tuple[int, ...] = (1, 0, -1)) -> ValueFit:
    """Return what is fitted to three episodes of 5, 9 and 5 steps, the longest of their task 8 steps after its first."""
    torch.manual_seed(0)
    steps = torch.tensor([5, 9, 5])
    return ValueFit(ValueNet(config, 2), (torch.full((3,), 8.0), steps, torch.tensor(success)), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]))


def batch_of(episode: list[int], step: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = len(episode)
    return {
        "camera:primary": torch.randint(0, 256, (count, 2, 16, 16, 3), generator=generator, dtype=torch.uint8),
        "camera:primary_is_pad": torch.zeros(count, 2, dtype=torch.bool),
        "state": torch.randn(count, 2, 2, generator=generator),
        "state_is_pad": torch.zeros(count, 2, dtype=torch.bool),
        "weight": torch.ones(count),
        "dataset": torch.zeros(count, dtype=torch.int64),
        "episode": torch.tensor(episode),
        "step": torch.tensor(step),
    }


def test_a_return_is_shared_between_the_bins_beside_it() -> None:
    atoms = ValueConfig(bins=5, failure=-3.0).atoms
    assert atoms.tolist() == [-3, -1, -0.75, -0.5, -0.25, 0]
    found = two_hot(torch.tensor([-0.9, 0.0, -3.0, -0.5, -9.0]), atoms)
    expected = [[0, 0.6, 0.4, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_return_of_a_success_is_what_remains_over_the_longest_and_that_of_a_failure_is_one_number() -> None:
    found = fit_of().targets(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 3, 4, 0, 8]))
    assert found.tolist() == [-0.5, -0.125, 0.0, -2.0, -2.0]
    later = fit_of(success=(1, 1, -1)).targets(torch.tensor([1, 1]), torch.tensor([0, 6]))
    assert later.tolist() == [-1.0, -0.25]


def test_episodes_of_unknown_outcome_teach_nothing() -> None:
    fit = fit_of()
    loss, figures = fit.loss(batch_of([2, 2], [0, 3]), torch.Generator().manual_seed(0))
    assert loss.item() == 0.0
    assert float(figures["known_outcome"]) == 0.0
    both, _ = fit.loss(batch_of([0, 2], [1, 3]), torch.Generator().manual_seed(0))
    changed = batch_of([0, 2], [1, 3])
    changed["state"][1] = 50.0
    again, _ = fit.loss(changed, torch.Generator().manual_seed(0))
    assert both.item() == again.item() > 0


def test_what_fills_a_batch_up_counts_for_nothing() -> None:
    fit, batch = fit_of(), batch_of([0, 1], [1, 3])
    batch["weight"] = torch.tensor([1.0, 0.0])
    other = {name: value.clone() for name, value in batch.items()}
    other["state"][1], other["step"][1] = 9.0, 0
    assert fit.loss(batch, torch.Generator().manual_seed(0))[0].item() == fit.loss(other, torch.Generator().manual_seed(0))[0].item()


def test_what_was_not_seen_has_no_say() -> None:
    fit, batch = fit_of(), batch_of([0, 1], [1, 3])
    batch["camera:primary_is_pad"][0, 0] = True
    batch["state_is_pad"][1, 0] = True
    other = {name: value.clone() for name, value in batch.items()}
    other["camera:primary"][0, 0] = 7
    other["state"][1, 0] = float("nan")
    other["state"][:, :, 1] = 1e6  # constant in training, so of no use
    first, second = (fit.module(*fit.inputs(each)) for each in (batch, other))
    assert torch.equal(first, second)
    other["camera:primary"][0, 1] = 7
    assert not torch.equal(fit.module(*fit.inputs(other))[0], first[0])


def test_numbers_are_shifted_and_divided() -> None:
    numbers, known = normalised(
        torch.tensor([[5.0, 3.0, float("nan")]]), torch.tensor([[True, True, False]]), torch.tensor([1.0, 0.0, 0.0]), torch.tensor([2.0, 0.0, 1.0])
    )
    assert numbers.tolist() == [[2.0, 0.0, 0.0]]
    assert known.tolist() == [[True, False, False]]


def test_augmentation_moves_all_frames_of_a_sample_alike_and_is_a_function_of_the_generator() -> None:
    config = ValueConfig(size=(16, 16), width=16, heads=2, shift_px=3, jitter=0.0)
    one = as_pictures(torch.randint(0, 256, (4, 1, 1, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))
    still = one.repeat(1, 1, 2, 1, 1, 1)  # both times show the same
    moved = augmented(still, config, torch.Generator().manual_seed(0))
    assert torch.equal(moved[:, :, 0], moved[:, :, 1])
    assert not torch.equal(moved, still)
    inside = moved[0, 0, 0, :, 3:13, 3:13]
    places = [(dy, dx) for dy in range(-3, 4) for dx in range(-3, 4) if torch.equal(inside, still[0, 0, 0, :, 3 + dy : 13 + dy, 3 + dx : 13 + dx])]
    assert len(places) == 1
    assert torch.equal(moved, augmented(still, config, torch.Generator().manual_seed(0)))
    nothing = ValueConfig(size=(16, 16), width=16, heads=2, shift_px=0, jitter=0.0)
    assert torch.equal(augmented(still, nothing, torch.Generator().manual_seed(0)), still)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seconds": [0.0, 0.2]}, "seconds must rise to 0"),
        ({"seconds": [-0.2, -0.1]}, "seconds must rise to 0"),
        ({"size": [64, 60]}, "multiples of 16"),
        ({"cameras": [], "columns": []}, "see nothing"),
        ({"failure": -0.5}, "failure"),
        ({"colums": []}, "did you mean 'columns'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(ValueConfig, settings, "model")


def test_without_cameras_or_without_columns() -> None:
    blind = fit_of(ValueConfig(cameras=(), width=16, heads=2, bins=5))
    assert torch.isfinite(blind.loss(batch_of([0, 1], [1, 3]), torch.Generator().manual_seed(0))[0])
    torch.manual_seed(0)
    config = ValueConfig(columns=(), size=(16, 16), width=16, heads=2, bins=5)
    seeing = ValueFit(ValueNet(config, 0), (torch.full((3,), 8.0), torch.tensor([5, 9, 5]), torch.tensor([1, 0, 1])), torch.zeros(1, 0), torch.zeros(1, 0))
    assert torch.isfinite(seeing.loss(batch_of([0, 1], [1, 3]), torch.Generator().manual_seed(0))[0])
