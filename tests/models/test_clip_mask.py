"""CLIP's attention mask: tokens that no other token sees, as transformers' attention_mask hides them."""

import pytest
import torch

from sdcli.models.load import load
from sdcli.tokenizer import framed, ids
from tests import judges

WORDS = "a red cat in a hat"


@pytest.fixture(scope="module")
def model():
    return load("test:sdxl", "cpu", "float32")


@pytest.fixture(scope="module")
def rows():
    return torch.tensor([framed(ids(WORDS)), framed(ids("a dog"))])


def hidden(rows: torch.Tensor, *places: tuple[int, int]) -> torch.Tensor:
    """The mask of ids (n, 77) without the tokens at these places."""
    mask = torch.ones_like(rows, dtype=torch.bool)
    for i, j in places:
        mask[i, j] = False
    return mask


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2"])
@torch.inference_mode()
def test_masked_tokens_are_hidden_as_transformers_hides_them(model, rows, part):
    mask = hidden(rows, (0, 2), (0, 3), (1, 40))
    ours = model.text_encoder(part)(rows, None, mask)
    theirs = judges.text_encoder(model, part)(rows, mask.long(), output_hidden_states=True)
    for own, other in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert torch.allclose(own, other, atol=1e-5)
    if ours.pooled is not None:
        assert torch.allclose(ours.pooled, theirs.text_embeds, atol=1e-5)


@torch.inference_mode()
def test_the_words_before_a_masked_token_keep_their_states(model, rows):
    encoder = model.text_encoder("text_encoder")
    plain, masked = encoder(rows), encoder(rows, None, hidden(rows, (0, 3)))
    before, behind = (slice(0, 3), slice(4, 77))
    last, other = plain.hidden_states[-1], masked.hidden_states[-1]
    assert torch.allclose(last[0, before], other[0, before], atol=1e-6)
    assert not torch.allclose(last[0, behind], other[0, behind], atol=1e-3)
    assert torch.allclose(last[1], other[1], atol=1e-6)


@torch.inference_mode()
def test_a_mask_that_hides_nothing_changes_nothing(model, rows):
    encoder = model.text_encoder("text_encoder_2")
    plain, masked = encoder(rows), encoder(rows, None, hidden(rows))
    assert torch.allclose(plain.hidden_states[-1], masked.hidden_states[-1], atol=1e-6)
