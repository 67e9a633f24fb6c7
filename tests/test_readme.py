"""The README: every example is run as it is printed, in order and in one folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

README = Path(__file__).parent.parent / "README.md"
CONTRIBUTING = README.parent / "CONTRIBUTING.md"
BLOCKS = re.findall(
    r"^```(sh|python)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
EXAMPLES = [(kind, text) for kind, text in BLOCKS if not text.startswith("pip install")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def test_the_readme_begins_with_the_two_commands_that_set_everything_up():
    assert [text.strip() for _, text in BLOCKS[:2]] == [
        'pip install . && sd txt2img "a red apple" --seed 7',
        "pip install '.[test]' && pytest",
    ]


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=[text.split("\n")[0][:40] for _, text in EXAMPLES])
def test_each_example_of_the_readme_runs_without_an_error(folder, kind, text):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = (
        [sys.executable, "-W", "error", "-c", text]
        if kind == "python"
        else ["bash", "-euo", "pipefail", "-c", text]
    )
    ran = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_examples_leave_the_files_that_the_readme_names(folder):
    named = [
        "a-cat-1.png",
        "penguins/a-penguin-10.png",
        "penguins/a-penguin-12.png",
        "banana.png",
        "strip.png",
        "apple.png",
        "half.png",
        "whole.png",
        "apple-10.png",
        "bus.png",
        "wide.png",
        "large.png",
    ]
    assert [name for name in named if not (folder / name).is_file()] == []


def test_again_leaves_the_same_bytes_as_the_readme_says(folder):
    assert (folder / "apple.png").read_bytes() == (folder / "a-green-apple-7.png").read_bytes()


def test_a_run_that_was_stopped_and_continued_has_the_same_pixels_as_the_readme_says(folder):
    whole, apple = (Image.open(folder / f"{name}.png").tobytes() for name in ("whole", "apple"))
    assert whole == apple


def test_every_path_that_contributing_names_exists():
    paths = re.findall(
        r"`((?:sdcli|scripts|tests|docs|\.ci)/[\w./]*)[^`]*`", CONTRIBUTING.read_text(encoding="utf-8")
    )
    assert len(paths) > 20
    assert [path for path in paths if not (README.parent / path).exists()] == []


def test_every_file_that_the_readme_links_to_exists():
    for name in re.findall(r"!\[.*?\]\((.*?)\)|\]\(((?!http)[^)]*)\)", README.read_text(encoding="utf-8")):
        path = name[0] or name[1]
        assert (README.parent / path).exists(), path
