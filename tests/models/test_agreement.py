"""Single files of every family, read here and by diffusers' own conversion: the networks answer the same.

The files have the original names and toy width, and their weights are from a rule; see tests/full_size.py.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcli import registry
from sdcli.checkpoints import toy
from sdcli.checkpoints.family import Family, TextEncoderUse
from sdcli.checkpoints.tokenizer import framed, ids
from sdcli.diffusion.conditioning import Cond
from sdcli.models import classes
from sdcli.models.load import load
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.pipeline.text import encode_chunks
from sdcli.pipeline.unet import call_unet

FAMILIES = [name for name in registry.names("families") if name != "tiny"]
NEAR, FAR = (
    2e-6,
    1e-3,
)  # relative distances: of the same network run twice, and of one with two tensors swapped


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative L2 distance."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())


def by_us(model: Model) -> dict[str, torch.Tensor]:
    """What each network of the model answers to inputs of its kind."""
    family, config = model.family, model.config("unet")
    sizes = (512.0, 768.0, 0.0, 8.0, 6.0) if family.aesthetic else (512.0, 768.0, 0.0, 8.0, 512.0, 768.0)
    conds = []
    for i in range(2):
        cond = Cond(noise(i, 1, 77, config.cross_attention_dim))
        if family.signature.added:
            cond = replace(cond, pooled=noise(2 + i, 1, toy.WIDTH), time_ids=sizes)
        conds.append(cond)
    label = 20 if family.name == "x4_upscaler" else None
    answers = {"unet": call_unet(model, noise(4, 2, family.signature.channels, 16, 16), 321.0, conds, label)}
    with torch.no_grad():
        answers["decoder"] = model.vae.decode(noise(5, 1, 4, 8, 8)).sample
    answers["encoder"] = vae.encode(model, noise(6, 1, 3, 64, 64).clamp(-1, 1))
    for part in model.text_encoders:
        context, pooled = encode_chunks(model, part, [ids("a red apple")])
        answers[part] = context if pooled is None else torch.cat([context.flatten(), pooled.flatten()])
    return answers


@torch.no_grad()
def by_diffusers(family: Family, path: Path) -> dict[str, torch.Tensor]:
    """The same of diffusers' and transformers' networks, filled by diffusers' conversion of the file."""
    from diffusers.loaders import single_file_utils as theirs

    state = {key: tensor.float() for key, tensor in load_file(path).items()}
    nets: dict[str, Any] = {
        part: classes.build_random(part, config).eval() for part, config in family.configs.items()
    }
    nets["unet"].load_state_dict(theirs.convert_ldm_unet_checkpoint(dict(state), {**nets["unet"].config}))
    nets["vae"].load_state_dict(theirs.convert_ldm_vae_checkpoint(dict(state), {**nets["vae"].config}))
    width = family.configs["unet"]["cross_attention_dim"]
    more: dict[str, Any] = {}
    if family.signature.added:
        sizes = [512.0, 768, 0, 8, 6] if family.aesthetic else [512.0, 768, 0, 8, 512, 768]
        pooled = torch.cat([noise(2, 1, toy.WIDTH), noise(3, 1, toy.WIDTH)])
        more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": torch.tensor([sizes, sizes])}
    if family.name == "x4_upscaler":
        more["class_labels"] = torch.tensor([20, 20])
    context = torch.cat([noise(0, 1, 77, width), noise(1, 1, 77, width)])
    x = noise(4, 2, family.signature.channels, 16, 16)
    vae = nets["vae"]
    answers = {
        "unet": nets["unet"](x, torch.tensor(321.0), context, **more).sample,
        "decoder": vae.decode(noise(5, 1, 4, 8, 8)).sample,
        "encoder": vae.encode(noise(6, 1, 3, 64, 64).clamp(-1, 1)).latent_dist.mean
        * vae.config.scaling_factor,
    }
    for part in family.text_encoders:
        fill_text(nets[part], state, STARTS.get((family.name, part), "cond_stage_model."))
        answers[part] = read(nets[part], family.text_encoders[part])
    return answers


STARTS = {
    ("sdxl", "text_encoder"): "conditioner.embedders.0.",
    ("sdxl", "text_encoder_2"): "conditioner.embedders.1.",
    ("sdxl_inpaint", "text_encoder"): "conditioner.embedders.0.",
    ("sdxl_inpaint", "text_encoder_2"): "conditioner.embedders.1.",
    ("sdxl_refiner", "text_encoder_2"): "conditioner.embedders.0.",
}
"""What a text encoder's names begin with, where it is not cond_stage_model."""


def fill_text(net: Any, state: dict[str, torch.Tensor], start: str) -> None:
    from diffusers.loaders import single_file_utils as theirs

    prefix = classes.prefix(net)
    plain = {
        k.removeprefix(f"{start}transformer."): v
        for k, v in state.items()
        if k.startswith(f"{start}transformer.")
    }
    if not plain:  # OpenCLIP
        if not prefix:
            net.text_model = True  # as before transformers 5.6, which is what diffusers' function looks for
        plain = theirs.convert_open_clip_checkpoint(net, dict(state), prefix=f"{start}model.")
        if not prefix:
            del net.text_model
    names = {k.removeprefix("text_model."): v for k, v in plain.items()}
    net.load_state_dict({classes.own_name(k, prefix): v for k, v in names.items()})


def read(net: Any, reader: TextEncoderUse) -> torch.Tensor:
    """What transformers' text encoder answers, of the state that the family's reference reads."""
    states = net(torch.tensor([framed(ids("a red apple"), reader.pad)]), output_hidden_states=True)
    if reader.pooled:
        return torch.cat([states.hidden_states[-2].flatten(), states.text_embeds.flatten()])
    return states.last_hidden_state if reader.norm else states.hidden_states[-2]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_networks_of_a_single_file_answer_as_diffusers_own(written, name):
    family, path = written(name)
    ours, theirs = by_us(load(str(path), "cpu", "float32")), by_diffusers(family, path)
    assert set(ours) == set(theirs)
    assert {
        part: apart(ours[part], theirs[part]) for part in ours if apart(ours[part], theirs[part]) > NEAR
    } == {}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_eight_bits_are_loaded_as_the_numbers_they_are(written, tmp_path, dtype):
    _, path = written("sd1")
    small = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(small, path)
    save_file({name: tensor.float() for name, tensor in small.items()}, tmp_path / "wide.safetensors")
    ours, plain = (by_us(load(str(each), "cpu", "float32")) for each in (path, tmp_path / "wide.safetensors"))
    assert {part for part in ours if not torch.equal(ours[part], plain[part])} == set()


def swapped(path: Path, one: str, other: str) -> None:
    tensors = load_file(path)
    tensors[one], tensors[other] = tensors[other], tensors[one]
    save_file(tensors, path)


PAIRS = {
    "unet": (
        "model.diffusion_model.middle_block.1.proj_in.bias",
        "model.diffusion_model.middle_block.1.proj_out.bias",
    ),
    "decoder": (
        "first_stage_model.decoder.mid.block_1.conv1.weight",
        "first_stage_model.decoder.mid.block_2.conv1.weight",
    ),
    "encoder": (
        "first_stage_model.encoder.mid.attn_1.v.weight",
        "first_stage_model.encoder.mid.attn_1.q.weight",
    ),
    "text_encoder": (
        "cond_stage_model.model.transformer.resblocks.0.ln_1.bias",
        "cond_stage_model.model.transformer.resblocks.1.ln_1.bias",
    ),
}


@pytest.mark.parametrize("part", PAIRS)
def test_two_swapped_tensors_are_seen(written, part):
    family, path = written("sd2_inpaint")
    theirs = by_diffusers(family, path)
    swapped(path, *PAIRS[part])
    ours = by_us(load(str(path), "cpu", "float32"))
    assert {each for each in ours if apart(ours[each], theirs[each]) > FAR} == {part}


def test_thirds_in_another_order_are_seen(written):
    """OpenCLIP keeps q, k and v in one tensor."""
    family, path = written("sd2")
    theirs = by_diffusers(family, path)
    tensors = load_file(path)
    key = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    tensors[key] = tensors[key].roll(toy.WIDTH, 0)
    save_file(tensors, path)
    ours = by_us(load(str(path), "cpu", "float32"))
    assert apart(ours["text_encoder"], theirs["text_encoder"]) > FAR
