"""Clip skip: the layers that A1111, ComfyUI and diffusers read, by transformers' own text encoders."""

import pytest
import torch

from sdcli.models.load import load
from sdcli.pipeline.encode import encode_chunks
from sdcli.tokenizer import framed, ids
from tests import judges
from tests.tokens import plain_text

WORDS = "a red cat"
LAYERS = {  # (model, N) -> (index into the hidden states of the config's layers, whether the final norm follows)
    ("test:sd1", 1): (-1, True),
    ("test:sd1", 2): (-2, True),
    ("test:sd1", 3): (-3, True),
    ("test:sd2", 1): (-1, True),  # the config has 23 of the 24 layers, so this is the penultimate
    ("test:sd2", 2): (-1, True),
    ("test:sd2", 3): (-2, True),
    ("test:sdxl", 1): (-2, False),
    ("test:sdxl", 2): (-2, False),
    ("test:sdxl", 3): (-3, False),
}


@pytest.mark.parametrize(("name", "skip"), LAYERS)
def test_a_clip_skip_reads_the_layer_of_a1111_and_comfyui(name, skip):
    layer, normed = LAYERS[name, skip]
    model = load(name, "cpu", "float32")
    for part, use in model.family.text_encoders.items():
        theirs = judges.text_encoder(model, part)
        with torch.no_grad():
            states = theirs(torch.tensor([framed(ids(WORDS), use.pad)]), output_hidden_states=True)
        expected = states.hidden_states[layer]
        if normed:
            expected = getattr(theirs, "text_model", theirs).final_layer_norm(expected)
        assert torch.allclose(encode_chunks(model, part, plain_text(WORDS), skip)[0], expected, atol=1e-5)


def test_a_clip_skip_leaves_the_pooled_state():
    model = load("test:sdxl", "cpu", "float32")
    (_, one), (_, other) = (
        encode_chunks(model, "text_encoder_2", plain_text(WORDS), skip) for skip in (1, 3)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("like", "skip", "words"),
    [
        ("a1111", 3, "it knows --clip-skip for Stable Diffusion 1 alone"),
        ("comfyui", 1, "for --clip-skip 1 it reads the text encoder's last layer"),
    ],
)
def test_like_says_where_the_tool_counts_otherwise(sd, like, skip, words):
    assert words in draw(sd, "test:sdxl", like, skip)
    assert "clip-skip" not in draw(sd, "test:sd1", like, skip)


@pytest.mark.parametrize(("like", "skip"), [("a1111", 2), ("comfyui", 3), ("sdcli", 3)])
def test_like_says_nothing_of_clip_skip_where_the_tool_agrees(sd, like, skip):
    assert "clip-skip" not in draw(sd, "test:sdxl", like, skip)


def draw(sd, model, like, skip) -> str:
    """What a run prints on standard error."""
    options = ["--steps", 1, "--seed", 1, "--sampler", "euler", "--like", like, "--clip-skip", skip]
    return sd("txt2img", "x", "-m", model, *options).err
