"""The image encoder and the projections of IP-Adapters, compared with transformers' and diffusers' own classes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from sdcli.checkpoints import header
from sdcli.checkpoints.header import Entry, Header
from sdcli.checkpoints.image_encoder_file import is_image_encoder, read_header
from sdcli.checkpoints.ip_adapter_file import read_header as read_ip_adapter
from sdcli.errors import ModelError
from sdcli.models.architectures.clip_vision import CLIPVisionModel
from sdcli.models.build import module_on_meta
from sdcli.models.device import Placement
from sdcli.pipeline.ip_adapters import encode_image, load_image_encoder, load_projection, preprocessed
from tests import adapter_files
from tests.pictures import photo

CPU = Placement(torch.device("cpu"), torch.float32)
PIXELS = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return adapter_files.image_encoder(tmp_path_factory.mktemp("encoder") / "vit")


def states(path, pixels=PIXELS):
    return encode_image(load_image_encoder(read_header(path), CPU), pixels, CPU)


def theirs(path, pixels=PIXELS):
    from transformers import CLIPVisionModelWithProjection

    with torch.inference_mode():
        return CLIPVisionModelWithProjection.from_pretrained(path.parent)(pixels, output_hidden_states=True)


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_the_states_are_those_of_transformers(tmp_path, act):
    path = adapter_files.image_encoder(tmp_path / "vit", hidden_act=act)
    ours, other = states(path), theirs(path)
    assert torch.allclose(ours.embedding, other.image_embeds, atol=1e-5)
    assert torch.allclose(ours.penultimate, other.hidden_states[-2], atol=1e-5)


def test_open_clips_names_give_the_same_bits(encoder, tmp_path):
    tensors = adapter_files.open_clip_names(load_file(encoder))
    (tmp_path / "config.json").write_text((encoder.parent / "config.json").read_text())
    path = adapter_files.write(tmp_path / "open_clip.safetensors", tensors)
    assert torch.equal(states(path).embedding, states(encoder).embedding)


def test_a_whole_clip_is_read_without_its_text_half(encoder, tmp_path):
    text = {
        "text_model.final_layer_norm.bias": np.zeros(4, np.float32),
        "logit_scale": np.ones((), np.float32),
        "vision_model.embeddings.position_ids": np.zeros((1, 17), np.int64),
    }
    path = adapter_files.write(tmp_path / "clip.safetensors", load_file(encoder) | text)
    config = json.loads((encoder.parent / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": config}))
    assert torch.equal(states(path).embedding, states(encoder).embedding)


def test_the_folder_stands_for_its_file(encoder):
    assert read_header(encoder.parent) == read_header(encoder)


def test_an_encoder_of_unknown_width_needs_its_config(encoder, tmp_path):
    path = adapter_files.write(tmp_path / "x.safetensors", load_file(encoder))
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_attention_heads": 3}')
    with pytest.raises(ModelError, match=r"an image encoder of width 32, of which only the config\.json"):
        read_header(path)


@pytest.mark.parametrize(
    ("name", "width", "projection", "layers", "inner", "act"),
    [
        ("ViT-H/14", 1280, 1024, 32, 5120, "gelu"),
        ("ViT-bigG/14", 1664, 1280, 48, 8192, "gelu"),
        ("ViT-L/14", 1024, 768, 24, 4096, "quick_gelu"),
    ],
)
def test_published_encoders_are_known_by_their_shapes_alone(
    tmp_path, monkeypatch, name, width, projection, layers, inner, act
):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=width, projection_dim=projection, num_hidden_layers=layers, intermediate_size=inner,
        num_attention_heads=16, patch_size=14,
    )  # fmt: skip
    with torch.device("meta"):
        shapes = CLIPVisionModelWithProjection(config).state_dict()
    path = tmp_path / "x.safetensors"
    path.touch()
    entries = {key: Entry("F16", tuple(each.shape), 0, 0, path, key) for key, each in shapes.items()}
    monkeypatch.setattr(header, "read", lambda path: Header(path, entries, {}))
    file = read_header(path)
    assert (file.kind, file.settings["hidden_act"], file.settings["num_attention_heads"]) == (name, act, 16)
    assert (file.settings["image_size"], file.settings["num_hidden_layers"]) == (224, layers)
    ours = module_on_meta(lambda: CLIPVisionModel(file.settings)).state_dict()
    assert {key: list(each.shape) for key, each in ours.items()} == {
        key: file.component.shape(key) for key in file.component.sources
    }


def test_what_is_missing_or_too_many_is_named(encoder, tmp_path):
    tensors = load_file(encoder)
    (tmp_path / "config.json").write_text((encoder.parent / "config.json").read_text())
    less = {name: tensor for name, tensor in tensors.items() if "post_layernorm.bias" not in name}
    with pytest.raises(ModelError, match=r"1 tensor \(post_layernorm.bias\) missing"):
        read_header(adapter_files.write(tmp_path / "less.safetensors", less))
    more = tensors | {"vision_model.gate": np.zeros(3, np.float32)}
    with pytest.raises(ModelError, match=r"1 tensor \(gate\) too many"):
        read_header(adapter_files.write(tmp_path / "more.safetensors", more))
    assert not is_image_encoder(
        adapter_files.write(tmp_path / "no.safetensors", tensors | {"unet": np.zeros(3)})
    )


@pytest.mark.parametrize("size", [(224, 224), (300, 500), (777, 225), (64, 96)])
def test_preprocessing_is_that_of_clips_processor(size):
    from transformers import CLIPImageProcessorPil

    image = photo(*size)
    expected = CLIPImageProcessorPil()(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(preprocessed(image, 224), expected, atol=1e-5)


def test_a_black_picture_is_minus_the_mean_over_the_deviation():
    pixels = preprocessed(Image.new("RGB", (30, 20)), 8)
    assert pixels.shape == (1, 3, 8, 8)
    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([-1.79226, -1.75210, -1.48022]), atol=1e-4)


# --- projections


def projection(tmp_path, kind, **sizes):
    path = adapter_files.ip_adapter(tmp_path / "a.safetensors", [16], 16, kind, **sizes)
    return path, load_projection(read_ip_adapter(path), CPU)


def test_the_plain_projection_is_that_of_diffusers(tmp_path):
    from diffusers.models.embeddings import ImageProjection

    path, ours = projection(tmp_path, "plain")
    other, weights = ImageProjection(24, 16, 4), load_file(path)
    names = {"image_embeds.": "proj.", "norm.": "norm."}
    other.load_state_dict(
        {
            f"{new}{kind}": torch.from_numpy(weights[f"image_proj.{old}{kind}"])
            for new, old in names.items()
            for kind in ("weight", "bias")
        }
    )
    x = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), other(x), atol=1e-6)


def test_the_perceiver_is_that_of_diffusers(tmp_path):
    from diffusers.models.embeddings import IPAdapterPlusImageProjection
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    path, ours = projection(tmp_path, "plus", reads=32, tokens=5)
    weights = {
        name.removeprefix("image_proj."): torch.from_numpy(tensor)
        for name, tensor in load_file(path).items()
        if name.startswith("image_proj.")
    }
    other = UNet2DConditionModel._convert_ip_adapter_image_proj_to_diffusers(
        UNet2DConditionModel(block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2,
                             up_block_types=("UpBlock2D",) * 2, layers_per_block=1), weights
    )  # fmt: skip
    assert isinstance(other, IPAdapterPlusImageProjection)
    x = torch.randn(2, 17, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), other(x), atol=1e-5)


def test_the_full_face_projection_is_two_layers_and_a_norm(tmp_path):
    path, ours = projection(tmp_path, "full_face", reads=32)
    weights = {name: torch.from_numpy(tensor) for name, tensor in load_file(path).items()}
    x = torch.randn(2, 17, 32, generator=torch.Generator().manual_seed(0))

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    h = linear(torch.nn.functional.gelu(linear(x, "image_proj.proj.0")), "image_proj.proj.2")
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = h * weights["image_proj.proj.3.weight"] + weights["image_proj.proj.3.bias"]
    assert torch.allclose(ours(x), expected, atol=1e-5)
