"""`sd upscale -m FILE` with an ESRGAN-like file: what is made, kept, recorded and refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests import pictures, upscaler_files


@pytest.fixture
def nearest(tmp_path):
    """An upscaler whose result is known: each pixel becomes a square of 4x4."""
    return upscaler_files.write(tmp_path / "nearest.safetensors", upscaler_files.nearest(4))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pictures.photo(40, 30).save(path)
    return path


def opened(path):
    with Image.open(path) as image:
        image.load()
    return image


def squares(image, scale=4):
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def test_a_picture_is_enlarged_by_the_files_own_factor_and_named_after_it(sd, nearest, photo):
    ran = sd("upscale", photo, "-m", nearest)
    assert (ran.code, ran.lines, ran.err) == (0, ["photo-x4.png"], "")
    assert opened("photo-x4.png").tobytes() == squares(opened(photo)).tobytes()


def test_a_smaller_scale_is_resampled_from_the_files_own(sd, nearest, photo):
    assert sd("upscale", photo, "-m", nearest, "--scale", 2.5).lines == ["photo-x2.5.png"]
    expected = squares(opened(photo)).resize((100, 75), Image.Resampling.LANCZOS)
    assert opened("photo-x2.5.png").tobytes() == expected.tobytes()


def test_a_larger_scale_is_resampled_and_said(sd, nearest, photo):
    ran = sd("upscale", photo, "-m", nearest, "--scale", 6)
    assert "nearest.safetensors enlarges 4 times; the rest to 6 is resampled (Lanczos)" in ran.err
    assert opened("photo-x6.png").size == (240, 180)


def test_several_pictures_are_enlarged_by_a_network_that_is_loaded_once(sd, nearest, photo, monkeypatch):
    from sdcli.models import upscaler

    loads, load = [], upscaler.load
    monkeypatch.setattr(upscaler, "load", lambda *given: loads.append(given) or load(*given))
    pictures.photo(16, 24).save("other.png")
    ran = sd("upscale", photo, "other.png", "-m", nearest, "-o", "large/")
    assert (ran.code, ran.lines, len(loads)) == (0, ["large/photo-x4.png", "large/other-x4.png"], 1)
    assert opened("large/other-x4.png").tobytes() == squares(opened("other.png")).tobytes()


@pytest.mark.parametrize("model", ["file", "tiny"])
def test_of_several_pictures_each_fails_alone(sd, nearest, photo, tmp_path, model):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    options = ["-m", nearest] if model == "file" else ["--steps", 2, "-s", 1, "--prompt", "a cat", "-q"]
    ran = sd("upscale", "broken.png", "none.png", photo, *options)
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert opened(ran.lines[0]).size == ((160, 120) if model == "file" else (80, 60))
    for said in ("broken.png", "none.png", "2 of 3 pictures could not be enlarged"):
        assert said in ran.err


def test_with_json_the_picture_that_failed_is_told(sd, nearest, photo):
    ran = sd("upscale", "none.png", photo, "-m", nearest, "--json")
    failed, done = map(json.loads, ran.lines)
    assert (failed["picture"], failed["error"]["code"], done["path"]) == ("none.png", "image", "photo-x4.png")


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["a.png", "b.png", "-o", "-"], 2, "-o - writes one picture"),
        (["-", "-"], 2, "standard input is one picture"),
        (["a.png", "b.png", "--steps", 3], 2, "--steps means nothing"),
        (["a.png", "b.png", "-o", "{seed}.png"], 2, "has no {seed}"),
    ],
)
def test_what_is_wrong_for_all_pictures_is_said_once(sd, nearest, given, code, message):
    ran = sd("upscale", *given, "-m", nearest)
    assert (ran.code, len(ran.err.splitlines())) == (code, 1)
    assert message in ran.err


@pytest.mark.parametrize("name", ["swinir_classical_x2", "swinir_lightweight_x3", "swinir_real_x4"])
def test_a_swinir_file_enlarges_and_is_made_again(sd, photo, tmp_path, name):
    upscaler_files.write(tmp_path / "swin.safetensors", upscaler_files.SWINIRS[name])
    scale = int(name[-1])
    assert sd("upscale", photo, "-m", "swin.safetensors", "-o", "one.png").lines == ["one.png"]
    assert opened("one.png").size == (40 * scale, 30 * scale)
    assert sd("again", "one.png", "-o", "two.png").err == ""
    assert opened("one.png").tobytes() == opened("two.png").tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_greys_and_transparency_stay(sd, nearest, tmp_path, mode):
    image = pictures.photo(20, 16, mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize((20, 16)))
    image.save(tmp_path / "in.png")
    sd("upscale", "in.png", "-m", nearest)
    enlarged = opened("in-x4.png")
    assert enlarged.mode == mode
    colours = image.convert(mode.removesuffix("A"))
    assert enlarged.convert(mode.removesuffix("A")).tobytes() == squares(colours).tobytes()
    if mode.endswith("A"):
        alpha = image.getchannel("A").resize((80, 64), Image.Resampling.LANCZOS)
        assert enlarged.getchannel("A").tobytes() == alpha.tobytes()


def test_the_colour_profile_stays_and_the_values_are_those_of_the_file(sd, nearest, tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pictures.photo(20, 16).save(tmp_path / "in.png", icc_profile=icc)
    sd("upscale", "in.png", "-m", nearest)
    assert opened("in-x4.png").info["icc_profile"] == icc
    assert opened("in-x4.png").tobytes() == squares(pictures.photo(20, 16)).tobytes()


def test_json_and_metadata_tell_the_file_its_hash_and_its_factor(sd, nearest, photo):
    report = json.loads(sd("upscale", photo, "-m", nearest, "--scale", 2, "--json").out)
    assert (report["path"], report["width"], report["height"]) == ("photo-x2.png", 80, 60)
    assert report["upscaler"]["name"] == "nearest"
    assert len(report["upscaler"]["sha256"]) == 64
    assert report["upscaler"]["scale"] == 4
    texts = opened("photo-x2.png").info
    assert json.loads(texts["sd"])["upscaler"] == report["upscaler"]
    assert "Postprocess upscale by: 2, Postprocess upscaler: nearest" in texts["parameters"]


def test_without_metadata_nothing_is_recorded(sd, nearest, photo):
    sd("upscale", photo, "-m", nearest, "--no-metadata")
    assert not {"sd", "parameters"} & opened("photo-x4.png").info.keys()


def test_again_makes_the_same_bytes(sd, nearest, photo):
    sd("upscale", photo, "-m", nearest, "--window", 64, "--scale", 3, "-o", "one.png")
    ran = sd("again", "one.png", "-o", "two.png")
    assert (ran.code, ran.err) == (0, "")
    with open("one.png", "rb") as one, open("two.png", "rb") as two:
        assert one.read() == two.read()


def test_again_says_that_the_upscaler_or_the_picture_is_another(sd, nearest, photo):
    sd("upscale", photo, "-m", nearest, "-o", "one.png")
    upscaler_files.write(nearest, upscaler_files.compact())
    pictures.photo(30, 30).save(photo)
    ran = sd("again", "one.png", "-o", "two.png")
    assert "made with another upscaler" in ran.err
    assert "made with another image" in ran.err
    assert "--steps means nothing for an upscaler" in sd("again", "one.png", "--steps", 3).err


def test_plan_tells_the_size_and_the_tiles_and_draws_nothing(sd, nearest, photo, tmp_path):
    assert sd("upscale", photo, "-m", nearest, "--plan").lines == [
        "160x120: 1 tile of at most 256x256 pixels, no estimate"
    ]
    plan = json.loads(sd("upscale", photo, "-m", nearest, "--plan", "--json").out)["plan"]
    assert (plan["size"], plan["tiles"]) == ("160x120", 1)
    assert not list(tmp_path.glob("photo-*"))


def test_other_formats_and_standard_streams(sd, nearest, photo):
    assert sd("upscale", photo, "-m", nearest, "--format", "webp").lines == ["photo-x4.webp"]
    assert sd("upscale", photo, "-m", nearest, "-o", "out/{prompt}.jpg", "--quality", 90).lines == [
        "out/photo.jpg"
    ]
    ran = sd("upscale", "-", "-m", nearest, "-o", "-", stdin=photo.read_bytes())
    assert ran.out.startswith(b"\x89PNG")
    assert sd("upscale", "-", "-m", nearest, stdin=photo.read_bytes()).lines == ["stdin-x4.png"]


def test_an_upscaler_is_found_and_listed_by_its_name(sd, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCLI_UPSCALERS", str(tmp_path / "mine"))
    upscaler_files.write(tmp_path / "mine" / "sharp.safetensors", upscaler_files.rrdb())
    assert sd("upscale", photo, "-m", "sharp").lines == ["photo-x4.png"]
    assert any(line.startswith("  sharp  an ESRGAN upscaler") for line in sd("models").lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a cat"], "--prompt means nothing for an upscaler file"),
        (["--steps", 5], "--steps means nothing"),
        (["--seed", 5], "--seed means nothing"),
        (["--cfg", 5], "--cfg means nothing"),
        (["--strength", 0.3], "--strength means nothing"),
        (["--noise-level", 20], "--noise-level means nothing"),
        (["--tile", "both"], "--tile means nothing"),
        (["--vae", "x.safetensors"], "--vae means nothing"),
        (["--width", 80], "--width: an upscaler file enlarges by a factor; use --scale"),
        (["--count", 2], "--count: an upscaler file always gives the same picture"),
        (["--steps-dir", "steps"], "--steps-dir means nothing"),
        (["--latents-out", "x.safetensors"], "--latents-out means nothing"),
        (["-o", "{seed}.png"], "has no {seed}; use {prompt} or {model}"),
        (["-o", "-", "--json"], "does not go with --json"),
        (["--dtype", "float16"], "--dtype float16 is for CUDA"),
    ],
)
def test_what_means_nothing_for_an_upscaler_is_refused_by_name(sd, nearest, photo, options, message):
    ran = sd("upscale", photo, "-m", nearest, *options)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    "tensors",
    [upscaler_files.rrdb(), upscaler_files.as_old(upscaler_files.rrdb()), upscaler_files.compact()],
)
def test_other_commands_say_that_it_is_an_upscaler(sd, tmp_path, tensors):
    upscaler_files.write(tmp_path / "net.safetensors", tensors)
    ran = sd("txt2img", "a cat", "-m", "net.safetensors")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "an ESRGAN upscaler, which `sd upscale` takes" in ran.err


def test_an_upscaler_that_was_lost_is_named_by_again(sd, nearest, photo):
    sd("upscale", photo, "-m", nearest, "-o", "one.png")
    nearest.unlink()
    ran = sd("again", "one.png")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "nearest.safetensors" in ran.err


def test_errors_come_before_torch_is_imported(nearest, photo):
    program = (
        "import sys; from sdcli import cli; code = cli.run(sys.argv[1:]);"
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    for rest, code in ((["--steps", "3"], 2), (["-o", "x.tiff"], 2), (["--quality", "9"], 2)):
        arguments = ["upscale", str(photo), "-m", str(nearest), *rest]
        ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
        assert (ran.returncode, len(ran.stderr.splitlines())) == (code, 1), ran.stderr


def test_a_damaged_file_and_a_too_large_result_are_refused_in_one_line(sd, nearest, photo, tmp_path):
    tensors = upscaler_files.compact()
    del tensors["body.2.bias"]
    upscaler_files.write(tmp_path / "cut.safetensors", tensors)
    ran = sd("upscale", photo, "-m", "cut.safetensors")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "body.2.bias" in ran.err
    Image.new("RGB", (4000, 3000)).save("huge.png")
    ran = sd("upscale", "huge.png", "-m", nearest)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "16000x12000" in ran.err


def test_bfloat16_is_near_float32(sd, tmp_path, photo):
    upscaler_files.write(tmp_path / "net.safetensors", upscaler_files.rrdb())
    sd("upscale", photo, "-m", "net.safetensors", "-o", "one.png")
    sd("upscale", photo, "-m", "net.safetensors", "--dtype", "bfloat16", "-o", "two.png")
    one, two = (np.asarray(opened(name), dtype=float) for name in ("one.png", "two.png"))
    assert 0 < np.abs(one - two).mean() < 2


def test_a_converted_pickle_of_real_esrgan_enlarges(sd, photo):
    import torch

    tensors = {name: torch.from_numpy(each) for name, each in upscaler_files.rrdb(unshuffle=2).items()}
    torch.save({"params_ema": tensors}, "x2.pth")
    assert sd("upscale", photo, "-m", "x2.pth").code == 3
    assert sd("models", "convert", "x2.pth", "x2.safetensors").code == 0
    assert sd("upscale", photo, "-m", "x2.safetensors").lines == ["photo-x2.png"]
    assert opened("photo-x2.png").size == (80, 60)
