"""LoRAs are merged into the weights, and leave them bit for bit as they were."""

import hashlib

import pytest
import torch

from sdcli.adapters.lora import Loras
from sdcli.engine import generate
from sdcli.models import memory
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.pipeline.loras import loras_of
from sdcli.request.request import Request
from tests.adapters import loras

MODELS = ("test:sd1", "test:sd2", "test:sdxl")


def request(model="test:sd1", **changes):
    return Request(
        **{"prompt": "a cat", "model": model, "seed": 3, "steps": 3, "sampler": "euler", **changes}
    )


def fingerprint(model) -> str:
    found = hashlib.sha256()
    for module in model.networks.modules.values():
        for tensor in module.state_dict().values():
            found.update(tensor.flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def pixels(result):
    return result.picture.image.tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_the_merged_weight_is_the_base_plus_strength_alpha_over_rank_times_up_down(name, tmp_path):
    path = loras.write(tmp_path / "a.safetensors", name, alpha=3.0)
    model = load(name, "cpu", "float32")
    before = {
        part: {k: v.clone() for k, v in net.state_dict().items()} for part, net in model.networks.items()
    }
    job = model.with_defaults(request(name, lora=(f"{path}@0.5",)))
    with model.networks.adapted([loras_of(model, job).adapted]):
        for (part, module), (down, up) in loras.weights(name).items():
            own = before[part][f"{module}.weight"]
            change = (up.flatten(1) @ down.flatten(1)).reshape(own.shape)
            merged = model.networks[part].get_parameter(f"{module}.weight")
            assert torch.allclose(merged, own + 0.5 * 3.0 / loras.RANK * change, atol=1e-6)


@pytest.mark.parametrize("naming", loras.NAMINGS)
@pytest.mark.parametrize("name", MODELS)
def test_every_naming_of_one_lora_draws_the_same_picture(name, naming, tmp_path):
    first = loras.write(tmp_path / "a.safetensors", name)
    same = loras.write(tmp_path / "b.safetensors", name, naming=naming)
    models = ModelCache()
    assert pixels(generate(request(name, lora=(str(first),)), models)) == pixels(
        generate(request(name, lora=(str(same),)), models)
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_in_and_out_leaves_every_weight_as_it_was(dtype, tmp_path):
    path = loras.write(tmp_path / "a.safetensors")
    model = load("test:sd1", "cpu", dtype)
    before = fingerprint(model)
    job = model.with_defaults(request(lora=(f"{path}@0.7",)))
    with model.networks.adapted([loras_of(model, job).adapted]):
        assert fingerprint(model) != before
    assert fingerprint(model) == before


def test_an_error_in_the_middle_of_a_merge_leaves_every_weight_as_it_was(tmp_path):
    path = loras.write(tmp_path / "a.safetensors")
    model = load("test:sd1", "cpu", "float32")
    before = fingerprint(model)
    adapter = loras_of(model, model.with_defaults(request(lora=(str(path),))))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with (
        pytest.raises(Exception, match="was cut while it was read"),
        model.networks.adapted([adapter.adapted]),
    ):
        pass
    assert fingerprint(model) == before


@pytest.mark.parametrize("changes", [{"lora": ()}, {"lora": ("{}@0",)}, {"lora": ("{}@0.8:unet=0:te=0",)}])
def test_a_strength_of_0_draws_the_plain_picture(changes, tmp_path):
    path = loras.write(tmp_path / "a.safetensors")
    options = tuple(text.format(path) for text in changes["lora"])
    assert pixels(generate(request(lora=options))) == pixels(generate(request()))
    assert pixels(generate(request(lora=(str(path),)))) != pixels(generate(request()))


def test_two_loras_draw_the_same_picture_in_either_order(tmp_path):
    options = [f"{loras.write(tmp_path / f'{i}.safetensors', seed=i)}@0.{i + 3}" for i in range(3)]
    models = ModelCache()
    drawn = {
        pixels(generate(request(lora=tuple(options[i] for i in order)), models))
        for order in [(0, 1, 2), (2, 1, 0), (1, 0, 2)]
    }
    assert len(drawn) == 1


def test_a_lora_twice_counts_with_the_sum_of_its_strengths(tmp_path):
    path = loras.write(tmp_path / "a.safetensors")
    twice = generate(request(lora=(f"{path}@0.25", f"{path}@0.5")))
    assert pixels(twice) == pixels(generate(request(lora=(f"{path}@0.75",))))


def test_the_picture_is_the_same_with_networks_one_at_a_time(tmp_path, monkeypatch):
    asked = request(lora=(str(loras.write(tmp_path / "a.safetensors")),))
    ample = generate(asked)
    parts = load("test:sd1", "cpu", "float32").networks.modules.values()
    largest = max(sum(4 * p.numel() for p in part.parameters()) for part in parts)
    monkeypatch.setattr(memory, "free", lambda device: 1.25 * largest)
    scarce = generate(asked)
    assert (ample.networks, scarce.networks) == ("all at once", "one at a time")
    assert scarce.picture.png() == ample.picture.png()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("steps", ["", ":0-0.5"])
def test_the_picture_is_the_same_with_weights_streamed_layer_by_layer(tmp_path, dtype, steps):
    option = f"{loras.write(tmp_path / 'a.safetensors')}@0.7{steps}"
    whole, streamed = (
        generate(request(lora=(option,), dtype=dtype, stream=stream)) for stream in (False, True)
    )
    assert pixels(streamed) == pixels(whole)


def test_the_next_picture_is_drawn_without_the_lora(tmp_path):
    models = ModelCache()
    plain = generate(request(), models)
    generate(request(lora=(str(loras.write(tmp_path / "a.safetensors")),)), models)
    assert pixels(generate(request(), models)) == pixels(plain)


def test_the_networks_of_diffusers_take_a_lora_too(tmp_path):
    option = str(loras.write(tmp_path / "a.safetensors"))
    ours = generate(request(lora=(option,))).latents
    theirs = generate(request(lora=(option,), networks="diffusers")).latents
    plain = generate(request()).latents
    assert torch.allclose(ours, theirs, atol=1e-3)
    assert not torch.allclose(ours, plain, atol=1e-2)


# --- some of the steps


def test_a_lora_for_all_the_steps_in_two_halves_is_the_merged_one(tmp_path):
    path = loras.write(tmp_path / "a.safetensors", parts=("unet",))
    whole = generate(request(steps=4, lora=(str(path),))).latents
    halves = generate(request(steps=4, lora=(f"{path}@1:0-0.5", f"{path}@1:0.5-1"))).latents
    assert torch.allclose(whole, halves, atol=1e-3)


def test_a_lora_for_the_first_half_changes_nothing_in_the_second(tmp_path):
    path = loras.write(tmp_path / "a.safetensors", parts=("unet",))
    seen = {}
    for name, options in (("first", (f"{path}@1:0-0.5",)), ("whole", (str(path),)), ("none", ())):
        steps = []

        def watch(each, steps=steps):
            for step in each:
                steps.append(step.x.clone())
                yield step

        generate(request(steps=4, lora=options), watch=watch)
        seen[name] = steps
    assert torch.allclose(seen["first"][1], seen["whole"][1], atol=1e-3)
    assert not torch.allclose(seen["first"][3], seen["whole"][3], atol=1e-3)
    assert not torch.allclose(seen["first"][0], seen["none"][0], atol=1e-3)


def test_a_lora_for_some_steps_leaves_no_trace_in_the_model(tmp_path):
    path = loras.write(tmp_path / "a.safetensors")
    model = load("test:sd1", "cpu", "float32")
    before = fingerprint(model)
    job = model.with_defaults(request(lora=(f"{path}@1:0.2-0.5",)))
    with model.networks.adapted([loras_of(model, job).adapted]):
        pass
    assert fingerprint(model) == before
    assert not any("forward" in vars(each) for net in model.networks.values() for each in net.modules())


def test_without_changes_nothing_is_read():
    def read(part, names):
        assert not names
        return iter(())

    with Loras([], read).adapted("unet", torch.nn.Linear(1, 1)):
        pass
