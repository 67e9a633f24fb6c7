"""Prompts on full-size text encoders against stored answers of A1111, ComfyUI and compel; minutes and gigabytes."""

import json
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sdcli import registry
from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.family import UNetSignature
from sdcli.models.load import load
from sdcli.models.model import Model
from sdcli.pipeline.compel import encode_compel
from sdcli.pipeline.encode import encode_prompt
from sdcli.request.prompt import attention, comfyui
from sdcli.request.prompt.chunks import Chunk, chunked, chunked_by_words
from sdcli.request.prompt.pieces import Piece
from tests.full_size import write
from tests.single_file import layout, narrow

GOLDEN = Path(__file__).parent.parent / "golden" / "full_size"
ANSWERS = json.loads((GOLDEN / "prompts.json").read_text())
FAMILIES = {"sd15": "sd1", "sd21": "sd2"}
FORMULAS = {"Original": "a1111", "No norm": "no_norm", "Ignore": "none", "None": "none"}
"""A1111's names of its formulas -> ours. With None, it does not read brackets at all."""
NEAR = 5e-5  # relative L2 distance
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def answers():
    return load_file(GOLDEN / "prompts.safetensors")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A model with a text encoder of full size and the other networks at toy width: loaded("sd15") -> Model.

    Its weights follow the rule of tests/full_size.py.
    """
    models: dict[str, Model] = {}

    def call(name: str) -> Model:
        if name not in models:
            models.clear()  # one at a time
            path = tmp_path_factory.mktemp("prompts") / "x.safetensors"
            models[name] = _written(path, name)
            path.unlink()
        return models[name]

    return call


def _written(path: Path, name: str) -> Model:
    family = registry.find("families", FAMILIES[name])
    configs = narrow(family) | {"text_encoder": family.configs["text_encoder"]}
    width = configs["text_encoder"]["hidden_size"]
    configs["unet"] = {**configs["unet"], "cross_attention_dim": width}
    small = replace(family, configs=configs, signature=UNetSignature(4, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "recognise", lambda *_: small)
        return load(str(write(path, layout(family, configs))), "cpu", "float32")


def embedding(width: int) -> torch.Tensor:
    """The three vectors of the embedding `mystyle`, by a rule of their own."""
    key = f"emb.mystyle.{'clip_l' if width == 768 else 'clip_h'}"
    drawn = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(
        (3, width), dtype=np.float32
    )
    return torch.from_numpy(drawn.astype(np.float16).astype(np.float32))


def context(model: Model, known: dict) -> torch.Tensor:
    """The context (1, 77 * chunks, width) of a prompt, read as the tool reads it that gave the answer."""
    if known["by"] == "compel":
        return encode_compel(model, known["prompt"], known["clip_skip"], (512.0, 512.0)).context
    is_comfyui = known["by"] == "ComfyUI"
    formula = "comfyui" if is_comfyui else FORMULAS[known["emphasis"]]
    vectors = {"mystyle": embedding(model.configs["text_encoder"]["hidden_size"])}
    read = _comfyui if is_comfyui else _a1111
    chunks = {"text_encoder": read(model, known, {name: len(each) for name, each in vectors.items()})}
    size = (512.0, 512.0)
    return encode_prompt(model, chunks, known["clip_skip"], size, formula, {"text_encoder": vectors}).context


def _a1111(model: Model, known: dict, embeddings: dict[str, int]) -> tuple[Chunk, ...]:
    literal = known["emphasis"] == "None"
    pieces = [Piece(known["prompt"])] if literal else attention.parse(known["prompt"])
    return chunked(pieces, model.tokenizers["text_encoder"], embeddings)


def _comfyui(model: Model, known: dict, embeddings: dict[str, int]) -> tuple[Chunk, ...]:
    return chunked_by_words(comfyui.parse(known["prompt"]), model.tokenizers["text_encoder"], embeddings)


@pytest.mark.parametrize("known", ANSWERS, ids=lambda known: f"{known['family']}.{known['name']}")
def test_a_prompt_s_context_is_that_of_the_tool(loaded, answers, known):
    ours = context(loaded(known["family"]), known)[0]
    answer = answers[f"{known['family']}.{known['name']}"]
    shown = ours[known["rows"]][:, ::16]
    assert float((shown - answer).norm() / answer.norm()) < NEAR
    assert math.isclose(float(ours.double().norm()), known["l2"], rel_tol=NEAR)
    assert abs(float(ours.double().sum()) - known["sum"]) < NEAR * known["l2"]
