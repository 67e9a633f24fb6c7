"""D14: a shell completes commands, options, plugin names with their options, models, and file names."""

import os
import subprocess
import sys

import click
import pytest
from click.shell_completion import BashComplete

from sdcli import cli, registry
from sdcli.commands._types import PathType, Text


@pytest.fixture
def complete(tmp_path, monkeypatch):
    """What completes the last word of a line: complete("txt2img", "--sampler", "eu") -> [(type, value), ...]."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDCLI_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def call(*words: str) -> list[tuple[str, str]]:
        found = BashComplete(cli.sd, {}, "sd", "_SD_COMPLETE").get_completions(list(words[:-1]), words[-1])
        return [(item.type, item.value) for item in found]

    return call


def values(found):
    return [value for _, value in found]


def test_d14_commands_are_completed(complete):
    assert values(complete("tx")) == ["txt2img"]
    assert {"models", "samplers", "completion"} <= {*values(complete(""))}


def test_d14_options_are_completed(complete):
    assert "--sampler" in values(complete("txt2img", "a cat", "--sam"))


@pytest.mark.parametrize(
    ("flag", "kind"), [("--sampler", "samplers"), ("--schedule", "schedules"), ("--guidance", "guidance")]
)
def test_d14_every_name_of_a_plugin_is_completed(complete, flag, kind):
    assert values(complete("txt2img", "a cat", flag, "")) == list(registry.names(kind))


def test_d14_the_options_of_a_plugin_are_completed_with_their_defaults(complete):
    assert values(complete("txt2img", "--sampler", "euler_a:")) == ["euler_a:eta=1.0", "euler_a:s_noise=1.0"]
    assert values(complete("txt2img", "--sampler", "euler_a:eta=0.5,s")) == ["euler_a:eta=0.5,s_noise=1.0"]
    assert values(complete("txt2img", "--sampler", "no-such:")) == []


def test_d14_words_are_completed(complete):
    assert values(complete("txt2img", "--dtype", "b")) == ["bfloat16"]
    assert values(complete("annotate", "d")) == ["depth"]
    assert values(complete("samplers", "kar")) == ["karras"]
    assert values(complete("completion", "")) == ["bash", "zsh", "fish"]


def test_d14_models_are_completed_by_name_and_by_file(complete, tmp_path):
    (tmp_path / "models" / "dream" / "unet").mkdir(parents=True)
    (tmp_path / "models" / "photo.safetensors").write_bytes(b"")
    (tmp_path / "models" / ".hidden.safetensors").write_bytes(b"")
    (tmp_path / "hub" / "models--owner--name").mkdir(parents=True)
    found = complete("txt2img", "a cat", "-m", "")
    assert values(found)[:-1] == ["tiny", "photo", "dream", "owner/name"]
    assert found[-1] == ("file", "")
    assert complete("txt2img", "-m", "ph") == [("plain", "photo"), ("file", "ph")]
    assert "test:sd1" in values(complete("txt2img", "-m", "test:"))


@pytest.mark.parametrize(
    "words",
    [("img2img", "a cat", "-i"), ("inpaint", "a cat", "--mask"), ("depth2img", "a cat", "--depth"),
     ("txt2img", "a cat", "-o"), ("txt2img", "a cat", "--vae"), ("txt2img", "a cat", "--latents-in"),
     ("again",), ("upscale",), ("info",), ("annotate", "depth"), ("models", "convert")],
    ids=" ".join,
)  # fmt: skip
def test_d14_file_names_are_completed(complete, words):
    assert ("file", "pic") in complete(*words, "pic")


def test_d14_an_unknown_command_before_the_cursor_completes_nothing_and_is_no_error(complete):
    assert complete("no-such-command", "--sam") in ([], [("plain", "--sam")])


def test_d14_every_text_says_how_it_is_completed_or_is_free():
    """A new option that names a file or a plugin is found here; FREE are texts that only the user knows."""
    free = {"prompt", "negative", "revision", "device", "sigmas", "seed_size", "background", "source", "margins",
            "dtype", "prediction", "style", "attention", "prompt_2", "negative_2", "region", "control", "freeu",
            "shard", "on", "host", "hosts", "origins", "devices"}  # fmt: skip
    for name in registry.names("commands"):
        for each in cli.sd.get_command(click.Context(cli.sd), name).params:
            if isinstance(each.type, click.types.StringParamType) and type(each.type) in (
                Text,
                type(click.STRING),
            ):
                assert each.name in free, f"{name} {each.name}"
    assert issubclass(PathType, Text)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_d14_the_script_for_each_shell_is_printed(sd, shell):
    ran = sd("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert f"_SD_COMPLETE={shell}_complete" in ran.out.decode()


def test_d14_another_shell_is_a_usage_error(sd):
    ran = sd("completion", "tcsh")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


def test_d14_completing_imports_no_torch(tmp_path):
    program = (
        "import sys; from sdcli.__main__ import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    )
    environment = {**os.environ, "_SD_COMPLETE": "bash_complete", "COMP_WORDS": "sd txt2img --sampler eul",
                   "COMP_CWORD": "3"}  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.stdout.splitlines()[0] == "plain,euler"
    assert ran.stdout.splitlines()[-1] == "False"
