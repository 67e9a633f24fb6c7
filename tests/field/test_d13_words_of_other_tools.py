"""D13: the options of A1111, diffusers, stable-diffusion.cpp and InvokeAI are understood, or a hint names ours.

Version 0.1 refused them, and for `--ckpt` suggested `--count`.
"""

import json

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli import registry
from sdcli.commands._words_elsewhere import flags, in_our_words
from sdcli.request.names_elsewhere import FIELDS, HINTS, OUTPUT

TXT2IMG = registry.find("commands", "txt2img")


@pytest.mark.parametrize(
    ("typed", "field", "value"),
    [
        ("--cfg-scale 3", "cfg", 3.0),
        ("--guidance-scale 3", "cfg", 3.0),
        ("--guidance_scale=3", "cfg", 3.0),
        ("--negative-prompt dog", "negative", "dog"),
        ("--num-inference-steps 1", "steps", 1),
        ("--num_inference_steps=1", "steps", 1),
        ("--sampling-method euler_a", "sampler", "euler_a"),
        ("--sampler_name k_euler_a", "sampler", "euler_a"),
        ("--scheduler karras", "schedule", "karras"),
        ("--scheduler EulerDiscreteScheduler", "sampler", "euler"),
        ("--scheduler dpmpp_2m_k", "sampler", "dpmpp_2m"),
        ("--size 64x128", "height", 128),
        ("--size=128x64", "width", 128),
        ("--W 128", "width", 128),
        ("--subseed 4 --subseed_strength 0.5", "variation_seed", 4),
        ("--clip_skip 2", "clip_skip", 2),
        ("--eta_noise_seed_delta 31337", "ensd", 31337),
    ],
)
def test_d13_an_option_of_another_tool_is_ours(draw, typed, field, value):
    ran = draw("a cat", *typed.split(), "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.lines[0])["request"][field] == value


def test_d13_a_scheduler_beside_a_sampler_is_a_schedule(draw):
    ran = draw("a cat", "--sampler", "euler", "--scheduler", "lcm")
    assert ran.code == 2 and "--schedule" in ran.err


@pytest.mark.parametrize("word", ["ckpt", "sd-model", "ckpt_path", "model-path", "checkpoint"])
def test_d13_the_model_by_another_name(sd, toy, word):
    assert sd("txt2img", "x", f"--{word}", toy, "-s", 1).code == 0


@pytest.mark.parametrize("typed", [["--seed", "-1"], ["--seed=-1"]])
def test_d13_seed_minus_one_is_a_random_seed(draw, typed):
    seeds = {json.loads(draw("a cat", *typed, "--json").lines[0])["seed"] for _ in range(2)}
    assert len(seeds) == 2


@pytest.mark.parametrize(
    "arguments", [["--prompt", "a cat"], ["-p", "a cat"], ["--prompt=a cat"], ["--prompt", "-x"]]
)
def test_d13_the_prompt_may_be_an_option(sd, toy, arguments):
    ran = sd("txt2img", *arguments, "-m", toy, "-s", 1, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.lines[0])["request"]["prompt"] in ("a cat", "-x")


def test_d13_the_picture_to_start_from_by_another_name(sd, draw, toy):
    path = draw("x").lines[0]
    ran = sd("img2img", "x", "--init-img", path, "--denoising-strength", 0.5, "-m", toy, "-s", 2, "--json")
    assert json.loads(ran.lines[0])["request"]["strength"] == 0.5


def test_d13_counts_by_other_names(draw):
    assert len(draw("x", "--n_iter", 2).lines) == len(draw("x", "--batch-count", 2).lines) == 2


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--batch-size 2", "--count"),
        ("--plms", "--sampler plms"),
        ("--tiling", "--tile both"),
        ("--eta 0.5", "--sampler euler_a:eta=0.5"),
        ("--enable_hr", "--hires"),
        ("--init-img x.png", "--image"),
        ("--denoising-strength 0.5", "--strength"),
        ("--scale 7.5", "--cfg"),
        ("--size 512", "try --size 512x768"),
        ("--fp16", "--dtype float16"),
    ],
)
def test_d13_what_is_said_in_another_way_is_one_line_that_names_ours(draw, typed, words):
    ran = draw("a cat", *typed.split())
    assert ran.code == 2 and words in ran.err and len(ran.err.splitlines()) == 1


def test_d13_help_lists_none_of_them(sd):
    text = sd("txt2img", "--help").out.decode()
    assert "--cfg-scale" not in text and "--negative-prompt" not in text


@pytest.mark.parametrize("word", [*FIELDS, *(word for words in OUTPUT.values() for word in words.split())])
def test_d13_every_word_of_the_table_is_an_option_of_some_command(word):
    flag = flags()[word]
    takers = [name for name in registry.names("commands") if _takes(name, flag)]
    assert takers
    command = registry.find("commands", takers[0])
    if flag != "--prompt":
        assert in_our_words(command, [f"--{word}=a", "b"])[0].startswith("--")


def _takes(name, flag):
    command = registry.find("commands", name)
    return any(flag in each.opts for each in command.params) or flag == "--prompt"


@pytest.mark.parametrize("name", registry.names("commands"))
def test_d13_no_word_of_others_hides_an_option_of_our_own(name):
    command = registry.find("commands", name)
    for each in command.params:
        if isinstance(each, click.Option) and not isinstance(command, click.Group):
            for flag in (*each.opts, *each.secondary_opts):
                arguments = [flag] if each.is_flag else [flag, "value"]
                assert in_our_words(command, arguments) == arguments


def test_d13_a_value_is_never_taken_for_an_option():
    arguments = ["-n", "--cfg-scale", "x", "--negative", "--prompt", "--", "--prompt"]
    assert in_our_words(TXT2IMG, arguments) == arguments


@given(st.lists(st.text(max_size=12).filter(lambda text: not text.startswith("-")), max_size=4))
def test_d13_other_arguments_stay_as_they_are(arguments):
    assert in_our_words(TXT2IMG, arguments) == arguments


def test_d13_no_hint_is_also_a_name():
    assert not HINTS.keys() & flags().keys()
