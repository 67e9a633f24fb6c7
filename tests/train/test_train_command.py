"""`sd train`: faults are told before torch is loaded; what is made on the way; progress and results."""

import json
import sys

import pytest
import torch
from PIL import Image

from sdcli.errors import ModelError
from sdcli.models.cache import ModelCache
from sdcli.train.optimizers import optimizer_of, rate
from sdcli.train.plan import make_plan
from sdcli.train.plot import as_table, plot_losses, running_means
from sdcli.train.settings import LoraTraining
from tests.test_imports import RUN, among, loaded
from tests.train.folders import lora_settings, train, write_pictures


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures", ((64, 64), (64, 64)))


LORA = ("train", "lora", "-m", "test:sd1", "-s", 2, "--rank", 2)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["-o", "x.safetensors"], 2, "--data is missing"),
        (["--data", "pictures"], 2, "-o is missing"),
        (["--data", "none", "-o", "x.safetensors"], 2, "there is no such folder"),
        (["--data", "pictures", "-o", "x.png"], 2, "name it x.png.safetensors"),
        (["--data", "pictures", "-o", "there.safetensors"], 2, "exists, and nothing is overwritten"),
        (["--data", "broken", "-o", "x.safetensors"], 4, "bad.png: is text"),
        (["--data", "pictures", "-o", "x.safetensors", "-m", "no-such"], 3, "no-such"),
        (
            ["--data", "pictures", "-o", "x.safetensors", "--optimizer", "prodigy"],
            2,
            "pip install prodigyopt",
        ),
        (["--data", "pictures", "-o", "x.safetensors", "--optimizer", "adam"], 2, "adamw"),
        (["--data", "pictures", "-o", "x.safetensors", "--sample-every", "3"], 2, "add --sample"),
        (["--data", "pictures", "-o", "x.safetensors", "--alpha", "0"], 2, "scales the LoRA to nothing"),
        (["--data", "pictures", "-o", "x.safetensors", "--rank", "0"], 2, "--rank: 0 is outside"),
        (["--data", "pictures", "-o", "there.safetensors/x.safetensors"], 6, "is a file, not a folder"),
    ],
)
def test_a_fault_is_one_line_with_its_exit_code(sd, folder, tmp_path, arguments, code, reason):
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bad.png").write_bytes(b"no picture")
    ran = sd("train", "lora", "-s", 1, *arguments)
    assert (ran.code, len(ran.err.splitlines()), ran.out) == (code, 1, b""), ran.err
    assert reason in ran.err
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"


def test_faults_are_told_before_torch_is_loaded(folder, tmp_path):
    (folder / "bad.png").write_bytes((folder / "0.png").read_bytes()[:100])
    arguments = ("train", "lora", "-m", "test:sd1", "--data", str(folder), "-o", "x.safetensors")
    code, modules, errors = loaded(RUN, *arguments, cwd=tmp_path)
    assert (code, "bad.png" in errors) == (4, True)
    assert among(modules, ["torch"]) == set()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("test:inpaint", "an inpainting model is told the mask"),
        ("test:depth", "train on the Stable Diffusion 2 base model"),
        ("test:pix2pix", "told the picture to edit"),
        ("test:x4", "an upscaler is told the small picture"),
        ("test:refiner", "train on the SDXL base model"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_by_name(folder, model, reason):
    with pytest.raises(ModelError, match=f"^{model} cannot be trained: .*{reason}"):
        make_plan(lora_settings(folder, model=model), ModelCache())


def test_the_path_is_printed_and_what_was_made_on_the_way_lies_beside_it(sd, folder, tmp_path):
    ran = sd(*LORA, "--data", folder, "-o", "style.safetensors", "--save-every", 1, "--sample", "a cat", "--sample",
             "a dog", "--sample-every", 2)  # fmt: skip
    assert (ran.code, ran.lines) == (0, ["style.safetensors"]), ran.err
    found = {
        str(path.relative_to(tmp_path)) for path in (tmp_path / "style-training").rglob("*") if path.is_file()
    }
    samples = {f"samples/{step:06}-{number}.png" for step in (0, 2) for number in (1, 2)}
    own = {"losses.png", "losses.csv", "samples.png", *samples}
    own |= {f"step-{step:06}/style.safetensors" for step in (1, 2)}
    assert found == {f"style-training/{each}" for each in own}
    with Image.open(tmp_path / "style-training" / "samples.png") as sheet:
        assert sheet.width > 2 * 64 and sheet.height > 2 * 64
    last = (tmp_path / "style-training" / "step-000002" / "style.safetensors").read_bytes()
    assert last == (tmp_path / "style.safetensors").read_bytes()


def test_a_sample_is_what_txt2img_draws_with_the_file(sd, folder, tmp_path):
    sd(*LORA, "--data", folder, "-o", "style.safetensors", "--lr", 0.1, "--sample", "a cat", "--seed", 5)
    drawn = sd(
        "txt2img", "a cat", "-m", "test:sd1", "--lora", "style.safetensors", "--seed", 5, "-o", "own.png"
    )
    assert drawn.code == 0, drawn.err
    own, sample, before = (
        Image.open(tmp_path / path).tobytes()
        for path in ("own.png", "style-training/samples/000002-1.png", "style-training/samples/000000-1.png")
    )
    assert own == sample != before


def test_json_tells_the_result(sd, folder):
    ran = sd(*LORA, "--data", folder, "-o", "style.safetensors", "--json")
    report = json.loads(ran.lines[0])
    assert (report["path"], report["steps"], report["pictures"]) == ("style.safetensors", 2, 2)
    assert report["loss"] > 0


def test_a_word_is_trained_and_drawn_with(sd, folder):
    ran = sd("train", "embedding", "-m", "test:sd1", "--data", folder, "--word", "<mine>", "-s", 2, "-o",
             "mine.safetensors", "--vectors", 2, "--sample", "a <mine>")  # fmt: skip
    assert (ran.code, ran.lines) == (0, ["mine.safetensors"]), ran.err
    drawn = sd(
        "txt2img", "a <mine>", "-m", "test:sd1", "--embedding", "mine.safetensors", "--seed", 1, "-s", 2
    )
    assert drawn.code == 0, drawn.err


def test_an_optimizer_of_an_installed_package_is_used(folder, tmp_path, monkeypatch):
    package = tmp_path / "site"
    package.mkdir()
    (package / "prodigyopt.py").write_text(
        "import torch\nclass Prodigy(torch.optim.SGD):\n"
        "    def __init__(self, parameters, lr, weight_decay):\n"
        "        super().__init__(parameters, lr=lr, weight_decay=weight_decay)\n"
    )
    monkeypatch.syspath_prepend(package)
    _, losses = train(lora_settings(folder, optimizer="prodigy", lr=1.0))
    assert len(losses) == 2
    assert type(optimizer_of("prodigy", [torch.zeros(1)], 1.0)).__module__ == "prodigyopt"
    monkeypatch.delitem(sys.modules, "prodigyopt")


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [2, 2, 2]), ("linear", [2, 1, 0]), ("cosine", [2, 1, 0])],
)
def test_the_learning_rate_stays_or_falls_to_zero(schedule, rates):
    assert [rate(2.0, schedule, done, 10) for done in (0, 5, 10)] == pytest.approx(rates)


def test_the_running_mean_of_equal_losses_is_that_loss():
    assert running_means([0.25] * 50) == pytest.approx([0.25] * 50)
    assert running_means([1.0, 3.0]) == [1.0, 3.0]  # a tenth of two steps is one step


@pytest.mark.parametrize("losses", [[], [0.0], [1.0, float("inf")], [0.5] * 3000])
def test_any_losses_are_drawn(losses):
    assert plot_losses(losses).startswith(b"\x89PNG")


def test_the_table_of_losses_keeps_every_digit():
    assert as_table([0.1, 1 / 3]) == b"step,loss\n1,0.1\n2,0.3333333333333333\n"


def test_every_setting_has_a_help_that_is_a_sentence():
    assert all(
        each.metadata["option"].help.endswith((".", ")"))
        for each in LoraTraining.__dataclass_fields__.values()
    )
