"""`sd … --control`: from the command line to the picture, its metadata, and back."""

import json

import numpy as np
import pytest
from PIL import Image

from tests import control_files
from tests.control_files import weights, write

MODEL = ("-m", "test:sd1", "--steps", 2, "--seed", 7)


@pytest.fixture
def net(sd, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save("hint.png")
    control_files.controlnet(tmp_path, "test:sd1", "canny.safetensors")
    return "canny.safetensors:image=hint.png"


def pixels(path):
    return np.asarray(Image.open(path))


def test_a_control_is_drawn_recorded_and_drawn_again_byte_for_byte(sd, net, tmp_path):
    sd("txt2img", "a cat", *MODEL, "-o", "plain.png")
    ran = sd(
        "txt2img", "a cat", *MODEL, "--control", f"{net}:weight=0.8:annotate=canny:low=50", "-o", "one.png"
    )
    assert ran.code == 0, ran.err
    assert (pixels("one.png") != pixels("plain.png")).any()
    record = json.loads(Image.open("one.png").text["sd"])
    assert record["request"]["control"] == [f"{net}:weight=0.8:annotate=canny:low=50"]
    assert record["controls"]["canny"]["file"] == "canny.safetensors"
    assert list(record["given"]) == ["picture of control 1"]
    assert 'ControlNet 0: "Module: canny, Model: canny [' in Image.open("one.png").text["parameters"]
    again = sd("again", "one.png", "-o", "two.png")
    assert (again.code, again.err) == (0, "")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_nets_of_one_name_are_recorded_apart(sd, net, tmp_path):
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "canny.safetensors", control_files.as_ldm(weights("test:sd1", seed=2)))
    sd(
        "txt2img",
        "a cat",
        *MODEL,
        "--control",
        net,
        "--control",
        f"other/{net}",
        "--control",
        net,
        "-o",
        "one.png",
    )
    record = json.loads(Image.open("one.png").text["sd"])
    assert list(record["controls"]) == ["canny", "canny (2)"]
    assert len({each["sha256"] for each in record["controls"].values()}) == 2


def test_again_tells_of_another_hint_and_another_net(sd, net, tmp_path):
    sd("txt2img", "a cat", *MODEL, "--control", net, "-o", "one.png")
    Image.new("RGB", (64, 64), "red").save("hint.png")
    write(tmp_path / "canny.safetensors", control_files.as_ldm(weights("test:sd1", seed=2)))
    err = sd("again", "one.png", "-o", "two.png").err
    assert "was made with another picture of control 1; the picture will differ" in err
    assert "was made with another control canny; the picture will differ" in err


@pytest.mark.parametrize("plan", [(), ("--plan",)])
@pytest.mark.parametrize(
    ("control", "code", "message"),
    [
        ("nowhere.safetensors:image=hint.png", 3, "no such file or folder"),
        ("hint.png:image=hint.png", 3, "a picture, not a model"),
        (
            "xl.safetensors:image=hint.png",
            3,
            "is a ControlNet for text of width 32, and test:sd1 is a model of",
        ),
        ("canny.safetensors:image=nowhere.png", 4, "nowhere.png"),
        ("canny.safetensors", 2, "names no picture"),
        ("canny.safetensors:image=hint.png:annotate=depth", 3, "annotate=depth needs a depth network"),
    ],
)
def test_a_control_that_cannot_be_used_is_refused_before_the_model_is_loaded(
    sd, net, tmp_path, monkeypatch, control, code, message, plan
):
    control_files.controlnet(tmp_path, "test:sdxl", "xl.safetensors")
    monkeypatch.setattr("sdcli.models.load.load_model", lambda *rest: pytest.fail("the model was loaded"))
    ran = sd("txt2img", "a cat", *MODEL, "--control", control, *plan)
    assert (ran.code, len(ran.err.splitlines())) == (code, 1)
    assert message in ran.err


def test_a_plan_counts_the_work_and_the_memory_of_a_control(sd, net, tmp_path):
    sd("models", "convert", "test:sd1", "model.safetensors")

    def planned(*more):
        return json.loads(
            sd("txt2img", "a cat", "-m", "model.safetensors", "--plan", "--json", *more).lines[0]
        )

    plain, half, whole = (
        planned(*more)["plan"]["picture"]
        for more in ((), ("--control", f"{net}:end=0.5"), ("--control", net))
    )
    assert plain["operations"] < half["operations"] < whole["operations"] < 2 * plain["operations"]
    assert plain["bytes"] < half["bytes"] == whole["bytes"]


def test_a_hint_is_upright_and_over_white(sd, net, monkeypatch):
    seen = []
    from sdcli.models.architectures.controlnet import ControlNet

    encode = ControlNet.encode_hint
    monkeypatch.setattr(ControlNet, "encode_hint", lambda net, hint: seen.append(hint) or encode(net, hint))
    wide = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    wide.paste((255, 0, 0, 255), (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    wide.save("hint.png", exif=exif)
    sd("txt2img", "a cat", *MODEL, "--control", net)
    top, bottom = seen[0][0, :, 0, 0].tolist(), seen[0][0, :, -1, -1].tolist()
    assert (top, bottom) == ([1, 1, 1], [1, 0, 0])


@pytest.mark.parametrize(
    ("kind", "text"),
    [("controlnet", "a ControlNet for text of width 16"), ("t2i", "a T2I-Adapter for SD 1 and SD 2")],
)
def test_info_tells_what_a_control_file_is(sd, tmp_path, kind, text):
    write(tmp_path / "net.safetensors", weights("test:sd1", kind))
    ran = sd("info", "net.safetensors")
    assert (ran.code, ran.lines[0]) == (0, f"net.safetensors: {text}")
    assert json.loads(sd("info", "net.safetensors", "--json").lines[0])["kind"] == text


def test_a_hint_is_fitted_as_its_setting_says(sd, net):
    for i, fit in enumerate(("crop", "pad", "stretch")):
        assert (
            sd("txt2img", "a cat", *MODEL, "-W", 128, "--control", f"{net}:fit={fit}", "-o", f"{i}.png").code
            == 0
        )
    assert len({pixels(f"{i}.png").tobytes() for i in range(3)}) == 3
    ran = sd("txt2img", "a cat", *MODEL, "-W", 128, "--control", f"{net}:fit=error")
    assert ran.code == 4
    assert "is 64x64, not 128x64" in ran.err


def test_an_enlarged_picture_is_its_own_hint(sd, net):
    control = ("--control", "canny.safetensors")
    ran = sd(
        "upscale", "hint.png", "-m", "test:sd1", "--steps", 8, "--scale", 1.3, *control, "-o", "large.png"
    )
    assert (ran.code, pixels("large.png").shape) == (0, (83, 83, 3)), ran.err


def test_the_hint_is_cut_where_the_picture_is_cut(sd, net, monkeypatch):
    from sdcli.models.architectures.controlnet import ControlNet

    seen, encode = [], ControlNet.encode_hint
    monkeypatch.setattr(ControlNet, "encode_hint", lambda net, hint: seen.append(hint) or encode(net, hint))
    Image.new("RGB", (128, 128), "white").save("in.png")
    halves = Image.new("RGB", (128, 128), "white")
    halves.paste("black", (64, 0, 128, 128))
    halves.save("hint.png")
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (96, 32, 112, 48))  # in the black half
    mask.save("mask.png")
    more = ("--mask", "mask.png", "--only-masked", "--padding", 8, "--mask-blur", 0)
    ran = sd("inpaint", "a cat", "-i", "in.png", *more, *MODEL, "--control", net)
    assert ran.code == 0, ran.err
    assert seen[0].max() == 0


def test_pictures_of_a_count_with_a_control_are_those_drawn_alone(sd, net):
    sd("txt2img", "a cat", *MODEL, "--control", net, "-c", 2, "-o", "many/{seed}.png")
    sd("txt2img", "a cat", *MODEL[:-1], 8, "--control", net, "-o", "alone.png")
    assert (pixels("many/8.png") == pixels("alone.png")).all()
