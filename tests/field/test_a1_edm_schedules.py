"""A1 (mold#1453, Forge#461, #710): an EDM scheduler's folder was drawn as plain SD, the same pixels as with PNDM."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from sdcli.checkpoints import checkpoint
from sdcli.diffusion.preconditioning import preconditioning
from sdcli.models.load import load
from sdcli.pipeline.start import levels_of
from sdcli.request.request import Request

PLAYGROUND = {
    "_class_name": "EDMDPMSolverMultistepScheduler", "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5,
    "rho": 7.0, "prediction_type": "epsilon", "num_train_timesteps": 1000,
}  # fmt: skip
COSXL = {
    "_class_name": "EDMEulerScheduler", "sigma_min": 0.002, "sigma_max": 120.0, "sigma_data": 1.0,
    "prediction_type": "v_prediction", "sigma_schedule": "exponential",
}  # fmt: skip


@pytest.fixture
def folder(toy, tmp_path):
    """folder(config): the toy model's folder with this scheduler_config.json."""

    def make(config):
        made = shutil.copytree(toy, tmp_path / "model", dirs_exist_ok=True)
        (made / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
        return made

    return make


def test_a1_four_steps_of_playground_visit_the_published_levels(folder):
    model = load(str(folder(PLAYGROUND)), "cpu", "float32")
    sigmas, _ = levels_of(model.with_defaults(Request("x", steps=4)), model.levels, False)
    assert sigmas == pytest.approx([80, 9.723, 0.47, 0.002, 0], rel=1e-3)


@pytest.mark.parametrize("config", [PLAYGROUND, COSXL])
def test_a1_an_edm_network_is_asked_as_diffusers_asks_it(folder, config):
    import diffusers

    found = checkpoint.read(str(folder(config)))
    ours = preconditioning(found.levels, found.prediction)
    judge = getattr(diffusers, config["_class_name"]).from_config(config)
    judge.set_timesteps(5)
    x, out = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for sigma, t in zip(judge.sigmas[:-1].double(), judge.timesteps, strict=True):
        assert torch.allclose(
            ours.scaled(x, float(sigma)), judge.precondition_inputs(x, sigma).float(), rtol=1e-5
        )
        assert ours.timestep(float(sigma)) == pytest.approx(float(t), abs=1e-5)
        expected = judge.precondition_outputs(x, out, sigma).float()
        assert torch.allclose(ours.denoised(x, out, float(sigma)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [PLAYGROUND, COSXL])
def test_a1_an_edm_folder_is_drawn_with_levels_and_sampler_of_its_own(sd, toy, folder, config):
    plain = sd("txt2img", "x", "-m", toy, "--steps", 2, "--seed", 1, "-o", "a.png")
    edm = sd("txt2img", "x", "-m", folder(config), "--steps", 2, "--seed", 1, "-o", "b.png")
    assert (plain.code, edm.code) == (0, 0), edm.err
    assert config["_class_name"] in sd("info", folder(config)).out.decode()


@pytest.mark.parametrize("steps", [3, 6])
@pytest.mark.parametrize("config", [PLAYGROUND, COSXL])
def test_a1_the_run_is_that_of_diffusers_scheduler(folder, config, steps):
    import diffusers

    from sdcli import registry

    model = load(str(folder(config)), "cpu", "float32")
    job = model.with_defaults(Request("x", steps=steps))
    sigmas, _ = levels_of(job, model.levels, False)
    ours = preconditioning(model.levels, model.prediction)

    def network(scaled, t):
        return torch.sin(3 * scaled + t)

    def denoise(x, sigma):
        return ours.denoised(x, network(ours.scaled(x, sigma), ours.timestep(sigma)), sigma)

    judge = getattr(diffusers, config["_class_name"]).from_config(config)
    judge.set_timesteps(steps)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * judge.init_noise_sigma
    theirs = x
    for t in judge.timesteps:
        out = network(judge.scale_model_input(theirs, t), float(t))
        theirs = judge.step(out, t, theirs).prev_sample
    *_, end = registry.find("samplers", job.sampler)(denoise, x, sigmas, lambda *_: torch.zeros_like(x))
    assert torch.allclose(end, theirs, atol=2e-3)


@pytest.mark.parametrize(
    ("markers", "levels", "prediction"),
    [
        ({"edm_mean": [0.5] * 4, "edm_std": [2.0] * 4}, (0.002, 80.0, 0.5), "epsilon"),
        (
            {"edm_vpred.sigma_max": [120.0], "edm_vpred.sigma_min": [0.002]},
            (0.002, 120.0, 1.0),
            "v_prediction",
        ),
    ],
)
def test_a1_a_single_file_with_markers_of_edm_is_drawn_as_edm(sd, markers, levels, prediction):
    assert sd("models", "convert", "test:sdxl", "plain.safetensors").code == 0
    with safe_open("plain.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = {key: text for key, text in file.metadata().items() if "prediction" not in key}
    marked = tensors | {key: torch.tensor(value) for key, value in markers.items()}
    save_file(marked, "edm.safetensors", metadata)
    found = checkpoint.read("edm.safetensors")
    assert found.prediction == prediction
    table = found.levels
    assert (table.sigma_min, table.sigma_max, table.sigma_data) == pytest.approx(levels)
    means = found.components["vae"].config.get("latents_mean")
    assert means == ([0.5] * 4 if "edm_mean" in markers else None)
    pictures = []
    for model in ("plain", "edm"):
        ran = sd(
            "txt2img", "a cat", "-m", f"{model}.safetensors", "--seed", "1", "-s", "2", "-o", f"{model}.png"
        )
        assert ran.code == 0
        with Image.open(f"{model}.png") as image:
            pictures.append(image.tobytes())
    assert pictures[0] != pictures[1]
