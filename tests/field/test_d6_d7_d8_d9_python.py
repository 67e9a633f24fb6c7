"""D6-D9: sdcli from Python: names that can be found, values that Python has, errors in its words, results that save."""

import dataclasses
import io
import os
import pickle
import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdcli
from sdcli import Request, SdError, UsageError, generate
from sdcli.errors import PYTHON_NAMES
from sdcli.request import fields
from sdcli.request.png_metadata import read_png_metadata

pytestmark = pytest.mark.usefixtures("python_names")


def picture(mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> Image.Image:
    noise = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


# --- D6: what can be found


def test_d6_dir_lists_every_public_name():
    assert {"generate", "Request", "Result", "UsageError", "load", "ModelCache"} <= {
        *dir(sdcli),
        *sdcli.__all__,
    }
    assert {*sdcli.__all__} <= {*dir(sdcli)}


def test_d6_help_of_the_package_shows_the_functions_and_classes():
    text = pydoc.plain(pydoc.render_doc(sdcli))
    for name in sdcli.__all__:
        assert name in text
    assert "generate(request" in text


@pytest.mark.parametrize("field", [each.name for each in dataclasses.fields(Request)])
def test_d6_help_of_request_explains_every_field(field):
    text = pydoc.plain(pydoc.render_doc(Request))
    option = fields.option_of({each.name: each for each in dataclasses.fields(Request)}[field])
    entry = text.split(f" |  {field} (")[1].split("\n |  ")
    assert option.help.split()[0] in entry[1]
    assert not {*PYTHON_NAMES} & {*entry[1].split()}


def test_d6_each_kind_of_error_is_public():
    kinds = {each for each in SdError.__subclasses__() if each.__module__ == "sdcli.errors"}
    assert {each.__name__ for each in kinds} <= {*sdcli.__all__}


@pytest.mark.slow
def test_d6_a_users_file_is_clean_under_strict_types(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text("""
from pathlib import Path
import numpy as np
from PIL import Image
from sdcli import ModelCache, Request, Result, SdError, generate, load

request = Request("a cat", image=Path("x.png"), mask=Image.new("L", (64, 64)), depth=np.zeros((64, 64), np.uint8))
request = Request("a cat", model=Path("m.safetensors"), vae=Path("v"), latents_in=Path("l"), seed=7)
result: Result = generate(request, ModelCache())
saved: Path = result.save(Path("out"))
name: str = load(request.loading.model).name
""")
    environment = {**os.environ, "MYPYPATH": str(Path(sdcli.__file__).parents[1])}
    options = ["--strict", "--config-file=", "--follow-imports=silent"]
    ran = subprocess.run([sys.executable, "-m", "mypy", *options, "user.py"], cwd=tmp_path, env=environment,
                         capture_output=True, text=True)  # fmt: skip
    assert ran.returncode == 0, ran.stdout


# --- D7: values that Python has


@pytest.mark.parametrize("of", [str, Path], ids=["text", "path"])
def test_d7_a_path_is_taken_as_its_text(of):
    request = Request("a cat", image=of("a/b.png"), mask=of("m.png"), vae=of("v"), model=of("tiny"))
    expected = Request("a cat", image=os.path.join("a", "b.png"), mask="m.png", vae="v", model="tiny")
    assert (request, hash(request)) == (expected, hash(expected))


@pytest.mark.parametrize(
    ("field", "value", "plain"),
    [("seed", np.int64(7), 7), ("seed", np.uint32(7), 7), ("steps", np.int8(7), 7), ("cfg", np.float32(7.5), 7.5),
     ("cfg", np.int64(7), 7.0), ("alpha_mask", np.bool_(False), False), ("prompt", np.str_("a cat"), "a cat"),
     ("seed", np.array(7), 7)],
)  # fmt: skip
def test_d7_a_number_of_numpy_is_taken_as_pythons(field, value, plain):
    held = getattr(Request(**{field: value}), field)
    assert held == plain
    assert type(held) in (type(plain), np.str_)


@pytest.mark.parametrize(
    "value", [7.5, np.float64(7.5), "7", True, np.bool_(True), np.array([7, 8]), None.__class__]
)
def test_d7_what_is_no_whole_number_is_none_for_numpy_either(value):
    with pytest.raises(UsageError, match=r"^seed: "):
        Request(seed=value)


SOURCES = {
    "path": lambda image, path: path,
    "pillow": lambda image, path: image,
    "array": lambda image, path: np.asarray(image),
    "floats": lambda image, path: np.asarray(image) / np.float32(255),
}


def test_d7_a_picture_is_the_same_by_name_as_an_image_and_as_an_array(toy, tmp_path):
    image, path = picture(), tmp_path / "in.png"
    image.save(path)
    drawn = {
        name: generate(Request("a cat", seed=7, steps=2, model=toy, image=of(image, path), strength=0.5))
        for name, of in SOURCES.items()
    }
    assert len({result.picture.image.tobytes() for result in drawn.values()}) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "HSV"])
def test_d7_a_pillow_image_of_any_mode_is_taken(mode):
    from sdcli.request.inputs import open_inputs

    image = Image.new("I;16", (64, 64), 40_000) if mode == "I;16" else picture(mode)
    assert open_inputs(Request(image=image)).picture.image.size == (64, 64)


def test_d7_an_image_that_a_camera_turned_is_upright():
    from sdcli.request.inputs import open_inputs

    image, exif = picture(size=(64, 96)), Image.Exif()
    exif[0x0112] = 6
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", exif=exif)
    assert open_inputs(Request(image=Image.open(encoded))).picture.image.size == (96, 64)


def test_d7_a_mask_of_truth_values_is_black_and_white(toy):
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    result = generate(Request("a cat", seed=7, steps=2, model=toy, image=picture(), mask=mask))
    changed = (np.asarray(result.picture.image) != np.asarray(picture())).any(axis=2)
    assert changed[20:44, 20:44].any()
    assert not changed[:4].any()


@pytest.mark.parametrize(
    "array",
    [np.zeros(3, np.uint8), np.zeros((0, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4), np.int32),
     np.full((4, 4, 3), 200.0), np.full((4, 4), np.nan), np.zeros((1, 4, 4, 3), np.uint8)],
    ids=lambda array: f"{array.shape} {array.dtype}",
)  # fmt: skip
def test_d7_an_array_that_is_no_picture_is_a_usage_error_that_names_the_field(array):
    with pytest.raises(UsageError, match=r"^image: an array of .* is no picture; give"):
        Request(image=array)


def test_d7_a_request_with_pixels_is_a_value():
    one, other = Request(image=picture()), Request(image=picture())
    assert (one, hash(one)) == (other, hash(other))
    assert one != Request(image=picture(size=(72, 64)))
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.replace(seed=7).image == one.image


def test_d7_pixels_are_recorded_as_a_picture_on_standard_input(toy, tmp_path):
    result = generate(Request("a cat", seed=7, steps=2, model=toy, image=picture(), strength=0.5))
    saved = read_png_metadata(result.save(tmp_path / "x.png"))
    assert saved.facts("x.png")["request"]["image"] == "-"
    assert len(saved.facts("x.png")["given"]["image"]) == 64


# --- D7, D8: errors in the words of Python


@pytest.mark.parametrize(
    ("values", "words"),
    [({"steps": 0}, "steps: 0 is outside"), ({"image": 7}, "image: 7 is not a text"), ({"width": 100}, "width 100"),
     ({"clip_skip": 99}, "clip_skip"), ({"mask": "m.png"}, "give the picture with image"),
     ({"variation_seed": 7}, "variation_seed and variation_strength go together"), ({"model": 3}, "model: 3"),
     ({"device": "gpu"}, "device 'gpu'"), ({"sigmas": "x"}, "try sigmas 14.6")],
)  # fmt: skip
def test_d7_an_error_names_the_field_as_python_has_it(values, words):
    with pytest.raises(UsageError) as caught:
        Request("a cat", **values)
    assert words in str(caught.value)
    assert "--" not in str(caught.value)


def test_d7_the_command_line_names_the_option(sd):
    assert "--steps: 0 is outside" in sd("txt2img", "a cat", "--steps", 0).err


@pytest.mark.parametrize("request_", ["a cat", None, {"prompt": "a cat"}, 7], ids=repr)
def test_d8_what_is_no_request_is_an_sd_error_that_says_what_to_write(request_):
    with pytest.raises(SdError, match=r"write generate\(Request\("):
        generate(request_)


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("stepz", "steps"),
        ("cfg_scale", "cfg"),
        ("guidance_scale", "cfg"),
        ("promt", "prompt"),
        ("neg", "negative"),
        ("models", "model"),
    ],
)
def test_d8_a_misspelt_field_is_an_sd_error_with_the_nearest_name(field, nearest):
    for make in Request, Request("a cat").replace:
        with pytest.raises(SdError, match=f"no setting is called '{field}'; did you mean '{nearest}'"):
            make(**{field: 7})


def test_d8_a_misspelt_field_of_a_model_is_an_sd_error_too():
    with pytest.raises(SdError, match="did you mean 'prediction'"):
        sdcli.load("tiny", predicton="auto")


# --- D9: results that save themselves


@pytest.fixture
def result(toy):
    return generate(Request("a cat", seed=7, steps=2, model=toy))


def test_d9_save_writes_the_bytes_that_sd_writes(result, draw, tmp_path):
    draw("a cat", "--seed", 7, "-o", "cli.png")
    assert result.save("python.png") == Path("python.png")
    assert Path("cli.png").read_bytes() == Path("python.png").read_bytes()


@pytest.mark.parametrize(
    ("path", "expected"),
    [(None, "a-cat-7.png"), ("new/", "new/a-cat-7.png"), (Path("new"), "new/a-cat-7.png"),
     ("x-{seed}-{steps}.png", "x-7-2.png")],
)  # fmt: skip
def test_d9_save_takes_a_folder_a_template_or_nothing(result, tmp_path, monkeypatch, path, expected):
    monkeypatch.chdir(tmp_path)
    assert result.save(path) == Path(expected)
    assert Path(expected).is_file()


def test_d9_save_overwrites_nothing(result, tmp_path):
    names = [result.save(tmp_path / "x.png").name for _ in range(3)]
    assert names == ["x.png", "x-2.png", "x-3.png"]


def test_d9_a_path_that_cannot_be_meant_is_an_error_in_pythons_words(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(sdcli.WriteError) as caught:
        result.save(tmp_path / "file" / "x.png")
    assert "choose another folder with path" in str(caught.value)
    with pytest.raises(UsageError):
        result.save(tmp_path / "{sed}.png")


def test_d9_metadata_can_be_left_out(result, tmp_path):
    assert read_png_metadata(result.save(tmp_path / "x.png", metadata=False)).texts == {}
