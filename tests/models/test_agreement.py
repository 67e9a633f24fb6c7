"""Single files of every family, loaded here and by diffusers' own conversion: the networks answer the same.

The files have the original tensor names at toy width; their weights follow a rule, see tests/full_size.py.
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
from sdcli.diffusion.conditioning import Cond
from sdcli.models.load import load
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.pipeline.encode import encode_chunks
from sdcli.pipeline.unet import call_unet
from sdcli.tokenizer import framed, ids
from tests import judges
from tests.tokens import plain_text

FAMILIES = [name for name in registry.names("families") if name != "tiny"]
NEAR = 2e-6  # relative distance of the answers of one network computed in two ways
FAR = 1e-3  # of two networks that differ in two swapped tensors


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative L2 distance."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())


def our_answers(model: Model) -> dict[str, torch.Tensor]:
    """What each network of a loaded model answers to random inputs."""
    family, width = model.family, model.configs["unet"]["cross_attention_dim"]
    sizes = (512.0, 768.0, 0.0, 8.0, 6.0) if family.aesthetic else (512.0, 768.0, 0.0, 8.0, 512.0, 768.0)
    conds = []
    for i in range(2):
        cond = Cond(noise(i, 1, 77, width))
        if family.signature.added:
            cond = replace(cond, pooled=noise(2 + i, 1, toy.WIDTH), time_ids=sizes)
        conds.append(cond)
    label = 20 if family.name == "x4_upscaler" else None
    answers = {"unet": call_unet(model, noise(4, 2, family.signature.channels, 16, 16), 321.0, conds, label)}
    with torch.no_grad():
        answers["decoder"] = model.vae.decode(noise(5, 1, 4, 8, 8))
    answers["encoder"] = vae.encode(model, noise(6, 1, 3, 64, 64).clamp(-1, 1))
    for part in family.text_encoders:
        context, pooled = encode_chunks(model, part, plain_text("a red apple"))
        answers[part] = context if pooled is None else torch.cat([context.flatten(), pooled.flatten()])
    return answers


@torch.no_grad()
def diffusers_answers(family: Family, path: Path) -> dict[str, torch.Tensor]:
    """The answers of diffusers' and transformers' networks to the same inputs, filled by diffusers' conversion."""
    from diffusers.loaders import single_file_utils as conversion

    state = {key: tensor.float() for key, tensor in load_file(path).items()}
    parts = ("unet", "vae", *family.text_encoders)
    networks: dict[str, Any] = {part: judges.random(part, family.configs[part]) for part in parts}
    unet, autoencoder = networks["unet"], networks["vae"]
    unet.load_state_dict(conversion.convert_ldm_unet_checkpoint(dict(state), dict(unet.config)))
    autoencoder.load_state_dict(conversion.convert_ldm_vae_checkpoint(dict(state), dict(autoencoder.config)))
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
    latents = autoencoder.encode(noise(6, 1, 3, 64, 64).clamp(-1, 1)).latent_dist.mean
    answers = {
        "unet": unet(x, torch.tensor(321.0), context, **more).sample,
        "decoder": autoencoder.decode(noise(5, 1, 4, 8, 8)).sample,
        "encoder": latents * autoencoder.config.scaling_factor,
    }
    for part in family.text_encoders:
        fill_text_encoder(networks[part], state, STARTS.get((family.name, part), "cond_stage_model."))
        answers[part] = text_states(networks[part], family.text_encoders[part])
    return answers


STARTS = {
    ("sdxl", "text_encoder"): "conditioner.embedders.0.",
    ("sdxl", "text_encoder_2"): "conditioner.embedders.1.",
    ("sdxl_inpaint", "text_encoder"): "conditioner.embedders.0.",
    ("sdxl_inpaint", "text_encoder_2"): "conditioner.embedders.1.",
    ("sdxl_refiner", "text_encoder_2"): "conditioner.embedders.0.",
}
"""Where a single file's names of a text encoder do not begin with cond_stage_model: what they begin with."""


def fill_text_encoder(network: Any, state: dict[str, torch.Tensor], start: str) -> None:
    """Load a text encoder of transformers from a single file: CLIP's names as they are, OpenCLIP's by diffusers."""
    from diffusers.loaders import single_file_utils as conversion

    prefix = f"{start}transformer."
    converted = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
    if not converted:  # OpenCLIP
        has_prefix = hasattr(network, "text_model")
        if not has_prefix:
            network.text_model = True  # diffusers' function looks for it; transformers 5.6 removed it
        converted = conversion.convert_open_clip_checkpoint(network, dict(state), prefix=f"{start}model.")
        if not has_prefix:
            del network.text_model
    weights = {key.removeprefix("text_model."): tensor for key, tensor in converted.items()}
    judges.filled(
        network, {key: tensor for key, tensor in weights.items() if not key.endswith("position_ids")}
    )


def text_states(network: Any, use: TextEncoderUse) -> torch.Tensor:
    """The states of transformers' text encoder that the family's U-Net is conditioned on."""
    states = network(torch.tensor([framed(ids("a red apple"), use.pad)]), output_hidden_states=True)
    if use.pooled:
        return torch.cat([states.hidden_states[-2].flatten(), states.text_embeds.flatten()])
    return states.last_hidden_state if use.norm else states.hidden_states[-2]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_networks_of_a_single_file_answer_as_those_that_diffusers_loads_from_it(written, name):
    family, path = written(name)
    ours, theirs = our_answers(load(str(path), "cpu", "float32")), diffusers_answers(family, path)
    assert set(ours) == set(theirs)
    distances = {part: apart(ours[part], theirs[part]) for part in ours}
    assert {part: distance for part, distance in distances.items() if distance > NEAR} == {}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_weights_are_loaded_at_their_exact_values(written, tmp_path, dtype):
    _, path = written("sd1")
    small = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(small, path)
    save_file({name: tensor.float() for name, tensor in small.items()}, tmp_path / "wide.safetensors")
    ours, plain = (
        our_answers(load(str(each), "cpu", "float32")) for each in (path, tmp_path / "wide.safetensors")
    )
    assert {part for part in ours if not torch.equal(ours[part], plain[part])} == set()


def swap(path: Path, one: str, other: str) -> None:
    """Exchange two tensors of a file."""
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
def test_two_swapped_tensors_change_the_answer_of_their_network_and_of_no_other(written, part):
    family, path = written("sd2_inpaint")
    theirs = diffusers_answers(family, path)
    swap(path, *PAIRS[part])
    ours = our_answers(load(str(path), "cpu", "float32"))
    assert {each for each in ours if apart(ours[each], theirs[each]) > FAR} == {part}


def test_q_k_and_v_of_openclip_in_another_order_change_the_answer(written):
    """OpenCLIP keeps the three in one tensor."""
    family, path = written("sd2")
    theirs = diffusers_answers(family, path)
    tensors = load_file(path)
    key = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    tensors[key] = tensors[key].roll(toy.WIDTH, 0)
    save_file(tensors, path)
    ours = our_answers(load(str(path), "cpu", "float32"))
    assert apart(ours["text_encoder"], theirs["text_encoder"]) > FAR
