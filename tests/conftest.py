"""Fixtures that many tests use: a toy model folder, and `sd` run in this process and in an empty folder."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["SD_SETTINGS"] = ""  # whoever runs the tests has settings of their own
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread each: the test processes share the cores

import functools
import io
import json
import math
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from sdcli.checkpoints import toy as toy_models

for _name in [name for name in os.environ if name.startswith("SD_") and name != "SD_SETTINGS"]:
    del os.environ[_name]

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # in the background; programs that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No example has a deadline: a busy machine is no fault of the code.
hypothesis.settings.register_profile(
    "any speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("few", hypothesis.settings.get_profile("any speed"), max_examples=30)


def pytest_configure(config: pytest.Config) -> None:
    """Property tests that do not say how many examples they need take 30, and 100 in scripts/test --all."""
    few = "not slow" in config.option.markexpr
    hypothesis.settings.load_profile("few" if few else "any speed")


TOY = {
    "text_encoder": {
        "vocab_size": 49408, "hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
        "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407,
    },
    "unet": {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": [8, 16],
        "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 2, "cross_attention_dim": 128,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    },
    "vae": {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": [4, 4, 8, 8],
        "layers_per_block": 1, "norm_num_groups": 2, "mid_block_add_attention": False, "scaling_factor": 0.5,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "scheduler": {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
    },
}  # fmt: skip


def make_toy(folder: Path, prediction: str = "v_prediction") -> Path:
    """Write a model folder of random networks, always the same, that diffusers and transformers saved; 64x64 pixels."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPTextModel(CLIPTextConfig(**TOY["text_encoder"])).save_pretrained(folder / "text_encoder")
        UNet2DConditionModel(**TOY["unet"]).save_pretrained(folder / "unet")
        AutoencoderKL(**TOY["vae"]).save_pretrained(folder / "vae")
    (folder / "scheduler").mkdir()
    scheduler = {**TOY["scheduler"], "prediction_type": prediction}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the documentation's examples first: they take longest, and one process must run them all in order."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")


@pytest.fixture(scope="session", autouse=True)
def cache_folder_of_the_tests(tmp_path_factory):
    """`sd` in a process of its own keeps its speeds and hashes here, not in the home folder."""
    os.environ["SDCLI_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def option_names():
    """Errors name options as the command line shows them, in every test; `python_names` is for the others."""
    from sdcli.errors import naming_options

    with naming_options():
        yield


@pytest.fixture
def python_names(option_names):
    """Errors name fields as a Python program sees them."""
    from sdcli.errors import naming_options

    with naming_options(False):
        yield


@pytest.fixture(autouse=True)
def no_remembered_speeds(monkeypatch):
    """No estimate is made from, or written into, the cache of whoever runs the tests."""
    monkeypatch.setattr("sdcli.estimate.cache_folder", lambda: None)


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A model folder of random networks that draws meaningless pictures of 64x64 pixels within milliseconds."""
    folder = make_toy(tmp_path_factory.mktemp("models") / "toy")
    LOADED_ONCE.add(str(folder))
    return folder


LOADED_ONCE = {"tiny", *toy_models.MODELS}
"""The models that no test alters: `sd` in this process loads each once, which takes longer than to draw with it."""


@pytest.fixture(scope="session")
def load_once():
    """load_model, which loads the models that no test alters only once in a session."""
    import torch

    from sdcli.machine import helpful_threads
    from sdcli.models import load, memory

    loaded = {}
    load_model = load.load_model

    @functools.wraps(load_model)
    def call(found, loading):
        if loading.model not in LOADED_ONCE or loading.threads:
            return load_model(found, loading)
        torch.set_num_threads(helpful_threads())
        key = loading, memory.free  # a test may say how much memory is free
        if key not in loaded:
            loaded[key] = load_model(found, loading)
        return loaded[key]

    return call


@pytest.fixture
def shared_models(monkeypatch, load_once):
    """Whatever this test draws in this process, the models that no test alters are loaded once in a session."""
    monkeypatch.setattr("sdcli.models.load.load_model", load_once)


@dataclass
class Ran:
    """The outcome of a run of `sd`: its exit code, its two output streams, and the lines of standard output."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


@pytest.fixture
def sd(tmp_path, monkeypatch, load_once):
    """Run `sd` in this process and in an empty folder: sd("txt2img", "a cat", stdin=b"…") -> Ran.

    It prints no lines of progress, which depend on the machine's speed.
    """
    from sdcli.commands import _batch_output, _download_progress, _generate
    from sdcli.models import load

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_generate, "PROGRESS_INTERVAL", math.inf)
    monkeypatch.setattr(_batch_output, "INTERVAL", math.inf)
    monkeypatch.setattr(_download_progress, "INTERVAL", math.inf)

    def call(*arguments: object, stdin: bytes = b"") -> Ran:
        from sdcli import cli

        out, err = io.BytesIO(), io.BytesIO()
        with monkeypatch.context() as patch:
            if load.load_model is load_once.__wrapped__:  # no test has put another function there
                patch.setattr(load, "load_model", load_once)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8", write_through=True))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding="utf-8", write_through=True))
            code = cli.run([str(argument) for argument in arguments])
            return Ran(code, out.getvalue(), err.getvalue().decode())

    return call


@pytest.fixture
def draw(sd, toy):
    """Draw with the toy model in two steps: draw("a cat", "--seed", 7) -> Ran."""
    return lambda prompt, *rest, **more: sd("txt2img", prompt, "-m", toy, "--steps", 2, *rest, **more)


@pytest.fixture
def shard():
    """Split a network's file into two shards as `save_pretrained` does: shard(folder) -> (index, shard 1, shard 2)."""
    from safetensors.torch import load_file, save_file

    def split(folder: Path) -> tuple[Path, Path, Path]:
        (whole,) = folder.glob("*model.safetensors")
        tensors = load_file(whole)
        keys = sorted(tensors)
        names = [whole.name.replace(".", f"-0000{i}-of-00002.") for i in (1, 2)]
        weight_map = {key: names[i >= len(keys) // 2] for i, key in enumerate(keys)}
        for name in names:
            save_file({key: tensors[key] for key in keys if weight_map[key] == name}, folder / name)
        index = folder / f"{whole.name}.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        whole.unlink()
        return index, *(folder / name for name in names)

    return split


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a single file of a family at toy width, and have it recognised: written("sdxl") -> (family, path)."""
    from dataclasses import replace

    from sdcli import registry
    from sdcli.checkpoints import checkpoint
    from sdcli.checkpoints.family import UNetSignature
    from tests.full_size import write
    from tests.single_file import layout, narrow

    def call(name: str):
        family = registry.find("families", name)
        configs = narrow(family)
        width = configs["unet"]["cross_attention_dim"]
        added = configs["unet"].get("projection_class_embeddings_input_dim", 0)
        small = replace(
            family, configs=configs, signature=UNetSignature(family.signature.channels, width, added)
        )

        def recognise(signature, path):
            assert signature == small.signature
            return small

        monkeypatch.setattr(checkpoint, "recognise", recognise)
        return small, write(tmp_path / f"{name}.safetensors", layout(family, configs))

    return call
