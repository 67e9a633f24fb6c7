"""B1 (A1111#12518, InvokeAI#4583, LECO#11): "clip skip 2" is the penultimate layer in every family.

Version 0.1 counted from the layer that the family uses, so that --clip-skip 2, which the makers of SDXL models ask for,
gave the third layer from the end on SD 2 and SDXL.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdcli.checkpoints import toy
from sdcli.models.load import load
from sdcli.pipeline.encode import encode_chunks
from sdcli.tokenizer import framed
from tests.tokens import plain


def pixels(sd, *arguments):
    ran = sd(*arguments, "--json")
    assert ran.code == 0, ran.err
    path = json.loads(ran.lines[0])["path"]
    return np.asarray(Image.open(path)), path


def draw(sd, model, *options):
    return pixels(sd, "txt2img", "a cat", "-m", model, "-W", 64, "-H", 64, "-s", 1, "--seed", 7, *options)


@pytest.mark.parametrize("model", ["test:sd2", "test:sd2-v", "test:sdxl", "test:refiner"])
def test_b1_clip_skip_2_changes_nothing_where_the_penultimate_layer_is_the_default(sd, model):
    plain, one, two, three = (
        draw(sd, model, *options)[0]
        for options in ([], ["--clip-skip", 1], ["--clip-skip", 2], ["--clip-skip", 3])
    )
    assert (plain == two).all() and (plain == one).all()
    assert (plain != three).any()


def test_b1_clip_skip_2_of_sd1_is_the_layer_before_its_own(sd):
    plain, one, two = (
        draw(sd, "test:sd1", *options)[0] for options in ([], ["--clip-skip", 1], ["--clip-skip", 2])
    )
    assert (plain == one).all() and (plain != two).any()


@pytest.mark.parametrize("model", [name for name in toy.MODELS if "sd1" not in name])
def test_b1_a_skip_is_the_same_layer_of_the_published_encoder_in_every_family(model):
    """hidden_states[-N] of the published encoder; OpenCLIP-H has 24 layers, of which its config keeps 23."""
    loaded, chunks = load(model), [[320, 2368]]
    for part, use in loaded.family.text_encoders.items():
        dropped = loaded.family.clip_skip - use.layer
        encoder = loaded.text_encoder(part)
        for skip in (2, 3):
            with torch.inference_mode():
                expected = encoder(torch.tensor([framed(chunks[0], use.pad)])).hidden_states[
                    -(skip - dropped)
                ]
                expected = encoder.final_layer_norm(expected) if use.norm else expected
            assert (encode_chunks(loaded, part, plain(chunks), skip)[0] == expected).all()


@pytest.mark.parametrize(
    ("model", "old", "new"), [("test:sdxl", 2, 3), ("test:sd2", 3, 4), ("test:sd1", 2, 2)]
)
def test_b1_a_picture_of_version_0_1_with_a_clip_skip_is_made_again_as_it_was(sd, tmp_path, model, old, new):
    today, path = draw(sd, model, "--clip-skip", new)
    image = Image.open(path)
    facts = json.loads(image.text["sd"])
    del facts["format"]
    facts["request"]["clip_skip"] = old
    info = PngInfo()
    info.add_text("sd", json.dumps(facts))
    image.save("old.png", pnginfo=info)
    again, path = pixels(sd, "again", "old.png")
    assert (again == today).all()
    assert (pixels(sd, "again", path)[0] == today).all()
    assert f"  clip_skip: {new}" in sd("info", "old.png").out.decode().splitlines()


def test_b1_a_picture_of_version_0_1_without_a_clip_skip_is_made_again_as_it_was(sd):
    today, path = draw(sd, "test:sdxl")
    image = Image.open(path)
    facts = json.loads(image.text["sd"])
    del facts["format"]
    facts["request"]["clip_skip"] = 1  # what 0.1 recorded
    info = PngInfo()
    info.add_text("sd", json.dumps(facts))
    image.save("old.png", pnginfo=info)
    assert (pixels(sd, "again", "old.png")[0] == today).all()


def test_b1_help_says_what_the_numbers_mean_in_each_family(sd):
    text = " ".join(sd("txt2img", "--help").out.decode().split())
    assert "SD 2 and SDXL use 2, the penultimate: there 1 and 2 change nothing" in text
