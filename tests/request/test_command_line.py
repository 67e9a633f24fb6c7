"""The command that asks for a request: parsed back by click, it asks for the same."""

import shlex

import click
import pytest
from hypothesis import assume, given

from sdcli import cli
from sdcli.commands import _generate
from sdcli.request.command_line import COMMANDS, command_line
from sdcli.request.fields import own_fields
from sdcli.request.request import Loading, Request
from tests.request.strategies import requests

HOSTILE = [
    "-x",
    "--",
    'it\'s "so"',
    "$HOME `id` \\",
    "two\nlines",
    "é 🍎 אדום",
    "a;b|c&d>e",
    "!!",
    "=1",
    "--steps 5",
]


@pytest.fixture
def asked(monkeypatch):
    """A command line -> the request that its command draws."""

    def parse(line):
        words = shlex.split(line)
        assert words[0] == "sd"
        drawn = []
        monkeypatch.setattr(_generate, "draw", lambda request, *_: drawn.append(request) or iter(()))
        command = click_command(words[1])
        command.main(words[2:], standalone_mode=False)
        return drawn[0]

    return parse


def click_command(name):
    """The click command of this name, as `sd` finds it."""
    command = cli.sd.get_command(click.Context(cli.sd), name)
    assert command is not None
    return command


@pytest.mark.parametrize("command", COMMANDS)
def test_a_drawing_command_has_the_options_that_the_table_says(command):
    known = {name for group in (Request, Loading, *COMMANDS[command]) for name in own_fields(group)}
    options = {option.name for option in click_command(command).params}
    assert known - {"prompt", "margins"} <= options


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_come_back_as_they_were(asked, text):
    request = Request(prompt=text, negative=text, seed=1)
    assert asked(command_line(request)) == request


@pytest.mark.parametrize(
    ("values", "command"),
    [
        ({"prompt": "a cat", "cfg": 7.0, "lora": ["a.safetensors@0.5", "b"], "hires": 2.0}, "txt2img"),
        ({"prompt": "", "negative": "-x"}, "txt2img"),
        ({"prompt": "a cat", "variants": False, "ztsnr": True}, "txt2img"),
        ({"prompt": "a cat", "image": "-in.png", "strength": 0.3}, "img2img"),
        ({"prompt": "a cat", "image": "a.png", "alpha_mask": True}, "inpaint"),
        ({"prompt": "a cat", "image": "a.png", "strength": 1.0, "margins": "8,0,0,16"}, "outpaint"),
        ({"prompt": "a cat", "image": "a.png", "scale": 2.0, "strength": 0.3, "window": 512}, "upscale"),
    ],
)
def test_the_command_asks_for_the_same_request(asked, values, command):
    request = Request(**values)
    line = command_line(request)
    assert line.startswith(f"sd {command} ")
    assert asked(line) == request


def test_a_depth_map_is_given_to_depth2img():
    assert command_line(Request(prompt="a", depth="d.png")) == "sd depth2img a --depth d.png"


def test_numbers_are_typed_as_people_type_them():
    line = command_line(Request(prompt="a red apple", seed=7, steps=20, cfg=4.0, sampler="euler"))
    assert line == "sd txt2img 'a red apple' --seed 7 --steps 20 --cfg 4 --sampler euler"


def test_fields_of_several_commands_have_no_command_line():
    assert command_line(Request(prompt="a", image="a.png", alpha_mask=True, scale=2.0)) == ""


@given(requests())
def test_any_request_that_has_a_command_line_comes_back(request):
    line = command_line(request)
    assume(line and not line.startswith(("sd upscale", "sd depth2img", "sd outpaint")))
    words = shlex.split(line)
    values = click_command(words[1]).make_context(words[1], words[2:]).params

    from sdcli.commands._options import options_given

    assert Request(**options_given(values)) == request
