"""Networks in memory all at once, or one at a time where memory is short; the picture is the same."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from sdcli.engine import generate
from sdcli.errors import ModelError, OutOfMemory
from sdcli.models import memory
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.request.request import Request


def sizes(name: str) -> dict[str, int]:
    """Bytes of each network in float32."""
    modules = load(name, "cpu", "float32").networks.modules
    return {part: sum(4 * p.numel() for p in module.parameters()) for part, module in modules.items()}


def limit_memory(monkeypatch, name: str) -> None:
    """Let there be memory for the largest network of this model and its work, and no more."""
    free = 1.25 * max(sizes(name).values())
    monkeypatch.setattr(memory, "free", lambda device: free)


def loaded_parts(model) -> set[str]:
    modules = model.networks.modules.items()
    return {part for part, module in modules if not any(p.is_meta for p in module.parameters())}


MODELS = ["test:sd1", "test:inpaint", "test:sdxl"]


@pytest.mark.parametrize("name", MODELS)
def test_networks_loaded_one_at_a_time_draw_the_same_picture(sd, monkeypatch, name):
    command = ("txt2img", "a cat", "-n", "a dog", "-m", name, "--seed", 1, "-s", 2, "--count", 2, "--json")
    ample = [json.loads(line) for line in sd(*command).lines]
    limit_memory(monkeypatch, name)
    scarce = [json.loads(line) for line in sd(*command).lines]
    assert [told["networks"] for told in ample + scarce] == ["all at once"] * 2 + ["one at a time"] * 2
    for one, other in zip(ample, scarce, strict=True):
        assert Path(one["path"]).read_bytes() == Path(other["path"]).read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_while_memory_is_short_only_one_network_is_in_it(monkeypatch, name):
    limit_memory(monkeypatch, name)
    models, request = ModelCache(), Request("a cat", model=name, seed=1, steps=2)
    with models.use(request.loading) as model:
        seen = [loaded_parts(model)]

    def watch(steps):
        for step in steps:
            seen.append(loaded_parts(model))
            yield step

    generate(request, models, watch)
    assert [*seen, loaded_parts(model)] == [set(), {"unet"}, {"unet"}, {"vae"}]


def test_steps_can_be_decoded_while_memory_is_short(sd, monkeypatch):
    limit_memory(monkeypatch, "test:sd1")
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "-s", 2, "--steps-dir", "steps", "--decode-steps")
    assert (ran.code, ran.err) == (0, "")


def test_while_memory_is_ample_nothing_is_loaded_twice(monkeypatch):
    from sdcli.models import load as module

    parts, real, models = [], module.load_weights, ModelCache()
    monkeypatch.setattr(module, "load_weights", lambda part, *rest: parts.append(part) or real(part, *rest))
    for seed in range(3):
        generate(Request("a cat", model="test:sdxl", seed=seed, steps=1), models)
    assert sorted(parts) == ["text_encoder", "text_encoder_2", "unet", "vae"]


def test_a_faulty_file_is_refused_at_once_however_short_memory_is(monkeypatch, tmp_path, toy):
    limit_memory(monkeypatch, str(toy))
    copy = shutil.copytree(toy, tmp_path / "copy")
    config = copy / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "block_out_channels": [8, 4, 8, 8]}))
    with pytest.raises(ModelError, match=r"missing|of another shape"):
        load(str(copy))


def test_a_model_that_memory_cannot_hold_is_refused_with_the_figures(sd, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: 100_000)
    monkeypatch.setattr(memory, "swap", lambda: 0)
    ran = sd("txt2img", "a cat", "-m", "test:sd1")
    assert (ran.code, len(ran.err.splitlines())) == (5, 1)
    assert "or 0.0 GB with --stream, 0.0 GB are free; --dtype bfloat16 takes half" in ran.err
    with pytest.raises(OutOfMemory, match="choose a smaller model"):
        load("test:sd1", dtype="bfloat16")


def groups(monkeypatch, tmp_path, told: str, files: dict[str, str]) -> None:
    """Let this process be in a container of such control groups, with 8 GB in the machine."""
    proc = {"/proc/meminfo": "MemTotal: 9999 kB\nMemAvailable:    8000000 kB\nSwapFree: 5 kB\n"}
    proc["/proc/self/cgroup"] = told
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    real = memory._text
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_text", lambda path: proc.get(str(path)) or real(path))


GROUPS = {
    "no limit": ("0::/\n", {"memory.max": "max\n", "memory.current": "5"}, 8_192_000_000),
    "version 2": (
        "0::/\n",
        {"memory.max": "3000\n", "memory.current": "2000\n", "memory.stat": "anon 7\ninactive_file 500\n"},
        1500,
    ),
    "a group further out": (
        "0::/a/b\n",
        {"a/memory.max": "3000", "a/memory.current": "1000", "a/b/memory.max": "max"},
        2000,
    ),
    "version 1": (
        "9:cpu:/x\n4:memory:/a\n",
        {
            "memory/a/memory.limit_in_bytes": "4000",
            "memory/a/memory.usage_in_bytes": "1000",
            "memory/a/memory.stat": "total_inactive_file 100",
        },
        3100,
    ),
    "nonsense": ("\n:::\n0::/..\n", {}, 8_192_000_000),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_the_memory_limit_of_a_container_bounds_what_is_free(monkeypatch, tmp_path, kind):
    told, files, expected = GROUPS[kind]
    groups(monkeypatch, tmp_path, told, files)
    assert memory.free(torch.device("cpu")) == expected
    assert memory.swap() == 5 * 1024


def test_where_nothing_can_be_told_everything_stays(monkeypatch):
    monkeypatch.setattr(memory, "_text", lambda path: "")
    assert memory.free(torch.device("cpu")) == math.inf
    assert memory.swap() == 0
