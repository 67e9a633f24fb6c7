"""D5: an empty text is most often a variable of a script that was not set; version 0.1 drew, and exited 0."""

import json

import click
import pytest

from sdcli import cli, registry

DRAWING = ["txt2img", "img2img", "inpaint", "outpaint", "depth2img"]


def all_texts():
    """(command, the arguments that give one of its texts as empty) for every option and argument of every command."""
    for name in registry.names("commands"):
        root = cli.sd.get_command(click.Context(cli.sd), name)
        commands = {name: root, **{f"{name} {n}": c for n, c in getattr(root, "commands", {}).items()}}
        for path, command in commands.items():
            for each in command.params:
                if isinstance(each.type, click.types.StringParamType) and each.name not in (
                    "prompt",
                    "negative",
                ):
                    is_option = isinstance(each, click.Option)
                    yield pytest.param(
                        path, [f"{each.opts[-1]}=" if is_option else ""], id=f"{path} {each.name}"
                    )


@pytest.mark.parametrize(("command", "arguments"), [*all_texts()])
def test_d5_an_empty_text_is_a_usage_error_for_every_option_and_argument(sd, command, arguments):
    words = ["x"] * 3 if arguments[0].startswith("-") else []
    for count in range(4):  # the command may want up to three other arguments
        ran = sd(*command.split(), *arguments, *words[:count], *[""] * (3 - count) * (not words))
        assert ran.code == 2
        assert len(ran.err.splitlines()) == 1
        if "is empty" in ran.err:
            return
    pytest.fail(ran.err)


@pytest.mark.parametrize("prompt", ["", " ", "\n"])
@pytest.mark.parametrize("command", DRAWING)
def test_d5_an_empty_prompt_is_an_error_that_says_how_to_ask_for_none(sd, command, prompt):
    for arguments, given in ([prompt], b""), (["-"], prompt.encode()), ([], b""):
        ran = sd(command, *arguments, "-m", "no-such-model", stdin=given)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
        assert "--unconditional" in ran.err


@pytest.mark.parametrize("command", ["again", "upscale"])
def test_d5_an_empty_prompt_is_an_error_where_the_prompt_is_an_option(sd, draw, command):
    draw("a cat", "--seed", 7)
    ran = sd(command, "a-cat-7.png", "--prompt", "")
    assert (ran.code, "--unconditional" in ran.err) == (2, True)


def test_d5_unconditional_draws_without_a_prompt_and_so_does_the_picture_made_again(sd, toy):
    ran = sd("txt2img", "--unconditional", "-m", toy, "-s", 2, "--seed", 7, "--json")
    assert json.loads(ran.out)["request"]["prompt"] == ""
    assert sd("again", json.loads(ran.out)["path"], "-o", "again.png").code == 0


def test_d5_unconditional_and_a_prompt_contradict_each_other(draw):
    assert draw("a cat", "--unconditional").code == 2


def test_d5_again_can_leave_the_prompt_out(sd, draw):
    draw("a cat", "--seed", 7)
    ran = sd("again", "a-cat-7.png", "--unconditional", "--json")
    assert json.loads(ran.out)["request"]["prompt"] == ""


def test_d5_an_empty_negative_prompt_is_none(draw):
    assert draw("a cat", "-n", "", "--seed", 7).code == 0


def test_d5_an_empty_value_from_python_is_an_error_too(python_names):
    from sdcli import Request, UsageError

    with pytest.raises(UsageError, match=r"^vae: is empty"):
        Request("a cat", vae="")
    assert Request().prompt == ""
