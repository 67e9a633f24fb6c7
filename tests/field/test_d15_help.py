"""D15: help is grouped and fits 80 columns, on a wide terminal too; lists wrap; no line is cut."""

import re

import click
import pytest

from sdcli import cli, registry
from sdcli.commands import _help

DRAWING = ["txt2img", "img2img", "inpaint", "outpaint", "depth2img", "upscale", "again"]


def all_commands():
    for name in registry.names("commands"):
        command = cli.sd.get_command(click.Context(cli.sd), name)
        yield (name,)
        for inner in getattr(command, "commands", {}):
            yield name, inner


@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("command", [(), *all_commands()], ids=" ".join)
def test_d15_the_help_of_every_command_fits_80_columns_and_no_line_is_cut(sd, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", columns)
    ran = sd(*command, "--help")
    assert ran.code == 0
    assert max(map(len, ran.lines)) <= 80
    assert not [line for line in ran.lines if line.endswith("...") and "Usage" not in line]


@pytest.mark.parametrize("name", [None, *registry.names("samplers"), *registry.names("schedules"),
                                  *registry.names("guidance")])  # fmt: skip
def test_d15_lists_of_plugins_fit_80_columns(sd, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    lines = sd("samplers", *[name] * (name is not None)).lines
    assert [line for line in lines if len(line) > 80 and "https://" not in line] == []


def test_d15_a_list_of_plugins_uses_a_wide_terminal(sd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    wide = sd("samplers").lines
    monkeypatch.setenv("COLUMNS", "80")
    assert len(wide) < len(sd("samplers").lines)


@pytest.mark.parametrize("command", DRAWING)
def test_d15_the_options_of_a_drawing_command_are_grouped_and_each_is_listed_once(sd, command):
    lines = sd(command, "--help").lines
    headings = [line.rstrip(":") for line in lines if re.fullmatch(r"\w.*:", line) and "Usage" not in line]
    assert headings == [each for each in _help.ORDER if each in headings]
    assert {"The picture", "Sampling", "Noise", "The model", "Output"} <= {*headings}
    listed = re.findall(r"^  (?:-\w, )?(--[\w-]+)", "\n".join(lines), re.MULTILINE)
    options = cli.sd.get_command(click.Context(cli.sd), command).params
    shown = [each for each in options if isinstance(each, click.Option) and not each.hidden]
    assert sorted(listed) == sorted({*(each.opts[-1] for each in shown), "--help"})


def test_d15_each_group_of_fields_has_a_heading():
    from sdcli.request.request import Request

    groups = {each for each in Request.__mro__ if each.__module__ == Request.__module__} - {Request}
    assert groups == set(_help.GROUPS)


def test_d15_the_commands_of_a_group_have_their_whole_sentence(sd):
    text = " ".join(sd("models", "--help").out.decode().split())
    assert "Fetch a model or file, and print its path; what was broken off goes on." in text
