"""A model folder: loaded whole or not at all, and computing what diffusers and transformers compute from it."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcli.checkpoints import checkpoint
from sdcli.engine import generate
from sdcli.errors import ModelError
from sdcli.models import build
from sdcli.models.load import load
from sdcli.pipeline.encode import encode_chunks
from sdcli.request.request import Request
from sdcli.tokenizer import chunks, framed
from tests.conftest import make_toy
from tests.tokens import plain, plain_text

pytestmark = pytest.mark.usefixtures("shared_models")


@pytest.fixture
def broken(toy, tmp_path) -> Path:
    """A copy of the toy model that a test may spoil."""
    return Path(shutil.copytree(toy, tmp_path / "broken"))


def weights(folder: Path, part: str = "unet") -> Path:
    return next((folder / part).glob("*.safetensors"))


def rewrite(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


SPOILS = {
    "a missing tensor": (lambda t: t.pop("conv_in.bias"), "1 tensor (conv_in.bias) missing"),
    "a surplus tensor": (lambda t: t.update(extra=torch.zeros(1)), "1 tensor (extra) too many"),
    "a misshapen tensor": (
        lambda t: t.update({"conv_in.bias": torch.zeros(3)}),
        "conv_in.bias is [3], not [8]",
    ),
    "a non-finite tensor": (
        lambda t: t["conv_in.bias"].fill_(float("nan")),
        "1 tensor (conv_in.bias) not finite",
    ),
    "many missing": (lambda t: [t.pop(k) for k in list(t) if k.startswith("up")], "and "),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_every_tensor_is_accounted_for(broken, spoil):
    change, words = SPOILS[spoil]
    rewrite(weights(broken), change)
    with pytest.raises(ModelError) as caught:
        load(str(broken))
    assert words in str(caught.value)


def test_buffers_that_the_network_makes_itself_are_ignored(broken):
    ids = torch.arange(77)[None]
    rewrite(weights(broken, "text_encoder"), lambda t: t.update({"text_model.embeddings.position_ids": ids}))
    assert load(str(broken)).text_encoder("text_encoder") is not None


JUNK = {
    b"": "empty",
    b"x": "only 1 bytes",
    b"<!DOCTYPE html>" * 99: "a web page",
    b"version https://git-lfs.github.com/spec/v1": "git lfs pull",
    b"PK\3\4" * 99: "pickles",
    b"\x80\x02}q" * 99: "a pickle",
    b"GGUF" * 99: "a GGUF file",
    b"\xff" * 99: "its header would be",
    b"\x40" + b"\0" * 7 + b"{ ": "fetch it again, whole",
    b"\x02" + b"\0" * 7 + b"[]": "no JSON object",
    b"\x04" + b"\0" * 7 + b"nope": "not JSON",
}


@pytest.mark.parametrize("junk", JUNK, ids=list(JUNK.values()))
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_file_that_is_no_safetensors_is_one_line_of_its_own(broken, part, junk):
    weights(broken, part).write_bytes(junk)
    with pytest.raises(ModelError, match=JUNK[junk]) as caught:
        load(str(broken))
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_one_line(broken):
    path = weights(broken)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ModelError, match="the download is incomplete"):
        load(str(broken))


@pytest.mark.parametrize("junk", ["", "{", "[]", "\xff", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_one_line(broken, junk):
    (broken / "unet" / "config.json").write_text(junk, encoding="latin-1")
    with pytest.raises(ModelError):
        load(str(broken))


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("unet", {"down_block_types": ["NoSuchBlock"]}, "unet: config.json describes no network"),
        ("unet", {"block_out_channels": [8, 32]}, "of another shape|too many"),
        ("unet", {"layers_per_block": 2**40}, "more than 200 layers"),
        ("unet", {"block_out_channels": [2**62, 2**62]}, "describes no network"),
        ("unet", {"block_out_channels": []}, "describes no network"),
        ("text_encoder", {"hidden_size": "x"}, "text_encoder: config.json describes no network"),
        ("text_encoder", {"num_attention_heads": 3}, "describes no network"),
        ("text_encoder", {"num_hidden_layers": 2**40}, "more than 200 layers"),
        ("vae", {"block_out_channels": [-1]}, "vae: config.json describes no network"),
        ("vae", {"scaling_factor": "x"}, "scaling_factor is 'x'"),
        ("vae", {"scaling_factor": None}, "scaling_factor is None"),
        ("vae", {"scaling_factor": 0}, "scaling_factor is 0"),
        ("vae", {"shift_factor": [1]}, "shift_factor is"),
        ("vae", {"latent_channels": 16}, "latent_channels are 16, not 4"),
        ("vae", {"out_channels": 1}, "out_channels are 1, not 3"),
        ("scheduler", {"beta_schedule": "odd"}, "no noise levels"),
        ("scheduler", {"prediction_type": "odd"}, "unknown prediction_type"),
        *[
            ("scheduler", {"num_train_timesteps": count}, "no noise levels")
            for count in (0, 1, -5, 2**40, float("inf"), float("nan"))
        ],
        ("scheduler", {"beta_end": float("nan")}, "no noise levels"),
        ("scheduler", {"beta_start": 0}, "no noise levels"),
    ],
)
def test_a_config_that_fits_nothing_is_one_line(broken, part, change, words):
    path = broken / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=words) as caught:
        load(str(broken))
    assert "\n" not in str(caught.value)


def remade(folder: Path, part: str, change) -> None:
    """Put another network in place of a part, whole in itself."""
    config = json.loads((folder / part / "config.json").read_text()) | change
    net = build.build_random(part, config)
    save_file(net.state_dict(), weights(folder, part))
    (folder / part / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("text_encoder", {"hidden_size": 64}, "text of width 64, of which its U-Net reads 128"),
        ("text_encoder", {"vocab_size": 1000}, "1,000 tokens, not the 49,408 of CLIP"),
        ("text_encoder", {"max_position_embeddings": 20}, "reads 20 tokens at once, not 77"),
        ("vae", {"latent_channels": 16}, "latent_channels are 16, not 4"),
        ("vae", {"out_channels": 1}, "out_channels are 1, not 3"),
        ("vae", {"in_channels": 1}, "in_channels are 1, not 3"),
        ("unet", {"out_channels": 8}, "predicts 8 channels, not 4"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_one_line_before_anything_is_drawn(broken, part, change, words):
    remade(broken, part, change)
    with pytest.raises(ModelError, match=words):
        checkpoint.read(str(broken))
    if part == "vae":
        with pytest.raises(ModelError, match=words):
            checkpoint.read("test:sd1", vae=str(broken / "vae"))


def test_a_folder_has_the_text_encoders_of_its_family_and_no_other(broken):
    shutil.copytree(broken / "text_encoder", broken / "text_encoder_2")
    with pytest.raises(
        ModelError, match="text_encoder_2 is one too many; a model of the family tiny has text_enc"
    ):
        checkpoint.read(str(broken))


def test_a_folder_of_sdxl_that_lacks_a_text_encoder_or_its_projection_is_one_line(written, tmp_path):
    from sdcli.convert import convert

    _, path = written("sdxl")
    folder = convert(checkpoint.read(str(path)), tmp_path / "xl")
    config = folder / "text_encoder_2" / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({key: value for key, value in told.items() if key != "architectures"}))
    with pytest.raises(ModelError, match="does not name CLIPTextModelWithProjection"):
        checkpoint.read(str(folder))
    config.write_text(json.dumps(told))
    checkpoint.read(str(folder))
    for part in ("text_encoder", "text_encoder_2"):
        (folder / part).rename(tmp_path / part)
        with pytest.raises(ModelError, match=f"no {part} folder in it; a model of the family sdxl has"):
            checkpoint.read(str(folder))
        (tmp_path / part).rename(folder / part)


def test_two_names_of_one_tensor_in_a_folder_are_one_line(broken):
    def doubled(tensors):
        tensors.update(
            {f"text_model.{key.removeprefix('text_model.')}": t.clone() for key, t in tensors.items()}
        )
        tensors.update({key.removeprefix("text_model."): t.clone() for key, t in list(tensors.items())})

    rewrite(weights(broken, "text_encoder"), doubled)
    with pytest.raises(ModelError, match="are two names of one tensor"):
        load(str(broken))


def test_a_folder_is_not_asked_for_its_prediction_where_the_user_says_it(broken):
    path = broken / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({"prediction_type": "odd"}))
    assert checkpoint.read(str(broken), "sample").prediction == "sample"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_missing_part_is_named(broken, part):
    weights(broken, part).unlink()
    with pytest.raises(ModelError, match=f"{part}: no "):
        load(str(broken))
    (broken / part / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ModelError, match="a pickle, which can run code, is not read here"):
        load(str(broken))
    shutil.rmtree(broken / part)
    told = "no VAE in it; name one with --vae" if part == "vae" else f"no {part} folder"
    with pytest.raises(ModelError, match=told):
        load(str(broken))


def test_half_precision_names_and_the_older_text_names_will_do(broken, toy):
    def older(tensors):
        for key in list(tensors):
            tensors["text_model." + key.removeprefix("text_model.")] = tensors.pop(key)

    rewrite(weights(broken, "text_encoder"), older)
    path = weights(broken)
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    same = [generate(Request("a cat", model=str(m), seed=1, steps=2)).latents for m in (toy, broken)]
    assert torch.equal(*same)


def reference(toy: Path, prediction: str, prompt: str, negative: str, steps: int, scale: float, noise):
    """The same run by diffusers' pipeline: its networks, its scheduler, its guidance."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    text = CLIPTextModel.from_pretrained(toy / "text_encoder")
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(toy / "vae"),
        text_encoder=text,
        tokenizer=None,
        unet=UNet2DConditionModel.from_pretrained(toy / "unet"),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction,
            clip_sample=False, set_alpha_to_one=True, steps_offset=1, timestep_spacing="leading",
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        hidden = [text(torch.tensor([framed(chunks(t)[0])])).last_hidden_state for t in (prompt, negative)]
    run = {"prompt_embeds": hidden[0], "negative_prompt_embeds": hidden[1], "guidance_scale": scale}
    run |= {"num_inference_steps": steps, "latents": noise, "height": 64, "width": 64}
    latents = pipe(**run, output_type="latent").images
    return latents, pipe(**run).images[0]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.filterwarnings("ignore")
def test_a_whole_run_is_that_of_diffusers_pipeline(tmp_path, prediction):
    toy = make_toy(tmp_path / "toy", prediction)
    request = Request("a red apple", negative="a dog", model=str(toy), seed=5, steps=10, cfg=4.0,
                      sampler="ddim", schedule="leading")  # fmt: skip
    ours = generate(request)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    latents, image = reference(toy, prediction, "a red apple", "a dog", 10, 4.0, noise)
    assert float((ours.latents - latents).norm() / latents.norm()) < 5e-5
    ours_pixels, theirs = (torch.tensor(list(each.tobytes())).int() for each in (ours.picture.image, image))
    assert int((ours_pixels - theirs).abs().max()) <= 1


def test_more_layers_skipped_than_there_are_is_a_usage_error(sd, toy):
    for skip, code in {3: 0, 4: 2, 9: 2}.items():
        ran = sd("txt2img", "a cat", "-m", toy, "-s", 1, "--clip-skip", skip)
        assert ran.code == code, ran
        assert (f"--clip-skip {skip}: " in ran.err) == bool(code)


def test_clip_skip_counts_layers_as_a1111_does(toy):
    from transformers import CLIPTextModel

    theirs = CLIPTextModel.from_pretrained(toy / "text_encoder")
    cut = chunks("a red apple")
    with torch.no_grad():
        states = theirs(torch.tensor([framed(cut[0])]), output_hidden_states=True)
        norm = getattr(theirs, "text_model", theirs).final_layer_norm
        expected = {
            1: states.last_hidden_state,
            2: norm(states.hidden_states[-2]),
            3: norm(states.hidden_states[-3]),
        }
    model = load(str(toy))
    for skip, hidden in expected.items():
        assert torch.allclose(encode_chunks(model, "text_encoder", plain(cut), skip)[0], hidden, atol=1e-6)


def test_a_long_prompt_is_read_to_its_last_word(toy):
    long = "a red apple, " * 40
    ends = [
        generate(Request(long + last, model=str(toy), seed=1, steps=1)).latents for last in ("cat", "dog")
    ]
    assert not torch.equal(*ends)
    negative = generate(Request("a cat", negative=long, model=str(toy), seed=1, steps=1)).latents
    assert torch.isfinite(negative).all()


def test_the_unet_is_called_once_a_step_with_both_conds(toy, monkeypatch):
    from sdcli.pipeline import unet

    shapes, real = [], unet.call_unet

    def count(model, x, t, conds, *more):
        shapes.append((x.shape[0], len(conds)))
        return real(model, x, t, conds, *more)

    monkeypatch.setattr(unet, "call_unet", count)
    generate(Request("a cat", model=str(toy), seed=1, steps=3, cfg=5.0))
    generate(Request("a cat", model=str(toy), seed=1, steps=3, cfg=1.0))
    assert shapes == [(2, 2)] * 3 + [(1, 1)] * 3


def test_bfloat16_draws_nearly_the_same(toy):
    same = {"model": str(toy), "seed": 1, "steps": 4, "cfg": 2.0}
    exact, rough = (generate(Request("a cat", dtype=dtype, **same)) for dtype in ("float32", "bfloat16"))
    assert rough.picture.facts["dtype"] == "bfloat16"
    assert float((exact.latents - rough.latents).norm() / exact.latents.norm()) < 0.05


ONE_STEP = ["euler", "heun", "dpm2", "euler_a", "dpm2_a", "dpmpp_2s_a", "ddpm", "ddim:eta=1", "lcm", "tcd"]
ONE_STEP += ["euler_cfg_pp", "euler_a_cfg_pp"]


@pytest.mark.parametrize("sampler", ONE_STEP)  # the others remember earlier steps, or walk one Brownian path
def test_split_and_resume_at_a_step_is_the_straight_run_bit_for_bit(toy, tmp_path, sampler):
    from sdcli.pipeline import latents_file

    request = Request("a cat", model=str(toy), seed=1, steps=6, sampler=sampler)
    saved = []

    def keep(steps):
        for step in steps:
            saved.append((step.x, step.sigma))
            yield step

    straight = generate(request, watch=keep)
    for i, (x, sigma) in enumerate(saved):
        file = tmp_path / f"{i}.safetensors"
        file.write_bytes(latents_file.to_bytes(x, sigma))
        assert torch.equal(generate(request.replace(latents_in=str(file))).latents, straight.latents)


LATENTS = {
    "another shape": (
        {"latents": torch.zeros(1, 4, 9, 9)},
        None,
        "latents are (1, 4, 9, 9), not (1, 4, 8, 8)",
    ),
    "another name": ({"samples": torch.zeros(1, 4, 8, 8)}, None, "not one tensor `latents`"),
    "not finite": ({"latents": torch.full((1, 4, 8, 8), float("inf"))}, None, "not finite"),
    "not numbers": ({"latents": torch.zeros(1, 4, 8, 8, dtype=torch.int64)}, None, "not finite"),
    "a level between": ({"latents": torch.zeros(1, 4, 8, 8)}, "3.21", "which this run does not visit"),
    "a level of nonsense": ({"latents": torch.zeros(1, 4, 8, 8)}, "x", "is not a number"),
}


@pytest.mark.parametrize("bad", LATENTS)
def test_latents_that_do_not_fit_are_an_image_error(toy, tmp_path, bad):
    from sdcli.errors import ImageError

    tensors, sigma, words = LATENTS[bad]
    save_file(tensors, tmp_path / "x.safetensors", {"sigma": sigma} if sigma else None)
    with pytest.raises(ImageError) as caught:
        generate(Request("a cat", model=str(toy), seed=1, latents_in=str(tmp_path / "x.safetensors")))
    assert words in str(caught.value)


def test_the_embedded_model_reads_a_word_of_no_caption_as_the_nearest_that_has_one():
    model = load("tiny")
    kittens, cats, dogs = (
        encode_chunks(model, "text_encoder", plain_text(f"two {nouns} next to a tree"))[0]
        for nouns in ("kittens", "cats", "dogs")
    )
    assert torch.equal(kittens, cats)
    assert not torch.allclose(kittens, dogs, atol=0.1)
