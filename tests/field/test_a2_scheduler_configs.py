"""A2: FlowMatch schedulers, use_flow_sigmas, unknown classes and trained_betas were drawn as plain SD."""

import inspect
import json
import shutil

import pytest
import torch

from sdcli.checkpoints import checkpoint, scheduler
from sdcli.errors import ModelError
from sdcli.registry import find

SD1 = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}  # fmt: skip


def sampling(config):
    return scheduler.sampling(config, find("families", "sd1"), "scheduler_config.json", "epsilon")


REFUSED = [
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
    {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True},
    {"_class_name": "NewScheduler"},
    {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
    {"_class_name": "DDIMScheduler", "thresholding": True, "sample_max_value": 0.5},
    {"_class_name": "DDIMScheduler", "beta_schedul": "linear"},
    {"_class_name": "DDIMScheduler", "trained_betas": [0.1, 0.2]},
]


@pytest.mark.parametrize("config", REFUSED, ids=lambda config: " ".join(map(str, config.values())))
@pytest.mark.parametrize("command", ["txt2img", "info", "models", "convert"])
def test_a2_what_is_not_honoured_is_refused_in_one_line_everywhere(sd, toy, tmp_path, config, command):
    folder = shutil.copytree(toy, tmp_path / "model")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**SD1, **config}))
    if command == "models":
        with pytest.raises(ModelError):
            checkpoint.read(str(folder))
        return
    ran = {
        "txt2img": lambda: sd("txt2img", "x", "-m", folder),
        "info": lambda: sd("info", folder),
        "convert": lambda: sd("models", "convert", folder, "out"),
    }[command]()
    assert ran.code == 3 and ran.err.count("\n") == 1
    assert list(config)[-1] in ran.err or str(config["_class_name"]) in ran.err


def test_a2_trained_betas_are_the_levels():
    betas = torch.linspace(0.001, 0.01, 1000).tolist()
    levels = sampling({**SD1, "_class_name": "DDIMScheduler", "trained_betas": betas}).levels
    a = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)
    assert levels.table == pytest.approx(((1 - a) / a).sqrt().tolist(), rel=1e-6)


def test_a2_squaredcos_cap_v2_is_diffusers_own():
    import diffusers

    judge = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    a = torch.cumprod(1 - judge.betas.double(), 0)
    levels = sampling({**SD1, "_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2"}).levels
    assert levels.table == pytest.approx(((1 - a) / a).sqrt().tolist(), rel=1e-3)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("most", [1.0, 1.5, 10.0])
def test_a2_thresholding_is_that_of_diffusers(ratio, most):
    import diffusers

    estimate = 3 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    keys = {"thresholding": True, "dynamic_thresholding_ratio": ratio, "sample_max_value": most}
    expected = diffusers.DDIMScheduler(**keys)._threshold_sample(estimate)
    threshold = sampling({**SD1, "_class_name": "DDIMScheduler", **keys}).threshold
    assert torch.allclose(threshold.thresholded(estimate), expected, atol=1e-6)


def test_a2_a_folder_with_thresholding_draws_another_picture(sd, toy, tmp_path):
    for name, keys in {"plain": {}, "thresholded": {"thresholding": True}}.items():
        folder = shutil.copytree(toy, tmp_path / name)
        config = {**SD1, "_class_name": "DPMSolverMultistepScheduler", **keys}
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
        assert sd("txt2img", "x", "-m", folder, "--steps", 2, "--seed", 1, "-o", f"{name}.png").code == 0
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "thresholded.png").read_bytes()


@pytest.mark.parametrize("name", [name for name in scheduler.CLASSES if name])
def test_a2_the_table_has_every_key_of_diffusers_class(name):
    import diffusers

    keys = inspect.signature(getattr(diffusers, name).__init__).parameters.keys() - {"self", "kwargs"}
    assert keys <= scheduler.KNOWN


SPACED = [
    name
    for name, each in scheduler.CLASSES.items()
    if name and "timestep_spacing" in each.keys and not each.few_steps
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", SPACED)
def test_a2_the_default_schedule_visits_the_timesteps_of_diffusers_class(name, spacing):
    import diffusers

    config = {
        **SD1,
        "timestep_spacing": spacing,
        "steps_offset": 1,
        "clip_sample": False,
        "skip_prk_steps": True,
    }
    judge = getattr(diffusers, name).from_config({"_class_name": name, **config})
    judge.set_timesteps(10)
    theirs = sorted({float(t) for t in judge.timesteps}, reverse=True)
    found = sampling({"_class_name": name, **config})
    ours = [
        found.levels.t(sigma) for sigma in find("schedules", found.family.schedule)(10, found.levels)[:-1]
    ]
    visited = [min(theirs, key=lambda t: abs(t - our)) for our in ours]  # solvers of two stages visit more
    assert visited == pytest.approx(ours, abs=0.01)


def test_a2_a_consistency_model_is_drawn_in_few_steps():
    family = sampling({**SD1, "_class_name": "LCMScheduler"}).family
    assert (family.sampler, family.schedule, family.steps, family.cfg) == ("lcm", "trailing:among=50", 4, 1.0)


def test_a2_clip_sample_is_refused_for_sdxl_and_off_for_stable_diffusion_1_as_in_diffusers_pipelines():
    config = {**SD1, "_class_name": "DDIMScheduler", "clip_sample": True}
    assert sampling(config) == sampling({**config, "clip_sample": False})
    with pytest.raises(ModelError, match="clip_sample true"):
        scheduler.sampling(config, find("families", "sdxl"), "scheduler_config.json", "epsilon")
