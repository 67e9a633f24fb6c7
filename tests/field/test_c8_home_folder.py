"""C8: `--out=~/x.png` made a folder called `~`, because a shell expands only words that begin with ~ (HistoQC#198)."""

import dataclasses
from pathlib import Path

import click
import pytest
from PIL import Image

from sdcli import cli, registry, store
from sdcli.commands._types import PATH, PathType
from sdcli.errors import UsageError
from sdcli.home import expand_home
from sdcli.request.fields import option_of
from sdcli.request.request import Request
from tests.pictures import half_mask, photo


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """The home folder, which is not the working folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def parameters(command: click.Command, name: str):
    """(name of the parameter, parameter) of a command and its subcommands."""
    for parameter in command.params:
        yield f"{name} {parameter.name}", parameter
    for subcommand in command.commands.values() if isinstance(command, click.Group) else ():
        yield from parameters(subcommand, f"{name} {subcommand.name}")


PARAMETERS = dict(
    each for name in registry.names("commands") for each in parameters(registry.find("commands", name), name)
)
TELLS_A_PATH = ("file", "folder", "png", "picture ", "vae", "mask:", "depth map,", "safetensors")


@pytest.mark.parametrize(
    "name", [name for name, each in PARAMETERS.items() if isinstance(each.type, PathType)]
)
def test_c8_every_option_that_takes_a_path_expands_the_home_folder(name, home):
    assert PARAMETERS[name].type.convert("~/x", None, None) == str(home / "x")


def test_c8_every_option_whose_help_tells_of_a_file_takes_a_path():
    others = [
        name
        for name, each in PARAMETERS.items()
        if isinstance(each, click.Option) and each.type is click.STRING and not each.is_flag
        if any(word in (each.help or "").lower() for word in TELLS_A_PATH)
    ]
    assert [name for name in others if name.split()[-1] not in NOT_PATHS] == []


NOT_PATHS = ("background", "fit", "prompt", "region", "seed_size")  # their help tells of pictures


def test_c8_every_argument_but_prompts_names_and_repos_takes_a_path():
    arguments = {name for name, each in PARAMETERS.items() if isinstance(each, click.Argument)}
    others = {name for name in arguments if not isinstance(PARAMETERS[name].type, PathType)}
    assert {name.split()[-1] for name in others} <= {"prompt", "kind", "name", "source", "shell"}


@pytest.mark.parametrize(
    "field", [each for each in dataclasses.fields(Request) if option_of(each).path or option_of(each).picture]
)
def test_c8_every_field_that_is_a_path_expands_the_home_folder_in_python(field, home):
    more = {} if field.name == "image" else {"image": "in.png"}
    many = option_of(field).many
    rest = ":image=in.png" if field.name == "ip_adapter" else ""
    request = Request("a cat", **more, **{field.name: (f"~/x{rest}",) if many else "~/x"})
    expanded = f"{home / 'x'}{rest}"
    assert getattr(request, field.name) == ((expanded,) if many else expanded)


def test_c8_pictures_go_to_and_come_from_the_home_folder(sd, home):
    photo().save(home / "in.png")
    half_mask().save(home / "m.png")
    ran = sd(
        "inpaint", "a cat", "--image=~/in.png", "--mask=~/m.png", "--out=~/new/x.png", "--steps-dir=~/steps",
        "--filmstrip=~/film.png", "--latents-out=~/x.safetensors", "-m", "test:sd1", "-s", 1,
    )  # fmt: skip
    assert (ran.code, ran.lines) == (0, [str(home / "new/x.png")]), ran.err
    expected = {"in.png", "m.png", "new", "steps", "film.png", "x.safetensors"}
    assert {each.name for each in home.iterdir()} == expected
    assert not Path("~").exists()
    assert sd("info", "~/new/x.png").code == 0
    assert sd("again", "~/new/x.png", "--out=~/").lines == [str(home / "a-cat-{}.png").format(seed_of(home))]
    assert sd("samplers", "--plot=~/plot.png").lines == [str(home / "plot.png")]


def seed_of(home: Path) -> str:
    with Image.open(home / "new/x.png") as image:
        return image.info["parameters"].split("Seed: ")[1].partition(",")[0]


def test_c8_a_model_in_the_home_folder_is_found(sd, home, toy):
    (home / "toy").symlink_to(toy)
    ran = sd("txt2img", "a cat", "--model=~/toy", "--vae=~/toy", "-s", 1, "--out=~")
    assert ran.code == 0, ran.err
    assert sd("info", "~/toy").code == 0
    assert sd("models", "convert", "~/toy", "~/copy").lines == [str(home / "copy")]


def test_c8_a_result_saved_from_python_goes_to_the_home_folder(home):
    assert store.output_path("~/x.png", Request("a cat")) == home / "x.png"


def test_c8_an_unknown_home_folder_is_an_error_and_no_folder(monkeypatch):
    monkeypatch.setattr(
        "os.path.expanduser", lambda path: path
    )  # as where neither HOME nor the user is known
    with pytest.raises(UsageError, match=r"~/x.png: the home folder is not known here"):
        expand_home("~/x.png")
    assert expand_home("~x.png") == "~x.png"


def test_c8_a_shell_completes_file_names_after_a_path_option():
    (item,) = PATH.shell_complete(click.Context(cli.sd), click.Option(["--out"]), "pic")
    assert item.type == "file"
