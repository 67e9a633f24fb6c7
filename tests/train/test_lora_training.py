"""Training a LoRA: only it is learned, what is drawn is what was trained, and the same run gives the same bytes."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from sdcli.adapters.deltas.branch import branch
from sdcli.adapters.deltas.uses import Use, tensors_of
from sdcli.checkpoints import lora_file
from sdcli.errors import NotFinite
from sdcli.models.cache import ModelCache
from sdcli.pipeline.loras import loras_of
from sdcli.request.request import Request
from sdcli.train import run as running
from sdcli.train.network import predict, with_sizes
from sdcli.train.plan import make_plan
from sdcli.train.run import Loop, encode_example
from tests.train.folders import lora_settings, train, write_pictures

FAMILIES = ["test:sd1", pytest.param("test:sd2", marks=pytest.mark.slow), "test:sd2-v", "test:sdxl"]


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def loop(folder):
    """A training that has not begun: loop(**settings) -> (its loop, its model)."""

    def call(**settings):
        models = ModelCache()
        plan = make_plan(lora_settings(folder, **settings), models)
        with models.use(plan.loading) as model:
            latents = [encode_example(plan, model, i) for i in range(len(plan.examples))]
            return Loop(plan, models, model, latents), model

    return call


def answer(loop, model, number=0):
    """The U-Net's answer to fixed latents, with an example's caption."""
    x = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    cond = with_sizes(loop.trained.conds([number])[0], *loop._sizes(number))
    with torch.no_grad():
        return predict(model, x, torch.tensor([500]), [cond])


@pytest.mark.parametrize("model_name", FAMILIES)
def test_the_file_gives_exactly_the_network_that_was_trained(loop, model_name, tmp_path):
    training, model = loop(model=model_name, lr=0.1, conv_rank=2, alpha=1.0, steps=3)
    plain = answer(training, model)
    list(training.run())
    with model.networks.adapted(training.trained.adapters):
        trained = answer(training, model)
    assert not torch.allclose(trained, plain, atol=1e-3)
    path = str(training.settings.path)

    job = model.with_defaults(Request("a cat", model=model_name, lora=(path,)))
    with model.networks.adapted([loras_of(model, job).adapted]):
        torch.testing.assert_close(answer(training, model), trained, atol=2e-5, rtol=1e-5)

    shapes = {
        part: {k: list(v.shape) for k, v in each.state_dict().items()}
        for part, each in model.networks.items()
    }
    changes, left = lora_file.changes(lora_file.read_header(training.settings.path), model_name, shapes)
    assert left == [] and len(changes) == len(training.trained.layers.down)
    layers = []
    for change in changes:
        layer, use = model.unet.get_submodule(change.module.path), Use(change, 1.0, "")
        extra = branch(layer, use, tensors_of(use, torch.device("cpu")), layer.weight)
        vars(layer)["forward"] = lambda x, own=layer.forward, extra=extra: own(x) + extra(x)
        layers.append(layer)
    beside = answer(training, model)
    for layer in layers:
        vars(layer).pop("forward")
    assert torch.equal(beside, trained)
    assert torch.equal(answer(training, model), plain)


@pytest.mark.parametrize("model_name", ["test:sd1", "test:sdxl"])
def test_gradients_reach_the_lora_and_nothing_else(loop, model_name):
    training, model = loop(model=model_name, conv_rank=2, resolution=128)  # below, one token has no attention
    before = {name: each.clone() for name, each in model.unet.state_dict().items()}
    with model.networks.adapted(training.trained.adapters):
        training._step()
        training._loss(1).backward()
    assert all(each.grad is not None and each.grad.abs().max() > 0 for each in training.parameters)
    for network in model.networks.values():
        assert all(each.grad is None for each in network.parameters())
    assert all(torch.equal(each, before[name]) for name, each in model.unet.state_dict().items())
    assert not any("forward" in vars(layer) for layer in model.unet.modules())


def test_the_layers_are_those_that_kohyas_scripts_train(loop):
    training, _ = loop()
    names = list(training.trained.layers.down)
    assert all(".transformer_blocks." in name or name.endswith(("proj_in", "proj_out")) for name in names)
    each = ("attn1", "attn2")
    block = [f"{part}.{own}" for part in each for own in ("to_q", "to_k", "to_v", "to_out.0")]
    block += ["ff.net.0.proj", "ff.net.2"]
    own = {name.split(".transformer_blocks.0.")[1] for name in names if ".transformer_blocks." in name}
    assert own == set(block)


@pytest.mark.parametrize(
    ("model_name", "key"),
    [
        ("test:sd1", "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"),
        ("test:sd2-v", "lora_unet_mid_block_attentions_0_proj_in"),
        ("test:sdxl", "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q"),
    ],
)
def test_the_names_are_those_of_kohyas_scripts(folder, model_name, key):
    plan, _ = train(lora_settings(folder, model=model_name, steps=1, rank=4, alpha=2.0))
    tensors = load_file(plan.settings.path)
    assert tensors[f"{key}.lora_down.weight"].shape[0] == tensors[f"{key}.lora_up.weight"].shape[1] == 4
    assert tensors[f"{key}.alpha"] == 2.0
    assert len(tensors) % 3 == 0


def test_two_runs_give_the_same_bytes_and_another_seed_others(folder, tmp_path):
    files = []
    for i, seed in enumerate((1, 1, 2)):
        plan, _ = train(
            lora_settings(folder, seed=seed, batch=2, out=str(tmp_path / str(i) / "a.safetensors"))
        )
        files.append(plan.settings.path.read_bytes())
    assert files[0] == files[1] != files[2]


def test_gradient_checkpointing_changes_no_bit(folder, tmp_path):
    files = []
    for i, on in enumerate((True, False)):
        out = str(tmp_path / str(i) / "a.safetensors")
        plan, _ = train(lora_settings(folder, gradient_checkpointing=on, out=out, conv_rank=2, lr=0.01))
        files.append(load_file(plan.settings.path))
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])


def test_the_loss_falls(loop):
    training, model = loop(lr=0.05, steps=25, rank=8, conv_rank=8)

    def mean_loss():
        with torch.no_grad(), model.networks.adapted(training.trained.adapters):
            return sum(float(training._loss(number)) for number in range(10_000, 10_008))

    before = mean_loss()
    list(training.run())
    assert mean_loss() < 0.9 * before


def test_accumulation_averages_the_losses_and_gradients_of_its_batches(loop):
    training, model = loop(accumulate=2, steps=1, lr=0.0)
    with model.networks.adapted(training.trained.adapters):
        losses = [training._loss(number) for number in (0, 1)]
        expected = torch.autograd.grad((losses[0] + losses[1]) / 2, training.parameters)
        training.optimizer.step = lambda: seen.extend(each.grad.clone() for each in training.parameters)
        seen = []
        assert training._step() == pytest.approx(float((losses[0] + losses[1]).detach()) / 2, rel=1e-6)
    for gradient, own in zip(seen, expected, strict=True):
        torch.testing.assert_close(gradient, own)


def test_captions_of_several_lengths_are_learned_in_one_batch(folder):
    (folder / "0.txt").write_text("a cat " * 60)
    _, losses = train(lora_settings(folder, batch=2, steps=2))
    assert len(losses) == 2


def test_a_training_that_diverges_is_told_and_leaves_no_file(folder):
    with pytest.raises(NotFinite, match="choose a smaller --lr"):
        train(lora_settings(folder, lr=100.0, steps=50, conv_rank=2))
    assert not (folder.parent / "style.safetensors").exists()


def test_the_metadata_are_true(folder):
    plan, _ = train(lora_settings(folder, model="test:sd2-v", conv_rank=4, alpha=1.0, lr=0.001, batch=3))
    facts = lora_file.read_header(plan.settings.path).header.metadata
    expected = {
        "ss_base_model_version": "sd_v2_768_v", "ss_v2": "True", "ss_network_module": "networks.lora",
        "ss_network_dim": "2", "ss_network_alpha": "1", "ss_learning_rate": "0.001", "ss_steps": "2",
        "ss_batch_size_per_device": "3", "ss_num_train_images": "3", "ss_output_name": "style", "ss_seed": "0",
        "modelspec.architecture": "stable-diffusion-v2-768-v/lora", "modelspec.prediction_type": "v",
    }  # fmt: skip
    assert {key: facts.get(key) for key in expected} == expected
    assert json.loads(facts["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "2"}
    tags = json.loads(facts["ss_tag_frequency"])["data"]
    assert tags == {"a cat": 3, "picture number one": 1, "picture number two": 1, "picture number three": 1}


def test_a_prediction_type_that_is_not_recognised_can_be_told(loop):
    training, model = loop(prediction="v_prediction", ztsnr=True)
    assert model.prediction == "v_prediction" and model.levels.sigma_max > 4095
    assert training.plan.record["prediction"] == "v_prediction"


# --- going on


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGINT])
def test_a_training_that_was_ended_goes_on_to_the_same_weights_and_losses(folder, tmp_path, ends):
    settings = lora_settings(folder)
    arguments = ["-m", "test:sd1", "--data", str(folder), "-s", "100000", "--batch", "2", "--lr", "0.01", "--rank", "2",
                 "--save-every", "2", "-o", str(settings.path), "-q"]  # fmt: skip
    ended = subprocess.Popen([sys.executable, "-m", "sdcli", "train", "lora", *arguments], cwd=tmp_path)
    try:
        while not (settings.folder / "step-000004").exists() and ended.poll() is None:
            time.sleep(0.02)
        ended.send_signal(ends)
        ended.wait()
    finally:
        ended.kill()
        ended.wait()
    assert not settings.path.exists()
    done = make_plan(lora_settings(folder, steps=100000, batch=2, lr=0.01), ModelCache()).done
    assert done >= 2
    steps = done + 2
    gone_on, losses = train(lora_settings(folder, steps=steps, batch=2, lr=0.01))
    assert len(losses) == 2

    whole, _ = train(
        lora_settings(folder, steps=steps, batch=2, lr=0.01, out=str(tmp_path / "w" / "style.safetensors"))
    )
    for own, other in ((gone_on.settings.path, whole.settings.path),
                       *((each.settings.folder / "losses.csv" for each in (gone_on, whole)),)):  # fmt: skip
        assert _without(own) == _without(other)


def _without(path):
    """The bytes of a file, without the metadata that tell how many steps were asked for."""
    return path.read_bytes() if path.suffix == ".csv" else {k: v.tolist() for k, v in load_file(path).items()}


def test_another_setting_does_not_go_on(folder):
    settings = lora_settings(folder, steps=4, save_every=2)
    models = ModelCache()
    steps = running.run(make_plan(settings, models), models)
    while (settings.folder / running.state.NAME).exists() is False:
        next(steps)
    steps.close()
    with pytest.raises(Exception, match=r"another rank was broken off there \(2, now 3\)"):
        make_plan(lora_settings(folder, steps=4, rank=3), models)
    (folder / "0.txt").write_text("changed")
    with pytest.raises(Exception, match="another pictures was broken off"):
        make_plan(settings, models)


def test_nothing_of_a_finished_training_stands_in_the_way_of_the_next(folder):
    plan, _ = train(lora_settings(folder))
    assert not plan.state_path.exists()
    assert sorted(each.name for each in plan.settings.folder.iterdir()) == ["losses.csv", "losses.png"]


def test_a_training_that_is_interrupted_keeps_each_step(folder):
    settings = lora_settings(folder, steps=9)
    models = ModelCache()
    steps = running.run(make_plan(settings, models), models)
    while (progress := next(steps)).doing != "training" or progress.number < 3:
        assert not (settings.folder / running.state.NAME).exists()
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt)
    assert make_plan(settings, models).done == 3
