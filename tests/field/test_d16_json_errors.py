"""D16: with --json, an error is an object with a code that never changes, beside the line on standard error."""

import json

import pytest

from sdcli import cli, registry
from sdcli.errors import SdError

FAILURES = {
    "txt2img cat --json -m no-such-model": ("model", 3),
    "txt2img cat --steps 0 --json": ("usage", 2),
    "txt2img cat --json --steps many": ("usage", 2),  # found by click
    "txt2img cat --no-such-option --json": ("usage", 2),
    "txt2img --json": ("usage", 2),
    "txt2img --json --no-such-option": ("usage", 2),
    "img2img cat -i none.png --json": ("image", 4),
    "txt2img cat --json -o /proc/nowhere/x.png": ("write", 6),
    "again none.png --json": ("image", 4),
    "info none.png --json": ("image", 4),
    "info --json no-such-model": ("model", 3),
    "samplers --json no-such-sampler": ("usage", 2),
    "samplers --steps x --json": ("usage", 2),
    "annotate depht x.png --json": ("usage", 2),
    "models --json --no-such-option": ("usage", 2),
    "models --json no-such-command": ("usage", 2),
}


@pytest.mark.parametrize("command", FAILURES)
def test_d16_an_error_is_an_object_on_standard_output_and_a_line_on_standard_error(sd, command):
    ran = sd(*command.split())
    kind, code = FAILURES[command]
    assert ran.code == code
    (line,) = ran.lines
    error = json.loads(line)["error"]
    assert error == {"code": kind, "exit": code, "message": ran.err.removeprefix("sd: ").rstrip()}


@pytest.mark.parametrize("name", registry.names("commands"))
def test_d16_every_command_with_json_answers_a_misspelt_option_with_an_object(sd, name):
    flags = {flag for each in registry.find("commands", name).params for flag in each.opts}
    ran = sd(name, "--jsonn", *(["--json"] if "--json" in flags else []))
    assert ran.code == 2
    assert bool(ran.out) == ("--json" in flags)


@pytest.mark.parametrize(
    "arguments",
    [
        ["txt2img", "-n", "--json", "cat", "-m", "no-such-model"],
        ["txt2img", "-m", "no-such-model", "--", "--json"],
        ["txt2img", "cat", "-m", "no-such-model"],
    ],
    ids=" ".join,
)
def test_d16_without_the_option_nothing_is_on_standard_output(sd, arguments):
    assert (sd(*arguments).code, sd(*arguments).out) == (3, b"")


def test_d16_each_kind_of_error_has_its_own_code_and_word():
    kinds = {each for each in SdError.__subclasses__() if each.code != SdError.code}  # 1: not all is done
    assert len({each.kind for each in kinds}) == len({each.code for each in kinds}) == len(kinds)


def test_d16_an_interrupt_is_an_object_too(sd, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.sd, "invoke", interrupt)
    assert json.loads(sd("txt2img", "cat", "--json").out)["error"] == {
        "code": "interrupted",
        "exit": 130,
        "message": "interrupted; finished pictures are kept",
    }
