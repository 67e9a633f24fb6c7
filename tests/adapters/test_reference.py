"""Reference pictures: self-attention that looks at them too, and their moments, by sd-webui-controlnet's numbers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sdcli.adapters.reference import ReferenceFeatures, normalised_blocks, self_attentions
from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.unet_call import UNetCall
from sdcli.engine import generate
from sdcli.models.architectures.attention import Attention, TransformerBlock
from sdcli.models.build import module_on_meta
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests import full_size
from tests.pictures import photo

GOLDEN = load_file(Path(__file__).parent.parent / "golden" / "adapters" / "reference-only.safetensors")
WHOLE = (slice(None), slice(None))


def conds(width=8):
    return [Cond(torch.zeros(1, 16, width)), Cond(torch.zeros(1, 16, width), is_negative=True)]


def see(features, rows=WHOLE[0]):
    features.see(UNetCall(torch.zeros(2, 4, 8, 8), 1.0, 1.0, conds(), (rows, slice(0, 8))))


# --- closed form


class OneAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn1 = Attention(2, 1)
        for each in (self.attn1.to_v, self.attn1.to_out[0]):
            nn.init.eye_(each.weight)
        nn.init.zeros_(self.attn1.to_k.weight)  # equal keys: the mean of all values
        nn.init.zeros_(self.attn1.to_out[0].bias)
        self.requires_grad_(False)


@pytest.mark.parametrize("fidelity", [0, 0.25, 1])
def test_equal_keys_average_over_the_picture_and_the_reference(fidelity):
    unet, features = OneAttention(), ReferenceFeatures(fidelity=fidelity)
    x, reference = torch.ones(2, 3, 2), torch.full((2, 3, 2), 5.0)
    with features.adapted("unet", unet):
        with features.writing():
            see(features)
            assert torch.equal(unet.attn1(reference), reference)
        with features.reading():
            see(features)
            out = unet.attn1(x)
        assert torch.equal(unet.attn1(x), x)
    assert torch.equal(out[0], torch.full((3, 2), 3.0))
    assert torch.equal(out[1], torch.full((3, 2), fidelity * 1 + (1 - fidelity) * 3.0))


def test_each_window_reads_its_own_part_of_the_reference():
    unet, features = OneAttention(), ReferenceFeatures(fidelity=0)
    with features.adapted("unet", unet):
        with features.writing():
            for rows, value in ((slice(0, 8), 3.0), (slice(8, 16), 7.0)):
                see(features, rows)
                unet.attn1(torch.full((2, 1, 2), value))
        with features.reading():
            see(features, slice(8, 16))
            assert torch.equal(unet.attn1(torch.ones(2, 1, 2)), torch.full((2, 1, 2), 4.0))
            see(features, slice(0, 8))
            assert torch.equal(unet.attn1(torch.ones(2, 1, 2)), torch.full((2, 1, 2), 2.0))


@pytest.mark.parametrize("mode", ["attention", "adain", "both"])
def test_the_network_is_left_as_it_was(mode):
    unet = load("test:sd1", "cpu", "float32").unet
    before = [(each.processor) for each in unet.modules() if isinstance(each, Attention)]
    with pytest.raises(RuntimeError, match="a bug"), ReferenceFeatures(mode).adapted("unet", unet):
        raise RuntimeError("a bug")
    assert [(each.processor) for each in unet.modules() if isinstance(each, Attention)] == before
    assert not any(each._forward_hooks for each in unet.modules())


# --- sd-webui-controlnet's numbers


def apart(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("fidelity", [0, 0.5, 1])
@torch.no_grad()
def test_a_block_of_published_width_gives_its_numbers(fidelity):
    block = TransformerBlock(320, 8, 768, only_cross=False)
    for name, weight in block.state_dict().items():
        key = f"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.{name}"
        weight.copy_(torch.from_numpy(full_size.values(key, list(weight.shape)).astype("float32")))
    features = ReferenceFeatures(fidelity=fidelity)
    assert apart(block(GOLDEN["x"], GOLDEN["context"])[..., ::4], GOLDEN["plain"]) < 2e-5
    with features.adapted("unet", block):
        with features.writing():
            see(features)
            block(GOLDEN["reference"], GOLDEN["context"])
        with features.reading():
            see(features)
            out = block(GOLDEN["x"], GOLDEN["context"])
    assert apart(out[..., ::4], GOLDEN[f"read.fidelity{fidelity}"]) < 2e-5


class OneBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        self.mid_block = nn.Identity()


@pytest.mark.parametrize("fidelity", [0, 0.5, 1])
def test_features_get_the_references_moments(fidelity):
    unet, features = OneBlock(), ReferenceFeatures("adain", fidelity)
    with features.adapted("unet", unet):
        with features.writing():
            see(features)
            unet.mid_block(GOLDEN["adain.reference"])
        with features.reading():
            see(features)
            out = unet.mid_block(GOLDEN["adain.x"])
    assert apart(out, GOLDEN[f"adain.fidelity{fidelity}"]) < 1e-5


def unet_of(family):
    from sdcli import registry
    from sdcli.checkpoints import network_config
    from sdcli.models.architectures.unet import UNet

    config = registry.find("families", family).configs["unet"]
    return module_on_meta(lambda: UNet(network_config.settings("unet", config)))


@pytest.mark.parametrize(
    ("family", "weight", "attentions", "blocks"),
    [("sd1", 1, 16, 7), ("sd1", 0.5, 8, 4), ("sdxl", 1, 70, 5), ("sd1", 0, 0, 0)],
)
def test_the_weight_chooses_the_widest_and_the_middle_first(family, weight, attentions, blocks):
    unet = unet_of(family)
    found = self_attentions(unet, weight)
    assert len(found) == attentions
    assert len(normalised_blocks(unet, weight)) == blocks
    widths = [attention.to_q.in_features for attention in found]
    assert widths == sorted(widths, reverse=True)


def test_the_normalised_blocks_of_sd1_are_those_of_sd_webui_controlnet():
    """Middle, input blocks 4, 5, 7, 8, 10, 11 and output blocks 0 to 7 of LDM."""
    unet = unet_of("sd1")
    names = {id(module): name for name, module in unet.named_modules()}
    assert [names[id(block)] for block in normalised_blocks(unet, 3)] == [
        "mid_block",
        "down_blocks.1.attentions.0", "down_blocks.1.attentions.1",
        "down_blocks.2.attentions.0", "down_blocks.2.attentions.1",
        "down_blocks.3.resnets.0", "down_blocks.3.resnets.1",
        "up_blocks.0.resnets.0", "up_blocks.0.resnets.1", "up_blocks.0.upsamplers.0",
        "up_blocks.1.attentions.0", "up_blocks.1.attentions.1", "up_blocks.1.upsamplers.0",
        "up_blocks.2.attentions.0", "up_blocks.2.attentions.1",
    ]  # fmt: skip


# --- pictures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(60, 40).save("in.png")
    return tmp_path


def drawn(models=None, **options):
    request = Request("a cat", seed=3, **{"model": "test:sd1", "steps": 2, **options})
    return generate(request, models).latents


@pytest.mark.parametrize("mode", ["attention", "adain", "both"])
def test_a_reference_changes_its_own_picture_and_none_after_it(folder, mode):
    models = ModelCache()
    plain, shown = drawn(models), drawn(models, reference=f"in.png:mode={mode}")
    assert not torch.equal(shown, plain)
    assert torch.equal(drawn(models), plain)
    assert torch.equal(drawn(models, reference=f"in.png:mode={mode}"), shown)
    assert torch.equal(drawn(models, reference=f"in.png:mode={mode}:weight=0"), plain)
    assert not torch.equal(drawn(models, reference=f"in.png:mode={mode}:fidelity=1"), shown)


@pytest.mark.parametrize("mode", ["attention", "both"])
def test_the_networks_of_diffusers_are_changed_alike(folder, mode):
    typed = f"in.png:mode={mode}"
    assert torch.allclose(drawn(reference=typed), drawn(reference=typed, networks="diffusers"), atol=1e-3)


@pytest.mark.parametrize("sampler", ["euler_a", "dpm2_a"])
def test_a_stopped_run_goes_on_bit_for_bit(folder, sampler):
    from sdcli.pipeline import latents_file

    options = {"reference": "in.png", "steps": 4, "sampler": sampler}
    half = generate(Request("a cat", model="test:sd1", seed=3, stop_after=2, **options))
    (folder / "half.safetensors").write_bytes(latents_file.to_bytes(half.latents, half.sigma, half.recording))
    assert torch.equal(drawn(latents_in="half.safetensors", **options), drawn(**options))


def test_a_picture_records_the_reference(sd, folder):
    from sdcli.checkpoints.hashes import digest

    ran = sd("txt2img", "a cat", "-m", "test:sd1", "--steps", 1, "--reference", "in.png:fidelity=0.8")
    facts = read_png_metadata(ran.lines[0]).facts(ran.lines[0])
    assert facts["request"]["reference"] == "in.png:fidelity=0.8"
    assert facts["given"] == {"reference": digest([folder / "in.png"])}


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        ("none.png", 4, "none.png"),
        ("in.png:mode=all", 2, "mode='all' is unknown"),
        ("in.png:fidelity=2", 2, "fidelity=2 is outside 0...1"),
        ("-", 2, "it cannot be standard input"),
    ],
)
def test_what_cannot_be_meant_is_refused(sd, folder, typed, code, message):
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "--reference", typed, "--plan")
    assert (ran.code, message in ran.err) == (code, True), ran.err
