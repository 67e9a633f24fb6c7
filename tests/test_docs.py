"""The documentation: every example is run, each page in its order and in one folder.

scripts/test --all runs all as they are printed. Without it, the examples whose pictures no test looks at take 2 steps.
"""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdcli.checkpoints import checkpoint
from sdcli.convert import convert
from tests import control_files, pictures, upscaler_files
from tests.adapters import loras

ROOT = Path(__file__).parent.parent
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
MAX_DIFFERENCE = 6  # of 255, on average: machines differ by less, another picture by more


def _text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def _examples(page):
    """(language, text) of each example, without the commands that install the package."""
    blocks = re.findall(r"^```(sh|python|toml|yaml)\n(.*?)^```", _text(page), re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in blocks if not text.startswith("pip install")]


def _in_few_steps(text):
    """A shell example that draws each picture in 2 steps; an upscaler file, which takes no prompt, has none."""
    text = re.sub(r"--steps \d+", "", text)
    text = re.sub(r"\bsd train (lora|embedding)\b", r"sd train \1 --steps 2", text)
    return re.sub(
        r"\bsd (txt2img|img2img|inpaint|outpaint|upscale(?=.*--prompt))\b", r"sd \1 --steps 2", text
    )


def _write_what_a_reader_has(folder):
    """The model, the LoRA, the nets and the pictures that the pages on adapters name, of toy width."""
    with torch.random.fork_rng(devices=[]):
        convert(checkpoint.read("test:sd1"), folder / "model.safetensors")
    loras.write(folder / "style.safetensors")
    for seed, name in enumerate(("canny", "depth", "tile")):
        named = control_files.weights("test:sd1", seed=seed)
        control_files.write(folder / f"{name}.safetensors", control_files.as_ldm(named))
    for name in ("photo.png", "drawing.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def _write_pickles(folder):
    """The old files that the page on models converts."""
    torch.save({"state_dict": {"lora_unet_x.lora_down.weight": torch.ones(2, 3)}}, folder / "old.ckpt")
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}, "name": "style"}, folder / "style.pt")


def _write_upscaler(folder):
    """The upscaler, and the picture to enlarge, of the page on pictures."""
    upscaler_files.write(folder / "x4.safetensors", upscaler_files.rrdb())
    pictures.photo().save(folder / "photo.png")


def _write_pictures_to_learn_from(folder):
    """The pictures that a model is trained on."""
    folder.mkdir()
    for name in ("red-apple", "blue-boat_2"):
        pictures.photo().save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A page -> the folder that its examples are run in."""
    folders = {page: tmp_path_factory.mktemp(Path(page).stem) for page in PAGES}
    _write_what_a_reader_has(folders["docs/control.md"])
    _write_what_a_reader_has(folders["docs/loras.md"])
    _write_pickles(folders["docs/models.md"])
    _write_pictures_to_learn_from(folders["docs/train.md"] / "pictures")
    _write_pictures_to_learn_from(folders["README.md"] / "blueprints")
    _write_upscaler(folders["docs/pictures-in.md"])
    return folders.__getitem__


def test_the_readme_begins_with_the_two_commands_that_set_everything_up():
    blocks = re.findall(r"^```sh\n(.*?)^```", _text("README.md"), re.MULTILINE | re.DOTALL)
    assert [text.strip() for text in blocks[:2]] == [
        'pip install . && sd txt2img "a red apple" --seed 7',
        "pip install '.[test]' && pytest",
    ]


@pytest.mark.parametrize(
    ("page", "language", "text"),
    [(page, *example) for page in PAGES for example in _examples(page)],
    ids=[f"{page}: {text.split(chr(10))[0][:40]}" for page in PAGES for _, text in _examples(page)],
)
def test_each_example_runs_without_an_error(folder_of, page, language, text, request):
    if "not slow" in request.config.option.markexpr and "apple.png" not in text:
        text = _in_few_steps(text)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = (
        [sys.executable, "-W", "error", "-c", text]
        if language == "python"
        else ["bash", "-euo", "pipefail", "-c", text]
    )
    ran = subprocess.run(
        command, cwd=folder_of(page), env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_leave_the_files_that_they_name(folder_of, page):
    texts = [text for _, text in _examples(page)]
    named = {name for text in texts for name in re.findall(r"[\w/-]+\.(?:png|jpg|webp|safetensors)", text)}
    assert [name for name in sorted(named) if not (folder_of(page) / name).is_file()] == []


def test_again_leaves_the_same_bytes_as_the_readme_says(folder_of):
    folder = folder_of("README.md")
    assert (folder / "apple.png").read_bytes() == (folder / "a-red-apple-7.png").read_bytes()


def test_a_run_that_was_stopped_and_continued_has_the_same_pixels(folder_of):
    folder = folder_of("docs/exactness.md")
    whole, apple = (Image.open(folder / f"{name}.png").tobytes() for name in ("whole", "apple"))
    assert whole == apple


@pytest.mark.parametrize(
    "name",
    [
        "pictures.png",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("sheet.png", "steps.png", "outpaint.png", "prompts.png")
        ),
    ],
)
def test_d3_d20_a_picture_beside_commands_is_what_these_commands_draw(folder_of, name):
    documentation = runpy.run_path(str(ROOT / "scripts" / "docs"))
    page, files = documentation["ROWS"][name]
    drawn = np.asarray(documentation["row"](folder_of(page), files), dtype=float)
    shown = np.asarray(Image.open(ROOT / "docs" / name).convert("RGB"), dtype=float)
    assert shown.shape == drawn.shape
    assert np.abs(shown - drawn).mean() < MAX_DIFFERENCE
    assert f"({'docs/' * (page == 'README.md')}{name})" in _text(page)


def test_every_path_that_contributing_names_exists():
    paths = re.findall(r"`((?:sdcli|scripts|tests|docs|\.ci)/[\w./]*)[^`]*`", _text("CONTRIBUTING.md"))
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_every_file_that_a_page_links_to_exists(page):
    links = re.findall(r"\]\(((?!http)[^)#]+)[^)]*\)", _text(page))
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_the_readme_links_to_every_page_of_the_documentation():
    assert [page for page in PAGES[1:] if f"]({page})" not in _text("README.md")] == []


@pytest.mark.parametrize("page", PAGES[1:])
def test_a_page_says_in_its_first_line_whom_it_is_for(page):
    title, empty, first = _text(page).split("\n")[:3]
    assert title.startswith("# ")
    assert not empty
    assert first.startswith("For whoever ") or page == "docs/samplers.md"
