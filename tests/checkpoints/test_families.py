"""Test models of every family, other VAEs, and a whole run of SDXL against diffusers' pipeline."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcli.checkpoints import checkpoint, hub, shards, toy
from sdcli.convert import convert
from sdcli.engine import generate
from sdcli.models.load import load
from sdcli.pipeline.text import encode_prompts
from sdcli.request.request import Request
from tests import judges
from tests.checkpoints.test_checkpoint import published, write

DRAWS = [name for name in toy.MODELS if toy.family(name)[0].signature.channels in (4, 9)]


@pytest.mark.parametrize("name", DRAWS)
def test_a_test_model_draws_the_same_every_time_and_says_nothing(sd, name):
    runs = [sd("txt2img", "a cat", "-m", name, "--seed", 1, "-s", 2, "-o", f"{i}.png") for i in "ab"]
    assert [(run.code, run.err) for run in runs] == [(0, "")] * 2
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize("name", [name for name in toy.MODELS if name not in DRAWS])
def test_a_model_that_needs_a_picture_says_so(sd, name):
    ran = sd("txt2img", "a cat", "-m", name)
    assert ran.code == 3
    assert "model needs a " in ran.err


def test_a_near_miss_of_a_test_model_is_answered(sd):
    assert "did you mean 'test:sd" in sd("txt2img", "a cat", "-m", "test:sd").err


def test_the_prediction_type_can_be_overridden(sd):
    for prediction in ("epsilon", "v_prediction", "sample"):
        sd(
            "txt2img",
            "a cat",
            "-m",
            "test:sd2",
            "--seed",
            1,
            "--prediction",
            prediction,
            "-o",
            f"{prediction}.png",
        )
    assert len({path.read_bytes() for path in Path().glob("*.png")}) == 3
    sd("txt2img", "a cat", "-m", "test:sd2-v", "--seed", 1, "-o", "v.png", "--no-metadata")
    sd(
        "txt2img",
        "a cat",
        "-m",
        "test:sd2",
        "--seed",
        1,
        "--prediction",
        "v_prediction",
        "-o",
        "w.png",
        "--no-metadata",
    )
    assert Path("v.png").read_bytes() == Path("w.png").read_bytes()


def test_info_tells_what_a_model_is(sd, toy):
    lines = sd("info", toy).lines
    assert lines[0] == f"{toy}: a tiny model"
    assert "  prediction: v_prediction, by scheduler_config.json" in lines
    assert json.loads(sd("info", "test:sdxl", "--json").out)["unet"] == "random weights"


@pytest.mark.parametrize("name", ["model", "x.SAFETENSORS", "x.sft", "x.bin"])
def test_info_goes_by_what_a_file_holds(sd, written, name):
    _, path = written("sd1")
    path.rename(name)
    assert sd("info", name).lines[0] == f"{name}: a sd1 model"


def test_info_knows_a_name_in_a_model_folder(sd, toy, monkeypatch):
    monkeypatch.setenv("SDCLI_MODELS", str(toy.parent))
    assert sd("info", toy.name).lines[0] == f"{toy.name}: a tiny model"
    assert "no such model" in sd("info", "there-is-none").err


def test_a_model_folder_may_hold_links_but_leads_nowhere_else(sd, tmp_path, toy, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "linked").symlink_to(toy)
    monkeypatch.setenv("SDCLI_MODELS", str(folder))
    assert "linked" in sd("models").out.decode()
    assert sd("info", "linked").code == 0
    for name in (f"../{toy.name}", f"linked/../../{toy.name}", str(toy / "no")):
        assert "no such model here" in sd("info", name).err


def test_info_tells_a_model_as_the_options_make_it(sd, toy):
    assert "  prediction: sample, by --prediction" in sd("info", toy, "--prediction", "sample").lines
    made = judges.random("vae", json.loads((toy / "vae" / "config.json").read_text()))
    made.half().save_pretrained("vae")
    own, other = (json.loads(sd("info", toy, "--json", *more).out)["vae"] for more in ([], ["--vae", "vae"]))
    assert (own[-3:], other[-3:]) == ("F32", "F16")


@pytest.mark.parametrize("command", [["info"], ["txt2img", "a cat", "-m"]])
@pytest.mark.parametrize("name", ["tiny", "test:sd1", "TOY"])
def test_a_revision_of_what_is_no_repo_is_refused(sd, toy, command, name):
    ran = sd(*command, toy if name == "TOY" else name, "--revision", "v9")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "--revision v9" in ran.err


def test_a_picture_is_made_again_with_a_model_that_has_no_revisions(sd, toy):
    from PIL import Image

    from sdcli.request.picture import Picture

    request = Request("a cat", model="me/toy", revision="v9", seed=1, steps=1)
    Path("old.png").write_bytes(Picture(Image.new("RGB", (64, 64)), request).png())
    assert sd("again", "old.png", "-m", toy).code == 0


def test_info_lists_what_is_ignored(sd):
    tensors = (
        published("sd15")
        | {f"model_ema.{i}": [1] for i in range(9)}
        | {"v_pred": [1], "low_scale_model.\x1b[2J": [1]}
    )
    write(Path("x.safetensors"), tensors)
    told = json.loads(sd("info", "x.safetensors", "--json").out)
    assert {"betas", "model_ema.8", "v_pred"} <= set(told["ignored"])
    line = sd("info", "x.safetensors").lines[-1]
    assert line.startswith(f"  ignored: {len(told['ignored'])} tensors that no network needs: ")
    assert "low_scale_model.\\x1b[2J" in line
    assert "of model_ema.*" in line
    assert "v_pred" in line


OTHER_VAES = [
    "original",
    "original, with prefix",
    "diffusers",
    "diffusers, with prefix",
    "a whole checkpoint",
]


def vae_names(path: Path, kind: str) -> dict[str, torch.Tensor]:
    """A VAE like that of the single file `path`, its numbers doubled, as other files name it."""
    prefix = "first_stage_model."
    doubled = {key: 2 * value for key, value in load_file(path).items()}
    if kind == "a whole checkpoint":
        return doubled
    if kind.startswith("diffusers"):
        own = load(str(path), "cpu", "float32").vae.state_dict()
        return {
            ("vae." if "prefix" in kind else "") + key: 2 * value.contiguous() for key, value in own.items()
        }
    kept = {key: value for key, value in doubled.items() if key.startswith(prefix)}
    kept |= {f"{prefix}loss.logvar": torch.zeros(1)}
    return kept if "prefix" in kind else {key.removeprefix(prefix): value for key, value in kept.items()}


@pytest.mark.parametrize("kind", OTHER_VAES)
def test_the_vae_of_any_file_replaces_the_models_own(written, tmp_path, kind):
    _, path = written("sd1")
    save_file(vae_names(path, kind), tmp_path / "other.safetensors")
    own, other = (
        load(str(path), "cpu", "float32", vae=vae) for vae in (None, str(tmp_path / "other.safetensors"))
    )
    ours, theirs = own.vae.state_dict(), other.vae.state_dict()
    assert {key for key in ours if not torch.equal(2 * ours[key], theirs[key])} == set()
    assert torch.equal(own.unet.conv_in.weight, other.unet.conv_in.weight)


def test_another_vae_replaces_the_models_own(tmp_path, toy):
    made = judges.random("vae", json.loads((toy / "vae" / "config.json").read_text()))
    with torch.no_grad():
        made.decoder.conv_out.bias += 0.5
    folder = tmp_path / "vae"
    made.save_pretrained(folder)
    plain, other = (
        generate(Request("a cat", model=str(toy), seed=1, steps=2, vae=vae)) for vae in (None, str(folder))
    )
    assert torch.equal(plain.latents, other.latents)
    assert plain.picture.image.tobytes() != other.picture.image.tobytes()
    assert other.picture.facts["model"]["sha256"] != plain.picture.facts["model"]["sha256"]


def test_a_tiny_autoencoder_will_do(tmp_path, toy):
    from diffusers import AutoencoderTiny

    torch.manual_seed(1)
    made = AutoencoderTiny()
    laid = deepcopy(made).to(memory_format=torch.channels_last)
    save_file(made.state_dict(), tmp_path / "whole.safetensors")
    halves = {"encoder": {}, "decoder": {}}  # its first form: two files, of a list of layers each
    for key, tensor in made.state_dict().items():
        side, _, number, rest = key.split(".", 3)
        halves[side][f"{int(number) + (side == 'decoder')}.{rest}"] = tensor
    for side, state in halves.items():
        save_file(state, tmp_path / f"autoencoder_{side}.safetensors")
    told = []
    for name in ("whole", "autoencoder_decoder", "autoencoder_encoder"):
        asked = Request("a cat", model=str(toy), seed=1, steps=2, vae=str(tmp_path / f"{name}.safetensors"))
        result = generate(asked)
        with torch.no_grad():
            z = result.latents.contiguous(memory_format=torch.channels_last)
            expected = laid.decode(z).sample  # in its memory format: another sums in another order
        shown = (expected[0].clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(1, 2, 0).contiguous()
        assert result.picture.image.tobytes() == shown.numpy().tobytes()
        ours = load(str(toy), vae=asked.vae).vae.state_dict()
        assert [key for key, tensor in made.state_dict().items() if not torch.equal(ours[key], tensor)] == []
        told.append(result.picture.facts["model"]["sha256"])
    assert told[0] != told[1] == told[2]
    convert(checkpoint.read(str(toy), vae=asked.vae), tmp_path / "written")
    read = AutoencoderTiny.from_pretrained(tmp_path / "written" / "vae").state_dict()
    assert [key for key, tensor in made.state_dict().items() if not torch.equal(read[key], tensor)] == []
    assert json.loads((tmp_path / "written" / "model_index.json").read_text())["vae"][1] == "AutoencoderTiny"


def test_a_folder_in_several_files_is_the_same_model(tmp_path, toy, shard):
    """As `save_pretrained` writes what is over its limit (SDXL's U-Net in float32, say)."""
    from diffusers import UNet2DConditionModel

    folder = Path(shutil.copytree(toy, tmp_path / "sharded"))
    plain = UNet2DConditionModel.from_pretrained(toy / "unet")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    plain.save_pretrained(folder / "unet", max_shard_size="200KB", variant="fp16")
    names = sorted(path.name for path in (folder / "unet").glob("*"))
    assert len(names) > 3
    assert any("index" in name and "fp16" in name for name in names), names
    shard(folder / "text_encoder")
    own, other = (load(str(path), "cpu", "float32") for path in (toy, folder))
    for part in own.networks:
        ours, theirs = own.networks[part].state_dict(), other.networks[part].state_dict()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    found = checkpoint.read(str(folder))
    assert (
        len(found.paths) == len(names) - 2 + 2 + 1
    )  # the U-Net's without config and index, the text's, the VAE's
    convert(found, tmp_path / "whole")
    written = [tmp_path / "whole" / "unet", toy / "unet"]
    ours, theirs = (load_file(path / "diffusion_pytorch_model.safetensors") for path in written)
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_the_files_of_a_network_are_told_by_their_names():
    """As diffusers and transformers named them over time; full precision before half, nothing from further in."""
    stem = "diffusion_pytorch_model"
    cut = [f"{stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    half = [name.replace("model-", "model.fp16-") for name in cut]
    old = [name.replace(".safetensors", ".fp16.safetensors") for name in cut]
    index, half_index = f"{stem}.safetensors.index.json", f"{stem}.safetensors.index.fp16.json"
    for names, needed in [
        ([f"{stem}.fp16.safetensors", f"{stem}.safetensors"], [f"{stem}.safetensors"]),
        ([f"{stem}.fp16.safetensors", *cut, index], [index, *cut]),
        ([f"{stem}.fp16.safetensors", *cut], [f"{stem}.fp16.safetensors"]),
        ([*half, half_index], [half_index, *half]),
        ([*half, f"{stem}.fp16.safetensors.index.json"], [f"{stem}.fp16.safetensors.index.json", *half]),
        ([*old, f"{stem}.safetensors.fp16.index.json"], [f"{stem}.safetensors.fp16.index.json", *old]),
        ([*cut, *half, index, half_index], [index, *cut]),
        ([*cut, cut[0].replace("00002", "00003"), index], [index, *cut]),
        ([cut[0], index, f"{stem}.fp16.safetensors"], []),
        ([f"py{stem}.safetensors", "model.safetensors"], []),
    ]:
        assert shards.needed(names, "unet") == needed, names
    listed = ["unet/config.json", f"unet/{stem}.fp16.safetensors", f"unet/ema/{stem}.safetensors"]
    assert hub._needed("x", listed)[1:] == [f"unet/{stem}.fp16.safetensors"]


@pytest.mark.filterwarnings("ignore")
def test_a_whole_run_of_sdxl_is_that_of_diffusers_pipeline():
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    model = load("test:sdxl", "cpu", "float32")
    request = Request(
        "a red apple", model="test:sdxl", seed=5, steps=6, cfg=4.0, sampler="euler", schedule="leading"
    )
    job = model.with_defaults(request)
    prompt, negative = (prompt.parts[0].cond for prompt in encode_prompts(model, job))
    assert not negative.context.any()
    assert prompt.time_ids == (64, 64, 0, 0, 64, 64)
    pipe = StableDiffusionXLPipeline(
        vae=judges.vae(model), unet=judges.unet(model), tokenizer=None, tokenizer_2=None,
        text_encoder=judges.text_encoder(model), text_encoder_2=judges.text_encoder(model, "text_encoder_2"),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            timestep_spacing="leading",
        ),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(
        prompt_embeds=prompt.context, pooled_prompt_embeds=prompt.pooled, negative_prompt_embeds=negative.context,
        negative_pooled_prompt_embeds=negative.pooled, guidance_scale=4.0, num_inference_steps=6, height=64, width=64,
        latents=torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5)), output_type="latent",
    ).images  # fmt: skip
    ours = generate(request).latents
    assert float((ours - latents).norm() / latents.norm()) < 1e-4


def test_the_two_text_encoders_of_sdxl_are_read_as_transformers_reads_them():
    from sdcli.checkpoints.tokenizer import chunks, framed

    model = load("test:sdxl", "cpu", "float32")
    prompts = encode_prompts(model, model.with_defaults(Request("a red apple", model="test:sdxl", seed=1)))
    prompt = prompts[0].parts[0].cond
    cut = chunks("a red apple")[0]
    with torch.no_grad():
        low = judges.text_encoder(model, "text_encoder")(
            torch.tensor([framed(cut)]), output_hidden_states=True
        )
        high = judges.text_encoder(model, "text_encoder_2")(
            torch.tensor([framed(cut, 0)]), output_hidden_states=True
        )
    assert torch.equal(prompt.context, torch.cat([low.hidden_states[-2], high.hidden_states[-2]], -1))
    assert torch.equal(prompt.pooled, high.text_embeds)
