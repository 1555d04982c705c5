import torch

from dataengine.models.augmentation import AugmentConfig, augmented, moved


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_frame_of_a_clip_is_shifted_alike_and_clips_differently() -> None:
    ramp = torch.arange(20.0)[:, None] * 100 + torch.arange(30.0)[None]  # each place says where it is
    clips = ramp[None, None, :, :, None].expand(8, 4, 20, 30, 3)
    found = moved(clips, AugmentConfig(shift=0.2), generator())
    assert (found == found[:, :1]).all()
    by = {(float(clip[0, 10, 15, 0]) // 100 - 10, float(clip[0, 10, 15, 0]) % 100 - 15) for clip in found}
    assert len(by) > 4
    assert max(abs(row) for row, _ in by) <= 4
    assert 4 < max(abs(column) for _, column in by) <= 6


def test_nothing_is_ever_mirrored() -> None:
    """A ramp that rises to the right rises to the right in every copy, and one that rises downwards downwards."""
    ramp = torch.linspace(0.2, 0.6, 16)[None, :] + torch.linspace(0, 0.2, 16)[:, None]
    clips = ramp[None, None, :, :, None].expand(64, 2, 16, 16, 3)
    found = augmented(clips, AugmentConfig(shift=0.25, zoom=0.3), generator(3))
    assert (found[..., 5:11, 10, 0] > found[..., 5:11, 5, 0]).all()
    assert (found[..., 10, 5:11, 0] > found[..., 5, 5:11, 0]).all()


def test_a_crop_scales_motion_of_all_frames_alike() -> None:
    clips = torch.zeros(32, 2, 32, 32, 3)
    clips[:, 0, 15:17, 15:17] = 1
    clips[:, 1, 15:17, 19:21] = 1
    found = moved(clips, AugmentConfig(shift=0, zoom=0.3), generator())
    places = torch.arange(32.0)
    middle = (found[..., 0].sum(2) * places).sum(-1) / found[..., 0].sum((2, 3))  # (32, 2): where the light is
    by = middle[:, 1] - middle[:, 0]
    assert (by >= 3.9).all()
    assert (by <= 4 / 0.7 + 0.1).all()
    assert float(by.std()) > 0.1


def test_colours_change_alike_over_time_and_stay_in_range() -> None:
    clips = torch.rand(6, 1, 8, 8, 3, generator=generator()).expand(6, 5, 8, 8, 3)
    found = augmented(clips, AugmentConfig(shift=0, brightness=0.5, contrast=0.5, saturation=0.5), generator(1))
    assert torch.allclose(found, found[:, :1].expand_as(found))
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert not torch.allclose(found, clips)


def test_the_same_generator_gives_the_same_and_nothing_asked_for_changes_nothing() -> None:
    clips = torch.rand(3, 2, 8, 8, 3, generator=generator())
    config = AugmentConfig(shift=0.2, zoom=0.2)
    assert torch.equal(augmented(clips, config, generator(5)), augmented(clips, config, generator(5)))
    none = AugmentConfig(shift=0, zoom=0, brightness=0, contrast=0, saturation=0)
    assert torch.equal(augmented(clips, none, generator()), clips)


def test_whole_numbers_are_zoomed_to_the_nearest_whole_number() -> None:
    clips = torch.randint(0, 256, (3, 2, 8, 10, 3), generator=generator(), dtype=torch.uint8)
    config = AugmentConfig(shift=0.2, zoom=0.4)
    found = moved(clips, config, generator(7))
    assert found.dtype == torch.uint8
    assert torch.equal(found, moved(clips.float(), config, generator(7)).round().to(torch.uint8))
    assert not torch.equal(found, clips)
