"""`sd --server`: a server draws, and what is saved and printed is as if it were drawn here."""

import json

import numpy as np
import pytest
from PIL import Image

from tests import upscaler_files
from tests.serve.running import start, stop
from tests.test_imports import RUN, among, loaded

SMALL = ("--seed", 7, "-s", 2, "-W", 64, "-H", 64)


@pytest.fixture
def both(server, sd, tmp_path, monkeypatch):
    """Run the same command here and with the server; returns both, and the files of both by their names."""

    def run(*arguments, stdin=b""):
        found = []
        for server_options in ((), ("--server", server.url)):
            folder = tmp_path / ("there" if server_options else "here")
            folder.mkdir()
            monkeypatch.chdir(folder)
            ran = sd(*server_options, *arguments, stdin=stdin)
            found.append((ran, {path.name: path.read_bytes() for path in folder.glob("**/*.*")}))
        return found

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("txt2img", "a red apple", *SMALL),
        ("txt2img", "a {red|blue} apple", *SMALL),
        ("txt2img", "a red apple", *SMALL, "-c", 2),
        ("txt2img", "a red apple", *SMALL, "-o", "{steps}-{cfg}-{sampler}-{schedule}-{model}.png"),
        ("txt2img", "a red apple", *SMALL, "--format", "webp", "--quality", 80),
        ("txt2img", "a red apple", *SMALL, "--no-metadata"),
        ("txt2img", "a zebra", *SMALL),
        ("txt2img", "--unconditional", *SMALL),
        ("txt2img", "a red apple", "--seed", 7, "--sigmas", "10,5,0", "-W", 64, "-H", 64),
        ("txt2img", "a red apple", *SMALL, "--like", "a1111", "--rng", "philox"),
        ("txt2img", "a red apple", *SMALL, "--hires", 1.5),
    ],
    ids=lambda arguments: " ".join(map(str, arguments))[:70],
)
def test_the_same_files_are_saved_under_the_same_names_and_the_same_lines_are_printed(both, arguments):
    (here, files), (there, files_there) = both(*arguments)
    assert (here.code, there.code) == (0, 0), there.err
    assert there.lines == here.lines and len(files) >= 1
    assert files_there == files


def test_a_picture_goes_to_standard_output(both):
    (here, _), (there, files) = both("txt2img", "a cat", *SMALL, "-o", "-")
    assert there.out == here.out and here.out.startswith(b"\x89PNG") and files == {}


@pytest.mark.parametrize("command", ["img2img", "inpaint", "outpaint"])
def test_pictures_are_sent_along_and_recorded_by_the_names_that_were_typed(both, tmp_path, command):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    more = {"img2img": (), "inpaint": ("--mask", "../mask.png"), "outpaint": ("--right", 64)}[command]
    arguments = (command, "a red apple", "--seed", 7, "-s", 2, "-i", "../photo.png", *more)
    (here, files), (there, files_there) = both(*arguments)
    assert (here.code, there.code) == (0, 0), there.err
    assert files_there == files and len(files) == 1


@pytest.fixture
def depth_server(tmp_path_factory):
    """A running server with an SD 2 depth model and an x4 upscaler of toy width."""
    served = start(tmp_path_factory.mktemp("server"), "-m", "test:depth", "-m", "test:x4")
    yield served
    stop(served)


def test_depth2img_and_upscale_draw_the_same_files_there(depth_server, sd, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    for arguments in (
        ("depth2img", "a cat", "-i", "photo.png", "-m", "test:depth", "--depth", "photo.png"),
        ("upscale", "photo.png", "-m", "test:x4"),
        ("upscale", "photo.png", "-m", "test:x4", "--prompt", "a cat", "--noise-level", 30),
    ):
        ran = [sd(*where, *arguments, "--seed", 7, "-s", 2) for where in ((), ("--server", depth_server.url))]
        assert [each.code for each in ran] == [0, 0], [each.err for each in ran]
        here, there = ((tmp_path / each.lines[0]).read_bytes() for each in ran)
        assert here == there
    refused = sd("--server", depth_server.url, "depth2img", "a cat", "-i", "photo.png", "-m", "test:x4")
    assert refused.code == 3 and "takes no depth" in refused.err
    refused = sd("--server", depth_server.url, "upscale", "photo.png", "-m", "test:x4", "--scale", 3)
    assert refused.code == 2 and "enlarges 4 times" in refused.err


def test_an_upscaler_file_enlarges_here(sd, server, tmp_path, monkeypatch):
    upscaler_files.write(tmp_path / "x4.safetensors", upscaler_files.rrdb())
    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")
    refused = sd("--server", server.url, "upscale", "photo.png", "-m", "x4.safetensors")
    assert refused.code == 2 and "upscaler file" in refused.err
    monkeypatch.setenv("SD_SERVER", server.url)
    assert sd("upscale", "photo.png", "-m", "x4.safetensors").lines == ["photo-x4.png"]


def test_json_tells_the_same_but_for_the_seconds(both):
    (here, _), (there, _) = both("txt2img", "a cat", *SMALL, "--json")
    first, second = (json.loads(ran.lines[0]) for ran in (here, there))
    assert first.pop("seconds").keys() == second.pop("seconds").keys()
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("txt2img", "a cat", "-m", "sdxl"), 3),
        (("txt2img", "a cat", "-W", 8000, "-H", 8000), 2),
        (("txt2img", "a cat", "--vae", "vae.safetensors"), 2),
        (("txt2img", "a cat", "--lora", "nope"), 2),
        (("img2img", "a cat", "-i", "missing.png"), 4),
        (("txt2img", "a cat", "--steps-dir", "steps"), 2),
        (("txt2img", "a cat", "--plan"), 2),
        (("txt2img", "a cat", "--sweep", "cfg=1..3"), 2),
        (("samplers",), 2),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_errors_are_one_line_with_the_exit_code_of_drawing_here(server, sd, arguments, code):
    ran = sd("--server", server.url, *arguments)
    assert ran.code == code and len(ran.err.splitlines()) == 1, ran.err


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:1", 1),
        ("nonsense", 2),
        ("ftp://127.0.0.1", 2),
        ("http://127.0.0.1:x", 2),
        ("http://", 2),
    ],
)
def test_a_server_that_is_not_there_is_one_line(sd, url, code):
    ran = sd("--server", url, "txt2img", "a cat")
    assert ran.code == code and url in ran.err and len(ran.err.splitlines()) == 1


def test_the_variable_names_a_server_too_and_other_commands_work_here(server, sd, monkeypatch):
    monkeypatch.setenv("SD_SERVER", server.url)
    before = server.metric('sd_pictures_total{state="done"}')
    assert sd("txt2img", "a bus", *SMALL).code == 0
    assert server.metric('sd_pictures_total{state="done"}') == before + 1
    assert sd("samplers").code == 0


def test_the_client_imports_nothing_heavy(server, tmp_path):
    arguments = ["--server", server.url, "txt2img", "a cat", *map(str, SMALL)]
    code, modules, errors = loaded(RUN, *arguments, cwd=tmp_path)
    assert code == 0, errors
    assert among(modules, ["torch", "numpy", "PIL", "starlette", "uvicorn"]) == set()


def test_nobody_but_serve_imports_the_server():
    for arguments in (["--help"], ["txt2img", "--help"], ["serve", "--help"]):
        _, modules, _ = loaded(RUN, *arguments)
        assert among(modules, ["sdcli.serve", "starlette", "uvicorn", "anyio", "http.client"]) == set()
