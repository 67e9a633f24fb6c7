"""sd verify: a picture is made again by the recorded means, and the reason for a difference is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdcli.batch.verify import RecordedPicture, request_to_draw
from sdcli.request.encode import Encoding
from sdcli.request.picture import Picture
from sdcli.request.png import encode_png
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from sdcli.result import Result
from tests import option_sets, pictures, upscaler_files
from tests.adapters import loras

REQUEST = (
    "model",
    "image",
    "mask",
    "width",
    "steps",
    "device",
    "dtype",
    "threads",
    "lora",
    "sampler",
    "revision",
)
SMALL = ("-W", 64, "-H", 64, "--steps", 2, "-q", "--seed", 7)


@pytest.fixture
def drawn(draw):
    """A picture of the toy model, drawn with one thread."""
    draw("a cat", "--seed", 7, "--threads", 1, "-o", "cat.png")
    return "cat.png"


def altered(path, new, add=0, change=None, **facts):
    """Write the picture as `new`, with `add` on one value of a pixel, other facts and a changed request."""
    metadata = read_png_metadata(path)
    recorded = {**metadata.facts(path), **facts}
    del recorded["request"]
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0, 0] += add if pixels[0, 0, 0] < 200 else -add
    request = metadata.request(path).replace(**(change or {}))
    Path(new).write_bytes(Picture(Image.fromarray(pixels), request, recorded).png())
    return new


def verdict_of(ran):
    (line,) = ran.lines
    return json.loads(line)


def test_a_picture_is_made_again_to_the_byte(drawn, sd):
    ran = sd("verify", drawn)
    assert (ran.code, ran.lines, ran.err) == (0, ["identical   cat.png"], "")


def test_nothing_is_written(drawn, sd, tmp_path):
    sd("verify", drawn)
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]


def test_the_embedded_model_rounds_otherwise_with_another_number_of_threads(sd):
    sd("txt2img", "a red apple", "--steps", 1, "--seed", 7, "--threads", 1, "-q", "-o", "apple.png")
    assert sd("verify", "apple.png", "--strict").lines == ["identical   apple.png"]
    ran = sd("verify", "apple.png", "--threads", 2, "--json", "--strict")
    assert (ran.code, verdict_of(ran)["reasons"]) == (1, {"threads": ["1", "2"]})
    assert verdict_of(ran)["verdict"] in ("rounding", "same_pixels")


@pytest.mark.parametrize(
    "options", [["--threads", 2], ["--dtype", "bfloat16"], ["--threads", 2, "--dtype", "auto"]]
)
def test_the_recorded_threads_and_number_format_are_used_wherever_it_is_verified(sd, monkeypatch, options):
    sd("txt2img", "a cat", "-m", "test:sd1", *SMALL, *options, "-o", "cat.png")
    monkeypatch.setattr("sdcli.machine.helpful_threads", lambda: 1)
    assert sd("verify", "cat.png").lines == ["identical   cat.png"]


@pytest.mark.parametrize("name", ["cat.jpg", "cat.webp"])
@pytest.mark.parametrize("quality", [(), ("--quality", 60)])
def test_a_picture_is_encoded_as_it_was(draw, sd, name, quality):
    draw("a cat", "--seed", 7, "-o", name, *quality)
    assert sd("verify", name).lines == [f"identical   {name}"]


def test_a_picture_on_standard_input_is_verified(drawn, sd):
    assert sd("verify", "-", stdin=Path(drawn).read_bytes()).lines == ["identical   -"]


def test_a_value_that_is_off_by_one_is_a_difference_if_nothing_explains_it(drawn, sd):
    ran = sd("verify", altered(drawn, "off.png", add=1))
    assert (ran.code, ran.err) == (1, "sd: pictures that do not pass: 1 of 1\n")
    assert ran.lines == [
        "different   off.png  max 1, 89.0 dB, 0.0244 % of the pixels; nothing that is recorded explains it"
    ]


def test_another_torch_explains_a_value_that_is_off_by_one_but_not_by_three(drawn, sd):
    off = [altered(drawn, f"off{add}.png", add=add, torch="1.0") for add in (1, 3)]
    ran = sd("verify", *off, "--json")
    assert ran.code == 1
    assert [json.loads(line)["verdict"] for line in ran.lines] == ["rounding", "different"]
    assert "torch 1.0 -> " in json.loads(ran.lines[0])["message"]
    assert "more than rounding (max 2, 65 dB)" in json.loads(ran.lines[1])["message"]


def test_other_metadata_over_the_same_pixels_are_the_same_picture_unless_strict(drawn, sd):
    path = altered(drawn, "other.png", arithmetic="AMD AVX2")
    assert (sd("verify", path).code, sd("verify", path, "--strict").code) == (0, 1)


def test_a_seed_that_was_altered_is_a_difference(drawn, sd):
    ran = sd("verify", altered(drawn, "other.png", change={"seed": 8}), "--json")
    assert (ran.code, verdict_of(ran)["verdict"], verdict_of(ran)["passes"]) == (1, "different", False)


def test_another_model_is_named(drawn, sd):
    ran = sd("verify", drawn, "-m", "test:sd1", "--json")
    assert (ran.code, verdict_of(ran)["verdict"]) == (1, "different")
    assert "model" in verdict_of(ran)["reasons"]


def test_another_lora_is_named(sd, tmp_path):
    loras.write(tmp_path / "style.safetensors")
    sd("txt2img", "a cat", "-m", "test:sd1", *SMALL, "--lora", "style.safetensors", "-o", "cat.png")
    assert sd("verify", "cat.png").lines == ["identical   cat.png"]
    loras.write(tmp_path / "style.safetensors", seed=1)
    ran = sd("verify", "cat.png", "--json")
    assert (ran.code, list(verdict_of(ran)["reasons"])) == (1, ["LoRA style"])


def test_a_picture_below_it_that_was_changed_is_named_and_one_that_is_gone_ends_it(toy, sd):
    Image.new("RGB", (64, 64), "red").save("in.png")
    sd("img2img", "a cat", "-m", toy, *SMALL[4:], "-i", "in.png", "-o", "cat.png")
    assert sd("verify", "cat.png").lines == ["identical   cat.png"]
    Image.new("RGB", (64, 64), "blue").save("in.png")
    assert list(verdict_of(sd("verify", "cat.png", "--json"))["reasons"]) == ["image"]
    Path("in.png").unlink()
    ran = sd("verify", "cat.png")
    assert (ran.code, ran.err) == (4, "sd: in.png: there is no such file; check the path\n")


def test_a_picture_over_one_on_standard_input_cannot_be_made_again(toy, sd):
    Image.new("RGB", (64, 64), "red").save("in.png")
    sd(
        "img2img",
        "a cat",
        "-m",
        toy,
        *SMALL[4:],
        "-i",
        "-",
        "-o",
        "cat.png",
        stdin=Path("in.png").read_bytes(),
    )
    ran = sd("verify", "cat.png")
    assert ran.code == 4
    assert (
        "its image was standard input, which is not kept; compare it with what sd again --image FILE"
        in ran.err
    )


def test_a_picture_that_an_upscaler_file_enlarged_is_verified(sd, tmp_path):
    upscaler_files.write(tmp_path / "x4.safetensors", upscaler_files.rrdb())
    pictures.photo().save("photo.png")
    (path,) = sd("upscale", "photo.png", "-m", "x4.safetensors", "-q").lines
    assert sd("verify", path).lines == [f"identical   {path}"]


def test_a_bad_picture_among_others_fails_alone(drawn, sd):
    data = Path(drawn).read_bytes()
    Path("short.png").write_bytes(data[:-1000])
    ran = sd("verify", "short.png", drawn)
    assert ran.code == 1
    assert [line.split()[:2] for line in ran.lines] == [["failed", "short.png"], ["identical", "cat.png"]]
    assert sd("verify", "short.png").code == 4


def test_the_picture_of_another_tool_is_refused_with_a_way_to_go_on(sd):
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text(
        "parameters",
        "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Version: v1.6.0",
    )
    Image.new("RGB", (64, 64)).save("other.png", pnginfo=texts)
    ran = sd("verify", "other.png")
    assert (ran.code, ran.err.count("\n")) == (4, 1)
    assert "which sd cannot repeat to the bit; try sd again" in ran.err


def test_a_model_that_is_gone_is_an_error_of_models_before_torch_is_imported(drawn, sd, tmp_path):
    path = altered(drawn, "gone.png", change={"model": "gone.safetensors"})
    code = "import sys; from sdcli import cli; print(cli.run(['verify', 'gone.png', '-q']), 'torch' in sys.modules)"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr.count("\n")) == ("3 False\n", 1)
    assert "gone.safetensors" in ran.stderr
    assert sd("verify", path, "-m", read_png_metadata(drawn).request(drawn).model).code == 0


def test_a_model_that_was_moved_into_a_model_folder_is_found_by_its_hash(sd, tmp_path, monkeypatch):
    from sdcli.checkpoints import checkpoint
    from sdcli.convert import convert

    convert(checkpoint.read("test:sd1"), tmp_path / "old.safetensors")
    monkeypatch.setattr(checkpoint, "recognise", lambda signature, path: checkpoint.read("test:sd1").family)
    sd("txt2img", "a cat", "-m", "old.safetensors", *SMALL, "-o", "cat.png")
    (tmp_path / "models").mkdir()
    Path("old.safetensors").rename(tmp_path / "models" / "new.safetensors")
    monkeypatch.setenv("SDCLI_MODELS", str(tmp_path / "models"))
    assert sd("verify", "cat.png").lines == ["identical   cat.png"]


def test_the_sheet_shows_what_does_not_pass_and_overwrites_nothing(drawn, sd):
    altered(drawn, "off.png", add=9)
    Path("sheet.png").write_bytes(b"mine")
    ran = sd("verify", drawn, "off.png", "--sheet", "sheet.png")
    assert "sd: the differences are in sheet-2.png" in ran.err.splitlines()
    with Image.open("sheet-2.png") as sheet:
        assert sheet.width > 3 * 64
    assert Path("sheet.png").read_bytes() == b"mine"


def test_a_picture_that_would_take_hours_is_refused(sd):
    sd("txt2img", "a cat", "--steps", 1, "--seed", 7, "-q", "-o", "cat.png")
    altered("cat.png", "slow.png", change={"width": 8192, "height": 8192, "steps": 1000})
    ran = sd("verify", "slow.png")
    assert (ran.code in (2, 5), "--allow-slow" in ran.err) == (True, True)


def test_no_sheet_is_made_if_all_pass(drawn, sd):
    assert sd("verify", drawn, "--sheet", "sheet.png").code == 0
    assert not Path("sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--sheet", "sheet.jpg"], 2), (["--threads", 0], 2), (["--device", "gpu"], 2), ([], 4)],
)
def test_what_cannot_be_meant_is_refused(sd, arguments, code):
    Image.new("RGB", (8, 8)).save("plain.png")
    ran = sd("verify", "plain.png", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, b"", 1)


def test_a_picture_that_was_made_on_a_gpu_is_made_where_its_request_asks_for_and_one_of_a_cpu_on_the_cpu():
    def to_draw(facts, **given):
        request = Request("a cat", device="auto", dtype="auto")
        loading = request_to_draw(RecordedPicture("a.png", request, facts, Encoding()), given).loading
        return loading.device, loading.dtype, loading.threads

    gpu = {"device": "NVIDIA H100", "dtype": "float16", "threads": 8}
    cpu = {"device": "cpu", "dtype": "bfloat16", "threads": 8}
    assert to_draw(gpu) == ("auto", "auto", 8)
    assert to_draw(gpu, device="cpu") == ("cpu", "auto", 8)
    assert to_draw(cpu) == ("cpu", "bfloat16", 8)
    assert to_draw(cpu, device="cuda", threads=1) == ("cuda", "bfloat16", 1)
    assert to_draw({"device": ["x"], "dtype": 3, "threads": True}) == ("auto", "auto", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=5), each, max_size=2),
)
FACTS = ("arithmetic", "device", "dtype", "format", "given", "kept", "loras", "model", "quality", "sdcli", "threads",
         "torch", "upscaler", "request")  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(FACTS), JSON, max_size=3),
    st.dictionaries(st.sampled_from(REQUEST), JSON, max_size=2),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_metadata_that_were_altered_in_any_way_end_in_an_answer(sd, monkeypatch, facts, request):
    def generate(request, models, watch):
        return Result(Picture(Image.new("RGB", (64, 64)), request, {}), torch.zeros(1), {}, "")

    monkeypatch.setattr("sdcli.engine.generate", generate)
    record = {"format": 2, "request": {"prompt": "a cat", "seed": 7, "model": "test:sd1", **request}, **facts}
    Path("altered.png").write_bytes(encode_png(Image.new("RGB", (64, 64)), {"sd": json.dumps(record)}))
    ran = sd("verify", "altered.png")
    assert ran.code in (0, 1, 2, 3, 4, 5)
    assert ran.err.count("\n") <= 1
    assert len(ran.lines) == (ran.code < 2)


def make_again_and_verify(sd, folder, seed):
    """Draw an option set; again gives the same bytes, and verify says so. A set may be refused."""
    arguments = option_sets.option_set(seed)
    ran = sd(*arguments)
    if ran.code:
        assert ran.code in (2, 3, 4, 7), ran.err
        return False
    (path,) = ran.lines
    quality = arguments[-2:] if "--quality" in arguments else []
    (again,) = sd("again", path, "-q", "-o", f"again{Path(path).suffix}", *quality).lines
    assert Path(again).read_bytes() == Path(path).read_bytes(), arguments
    assert sd("verify", path, "-q").lines == [f"identical   {path}"], arguments
    for name in (path, again):
        Path(name).unlink()
    return True


def draw_option_sets(sd, folder, count, first):
    """Draw so many option sets; those that are refused do not count."""
    option_sets.write_files(folder)
    drawn, seed = 0, first
    while drawn < count:
        drawn += make_again_and_verify(sd, folder, seed)
        seed += 1


def test_r18_random_options_are_made_again_to_the_byte(sd, tmp_path):
    draw_option_sets(sd, tmp_path, 4, first=0)


@pytest.mark.slow
def test_r18_200_random_option_sets_are_made_again_to_the_byte(sd, tmp_path):
    draw_option_sets(sd, tmp_path, 200, first=100)
