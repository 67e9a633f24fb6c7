"""The programs that make the embedded model: captions that say what is true, and arithmetic with known answers.

No data and no compiler is needed; what a finished model draws is judged by scripts/tiny/judge.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

HERE = Path(__file__).resolve().parent.parent / "scripts" / "tiny"
SMALL = {
    "sample_size": 32,
    "block_out_channels": (8, 8, 16, 16, 16),
    "layers_per_block": (1, 2, 2, 1, 1),
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "addition_embed_type_num_heads": 4,
}
DEAF_AT_16 = {
    "down_block_types": ("DownBlock2D",) * 3 + ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * 3,
}


@pytest.fixture(scope="module")
def programs():
    """The modules of scripts/tiny, by name; forgotten afterwards, as their names are everybody's."""
    if not HERE.exists():
        pytest.skip("not part of this distribution")
    before = set(sys.modules)
    sys.path.insert(0, str(HERE))
    try:
        import captions
        import grow
        import listening
        import recipe
        import several
        import spans
        import text
        import together
        import tokens
        import unet

        modules = (captions, grow, listening, recipe, several, spans, text, together, tokens, unet)
        yield SimpleNamespace(**{module.__name__: module for module in modules})
    finally:
        sys.path.remove(str(HERE))
        for name in set(sys.modules) - before:
            if str(HERE) in str(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]


def test_a_caption_names_its_style_unless_it_is_the_unsaid_one(programs):
    captions, recipe = programs.captions, programs.recipe
    random = np.random.default_rng(1)
    for style, words in recipe.STYLES.items():
        texts = [captions.styled(random, "a cat", style) for _ in range(200)]
        named = [any(word in text for word in words) for text in texts]
        assert all("cat" in text for text in texts)
        assert all(named) if style != recipe.UNSAID else 0.2 < np.mean(named) < 0.4


def test_a_caption_names_its_background(programs):
    random = np.random.default_rng(1)
    texts = [programs.captions.grounded(random, "a cat", "light blue") for _ in range(50)]
    assert all("light blue background" in text for text in texts)
    plain = [programs.captions.grounded(random, "a cat", None) for _ in range(300)]
    assert {text for text in plain if text != "a cat"} == {
        "a cat on a white background",
        "a cat, white background",
    }


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (3, "apple", "three apples"),
        (2, "fox", "two foxes"),
        (4, "cherry", "four cherries"),
        (2, "monkey", "two monkeys"),
        (2, "mouse", "two mice"),
        (2, "sheep", "two sheep"),
        (3, "couch", "three couches"),
    ],
)
def test_captions_use_the_right_plural(programs, count, noun, said):
    assert programs.captions.many(count, noun) == said


@pytest.mark.parametrize(
    ("noun", "said"),
    [
        ("apple", "an apple"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("house", "a house"),
        ("ugly duck", "an ugly duck"),
    ],
)
def test_articles_go_by_sound(programs, noun, said):
    assert programs.captions.with_article(noun) == said


def test_every_thing_has_names_of_its_own(programs):
    from concepts import CONCEPTS

    names = [name for first, (_, others) in CONCEPTS.items() for name in (first, *others)]
    assert len(CONCEPTS) == 200 and len(set(names)) == len(names)


def test_times_are_even_but_for_more_of_the_noisiest(programs):
    random = torch.Generator().manual_seed(1)
    times = torch.cat([programs.unet.times_of(64, random) for _ in range(500)])
    low, part = programs.recipe.UNET_NOISIEST, programs.recipe.UNET_NOISY
    share = (times >= low * 1000).float().mean()
    assert abs(share - (part + (1 - part) * (1 - low))) < 0.005
    counts = torch.histc(times[times < low * 1000].float(), bins=8, min=0, max=low * 1000)
    assert (counts / counts.mean() - 1).abs().max() < 0.05 and times.max() == 999


def test_processes_meet_at_the_mean_weighted_by_their_steps(programs):
    network = torch.nn.Linear(2, 1, bias=False)
    party = programs.together.Party(network, 2)
    party.made[:] = torch.tensor([1, 3])
    party.weights[:] = torch.tensor([[1.0, 2.0], [5.0, -2.0]])
    assert party._mean().tolist() == [4.0, -1.0]


def test_of_two_things_the_first_is_left_or_above_however_it_is_said(programs):
    random, said = np.random.default_rng(1), programs.captions.paired
    beside = {said(random, "a cat", "a tree", False) for _ in range(500)}
    over = {said(random, "a cat", "a tree", True) for _ in range(500)}
    assert over == {"a cat above a tree", "a tree below a cat"}
    assert beside == {
        "a cat next to a tree",
        "a cat and a tree",
        "a cat to the left of a tree",
        "a tree to the right of a cat",
    }


def test_processes_share_only_what_learns(programs):
    network = torch.nn.Sequential(torch.nn.Embedding(50, 4), torch.nn.Linear(4, 2))
    network[0].requires_grad_(False)
    assert programs.together.Party(network, 2).weights.shape == (2, 4 * 2 + 2)


def test_the_text_encoder_learns_all_but_its_words(programs):
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextModel(CLIPTextConfig(**programs.recipe.TEXT | {"vocab_size": 60, "eos_token_id": 59}))
    programs.text.free(text.requires_grad_(False))
    still = [name for name, p in text.named_parameters() if not p.requires_grad]
    assert len(still) == 1 and still[0].endswith("token_embedding.weight")


def test_a_deeper_network_says_at_first_what_the_shallow_one_says(programs, monkeypatch):
    from diffusers import UNet2DConditionModel

    recipe = programs.recipe
    torch.manual_seed(1)
    monkeypatch.setattr(recipe, "UNET", recipe.UNET | SMALL)
    layers, widths = (0, 1, 1, 1, 1), SMALL["block_out_channels"]
    shallow = UNet2DConditionModel(**recipe.UNET | DEAF_AT_16 | {"layers_per_block": layers}).eval()
    deep = programs.grow.deepen(shallow.state_dict(), widths, layers).eval()
    x, told, t = torch.randn(2, 4, 32, 32), torch.randn(2, 7, 128), torch.tensor(400)
    with torch.no_grad():
        a, b = (each(x, t, encoder_hidden_states=told).sample for each in (shallow, deep))
    assert any(".attentions." in name for name in deep.state_dict().keys() - shallow.state_dict().keys())
    assert torch.allclose(a, b, atol=1e-5)


def test_a_pooled_vector_is_mixed_once_with_another(programs):
    network = torch.nn.Module()
    network.add_embedding = torch.nn.Linear(3, 4)
    pooled, given = programs.listening.Pooled(network), torch.randn(2, 3)
    own = network.add_embedding(given)
    pooled.share, pooled.others = torch.tensor([[0.0], [0.25]]), torch.full((2, 4), 2.0)
    mixed = network.add_embedding(given)
    assert torch.equal(mixed[0], torch.full((4,), 2.0)) and torch.allclose(mixed[1], 0.25 * own[1] + 1.5)
    assert torch.equal(pooled.own, own) and torch.equal(network.add_embedding(given), own)


@pytest.mark.parametrize(
    ("noun", "above", "colour", "said"),
    [
        ("cat", False, None, "two cats"),
        ("fox", False, "red", "two red foxes"),
        ("cat", True, None, "a cat above a cat"),
        ("sun", False, None, "a sun next to a sun"),
    ],
)
def test_two_of_one_thing_are_named(programs, noun, above, colour, said):
    assert programs.captions.doubled(noun, above, colour) == said


def test_the_halves_of_a_picture_are_those_of_the_first_and_the_second_thing(programs):
    half = programs.listening.half_of
    assert half(False, False)[3].tolist() == [1.0] * 8 + [0.0] * 8
    assert half(True, True)[:, 3].tolist() == [0.0] * 8 + [1.0] * 8
    for above in (False, True):
        assert torch.equal(half(above, False) + half(above, True), torch.ones(16, 16))


@pytest.mark.parametrize(
    ("caption", "concept", "said"),
    [
        ("a cat next to a tree", "cat", "cat"),
        ("a cat next to a tree", "tree", "tree"),
        ("a blue car, cartoon", "car", "blue car"),
        ("three red fire trucks", "fire truck", "red fire trucks"),
        ("an ear of corn", "corn", "ear of corn"),
        ("a chicken leg on a red background", "chicken leg", "chicken leg"),
        ("a cat", "dog", ""),
    ],
)
def test_the_tokens_that_name_a_thing_are_found(programs, caption, concept, said):
    (row,) = programs.tokens.encode([caption])
    start, end = programs.spans.span(row, concept)
    words = programs.tokens.encode([said])[0][1 : 1 + end - start] if said else []
    assert row[start:end] == words and bool(said) == (end > start)


def test_a_mask_is_where_its_box_and_something_else_than_the_background_are(programs):
    latents = torch.zeros(1, 4, 64, 64)
    latents[..., 16:48, 0:32] = 1.0  # a thing on the left, none on the right
    boxes = [[(0, (0.25, 0.5, 0.5)), (1, (0.75, 0.5, 0.5))]]
    masks = programs.listening.masks_of(latents, boxes)
    assert masks.shape == (1, 2, 16, 16) and masks[0, 1].sum() == 0
    assert masks[0, 0].sum() == 64 and masks[0, 0, 4:12, 0:8].all()


def test_a_look_at_the_right_tokens_costs_nothing_and_one_at_others_much(programs):
    looks = programs.listening.Looks(torch.nn.Module())
    masks, spans = torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 77, dtype=torch.bool)
    masks[0, 0, :, :8], spans[0, 0, 3] = 1, True
    right, enough = torch.zeros(1, 1, 256, 77), programs.listening.ENOUGH
    right[..., 3] = 1
    for found, loss in ((right, 0.0), (enough * right, 0.0), (right.roll(1, -1), -np.log(1e-3 / enough))):
        looks.noted = [found]
        assert float(looks.loss(masks, spans)) == pytest.approx(loss, abs=2e-3) and not looks.noted


def test_features_that_are_the_teachers_do_not_differ(programs):
    shown = {"mid_block": torch.randn(2, 8, 4, 4)}
    pupil = {"mid_block": torch.cat([torch.randn(1, 8, 4, 4), shown["mid_block"]])}
    everywhere, left = torch.ones(2, 1, 16, 16), programs.listening.half_of(False, False).expand(2, 1, 16, 16)
    assert programs.listening.difference(pupil, shown, torch.tensor([1, 2]), everywhere) == 0
    assert programs.listening.difference(pupil, shown, torch.tensor([0, 1]), everywhere) > 0.5
    pupil["mid_block"][1:, :, :, 2:] += 1
    assert programs.listening.difference(pupil, shown, torch.tensor([1, 2]), left) == 0
    assert programs.listening.difference(pupil, shown, torch.tensor([1, 2]), 1 - left) > 0.5


def test_small_things_are_laid_at_their_places(programs):
    several = programs.several
    pieces = several.Pieces.__new__(several.Pieces)
    pieces.side, pieces.near, pieces.white = 64, 15, torch.zeros(4, 64, 64)
    a, b = (several.Piece("cat", "noto", None, False, torch.full((4, 30, 30), v)) for v in (1.0, 2.0))
    picture = pieces.picture(tuple(zip((a, b), several.PLACES[2], strict=True)))
    assert picture[0, 32, 16] == 1 and picture[0, 32, 48] == 2
    assert (picture == 1).sum() == (picture == 2).sum() == 4 * 900
