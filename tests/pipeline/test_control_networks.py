"""--control: what control networks add to a picture, at which steps, in which rows, and where."""

import numpy as np
import pytest
import torch
from PIL import Image

from sdcli.engine import generate
from sdcli.models.architectures.controlnet import ControlNet
from sdcli.models.architectures.t2i_adapter import T2IAdapter
from sdcli.models.cache import ModelCache
from sdcli.pipeline import latents_file, unet
from sdcli.request.request import Request
from tests import control_files

SEED, STEPS = 7, 4


@pytest.fixture(scope="module")
def models():
    return ModelCache()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    for model in ("sd1", "sd2", "sdxl"):
        control_files.controlnet(folder, f"test:{model}", f"{model}.safetensors")
    for name, model, kind in (
        ("t2i", "test:sd1", "t2i"),
        ("light", "test:sd1", "t2i-light"),
        ("t2i-xl", "test:sdxl", "t2i"),
        ("union", "test:sdxl", "union"),
    ):
        control_files.write(folder / f"{name}.safetensors", control_files.weights(model, kind))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / "hint.png")
    return folder


def drawn(models, *controls, model="test:sd1", **more):
    request = Request("a cat", model=model, seed=SEED, steps=STEPS, sampler="euler", control=controls, **more)
    return generate(request, models)


def control(folder, name="sd1", **settings):
    text = f"{folder / name}.safetensors:image={folder / 'hint.png'}"
    return text + "".join(f":{key}={value}" for key, value in settings.items())


@pytest.mark.parametrize("name", ["sd1", "t2i", "light"])
def test_a_control_changes_the_picture_and_weight_0_changes_no_bit(models, folder, name):
    plain = drawn(models)
    assert not torch.equal(drawn(models, control(folder, name)).latents, plain.latents)
    assert torch.equal(drawn(models, control(folder, name, weight=0)).latents, plain.latents)


@pytest.mark.parametrize(
    ("model", "name", "more"),
    [
        ("test:sd2", "sd2", {}),
        ("test:sdxl", "sdxl", {}),
        ("test:sdxl", "t2i-xl", {}),
        ("test:sdxl", "union", {"type": "canny"}),
    ],
)
def test_nets_of_the_other_families_change_the_picture(models, folder, model, name, more):
    plain = drawn(models, model=model)
    assert not torch.equal(drawn(models, control(folder, name, **more), model=model).latents, plain.latents)


def test_two_controls_differ_from_each_alone(models, folder):
    one, other = control(folder, "sd1"), control(folder, "t2i")
    results = [drawn(models, *controls).latents for controls in ((one,), (other,), (one, other))]
    assert not any(torch.equal(results[2], each) for each in results[:2])


def test_a_control_with_half_the_weight_twice_is_that_control(models, folder):
    whole = drawn(models, control(folder)).latents
    halves = drawn(models, *[control(folder, weight=0.5)] * 2).latents
    assert torch.allclose(whole, halves, atol=1e-4)


def test_the_kind_that_a_union_net_is_told_changes_the_picture(models, folder):
    canny, depth = (
        drawn(models, control(folder, "union", type=type), model="test:sdxl").latents
        for type in ("canny", "depth")
    )
    assert not torch.equal(canny, depth)


def spied(monkeypatch):
    """(timestep, what is added) of each call of the U-Net."""
    calls = []
    call_unet = unet.call_unet

    def spy(model, x, t, conds, class_label=None, control=None, guidance_scale=None):
        calls.append((t, control))
        return call_unet(model, x, t, conds, class_label, control, guidance_scale)

    monkeypatch.setattr(unet, "call_unet", spy)
    return calls


@pytest.mark.parametrize(
    ("like", "start", "end", "steps"),
    [
        ("a1111", 0, 0.5, [0, 1, 2]),  # 2 / 4 <= 0.5
        ("a1111", 0.3, 1, [2, 3]),
        ("sdcli", 0.5, 0.5, [2]),
        ("diffusers", 0, 0.5, [0, 1]),  # (1 + 1) / 4 <= 0.5
        ("diffusers", 0.3, 1, [2, 3]),
        ("comfyui", 0, 0.5, [0, 1]),  # by timesteps: 999, 749.25, 499.5, 249.75 with the schedule below
        ("comfyui", 0.5, 1, [2, 3]),
    ],
)
def test_a_control_counts_in_the_steps_between_start_and_end(
    models, folder, monkeypatch, like, start, end, steps
):
    calls = spied(monkeypatch)
    drawn(models, control(folder, start=start, end=end), like=like, schedule="uniform")
    assert [i for i, (_, added) in enumerate(calls) if added is not None] == steps


def test_steps_outside_the_range_have_the_bits_of_a_plain_picture(models, folder):
    plain = drawn(models, stop_after=2).latents
    later = drawn(models, control(folder, start=0.7), stop_after=2).latents
    assert torch.equal(plain, later)


def test_both_evaluations_of_a_step_by_heun_know_their_noise_level(models, folder, monkeypatch):
    calls = spied(monkeypatch)
    request = Request(
        "a cat", model="test:sd1", seed=SEED, steps=STEPS, sampler="heun", control=(control(folder, end=0.3),)
    )
    generate(request, models)
    by_level = {}
    for t, added in calls:
        by_level.setdefault(t, set()).add(added is not None)
    assert all(len(answers) == 1 for answers in by_level.values())


def rows_of(added):
    """Whether anything is added to the row of the negative prompt, and to that of the prompt."""
    return [bool(row.any()) for row in added.mid]


def test_the_modes_are_those_of_a1111(models, folder, monkeypatch):
    calls = spied(monkeypatch)
    for mode in ("balanced", "prompt", "control"):
        drawn(models, control(folder, mode=mode, weight=0.5))
    balanced, prompt, by_net = (calls[i * STEPS][1] for i in range(3))
    factors = [0.825 ** (12 - i) for i in range(len(balanced.down) + 1)]
    for factor, one, soft, alone in zip(
        factors,
        [*balanced.down, balanced.mid],
        [*prompt.down, prompt.mid],
        [*by_net.down, by_net.mid],
        strict=True,
    ):
        assert torch.allclose(soft, one * factor, atol=1e-6)
        assert torch.allclose(alone, torch.stack([torch.zeros_like(soft[0]), soft[1]]), atol=1e-6)
    assert (rows_of(balanced), rows_of(by_net)) == ([True, True], [False, True])


def test_a_net_for_shuffled_pictures_adds_means_to_the_prompt_alone(models, folder, monkeypatch):
    calls = spied(monkeypatch)
    drawn(models, control(folder))
    drawn(models, control(folder, pool="yes"))
    plain, pooled = calls[0][1], calls[STEPS][1]
    assert rows_of(pooled) == [False, True]
    assert torch.allclose(pooled.mid[1:], plain.mid[1:].mean((2, 3), keepdim=True), atol=1e-5)


def test_each_window_sees_its_part_of_the_hint(models, folder, tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    hints = []
    encode = ControlNet.encode_hint
    monkeypatch.setattr(ControlNet, "encode_hint", lambda net, hint: hints.append(hint) or encode(net, hint))
    wide = control(folder).replace(str(folder / "hint.png"), str(tmp_path / "wide.png"))
    drawn(models, wide, width=128, height=64, window=64)
    whole = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
    assert [hint.shape[-1] for hint in hints] == [64, 64, 64]  # once a window, whatever the number of steps
    assert torch.equal(hints[0], whole[..., :64])
    assert torch.equal(hints[-1], whole[..., 64:])


def test_a_second_pass_is_shown_the_hint_at_its_size(models, folder, monkeypatch):
    sizes = []
    encode = ControlNet.encode_hint
    monkeypatch.setattr(
        ControlNet, "encode_hint", lambda net, hint: sizes.append(tuple(hint.shape[2:])) or encode(net, hint)
    )
    drawn(models, control(folder), hires=1.5)
    assert sizes == [(64, 64), (96, 96)]


@pytest.mark.parametrize(("like", "soft"), [("a1111", True), ("sdcli", False)])
def test_edges_count_less_in_the_second_pass_of_a1111(models, folder, monkeypatch, like, soft):
    calls = spied(monkeypatch)
    for mode in ("balanced", "prompt"):
        drawn(
            models,
            control(folder, annotate="canny", mode=mode),
            like=like,
            hires=1.5,
            hires_by="latents",
            cfg=1,
        )
    balanced, prompt = calls[: len(calls) // 2], calls[len(calls) // 2 :]
    second = next(i for i, (_, added) in enumerate(balanced) if added.mid.shape != balanced[0][1].mid.shape)
    ratio = balanced[second][1].down[0].norm() / prompt[second][1].down[0].norm()
    assert bool(0.5 < ratio < 2) is soft


@pytest.mark.parametrize("name", ["sd1", "t2i"])
def test_the_networks_of_diffusers_take_what_controls_add(models, folder, name):
    ours, theirs = (
        drawn(ModelCache(), control(folder, name), networks=code).latents for code in ("sdcli", "diffusers")
    )
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_a_net_sees_the_latents_alone_of_an_inpainting_model(models, folder, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    more = {"image": str(folder / "hint.png"), "mask": str(tmp_path / "mask.png"), "model": "test:inpaint"}
    plain, controlled = (drawn(models, *controls, **more).latents for controls in ((), (control(folder),)))
    assert not torch.equal(plain, controlled)


def test_a_net_for_inpainting_is_shown_minus_1_where_the_mask_is_white(models, folder, tmp_path, monkeypatch):
    hints = []
    encode = ControlNet.encode_hint
    monkeypatch.setattr(ControlNet, "encode_hint", lambda net, hint: hints.append(hint) or encode(net, hint))
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    more = {"image": str(folder / "hint.png"), "mask": str(tmp_path / "mask.png"), "mask_blur": 0}
    for masked in ("yes", "no"):
        drawn(models, control(folder, masked=masked), **more)
    picture = torch.from_numpy(np.asarray(Image.open(folder / "hint.png"), np.float32) / 255).permute(2, 0, 1)
    cut = picture.where(torch.from_numpy(mask) == 0, torch.tensor(-1.0))
    assert torch.equal(hints[0][0], cut)
    assert torch.equal(hints[1][0], picture)


def test_without_a_picture_of_its_own_a_control_is_shown_the_one_to_start_from(models, folder):
    more = {"image": str(folder / "hint.png"), "strength": 0.5}
    own = drawn(models, control(folder), **more).latents
    assert torch.equal(own, drawn(models, f"{folder / 'sd1'}.safetensors", **more).latents)


def test_a_control_lora_is_the_unets_own_weights_and_a_product(models, folder):
    """A net whose weights are the U-Net's plus a product of two factors, written whole and as a Control-LoRA."""
    whole, lora, difference = control_files.on_top_of("test:sd1", models)
    for name, tensors in (("whole", whole), ("lora", lora), ("difference", difference)):
        control_files.write(folder / f"{name}.safetensors", tensors)
    expected = drawn(models, control(folder, "whole")).latents
    assert torch.allclose(drawn(models, control(folder, "lora")).latents, expected, atol=1e-3)
    assert torch.allclose(drawn(models, control(folder, "difference")).latents, expected, atol=1e-3)
    assert not torch.allclose(drawn(models).latents, expected, atol=1e-1)


def test_a_picture_that_tiles_is_controlled_by_convolutions_that_wrap(models, folder):
    plain, wrapped = (drawn(models, control(folder), tile=tile).latents for tile in ("none", "both"))
    assert not torch.equal(plain, wrapped)
    assert torch.equal(drawn(models, control(folder)).latents, plain)


def test_the_same_net_is_loaded_once_for_several_pictures(models, folder, monkeypatch):
    drawn(models, control(folder))
    loaded = []
    monkeypatch.setattr("sdcli.models.control.load_weights", lambda *rest: loaded.append(rest))
    drawn(models, control(folder, weight=0.3))
    assert loaded == []


def test_an_adapter_runs_once_a_picture(models, folder, monkeypatch):
    runs = []
    forward = T2IAdapter.forward
    monkeypatch.setattr(T2IAdapter, "forward", lambda net, hint: runs.append(hint) or forward(net, hint))
    drawn(models, control(folder, "t2i"))
    assert len(runs) == 1


def test_a_stopped_run_with_a_control_goes_on_bit_for_bit(models, folder, tmp_path):
    controls = (control(folder, start=0.2, end=0.7),)
    half = drawn(models, *controls, stop_after=2)
    (tmp_path / "half.safetensors").write_bytes(
        latents_file.to_bytes(half.latents, half.sigma, half.recording)
    )
    rest = drawn(models, *controls, latents_in=str(tmp_path / "half.safetensors"))
    assert torch.equal(rest.latents, drawn(models, *controls).latents)


def test_a_picture_with_a_control_has_the_same_bytes_whatever_was_drawn_before(models, folder):
    alone = drawn(ModelCache(), control(folder)).picture.png()
    assert drawn(models, control(folder)).picture.png() == alone
