"""The commands that start from a picture, called as a user calls them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdcli.checkpoints import toy
from tests.pictures import half_mask, photo


@pytest.fixture
def run(sd):
    """run("img2img", "a cat", …) draws with a toy model, 4 steps and seed 3; it must succeed.

    The folder holds in.png and, of its size, mask.png (white at the right), black.png and white.png.
    """
    photo().save("in.png")
    half_mask().save("mask.png")
    Image.new("L", (64, 64), 0).save("black.png")
    Image.new("L", (64, 64), 255).save("white.png")

    def draw(command, *arguments, model="test:sd1", **options):
        ran = sd(command, *arguments, "-m", model, "--steps", 4, "--seed", 3, **options)
        assert ran.code == 0, ran.err
        return ran

    return draw


def drawn(ran) -> np.ndarray:
    """The pixels of the first picture that a command printed the path of."""
    with Image.open(ran.lines[0]) as image:
        return np.asarray(image)


def test_img2img_draws_over_a_picture_at_the_size_of_the_picture(run):
    photo(80, 72).save("wide.png")
    ran = run("img2img", "a cat", "-i", "wide.png", "--strength", 0.5)
    assert (ran.lines, ran.err) == (["a-cat-3.png"], "")
    assert drawn(ran).shape == (72, 80, 3)


@pytest.mark.parametrize(
    ("options", "shape"),
    [(("-W", 128), (88, 128)), (("-H", 96), (96, 128)), (("-W", 64, "-H", 64), (64, 64)), ((), (72, 96))],
)
def test_the_size_is_that_of_the_picture_where_it_is_not_given(run, options, shape):
    photo(101, 75).save("odd.png")
    assert drawn(run("img2img", "a cat", "-i", "odd.png", *options)).shape[:2] == shape


@pytest.mark.parametrize("model", toy.MODELS)
def test_every_family_starts_from_a_picture(run, model):
    photo().transpose(Image.Transpose.ROTATE_180).save("other.png")
    options = ("img2img", "a cat", "--strength", 0.5)
    one, other = (drawn(run(*options, "-i", path, model=model)) for path in ("in.png", "other.png"))
    assert one.shape == (64, 64, 3)
    assert (one != other).any()


@pytest.mark.parametrize("model", toy.MODELS)
def test_every_family_heeds_the_negative_prompt_over_a_picture(run, model):
    one, other = (drawn(run("img2img", "a cat", "-i", "in.png", "-n", word, model=model)) for word in "ab")
    assert (one != other).any()


@pytest.mark.parametrize("model", ["test:sdxl", "test:sd2-v", "test:refiner"])
def test_a_family_without_inpainting_channels_repaints_the_masked_part_only(run, model):
    result = drawn(
        run("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--mask-blur", 0, model=model)
    )
    assert (result[:, :32] == np.asarray(photo())[:, :32]).all()
    assert (result[:, 32:] != np.asarray(photo())[:, 32:]).any()


def test_strength_0_only_encodes_and_decodes_the_picture(run):
    import torch

    from sdcli.models.load import load
    from sdcli.pipeline import vae

    model = load("test:sd1", "cpu", "float32")
    ran = run("img2img", "a cat", "-i", "in.png", "--strength", 0, "--dtype", "float32", "--device", "cpu")
    with torch.inference_mode():
        latents = vae.encode(model, vae.to_tensor(Image.open("in.png")))
    assert drawn(ran).tobytes() == vae.decode(model, latents)[0].tobytes()


@pytest.mark.parametrize(("strength", "steps"), [(0, 0), (0.1, 1), (0.5, 2), (0.75, 3), (1, 4)])
def test_strength_is_the_share_of_the_4_steps_that_is_taken(run, strength, steps):
    run("img2img", "a cat", "-i", "in.png", "--strength", strength, "--steps-dir", "steps")
    assert len([*Path().glob("steps/*-x.png")]) == steps


@pytest.mark.parametrize(
    "command",
    [
        ("img2img", "a cat", "-i", "in.png"),
        ("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--sampler", "euler_a"),
    ],
    ids=" ".join,
)
def test_the_same_command_gives_the_same_bytes_twice(run, command):
    first, second = (Path(run(*command).lines[0]) for _ in range(2))
    assert first != second
    assert first.read_bytes() == second.read_bytes()


def test_inpaint_with_a_white_mask_draws_what_img2img_draws(run):
    options = ("a cat", "-i", "in.png", "--strength", 0.5)
    expected = drawn(run("img2img", *options))
    assert drawn(run("inpaint", *options, "--mask", "white.png")).tobytes() == expected.tobytes()


@pytest.mark.parametrize("model", ["test:sd1", "test:inpaint"])
@pytest.mark.parametrize("options", [(), ("--only-masked",), ("-W", 128, "-H", 96), ("--mask-blur", 0)])
def test_inpaint_keeps_every_pixel_outside_the_mask_and_reports_it(run, model, options):
    original = np.asarray(photo(83, 70, "RGBA"))
    photo(83, 70, "RGBA").save("odd.png")
    half_mask(83, 70).save("half.png")
    ran = run("inpaint", "a cat", "-i", "odd.png", "--mask", "half.png", "--json", *options, model=model)
    report = json.loads(ran.out)
    with Image.open(report["path"]) as image:
        result = np.asarray(image)
    assert result.shape == original.shape
    kept_width = 83 // 2 - 20  # the mask begins at 83 // 2; its blur reaches less than 20 pixels further
    assert (result[:, :kept_width] == original[:, :kept_width]).all()
    assert (result != original).any()
    assert report["kept"]["exact"] is True
    assert report["kept"]["pixels"] >= 70 * kept_width


def flipped(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def test_an_inverted_mask_repaints_what_its_negative_repaints(run):
    flipped(half_mask()).save("left.png")
    options = ("inpaint", "a cat", "-i", "in.png")
    expected = drawn(run(*options, "--mask", "mask.png"))
    assert (drawn(run(*options, "--mask", "left.png", "--invert-mask")) == expected).all()


def test_an_alpha_mask_repaints_what_is_transparent_and_keeps_what_is_not(run):
    see_through = photo(mode="RGBA")
    see_through.putalpha(flipped(half_mask()))  # opaque at the left
    see_through.save("alpha.png")
    result = drawn(run("inpaint", "a cat", "-i", "alpha.png", "--alpha-mask", "--mask-blur", 0))
    assert (result[:, :32] == np.asarray(see_through)[:, :32]).all()
    assert (result[:, 32:, 3] == 255).all()
    assert (result[:, 32:, :3] != np.asarray(photo())[:, 32:]).any()


def test_each_masked_content_gives_another_picture(run):
    results = {
        drawn(
            run("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--masked-content", content)
        ).tobytes()
        for content in ("original", "fill", "noise", "empty")
    }
    assert len(results) == 4


def test_outpaint_keeps_the_picture_and_draws_beyond_its_edges(run):
    result = drawn(run("outpaint", "a cat", "-i", "in.png", "--right", 32, "--top", 20, "--mask-blur", 0))
    assert result.shape == (84, 96, 3)
    assert (result[20:, :64] == np.asarray(photo())).all()
    assert result[:20].std() > 0
    assert result[:, 64:].std() > 0


def test_depth2img_estimates_the_depth_where_no_map_is_given(run, sd):
    """It draws almost what it draws by the estimate of `sd annotate depth`, and not what it draws by a flat map."""
    estimated = drawn(run("depth2img", "a cat", "-i", "in.png", model="test:depth"))
    assert sd("annotate", "depth", "in.png", "-m", "test:depth").lines == ["in-depth.png"]
    flat = drawn(run("depth2img", "a cat", "-i", "in.png", "--depth", "black.png", model="test:depth"))
    mapped = drawn(run("depth2img", "a cat", "-i", "in.png", "--depth", "in-depth.png", model="test:depth"))
    assert abs(estimated - 1.0 * mapped).mean() < abs(estimated - 1.0 * flat).mean()


def test_depth2img_draws_by_a_depth_map_alone(run):
    photo(mode="L").save("depth.png")
    assert drawn(run("depth2img", "a cat", "--depth", "depth.png", model="test:depth")).shape == (64, 64, 3)


def test_depth2img_with_a_model_without_depth_is_refused(run, sd):
    photo(mode="L").save("depth.png")
    ran = sd("depth2img", "a cat", "--depth", "depth.png", "-m", "test:sd1")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "depth" in ran.err


def test_an_instruct_pix2pix_model_heeds_both_of_its_scales(run):
    def draw(*options):
        ran = run("img2img", "make it winter", "-i", "in.png", *options, model="test:pix2pix")
        return drawn(ran).tobytes()

    assert len({draw(), draw("--image-cfg", 3), draw("--cfg", 2)}) == 3


def test_upscale_doubles_a_picture_and_names_the_result_after_it(run):
    ran = run("upscale", "in.png")
    assert ran.lines == ["in-3.png"]
    assert drawn(ran).shape == (128, 128, 3)


def test_an_x4_upscaler_enlarges_a_picture_four_times(run):
    photo(24, 16).save("small.png")
    assert drawn(run("upscale", "small.png", model="test:x4")).shape == (64, 96, 3)


def test_an_x4_upscaler_refuses_another_scale(run, sd):
    ran = sd("upscale", "in.png", "-m", "test:x4", "--scale", 2)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


@pytest.mark.parametrize("by", ["picture", "latents"])
def test_hires_takes_the_steps_of_two_runs(run, by):
    ran = run("txt2img", "a cat", "--hires", 1.5, "--hires-by", by, "--steps-dir", "steps")
    assert drawn(ran).shape == (96, 96, 3)
    assert len([*Path().glob("steps/*-x*.png")]) == 4 + 2


def test_a_picture_drawn_with_hires_can_be_made_again(run, sd):
    ran = run("txt2img", "a cat", "--hires", 2)
    again = sd("again", ran.lines[0])
    assert Path(again.lines[0]).read_bytes() == Path(ran.lines[0]).read_bytes()


def test_a_picture_from_standard_input_gives_the_same_result_as_the_file(run):
    named = run("img2img", "a cat", "-i", "in.png", "--no-metadata")
    piped = run("img2img", "a cat", "-i", "-", "--no-metadata", stdin=Path("in.png").read_bytes())
    assert Path(named.lines[0]).read_bytes() == Path(piped.lines[0]).read_bytes()


def test_the_metadata_names_the_picture_and_the_mask_with_their_hashes(run, sd):
    ran = run("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--only-masked")
    info = json.loads(sd("info", ran.lines[0], "--json").out)
    assert (info["image"], info["mask"], info["only_masked"]) == ("in.png", "mask.png", True)
    assert info["given"] == {
        role: hashlib.sha256(Path(path).read_bytes()).hexdigest()
        for role, path in (("image", "in.png"), ("mask", "mask.png"))
    }


def test_an_inpainted_picture_can_be_made_again_with_a_warning_if_the_mask_has_changed(run, sd):
    ran = run("inpaint", "a cat", "-i", "in.png", "--mask", "mask.png", "--only-masked")
    again = sd("again", ran.lines[0])
    assert Path(again.lines[0]).read_bytes() == Path(ran.lines[0]).read_bytes()
    assert "another mask" not in again.err
    half_mask().transpose(Image.Transpose.ROTATE_90).save("mask.png")
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
    ("inpaint", "a cat", "-i", "in.png", "--mask", "black.png"): 4,
    ("outpaint", "a cat", "-i", "in.png"): 2,
    ("depth2img", "a cat"): 2,
    ("depth2img", "a cat", "-i", "-", "--depth", "-", "-m", "test:depth"): 2,
    ("inpaint", "a cat", "-i", "-", "--mask", "-"): 2,
    ("upscale", "none.png"): 4,
    ("upscale", "in.png", "-i", "in.png"): 2,
    ("txt2img", "a cat", "-m", "test:pix2pix"): 3,
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line_on_stderr_with_its_exit_code(run, sd, arguments):
    Path("text.png").write_text("no picture")
    ran = sd(*arguments)
    assert (ran.code, len(ran.err.splitlines()), ran.out) == (MISTAKES[arguments], 1, b""), ran.err
