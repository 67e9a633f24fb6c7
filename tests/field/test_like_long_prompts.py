"""--like a1111 and --like comfyui do not pad a prompt that is longer or shorter than its negative prompt.

A1111 gives the network one after the other; ComfyUI repeats the shorter context to the length of the longer
(CONDCrossAttn). Version 0.1.0 put an empty chunk behind the shorter: 20 dB from ComfyUI's pictures. The judge is
diffusers' U-Net, given what these tools give theirs.
"""

import math

import pytest
import torch

from sdcli.models.load import load
from sdcli.pipeline.encode import encode_chunks
from sdcli.pipeline.text import encode_prompts
from sdcli.pipeline.unet import predictor
from sdcli.request.prompt import reading
from sdcli.request.prompt.emphases import EMPHASIS_OF
from sdcli.request.request import Request
from tests import judges

LONG = ", ".join(f"a red cat number {n} on a green mat" for n in range(12))  # 2 chunks
LONGER = ", ".join(f"a red cat number {n} on a green mat" for n in range(20))  # 3 chunks
SIGMA = 3.0


def context_of(model, text, like):
    language = reading.dialect(EMPHASIS_OF[like], like)
    chunks = language.chunked(language.pieces(text), model.tokenizers["text_encoder"], {})
    return encode_chunks(model, "text_encoder", chunks)[0]


def estimates(model, x, *contexts):
    """The denoised estimates by diffusers' U-Net, one row after the other or in one call if of one length."""
    unet, t = judges.unet(model), model.levels.t(SIGMA)
    scaled = (x / math.sqrt(1 + SIGMA**2)).expand(len(contexts), -1, -1, -1)
    with torch.no_grad():
        out = unet(scaled, torch.tensor(float(round(t))), encoder_hidden_states=torch.cat(contexts)).sample
    return [x - SIGMA * each[None] for each in out]


def ours(model, x, prompt, negative, like):
    request = Request(prompt, negative=negative, model="test:sd1", seed=1, like=like)
    composed = encode_prompts(model, model.with_defaults(request))
    conds = [each.parts[0].cond for each in composed]
    predict = predictor(model, None, 0, round)
    return conds, predict(x, SIGMA, conds)


@pytest.mark.parametrize(("prompt", "negative"), [(LONG, "a dog"), ("a dog", LONG), (LONG, ""), (LONG, LONGER)],
                         ids=["longer", "shorter", "empty", "2 and 3"])  # fmt: skip
def test_unequal_prompts_are_those_of_a1111_and_comfyui(prompt, negative):
    model = load("test:sd1", "cpu", "float32")
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 4
    for like in ("a1111", "comfyui"):
        contexts = [context_of(model, text, like) for text in (prompt, negative)]
        separate = [estimates(model, x, context)[0] for context in contexts]
        length = math.lcm(*(context.shape[1] for context in contexts))
        repeated = [context.repeat(1, length // context.shape[1], 1) for context in contexts]
        theirs = separate if like == "a1111" else estimates(model, x, *repeated)
        conds, answers = ours(model, x, prompt, negative, like)
        assert [cond.context.shape for cond in conds] == [context.shape for context in contexts]
        for own, expected in zip(answers, theirs, strict=True):
            assert torch.allclose(own, expected, atol=1e-4)


def test_prompts_of_sdcli_are_padded_to_one_length_as_before():
    model = load("test:sd1", "cpu", "float32")
    conds, _ = ours(model, torch.zeros(1, 4, 8, 8), LONG, "a dog", "sdcli")
    assert [cond.context.shape[1] for cond in conds] == [154, 154]


@pytest.mark.parametrize("guidance", ["cfg", "perp_neg", "pag", "apg"])
def test_long_prompts_are_drawn_by_the_command_line_with_each_guidance(sd, guidance):
    options = ["-m", "test:sdxl", "-n", "a dog", "--steps", 1, "--seed", 1, "-W", 64, "-H", 64]
    assert sd("txt2img", LONG, *options, "--like", "a1111", "--guidance", guidance, "-q").code == 0
