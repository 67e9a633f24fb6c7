"""Error lines: a hundred and fifty mistakes, each answered in one line that names the thing and a next step."""

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from sdcli import registry
from sdcli.request.fields import option_of
from sdcli.request.request import Request

MOST = 200  # characters, without the names that the user gave
TELLS = (";", "...", "is not a", "expected", "try ", "say what", "name ")
"""What a line has that says what would be right."""
MODEL, IMAGE, WRITE, USAGE = 3, 4, 6, 2
DRAW = ["txt2img", "a cat", "-m", "test:sd1"]


def number_mistakes():
    """(arguments, exit code, what the line names) of each option with a range."""
    for each in dataclasses.fields(Request):
        option = option_of(each)
        flag = option.flags[-1] if option.flags else ""
        if (
            option.low is None
            or not flag
            or flag in ("--strength", "--scale", "--hires-strength", "--noise-level")
        ):
            continue
        command = "inpaint" if flag in ("--mask-blur", "--mask-grow", "--padding") else "txt2img"
        more = ["-i", "in.png", "--mask", "mask.png"] if command == "inpaint" else []
        if flag in ("--window", "--hires"):
            command, more = "img2img", ["-i", "in.png"]
        if flag == "--window":
            continue
        for value in (option.low - 1 - (flag == "--seed"), option.high + 1, "many"):
            yield [command, "a cat", "-m", "test:sd1", *more, f"{flag}={value}"], USAGE, flag


def choice_mistakes():
    """(arguments, exit code, what the line names) of each option with choices or plugins."""
    for each in dataclasses.fields(Request):
        option = option_of(each)
        if not option.flags or not (option.choices or option.plugin):
            continue
        command = {"--fit": "img2img", "--masked-content": "inpaint", "--hires-by": "img2img"}.get(
            option.flags[-1], "txt2img"
        )
        more = ["-i", "in.png"] if command != "txt2img" else []
        more += ["--mask", "mask.png"] if command == "inpaint" else []
        if option.flags[-1] == "--hires-by":
            continue
        yield [command, "a cat", "-m", "test:sd1", *more, f"{option.flags[-1]}=nonsuch"], USAGE, "nonsuch"
        if option.plugin:
            name = registry.names(option.plugin)[0]
            yield [*DRAW, f"{option.flags[-1]}={name}:nonsuch=1"], USAGE, "nonsuch"


FILES = [
    (["txt2img", "a cat", "-m", "gone.safetensors"], MODEL, "gone.safetensors"),
    (["txt2img", "a cat", "-m", "empty.safetensors"], MODEL, "empty.safetensors"),
    (["txt2img", "a cat", "-m", "page.safetensors"], MODEL, "page.safetensors"),
    (["txt2img", "a cat", "-m", "old.ckpt"], MODEL, "old.ckpt"),
    (["txt2img", "a cat", "-m", "folder"], MODEL, "folder"),
    ([*DRAW, "--vae", "gone.safetensors"], MODEL, "gone.safetensors"),
    ([*DRAW, "--lora", "gone.safetensors"], MODEL, "gone.safetensors"),
    ([*DRAW, "--embedding", "gone.safetensors"], MODEL, "gone.safetensors"),
    ([*DRAW, "--hypernet", "gone.safetensors"], MODEL, "gone.safetensors"),
    ([*DRAW, "--latents-in", "gone.safetensors"], USAGE, "gone.safetensors"),
    ([*DRAW, "--styles-file", "gone.csv", "--style", "x"], USAGE, "gone.csv"),
    ([*DRAW, "--wildcards", "gone"], USAGE, "gone"),
    ([*DRAW, "--prompt-file", "gone.txt"], USAGE, "prompt"),
    ([*DRAW, "-o", "in.png/x.png"], WRITE, "in.png"),
    ([*DRAW, "-o", "x.tiff"], USAGE, "x.tiff"),
    ([*DRAW, "-o", "{nonsuch}.png"], USAGE, "nonsuch"),
    ([*DRAW, "-o", "-", "--count", "2"], USAGE, "-o -"),
    ([*DRAW, "--nonsuch"], USAGE, "nonsuch"),
    ([*DRAW, "--device", "moon"], USAGE, "moon"),
    ([*DRAW, "--width", "100"], USAGE, "100"),
    ([*DRAW, "--sigmas", "1,2"], USAGE, "--sigmas"),
    ([*DRAW, "--region", "a cat@9,9,9,9"], USAGE, "--region"),
    ([*DRAW, "--attention", "dog"], USAGE, "dog"),
    ([*DRAW, "--sweep", "nonsuch=1"], USAGE, "nonsuch"),
    ([*DRAW, "--sweep", "cfg=9..x"], USAGE, "cfg"),
    (["txt2img"], USAGE, "prompt"),
    (["txt2img", " "], USAGE, "prompt"),
    (["txt3img", "a cat"], USAGE, "txt3img"),
    (["img2img", "a cat", "-m", "test:sd1"], USAGE, "-i"),
    (["img2img", "a cat", "-m", "test:sd1", "-i", "gone.png"], IMAGE, "gone.png"),
    (["img2img", "a cat", "-m", "test:sd1", "-i", "notes.txt"], IMAGE, "notes.txt"),
    (["img2img", "a cat", "-m", "test:sd1", "-i", "cut.png"], IMAGE, "cut.png"),
    (["img2img", "a cat", "-m", "test:sd1", "-i", "folder"], IMAGE, "folder"),
    (["inpaint", "a cat", "-m", "test:sd1", "-i", "in.png", "--mask", "black.png"], IMAGE, "black.png"),
    (["inpaint", "a cat", "-m", "test:sd1", "-i", "in.png", "--mask", "gone.png"], IMAGE, "gone.png"),
    (["inpaint", "a cat", "-m", "test:sd1", "-i", "in.png"], USAGE, "mask"),
    (["outpaint", "a cat", "-m", "test:sd1", "-i", "in.png"], USAGE, "--left"),
    (["again", "in.png"], IMAGE, "in.png"),
    (["again", "gone.png"], IMAGE, "gone.png"),
    (["verify", "in.png"], IMAGE, "in.png"),
    (["verify", "gone.png"], IMAGE, "gone.png"),
    (["info", "gone"], MODEL, "gone"),
    (["tokens"], USAGE, ""),
    (["samplers", "nonsuch"], USAGE, "nonsuch"),
    (["annotate", "nonsuch", "in.png"], USAGE, "nonsuch"),
    (["upscale", "gone.png"], IMAGE, "gone.png"),
    (["models", "convert", "gone.ckpt", "x.safetensors"], MODEL, "gone.ckpt"),
]  # fmt: skip
BATCH = [
    ("gone.yaml", None, USAGE, "gone.yaml"),
    ("jobs.yaml", "", USAGE, "jobs.yaml"),
    ("jobs.yaml", "jobs: 3", USAGE, "jobs"),
    ("jobs.yaml", "{jobs: [{prompt: a}], jobz: []}", USAGE, "jobz"),
    ("jobs.yaml", "version: 9\njobs: [{prompt: a}]", USAGE, "9"),
    ("jobs.yaml", "jobs: [{prompt: a, stepz: 3}]", USAGE, "stepz"),
    ("jobs.yaml", "jobs: [{prompt: a, steps: yes}]", USAGE, "steps"),
    ("jobs.yaml", "jobs: [{prompt: a, steps: '5..x'}]", USAGE, "steps"),
    ("jobs.yaml", "jobs: [{prompt: a, seed: 1, seed: 2}]", USAGE, "seed"),
    ("jobs.yaml", "jobs: [{prompt: a, sampler: eulr}]", USAGE, "eulr"),
    ("jobs.yaml", "jobs: [{prompt: a, zip: {cfg: [1, 2], seed: [1]}}]", USAGE, "zip"),
    ("jobs.yaml", "jobs: [{prompt: a, out: ../x.png}]", USAGE, "../x.png"),
    ("jobs.yaml", "jobs: [{prompt: a, out: '{nonsuch}.png'}]", USAGE, "nonsuch"),
    ("jobs.yaml", "jobs: [{prompt: a, image: gone.png}]", USAGE, "gone.png"),
    ("jobs.yaml", "jobs: [{prompt: a, model: gone.safetensors}]", USAGE, "gone.safetensors"),
    ("jobs.yaml", "jobs: [{prompt: a, count: 0}]", USAGE, "count"),
    ("jobs.yaml", "jobs: [&a {prompt: *a}]", USAGE, "jobs.yaml"),
    ("jobs.yaml", "jobs: [", USAGE, "jobs.yaml"),
    ("jobs.json", "{", USAGE, "jobs.json"),
    ("jobs.jsonl", '{"prompt": "a"}\n{"prompt": 3}', USAGE, "jobs.jsonl:2"),
    ("jobs.csv", "prompt,nonsuch\na,1", USAGE, "nonsuch"),
    ("jobs.txt", "a cat --nonsuch 3", USAGE, "nonsuch"),
]  # fmt: skip
BATCH += [
    ("jobs.yaml", f"jobs: [{{prompt: a, {each.name}: many}}]", USAGE, each.name)
    for each in dataclasses.fields(Request)
    if option_of(each).low is not None and each.name not in ("seed", "variation_seed")
]
EVERY = [*number_mistakes(), *choice_mistakes(), *FILES]


@pytest.fixture
def files():
    Image.new("RGB", (64, 64), "red").save("in.png")
    Image.new("L", (64, 64), 255).save("mask.png")
    Image.new("L", (64, 64), 0).save("black.png")
    Path("cut.png").write_bytes(Path("in.png").read_bytes()[:60])
    Path("empty.safetensors").touch()
    Path("page.safetensors").write_text("<!DOCTYPE html><html></html>")
    Path("old.ckpt").write_bytes(b"PK\x03\x04" + bytes(40))
    Path("notes.txt").write_text("notes")
    Path("folder").mkdir()


def check(ran, code, named):
    (line,) = ran.err.splitlines()
    assert line.startswith("sd: ") and ran.code == code, ran.err
    assert named in line, line
    assert any(told in line for told in TELLS), line
    assert len(line) <= MOST, f"{len(line)} characters: {line}"


def test_there_are_a_hundred_and_fifty_mistakes():
    assert len(EVERY) + len(BATCH) >= 150


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    EVERY,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_it(sd, files, arguments, code, named):
    check(sd(*arguments), code, named)


@pytest.mark.parametrize(("name", "text", "code", "named"), BATCH, ids=lambda value: json.dumps(value)[:50])
def test_a_mistake_in_a_job_file_is_one_line_that_names_it(sd, files, name, text, code, named):
    if text is not None:
        Path(name).write_text(text)
    check(sd("batch", name, "--seed", 1, "-o", "out"), code, named)
    assert not Path("out").exists()
