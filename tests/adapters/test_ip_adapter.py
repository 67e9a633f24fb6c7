"""IP-Adapters: what each layer adds, against the authors' numbers and diffusers' own U-Net; nothing left behind."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from sdcli.adapters.ip_adapter import ImagePrompt, ip_adapter
from sdcli.checkpoints.ip_adapter_file import read_header
from sdcli.checkpoints.ip_adapters import cross_attentions
from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.unet_call import UNetCall
from sdcli.models.architectures.attention import Attention
from sdcli.models.architectures.ip_projection import ImageProjection
from sdcli.models.device import Placement
from sdcli.models.load import load
from sdcli.pipeline.ip_adapters import _keys_and_values, load_projection
from tests import adapter_files, full_size, judges

CPU = Placement(torch.device("cpu"), torch.float32)
GOLDEN = load_file(Path(__file__).parent.parent / "golden" / "adapters" / "ip-adapter.safetensors")


def call(conds, sigma=1.0):
    return UNetCall(torch.zeros(len(conds), 4, 8, 8), sigma, 1.0, conds, (slice(None), slice(None)))


class OneLayer(nn.Module):
    """A U-Net of one cross-attention."""

    def __init__(self, attention):
        super().__init__()
        self.down_blocks = nn.ModuleList([nn.ModuleDict({"attn2": attention})])

    def forward(self, x, context):
        return self.down_blocks[0]["attn2"](x, context)


# --- closed form


@pytest.fixture
def picture():
    """An identity attention of width 2, and a picture of one token: its values are what is read of it."""
    attention = Attention(2, 1, 2).requires_grad_(False)
    for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
        nn.init.eye_(layer.weight)
    nn.init.zeros_(attention.to_out[0].bias)
    keys = torch.zeros(2, 1, 2)
    values = torch.tensor([[[100.0, 100.0]], [[1.0, 2.0]]])
    return OneLayer(attention), ImagePrompt([keys], [values], 0.5)


def test_a_picture_of_one_token_adds_its_values_times_the_weight(picture):
    unet, prompt = picture
    cond, negative = Cond(torch.zeros(1, 1, 2)), Cond(torch.zeros(1, 1, 2), is_negative=True)
    x, context = torch.zeros(2, 3, 2), torch.zeros(2, 1, 2)
    adapter = ip_adapter([prompt])
    with adapter.adapted("unet", unet):
        adapter.begin([2.0, 1.0, 0.0])
        adapter.see(call([negative, cond]))
        out = unet(x, context)
        assert torch.equal(out[1], torch.tensor([0.5, 1.0]).expand(3, 2))
        assert torch.equal(out[0], torch.tensor([50.0, 50.0]).expand(3, 2))
        adapter.see(call([cond]))
        assert torch.equal(unet(x[:1], context[:1])[0], out[1])
    assert torch.equal(unet(x, context), torch.zeros(2, 3, 2))


def test_several_pictures_are_added_up(picture):
    unet, prompt = picture
    cond = Cond(torch.zeros(1, 1, 2))
    adapter = ip_adapter([prompt, prompt])
    with adapter.adapted("unet", unet):
        adapter.begin([2.0, 0.0])
        adapter.see(call([cond]))
        out = unet(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    assert torch.equal(out, torch.tensor([[[1.0, 2.0]]]))


@pytest.mark.parametrize(
    ("start", "end", "acts"),
    [(0, 1, "1111"), (0, 0.5, "1100"), (0.5, 1, "0011"), (0.25, 0.75, "0110"), (0.3, 1, "0011")],
)
def test_it_acts_in_its_share_of_the_steps(picture, start, end, acts):
    unet, prompt = picture
    adapter = ip_adapter([ImagePrompt(prompt.keys, prompt.values, 1.0, start, end)])
    levels = [8.0, 4.0, 2.0, 1.0, 0.0]
    seen = ""
    with adapter.adapted("unet", unet):
        adapter.begin(levels)
        for sigma in levels[:-1]:
            adapter.see(call([Cond(torch.zeros(1, 1, 2))], sigma))
            seen += str(int(bool(unet(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)).any())))
    assert seen == acts


def test_weight_0_and_other_parts_leave_the_network_alone(picture):
    unet, prompt = picture
    before = unet.down_blocks[0]["attn2"].processor
    for adapter, part in ((ip_adapter([ImagePrompt(prompt.keys, prompt.values, 0)]), "unet"),
                          (ip_adapter([prompt]), "vae")):  # fmt: skip
        with adapter.adapted(part, unet):
            assert unet.down_blocks[0]["attn2"].processor is before


def test_the_processors_are_restored_after_an_error(picture):
    unet, prompt = picture
    before = unet.down_blocks[0]["attn2"].processor
    with pytest.raises(RuntimeError, match="a bug"), ip_adapter([prompt]).adapted("unet", unet):
        assert unet.down_blocks[0]["attn2"].processor is not before
        raise RuntimeError("a bug")
    assert unet.down_blocks[0]["attn2"].processor is before


# --- the authors' numbers


def apart(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


@torch.no_grad()
def test_a_layer_of_published_width_gives_the_authors_numbers():
    attention = Attention(320, 8, 768)
    for name, weight in attention.state_dict().items():
        key = f"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.{name}"
        weight.copy_(torch.from_numpy(full_size.values(key, list(weight.shape)).astype("float32")))
    shapes = {
        "image_proj.proj.weight": [3072, 1024],
        "image_proj.proj.bias": [3072],
        "image_proj.norm.weight": [768],
        "image_proj.norm.bias": [768],
        "ip_adapter.1.to_k_ip.weight": [320, 768],
        "ip_adapter.1.to_v_ip.weight": [320, 768],
    }
    weights = {name: torch.from_numpy(tensor) for name, tensor in adapter_files.network(shapes).items()}
    projection = ImageProjection(1024, 4, 768)
    projection.load_state_dict(
        {
            name.removeprefix("image_proj."): tensor
            for name, tensor in weights.items()
            if name.startswith("image_proj.")
        }
    )
    tokens = projection(GOLDEN["embedding"])
    assert apart(tokens[..., ::4], GOLDEN["tokens"]) < 2e-5
    keys, values = (
        F.linear(tokens, weights[f"ip_adapter.1.to_{each}_ip.weight"]).expand(2, -1, -1) for each in "kv"
    )
    unet, adapter = OneLayer(attention), ip_adapter([ImagePrompt([keys], [values], 0.8)])
    assert apart(unet(GOLDEN["x"], GOLDEN["context"])[..., ::4], GOLDEN["plain"]) < 2e-5
    with adapter.adapted("unet", unet):
        adapter.begin([1.0, 0.0])
        adapter.see(call([Cond(GOLDEN["context"])]))
        out = unet(GOLDEN["x"], GOLDEN["context"])
    assert apart(out[..., ::4], GOLDEN["out"]) < 2e-5


# --- diffusers' own U-Net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["plain", "plus"])
@pytest.mark.parametrize("name", ["test:sd1", "test:sdxl"])
def test_a_whole_unet_answers_as_that_of_diffusers_does(tmp_path, name, kind):
    model = load(name, "cpu", "float32")
    names = cross_attentions(model.unet.state_dict())
    widths = [model.unet.state_dict()[each].shape[0] for each in names]
    context = model.configs["unet"]["cross_attention_dim"]
    reads = 24 if kind == "plain" else 32
    path = adapter_files.ip_adapter(tmp_path / "a.safetensors", widths, context, kind, reads=reads)
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    image = randn(1, reads) if kind == "plain" else randn(1, 17, reads)
    x, text = randn(1, 4, 8, 8), randn(1, 77, context)
    sized = model.family.signature.added
    extra = {"text_embeds": randn(1, 16), "time_ids": torch.full((1, 6), 64.0)} if sized else {}

    theirs = judges.unet(model)
    weights = load_file(path)
    theirs._load_ip_adapter_weights(
        [
            {
                part: {k.removeprefix(f"{part}."): v for k, v in weights.items() if k.startswith(part)}
                for part in ("image_proj", "ip_adapter")
            }
        ]
    )
    for processor in theirs.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.7]
    with torch.no_grad():
        expected = theirs(x, 500, text, added_cond_kwargs={**extra, "image_embeds": [image[:, None]]}).sample

    file = read_header(path)
    with torch.no_grad():
        tokens = load_projection(file, CPU)(image).expand(2, -1, -1)
    adapter = ip_adapter([ImagePrompt(*_keys_and_values(file, tokens, CPU), 0.7)])
    more = {"pooled": extra["text_embeds"], "time_ids": extra["time_ids"]} if sized else {}
    with model.networks.adapted([adapter.adapted]), torch.no_grad():
        adapter.begin([1.0, 0.0])
        adapter.see(call([Cond(text)]))
        ours = model.unet(x, torch.tensor(500.0), text, **more)
    plain = model.unet(x, torch.tensor(500.0), text, **more)
    assert apart(ours, expected) < 1e-5
    assert apart(plain, expected) > 1e-3
    assert math.isfinite(float(ours.sum()))
