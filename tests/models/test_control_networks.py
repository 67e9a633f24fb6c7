"""Our ControlNets and T2I-Adapters answer as diffusers' own classes with the same weights."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sdcli import registry
from sdcli.checkpoints import control_file, network_config, tensor_shapes
from sdcli.checkpoints.control_fit import check_fit
from sdcli.models import build
from sdcli.models.control import ControlNetworks, network_of
from sdcli.models.device import Placement
from tests import control_files

TOLERANCE = 1e-5
GOLDEN = Path(__file__).parent.parent / "golden"
MODELS = ["test:sd1", "test:sd2", "test:sdxl"]


def random(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sizes(settings, rows):
    """What a network of SDXL is told besides."""
    if settings["addition_embed_type"] != "text_time":
        return {}
    width = settings["projection_class_embeddings_input_dim"] - 6 * settings["addition_time_embed_dim"]
    return {"pooled": random(rows, width), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * rows)}


def theirs(kind, settings):
    from diffusers import ControlNetModel
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

    shared = {
        key: value
        for key, value in settings.items()
        if key
        not in ("hint_channels", "control_types", "out_channels", "up_block_types", "center_input_sample")
        and not key.startswith(("reverse", "time_cond"))
    }
    shared["conditioning_embedding_out_channels"] = settings["hint_channels"]
    if kind == "union":
        width = settings["block_out_channels"][0]
        own = {"num_control_type": 6, "num_trans_channel": width, "num_proj_channel": width}
        shared = {key: value for key, value in shared.items() if key != "mid_block_type"}
        return ControlNetUnionModel(**shared, **own)
    return ControlNetModel(**shared)


def assert_close(ours, judge):
    assert [each.shape for each in ours] == [each.shape for each in judge]
    for one, other in zip(ours, judge, strict=True):
        assert torch.allclose(one, other, atol=TOLERANCE, rtol=TOLERANCE)
    assert all(each.abs().max() > 1e-3 for each in ours)


@pytest.mark.parametrize(
    ("model", "kind"), [*((model, "controlnet") for model in MODELS), ("test:sdxl", "union")]
)
def test_a_controlnet_adds_what_diffusers_own_adds(model, kind):
    settings = control_files.settings(model, kind)
    net = control_files.network(model, kind)
    judge = theirs(kind, settings).eval()
    judge.load_state_dict(net.state_dict())
    context = random(2, 77, settings["cross_attention_dim"])
    x, hint, t = random(1, 4, 8, 8).expand(2, -1, -1, -1), random(1, 3, 64, 64).sigmoid(), torch.tensor(321.0)
    more = sizes(settings, 2)
    added = {"text_embeds": more["pooled"], "time_ids": more["time_ids"]} if more else {}
    with torch.no_grad():
        if kind == "union":
            net.control_type = 3
            told = torch.tensor([[0.0, 0, 0, 1, 0, 0]] * 2)
            down, mid = judge(
                x,
                t,
                context,
                [hint.expand(2, -1, -1, -1)],
                told,
                [3],
                added_cond_kwargs=added,
                return_dict=False,
            )
        else:
            down, mid = judge(
                x, t, context, hint.expand(2, -1, -1, -1), added_cond_kwargs=added, return_dict=False
            )
        ours = net(x, t, context, net.encode_hint(hint), **more)
    assert_close([*ours.down, ours.mid], [*down, mid])


@pytest.mark.parametrize(
    ("model", "kind"), [("test:sd1", "t2i"), ("test:sd1", "t2i-light"), ("test:sdxl", "t2i")]
)
def test_a_t2i_adapter_makes_the_features_of_diffusers_own(model, kind):
    from diffusers import T2IAdapter

    settings = control_files.settings(model, kind)
    net = control_files.network(model, kind)
    name = {"t2i-light": "light_adapter"}.get(
        kind, "full_adapter_xl" if settings["shrink"] == 16 else "full_adapter"
    )
    channels = settings["channels"][:3] if kind == "t2i-light" else settings["channels"]
    judge = T2IAdapter(3, channels, settings["blocks"], settings["shrink"], name).eval()
    judge.adapter.load_state_dict(net.state_dict())
    hint = random(1, 3, 64, 96).sigmoid()
    with torch.no_grad():
        assert_close(net(hint), judge(hint))


@pytest.mark.parametrize("model", MODELS)
def test_a_unet_adds_an_adapters_features_where_diffusers_own_adds_them(model):
    from sdcli.models.architectures.unet import Residuals
    from sdcli.models.load import load
    from tests import judges

    loaded = load(model, "cpu", "float32")
    settings = control_files.unet_settings(model)
    features = control_files.network(model, "t2i")(random(1, 3, 64, 96).sigmoid())
    x, t, context = random(1, 4, 8, 12), torch.tensor(321.0), random(1, 77, settings["cross_attention_dim"])
    more = sizes(settings, 1)
    added = {"text_embeds": more["pooled"], "time_ids": more["time_ids"]} if more else {}
    with torch.no_grad():
        ours = loaded.unet(x, t, context, **more, control=Residuals(features=features))
        plain = loaded.unet(x, t, context, **more)
        judge = judges.unet(loaded)(
            x,
            t,
            context,
            added_cond_kwargs=added,
            down_intrablock_additional_residuals=[each.clone() for each in features],
        ).sample
    assert torch.allclose(ours, judge, atol=TOLERANCE)
    assert not torch.allclose(ours, plain, atol=1e-2)


FULL_SIZE = [("sd1", "controlnet"), ("sd2", "controlnet"), ("sdxl", "controlnet"), ("sdxl", "union")]


@pytest.mark.parametrize(("family", "kind"), FULL_SIZE)
def test_the_shapes_of_a_published_controlnet_are_those_of_diffusers_and_of_our_module(family, kind):
    unet = network_config.settings("unet", registry.find("families", family).configs["unet"])
    extra = {"in_channels": 4, "conditioning_channels": 3, "hint_channels": [16, 32, 96, 256]}
    settings = unet | extra | {"control_types": 6 if kind == "union" else 0}
    with torch.device("meta"):
        judge = theirs(kind, settings)
    told = tensor_shapes.of_control(kind, settings, "net")
    assert told == {name: list(tensor.shape) for name, tensor in judge.state_dict().items()}
    own = build.build_control(network_of(kind), settings, "net")
    assert told == {name: list(tensor.shape) for name, tensor in own.state_dict().items()}


@pytest.mark.parametrize(
    ("model", "kind"), [("test:sd1", "t2i"), ("test:sd1", "t2i-light"), ("test:sdxl", "t2i")]
)
def test_the_shapes_of_an_adapter_are_told_without_torch(model, kind):
    settings = control_files.settings(model, kind)
    told = tensor_shapes.of_control(kind, settings, "net")
    assert told == {name: list(each.shape) for name, each in control_files.weights(model, kind).items()}


def value_by_rule(name, shape):
    """A weight that follows from its LDM name: normally distributed, from a generator seeded with the name, float16."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    drawn = generator.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:
        drawn = drawn * np.float32(0.1) + np.float32(name.endswith("weight"))
    else:
        drawn = drawn * np.float32(1 / np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(drawn.astype(np.float16))


def test_a_file_of_the_authors_adds_what_their_code_adds(tmp_path):
    unet = network_config.settings("unet", registry.find("families", "sd1").configs["unet"])
    unet |= {"block_out_channels": [32, 64, 128, 128], "cross_attention_dim": 64, "attention_head_dim": 8}
    extra = {
        "in_channels": 4,
        "conditioning_channels": 3,
        "hint_channels": [16, 32, 96, 256],
        "control_types": 0,
    }
    shapes = tensor_shapes.of_control("controlnet", unet | extra, "net")
    keys = {f"control_model.{control_files.ldm_key(name, shapes)}": shape for name, shape in shapes.items()}
    control_files.write(tmp_path / "net.safetensors", {key: value_by_rule(key, keys[key]) for key in keys})
    file = control_file.read(tmp_path / "net.safetensors")
    placement = Placement(torch.device("cpu"), torch.float32)
    net = ControlNetworks(placement).load(file, check_fit(file, "a model", unet), dict)
    stored = load_file(GOLDEN / "controlnet.safetensors")
    with torch.no_grad():
        added = net(
            stored["x"], stored["t"].float().squeeze(), stored["context"], net.encode_hint(stored["hint"])
        )
    assert len(added.down) == 12
    for i, ours in enumerate([*added.down, added.mid]):
        expected = stored[f"out.{i}"]
        assert (ours - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        *((model, "controlnet") for model in MODELS),
        ("test:sdxl", "union"),
        ("test:sd1", "t2i"),
        ("test:sdxl", "t2i"),
    ],
)
def test_a_folder_that_diffusers_saved_is_read(tmp_path, model, kind):
    from diffusers import T2IAdapter

    settings = control_files.settings(model, kind)
    if kind == "t2i":
        name = "full_adapter_xl" if settings["shrink"] == 16 else "full_adapter"
        judge = T2IAdapter(3, settings["channels"], settings["blocks"], settings["shrink"], name)
    else:
        judge = theirs(kind, settings)
    judge.save_pretrained(tmp_path)
    file = control_file.read(tmp_path)
    assert file.kind == kind
    own = check_fit(file, model, control_files.unet_settings(model))
    net = ControlNetworks(Placement(torch.device("cpu"), torch.float32)).load(file, own, dict)
    saved = {name.removeprefix("adapter."): tensor for name, tensor in judge.state_dict().items()}
    assert all(torch.equal(tensor, saved[name]) for name, tensor in net.state_dict().items())
