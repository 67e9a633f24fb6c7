"""The commands that start from a picture, as a user meets them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdcli.checkpoints import toy
from tests.pictures import half_mask, photo


@pytest.fixture
def run(sd):
    """run("img2img", "a cat", …) with the test model in two steps, in a folder with in.png and mask.png."""
    photo().save("in.png")
    half_mask().save("mask.png")
    Image.new("L", (64, 64), 0).save("black.png")
    Image.new("L", (64, 64), 255).save("white.png")

    def call(command, *arguments, model="test:sd1", **more):
        ran = sd(command, *arguments, "-m", model, "--steps", 4, "--seed", 3, **more)
        assert ran.code == 0, ran.err
        return ran

    return call


def drawn(ran) -> np.ndarray:
    with Image.open(ran.lines[0]) as image:
        return np.asarray(image)


def test_img2img_draws_over_a_picture_at_its_size(run):
    photo(80, 72).save("wide.png")
    ran = run("img2img", "a cat", "-i", "wide.png", "--strength", 0.5)
    assert (ran.lines, ran.err) == (["a-cat-3.png"], "")
    assert drawn(ran).shape == (72, 80, 3)


@pytest.mark.parametrize(
    ("options", "shape"),
    [(("-W", 128), (88, 128)), (("-H", 96), (96, 128)), (("-W", 64, "-H", 64), (64, 64)), ((), (72, 96))],
)
def test_the_size_comes_from_the_picture_unless_given(run, options, shape):
    photo(101, 75).save("odd.png")
    assert drawn(run("img2img", "a cat", "-i", "odd.png", *options)).shape[:2] == shape


@pytest.mark.parametrize("model", toy.MODELS)
def test_every_family_starts_from_a_picture(run, model):
    one, two = (drawn(run("img2img", "a cat", "-i", "in.png", "-n", each, model=model)) for each in "ab")
    assert one.shape == (64, 64, 3)
    assert (one != two).any()


@pytest.mark.parametrize("model", ["test:sdxl", "test:sd2-v", "test:refiner"])
def test_every_plain_family_repaints_a_part(run, model):
    made = drawn(run("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--mask-blur", 0, model=model))
    assert (made[:, :32] == np.asarray(photo())[:, :32]).all()
    assert (made[:, 32:] != np.asarray(photo())[:, 32:]).any()


def test_strength_0_is_what_the_vae_makes_of_the_picture(run):
    import torch

    from sdcli.models.load import load
    from sdcli.pipeline import vae

    model = load("test:sd1", "cpu", "float32")
    ran = run("img2img", "a cat", "-i", "in.png", "--strength", 0, "--dtype", "float32", "--device", "cpu")
    with torch.inference_mode():
        there = vae.encode(model, vae.to_tensor(Image.open("in.png")))
    assert drawn(ran).tobytes() == vae.decode(model, there)[0].tobytes()


def test_strength_is_the_part_of_the_steps_that_is_taken(run):
    for strength, steps in ((0, 0), (0.1, 1), (0.5, 2), (0.75, 3), (1, 4)):
        folder = f"steps-{strength}"
        run("img2img", "a cat", "-i", "in.png", "--strength", strength, "--steps-dir", folder)
        assert len([*Path().glob(f"{folder}/*-x.png")]) == steps


def test_the_same_command_twice_gives_the_same_bytes(run):
    for command in (
        ("img2img", "a cat", "-i", "in.png"),
        ("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--sampler", "euler_a"),
    ):
        one, two = run(*command), run(*command)
        assert Path(one.lines[0]).read_bytes() == Path(two.lines[0]).read_bytes()


@pytest.mark.parametrize("model", ["test:sd1", "test:inpaint"])
@pytest.mark.parametrize("options", [(), ("--only-masked",), ("--masked-content", "fill")])
def test_a_black_mask_returns_the_picture_exactly(run, model, options):
    ran = run("inpaint", "a cat", "-i", "in.png", "--mask", "black.png", *options, model=model)
    assert drawn(ran).tobytes() == photo().tobytes()


def test_a_white_mask_is_img2img(run):
    options = ("a cat", "-i", "in.png", "--strength", 0.5)
    whole = drawn(run("img2img", *options))
    assert drawn(run("inpaint", *options, "--mask", "white.png")).tobytes() == whole.tobytes()


@pytest.mark.parametrize("model", ["test:sd1", "test:inpaint"])
@pytest.mark.parametrize("options", [(), ("--only-masked",), ("-W", 128, "-H", 96), ("--mask-blur", 0)])
def test_outside_the_mask_every_pixel_is_kept_and_said_to_be(run, model, options):
    photo(83, 70, "RGBA").save("odd.png")
    half_mask(83, 70).save("half.png")
    ran = run("inpaint", "a cat", "-i", "odd.png", "--mask", "half.png", "--json", *options, model=model)
    told = json.loads(ran.out)
    with Image.open(told["path"]) as image:
        made = np.asarray(image)
    assert made.shape == (70, 83, 4)
    kept = np.s_[:, : 83 // 2 - 20]
    assert (made[kept] == np.asarray(photo(83, 70, "RGBA"))[kept]).all()
    assert (made != np.asarray(photo(83, 70, "RGBA"))).any()
    assert told["kept"]["exact"] is True
    assert told["kept"]["pixels"] >= 70 * (83 // 2 - 20)


def test_invert_and_alpha_say_the_same_the_other_way_round(run):
    half_mask().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("left.png")
    see_through = photo(mode="RGBA")
    see_through.putalpha(half_mask().transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    see_through.save("alpha.png")
    options = ("a cat", "--mask-blur", 0, "--background", "black")
    one = drawn(run("inpaint", *options, "-i", "in.png", "--mask", "mask.png"))
    assert (
        drawn(run("inpaint", *options, "-i", "in.png", "--mask", "left.png", "--invert-mask")) == one
    ).all()
    alpha = drawn(run("inpaint", *options, "-i", "alpha.png", "--alpha-mask"))
    assert (alpha[:, :32, :3] == one[:, :32]).all()


def test_each_masked_content_is_another_start(run):
    made = {
        each: drawn(
            run("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--masked-content", each)
        ).tobytes()
        for each in ("original", "fill", "noise", "empty")
    }
    assert len(set(made.values())) == 4


def test_outpaint_keeps_the_picture_and_draws_on(run):
    made = drawn(run("outpaint", "a cat", "-i", "in.png", "--right", 32, "--top", 20, "--mask-blur", 0))
    assert made.shape == (84, 96, 3)
    assert (made[20:, :64] == np.asarray(photo())).all()
    assert made[:20].std() > 0


def test_depth_is_estimated_where_no_map_is_given(run, sd):
    alone = drawn(run("depth2img", "a cat", "-i", "in.png", model="test:depth"))
    assert sd("annotate", "depth", "in.png", "-m", "test:depth").lines == ["in-depth.png"]
    flat = drawn(run("depth2img", "a cat", "-i", "in.png", "--depth", "black.png", model="test:depth"))
    mapped = drawn(run("depth2img", "a cat", "-i", "in.png", "--depth", "in-depth.png", model="test:depth"))
    assert abs(alone - 1.0 * mapped).mean() < abs(alone - 1.0 * flat).mean()


def test_depth_needs_a_depth_model(run, sd):
    photo(mode="L").save("depth.png")
    assert drawn(run("depth2img", "a cat", "--depth", "depth.png", model="test:depth")).shape == (64, 64, 3)
    ran = sd("depth2img", "a cat", "--depth", "depth.png", "-m", "test:sd1")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "depth" in ran.err


def test_instructions_change_with_both_scales(run):
    def made(*options):
        return drawn(
            run("img2img", "make it winter", "-i", "in.png", *options, model="test:pix2pix")
        ).tobytes()

    assert len({made(), made("--image-cfg", 3), made("--cfg", 2)}) == 3


def test_upscale_names_its_result_after_the_picture(run):
    ran = run("upscale", "in.png")
    assert ran.lines == ["in-3.png"]
    assert drawn(ran).shape == (128, 128, 3)


def test_an_x4_upscaler_enlarges_four_times(run, sd):
    photo(24, 16).save("small.png")
    assert drawn(run("upscale", "small.png", "-m", "test:x4", model="test:x4")).shape == (64, 96, 3)
    ran = sd("upscale", "in.png", "-m", "test:x4", "--scale", 2)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


@pytest.mark.parametrize("by", ["picture", "latents"])
def test_hires_draws_twice(run, by):
    folder = f"steps-{by}"
    ran = run("txt2img", "a cat", "--hires", 1.5, "--hires-by", by, "--steps-dir", folder)
    assert drawn(ran).shape == (96, 96, 3)
    assert len([*Path().glob(f"{folder}/*-x*.png")]) == 4 + 2


def test_hires_can_be_made_again(run, sd):
    ran = run("txt2img", "a cat", "--hires", 2)
    again = sd("again", ran.lines[0])
    assert Path(again.lines[0]).read_bytes() == Path(ran.lines[0]).read_bytes()


def test_a_picture_is_read_from_standard_input(run):
    named = run("img2img", "a cat", "-i", "in.png", "--no-metadata")
    piped = run("img2img", "a cat", "-i", "-", "--no-metadata", stdin=Path("in.png").read_bytes())
    assert Path(named.lines[0]).read_bytes() == Path(piped.lines[0]).read_bytes()


def test_what_was_started_from_is_in_the_metadata_and_makes_it_again(run, sd):
    ran = run("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--only-masked")
    told = json.loads(sd("info", ran.lines[0], "--json").out)
    assert (told["image"], told["mask"], told["only_masked"]) == ("in.png", "mask.png", True)
    assert {*told["given"]} == {"image", "mask"}
    again = sd("again", ran.lines[0])
    assert Path(again.lines[0]).read_bytes() == Path(ran.lines[0]).read_bytes()
    half_mask(64, 64).transpose(Image.Transpose.ROTATE_90).save("mask.png")
    assert "another mask" in sd("again", ran.lines[0]).err


MISTAKES = {
    ("img2img", "a cat"): 2,
    ("img2img", "a cat", "-i", "none.png"): 4,
    ("img2img", "a cat", "-i", "text.png"): 4,
    ("img2img", "a cat", "-i", "in.png", "--strength", "2"): 2,
    ("img2img", "a cat", "-i", "in.png", "--fit", "squeeze"): 2,
    ("img2img", "a cat", "-i", "in.png", "--background", "nocolour"): 2,
    ("img2img", "a cat", "-i", "in.png", "-W", "128", "--fit", "error", "-H", "64"): 4,
    ("img2img", "-", "-i", "-"): 2,
    ("inpaint", "a cat", "-i", "in.png"): 2,
    ("inpaint", "a cat", "-i", "in.png", "--alpha-mask"): 4,
    ("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--alpha-mask"): 2,
    ("inpaint", "a cat", "-i", "in.png", "--mask", "none.png"): 4,
    ("outpaint", "a cat", "-i", "in.png"): 2,
    ("depth2img", "a cat"): 2,
    ("depth2img", "a cat", "-i", "-", "--depth", "-", "-m", "test:depth"): 2,
    ("inpaint", "a cat", "-i", "-", "--mask", "-"): 2,
    ("upscale", "none.png"): 4,
    ("upscale", "in.png", "-i", "in.png"): 2,
    ("txt2img", "a cat", "-m", "test:pix2pix"): 3,
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line_with_its_code(run, sd, arguments):
    Path("text.png").write_text("no picture")
    ran = sd(*arguments)
    assert (ran.code, len(ran.err.splitlines()), ran.out) == (MISTAKES[arguments], 1, b""), ran.err
