import pytest
import torch

from dataengine.core.config import parse_config
from dataengine.core.errors import ConfigError, UsageError
from dataengine.models.action_heads import TargetShape
from dataengine.models.inverse_dynamics import SCALES, InverseDynamics, InverseDynamicsConfig
from dataengine.models.inverse_dynamics_fit import seen_transitions
from dataengine.models.tokenizers import TokenizerConfig

SMALL = TokenizerConfig(channels=(8, 8), strides=(4, 1), readout="flat")
BODIES = [{"command": TargetShape(2, (2,))}, {"command": TargetShape(3), "displacement": TargetShape(4)}]


def config(**settings: object) -> InverseDynamicsConfig:
    return InverseDynamicsConfig(**{"size": (16, 16), "width": 16, "depth": 2, "heads": 2, "tokenizer": SMALL, **settings})  # type: ignore[arg-type]


def made(chosen: InverseDynamicsConfig, seed: int = 0) -> InverseDynamics:
    torch.manual_seed(seed)
    return InverseDynamics(chosen, BODIES).eval()


def films(batch: int, views: int, frames: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(batch, views, frames, 16, 16, 3, generator=torch.Generator().manual_seed(seed))


def test_a_window_is_given_in_seconds_and_holds_the_present() -> None:
    chosen = config(gap_s=0.05, before_s=0.1, after_s=0.2)
    assert chosen.frames == (-2, -1, 0, 1, 2, 3, 4)
    assert chosen.transitions == (-2, -1, 0, 1, 2, 3)
    single = config(before_s=0.0, after_s=0.0)
    assert single.frames == single.transitions == (0,)


def test_heads_speak_for_their_own_bodies() -> None:
    net = made(config())
    body = torch.tensor([1, 0, 1])
    clips, there = films(3, 1, 7), torch.ones(3, 1, 7, dtype=torch.bool)
    spoken = net(clips, there, body)
    assert [each.rows.tolist() for each in spoken] == [[1], [0, 2]]
    assert [sorted(each.said) for each in spoken] == [["command"], ["command", "displacement"]]
    assert spoken[1].said["displacement"][0].shape == (2, 6, 4, 9)
    alone = net(clips[2:], there[2:], body[2:])
    assert torch.allclose(alone[0].said["command"][0][0], spoken[1].said["command"][0][1], atol=1e-5)


def test_every_transition_sees_frames_before_and_after_it() -> None:
    net = made(config())
    clips, there = films(1, 1, 7), torch.ones(1, 1, 7, dtype=torch.bool)
    first = net.encoded(clips, there)
    for changed in (0, 6):
        other = clips.clone()
        other[:, :, changed] = 0.5
        assert (net.encoded(other, there) - first).abs().amax(-1)[0].min() > 1e-4  # each of the six tokens


def test_what_is_not_there_is_not_seen() -> None:
    net = made(config(cameras=("camera:primary", "camera:wrist")))
    clips, there = films(1, 2, 7), torch.ones(1, 2, 7, dtype=torch.bool)
    there[0, 1] = False  # a dataset without a wrist camera
    there[0, 0, 5:] = False  # the end of an episode
    other = clips.clone()
    other[0, 1], other[0, 0, 5:] = 0.9, 0.1
    assert torch.equal(net.encoded(clips, there), net.encoded(other, there))
    there[0, 1] = True
    assert not torch.allclose(net.encoded(clips, there), net.encoded(other, there))


def test_cameras_are_told_apart() -> None:
    net = made(config(cameras=("camera:primary", "camera:wrist")))
    clips, there = films(1, 2, 7), torch.ones(1, 2, 7, dtype=torch.bool)
    assert not torch.allclose(net.encoded(clips, there), net.encoded(clips.flip(1), there))


def test_a_step_is_answered_alike_alone_and_among_others() -> None:
    net = made(config())
    clips, there = films(64, 1, 7), torch.rand(64, 1, 7, generator=torch.Generator().manual_seed(3)) > 0.2
    together = net.encoded(clips, there)
    alone = torch.cat([net.encoded(clips[row : row + 1], there[row : row + 1]) for row in range(64)])
    assert (together - alone).abs().max() < 1e-5


def test_the_same_seed_gives_the_same_weights() -> None:
    same = zip(made(config(), 3).state_dict().values(), made(config(), 3).state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in same)
    assert not torch.equal(made(config(), 3).query, made(config(), 4).query)


def test_scales_can_be_built() -> None:
    """All are configurations; those that fit into a test are built too, and have the size that is planned for them."""
    sizes = {}
    for name, settings in SCALES.items():
        chosen = parse_config(InverseDynamicsConfig, dict(settings), name)
        if name in ("tiny", "single_frame", "small"):
            sizes[name] = sum(value.numel() for value in InverseDynamics(chosen, BODIES).parameters())
    assert 0.4e6 < sizes["tiny"] < 1.5e6
    assert 5e6 < sizes["small"] < 10e6


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UsageError, match="width must be heads times an even number"):
        made(config(width=18, heads=6))
    with pytest.raises(ConfigError, match="did you mean 'gap_s'"):
        parse_config(InverseDynamicsConfig, {"gap": 0.1}, "model")


def test_a_transition_is_seen_where_one_camera_shows_both_its_frames() -> None:
    there = torch.tensor([[[True, True, False, True], [False, True, True, False]]])
    assert seen_transitions(there).tolist() == [[True, True, False]]
    assert seen_transitions(there[:, :, 2:3]).tolist() == [[True]]  # a window of one frame
    assert seen_transitions(there[:, :1, 2:3]).tolist() == [[False]]
