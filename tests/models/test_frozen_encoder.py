"""Encoders in the layouts that publishers use: the expected numbers were computed once with the library `transformers` 5 from the same weights."""

import json
from pathlib import Path

import pytest
import torch

from dataengine.core.errors import UnknownName, UsageError
from dataengine.models.frozen_encoder import FrozenVit
from dataengine.models.tokenizers import FrozenEncoder, TokenizerConfig

WIDTH, LAYERS, PATCH = 12, 2, 4


def waves(shape: tuple[int, ...], phase: float) -> torch.Tensor:
    """Return numbers that are the same on every machine."""
    count = int(torch.tensor(shape).prod())
    return (0.5 * torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + phase)).float().reshape(shape)


def shapes_of(kind: str) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a published encoder of a kind, by name."""
    found: dict[str, tuple[int, ...]] = {}

    def line(name: str, out: int, into: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (out, into), (out,)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (WIDTH,)

    root = {"siglip_vision_model": "", "vjepa2": "encoder."}.get(kind, "")
    if kind == "siglip_vision_model":
        found["embeddings.patch_embedding.weight"], found["embeddings.patch_embedding.bias"] = (WIDTH, 3, PATCH, PATCH), (WIDTH,)
        found["embeddings.position_embedding.weight"] = (4, WIDTH)
    elif kind == "vjepa2":
        found["encoder.embeddings.patch_embeddings.proj.weight"] = (WIDTH, 3, 2, PATCH, PATCH)
        found["encoder.embeddings.patch_embeddings.proj.bias"] = (WIDTH,)
    else:
        found["embeddings.cls_token"], found["embeddings.position_embeddings"] = (1, 1, WIDTH), (1, 5, WIDTH)
        found["embeddings.patch_embeddings.projection.weight"] = (WIDTH, 3, PATCH, PATCH)
        found["embeddings.patch_embeddings.projection.bias"] = (WIDTH,)
        if kind == "dinov2_with_registers":
            found["embeddings.register_tokens"] = (1, 2, WIDTH)
    for layer in range(LAYERS):
        at = f"{root}encoder.layers.{layer}." if kind == "siglip_vision_model" else f"{root}layer.{layer}." if kind == "vjepa2" else f"encoder.layer.{layer}."
        if kind == "siglip_vision_model":
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                line(f"{at}self_attn.{name}", WIDTH, WIDTH)
            norm(f"{at}layer_norm1"), norm(f"{at}layer_norm2")
            line(f"{at}mlp.fc1", 24, WIDTH), line(f"{at}mlp.fc2", WIDTH, 24)
        elif kind == "vjepa2":
            for name in ("query", "key", "value", "proj"):
                line(f"{at}attention.{name}", WIDTH, WIDTH)
            norm(f"{at}norm1"), norm(f"{at}norm2")
            line(f"{at}mlp.fc1", 48, WIDTH), line(f"{at}mlp.fc2", WIDTH, 48)
        else:
            for name in ("query", "key", "value"):
                line(f"{at}attention.attention.{name}", WIDTH, WIDTH)
            line(f"{at}attention.output.dense", WIDTH, WIDTH)
            if kind == "vit":
                norm(f"{at}layernorm_before"), norm(f"{at}layernorm_after")
                line(f"{at}intermediate.dense", 24, WIDTH), line(f"{at}output.dense", WIDTH, 24)
            else:
                norm(f"{at}norm1"), norm(f"{at}norm2")
                found[f"{at}layer_scale1.lambda1"] = found[f"{at}layer_scale2.lambda1"] = (WIDTH,)
                line(f"{at}mlp.fc1", 48, WIDTH), line(f"{at}mlp.fc2", WIDTH, 48)
    norm({"siglip_vision_model": "post_layernorm", "vjepa2": "encoder.layernorm"}.get(kind, "layernorm"))
    return found


def write_encoder(folder: Path, kind: str, prefix: str = "", nested: bool = False) -> None:
    """Write an encoder as it is published: config.json and model.safetensors."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    told = {"model_type": kind, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "patch_size": PATCH, "image_size": 8}
    told |= {"vit": {"hidden_act": "gelu", "layer_norm_eps": 1e-12}, "siglip_vision_model": {"hidden_act": "gelu_pytorch_tanh"}}.get(kind, {})
    told |= {"vjepa2": {"tubelet_size": 2}, "dinov2_with_registers": {"num_register_tokens": 2}}.get(kind, {})
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip", "vision_config": told} if nested else told))
    shapes = shapes_of(kind)
    save_file({prefix + name: waves(shapes[name], number) for number, name in enumerate(sorted(shapes))}, folder / "model.safetensors")


# The first two channels of each of six patches (four of V-JEPA), and the sum of all.
EXPECTED = {
    "dinov2": [0.46545, -0.33176, 0.2724, 0.51226, 0.42496, -0.50051, 0.31364, 0.58634, 0.37214, -0.44049, 0.38651, 0.43653, 0.1454],
    "dinov2_with_registers": [0.56838, -0.89966, -0.55747, 0.17464, 0.34138, -1.11821, -0.30666, 0.26075, 0.04004, -1.0524, 0.12512, 0.05784, -6.336],
    "vit": [-0.11274, -0.42004, -0.91962, -0.42106, -0.25818, -0.41986, -0.72182, -0.42115, -0.44746, -0.41991, -0.38391, -0.42091, -6.0693],
    "siglip_vision_model": [0.37253, -0.59052, -0.23204, -1.16386, 0.5013, -0.78138, -0.28909, -0.39567, 0.47916, -0.98445, -0.11354, -0.22931, -6.8089],
    "vjepa2": [0.10263, -0.10193, 0.61415, -0.14423, 0.509, 0.25482, 0.35892, -0.62691, -0.9873],
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_it_says_what_its_publishers_code_says(kind: str, tmp_path: Path) -> None:
    write_encoder(tmp_path, kind)
    pictures = waves((1, 3, 8, 12), 0.3) + 0.5  # wider than what it was trained on: learned places are scaled
    pictures = pictures[..., :8] if kind == "vjepa2" else pictures
    found = FrozenVit(tmp_path)(pictures)
    assert found.shape == (1, 4 if kind == "vjepa2" else 6, WIDTH)
    assert [*found[0, :, :2].flatten().tolist(), float(found.sum())] == pytest.approx(EXPECTED[kind], abs=2e-4)


def test_a_part_of_something_larger_is_found(tmp_path: Path) -> None:
    write_encoder(tmp_path / "alone", "siglip_vision_model")
    write_encoder(tmp_path / "part", "siglip_vision_model", "vision_model.", nested=True)
    pictures = waves((2, 3, 8, 8), 0.1) + 0.5
    assert torch.equal(FrozenVit(tmp_path / "alone")(pictures), FrozenVit(tmp_path / "part")(pictures))


def test_it_does_not_change_and_is_no_part_of_what_is_trained(tmp_path: Path) -> None:
    write_encoder(tmp_path, "dinov2")
    tokens = FrozenEncoder(TokenizerConfig(kind="frozen", folder=str(tmp_path)), 16, (8, 8))
    tokens.train()
    assert not tokens.encoder.training
    assert {name for name, _ in tokens.named_parameters()} == {"norm.weight", "project.weight", "project.bias"}
    clips = torch.rand(2, 3, 8, 8, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tokens(clips, torch.ones(2, 3, dtype=torch.bool)).sum().backward()
    assert clips.grad is None  # nothing is differentiated through it
    assert tokens.project.weight.grad is not None


def test_patches_are_pooled_over_squares(tmp_path: Path) -> None:
    write_encoder(tmp_path, "vit")
    clips = torch.rand(1, 1, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    pooled = FrozenEncoder(TokenizerConfig(kind="frozen", folder=str(tmp_path), pooled=2), 16, (16, 16))
    assert pooled.tokens == 4
    seen: list[torch.Tensor] = []
    pooled.norm = torch.nn.Identity()
    pooled.project.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pooled(clips, torch.ones(1, 1, dtype=torch.bool))
    whole = pooled.encoder(clips[:, 0].permute(0, 3, 1, 2))[0].reshape(4, 4, WIDTH)
    assert torch.allclose(seen[0][0, 1], whole[:2, 2:].mean((0, 1)), atol=1e-6)  # the upper right


def test_another_encoder_is_refused_where_a_model_is_opened(tmp_path: Path) -> None:
    write_encoder(tmp_path / "a", "vit")
    trained = FrozenEncoder(TokenizerConfig(kind="frozen", folder=str(tmp_path / "a")), 16, (8, 8)).state_dict()
    write_encoder(tmp_path / "b", "dinov2")
    other = FrozenEncoder(TokenizerConfig(kind="frozen", folder=str(tmp_path / "b")), 16, (8, 8))
    with pytest.raises(RuntimeError, match="must be the one of training"):
        other.load_state_dict(trained)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json and model\.safetensors"):
        FrozenVit(tmp_path)
    write_encoder(tmp_path, "vit")
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04not safetensors")
    with pytest.raises(UsageError, match="expected weights in safetensors"):
        FrozenVit(tmp_path)
    write_encoder(tmp_path, "dinov2")
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**told, "num_hidden_layers": 3}))
    with pytest.raises(UsageError, match=r"lacks encoder\.layer\.2\.norm1\.weight"):
        FrozenVit(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**told, "model_type": "resnet"}))
    with pytest.raises(UnknownName, match="resnet"):
        FrozenVit(tmp_path)
