"""A picture that would take very long is refused at once with an estimate; --plan tells it, --allow-slow draws it.

Version 0.1.0 worked on `sd txt2img x -W 8192 -H 8192` on a CPU for 400 seconds without a word.
"""

import json
import subprocess
import sys

import pytest
import torch

from sdcli import estimate as module
from sdcli.commands import _generate
from sdcli.estimate import decoder_operations, duration, unet_operations
from sdcli.models.cache import ModelCache
from sdcli.request.request import Request

HUGE = ["-W", 8192, "-H", 8192]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder for the speeds."""
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "guessed_speed", lambda request: 30e9)
    monkeypatch.setattr(module, "available_memory", lambda: 16e9)
    return tmp_path / "cache"


def test_d11_a_huge_picture_is_refused_with_an_estimate_and_the_option_that_confirms_it(sd, cache):
    ran = sd("txt2img", "x", *HUGE)
    assert ran.code == 2
    assert "8192x8192 pixels take about 3 h 47 min" in ran.err
    assert "--allow-slow" in ran.err


def test_d11_the_answer_comes_without_torch():
    code = "import sys; from sdcli import cli; cli.run(sys.argv[1:]); print('torch' in sys.modules)"
    arguments = ["txt2img", "x", "-W", "8192", "-H", "8192", "--plan"]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"
    assert ran.stdout.startswith("8192x8192: about ")


def test_d11_what_does_not_fit_into_memory_is_refused_and_allow_slow_tries_it(sd, cache, monkeypatch):
    monkeypatch.setattr(module, "available_memory", lambda: 1e5)
    ran = sd("txt2img", "x", "--steps", 1, "-W", 64, "-H", 64)
    assert ran.code == 5
    assert "0.0 GB are free" in ran.err
    assert sd("txt2img", "x", "--steps", 1, "-W", 64, "-H", 64, "--seed", 1, "--allow-slow").code == 0


@pytest.mark.parametrize("command", ["txt2img", "img2img", "inpaint", "outpaint"])
def test_d11_every_drawing_command_plans_and_draws_nothing(sd, cache, tmp_path, command):
    from tests.pictures import half_mask, photo

    photo(512, 512).save("in.png")
    half_mask(512, 512).save("mask.png")
    options = {"txt2img": [], "img2img": ["-i", "in.png"], "inpaint": ["-i", "in.png", "--mask", "mask.png"],
               "outpaint": ["-i", "in.png", "--left", 64]}[command]  # fmt: skip
    before = set(tmp_path.iterdir())
    ran = sd(command, "x", *options, "--plan")
    assert ran.code == 0
    assert "guessed" in ran.lines[0]
    told = json.loads(sd(command, "x", *options, "--plan", "--json").out)["plan"]
    assert told["picture"]["seconds"] > 0
    assert not told["picture"]["measured"]
    assert set(tmp_path.iterdir()) == before


def test_d11_a_picture_that_was_drawn_tells_the_speed_of_the_next(sd, cache):
    request, found = Request("x", seed=1), ModelCache().checkpoint(Request("x").loading)
    module.remember(found, request, 10.0)
    assert "512x512: about 10 s" in sd("txt2img", "x", "--plan").lines[0]
    assert "measured" in sd("txt2img", "x", "--plan").lines[0]
    assert "about 18 s" in sd("txt2img", "x", "--plan", "--steps", 40).lines[0]  # it is decoded once
    assert "guessed" in sd("txt2img", "x", "--plan", "--threads", torch.get_num_threads() + 1).lines[0]
    assert "10 pictures: 2 min" in sd("txt2img", "x", "--plan", "--count", 10).lines[0]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"tiny auto auto sdcli threads=auto": "fast"}', "null",
                                     '{"tiny auto auto sdcli threads=auto": NaN}'])  # fmt: skip
def test_d11_a_damaged_cache_is_no_cache(sd, cache, monkeypatch, content):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cache.mkdir()
    (cache / "speeds.json").write_text(content)
    assert "guessed" in sd("txt2img", "x", "--plan").lines[0]


def test_d11_a_cache_that_cannot_be_written_changes_nothing(cache):
    cache.write_text("a file in the place of the folder")
    found = ModelCache().checkpoint(Request("x").loading)
    module.remember(found, Request("x"), 10.0)
    assert module.estimate(found, Request("x")).measured is False


def test_d11_lines_of_progress_tell_the_time_that_is_left(sd, cache, monkeypatch):
    monkeypatch.setattr(_generate, "PROGRESS_INTERVAL", 0.0)
    ran = sd("txt2img", "x", "-m", "test:sd1", "--steps", 3, "--seed", 1, "-W", 64, "-H", 64)
    assert "step 1 of 3, 1 s left" in ran.err


def test_d11_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    from sdcli.models.load import load
    from sdcli.pipeline import vae
    from sdcli.pipeline.text import encode_prompts
    from sdcli.pipeline.unet import predictor

    found, model = ModelCache().checkpoint(Request("x").loading), load("tiny", "cpu", "float32")
    cond = encode_prompts(model, model.with_defaults(Request("x", seed=1)))[0].parts[0].cond
    with FlopCounterMode(display=False) as counted:
        predictor(model)(torch.zeros(1, 4, 32, 48), 1.0, [cond])
    ours = unet_operations(module._shapes(found.components["unet"]), 32, 48)
    assert ours == pytest.approx(counted.get_total_flops(), rel=0.05)
    with FlopCounterMode(display=False) as counted:
        vae.decode(model, torch.zeros(1, 4, 32, 48))
    ours = decoder_operations(module._shapes(found.components["vae"]), 32, 48)
    assert ours == pytest.approx(counted.get_total_flops(), rel=0.05)


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"),
                                               (7800, "2 h 10 min"), (260_000, "3 days")])  # fmt: skip
def test_d11_durations_are_told_in_words(seconds, text):
    assert duration(seconds) == text


def test_d18_threads_are_taken_recorded_and_used_again(sd):
    options = ["-m", "test:sd1", "--steps", 1, "--seed", 1, "-W", 64, "-H", 64]
    before = torch.get_num_threads()
    try:
        told = json.loads(sd("txt2img", "x", *options, "--threads", 1, "--json").out)
        assert told["threads"] == 1
        assert told["request"]["threads"] == 1
        assert torch.get_num_threads() == 1
        assert sd("txt2img", "x", *options, "--threads", 0).code == 2
    finally:
        torch.set_num_threads(before)
