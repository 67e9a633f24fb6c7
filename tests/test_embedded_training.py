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
        import recipe
        import text
        import together
        import unet

        yield SimpleNamespace(
            captions=captions, grow=grow, recipe=recipe, text=text, together=together, unet=unet
        )
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
    beside = {said(random, "a cat", "a tree", False) for _ in range(100)}
    over = {said(random, "a cat", "a tree", True) for _ in range(100)}
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
    shallow = UNet2DConditionModel(**recipe.UNET | {"layers_per_block": layers}).eval()
    deep = programs.grow.deepen(shallow.state_dict(), widths, layers).eval()
    x, told, t = torch.randn(2, 4, 32, 32), torch.randn(2, 7, 128), torch.tensor(400)
    with torch.no_grad():
        a, b = (each(x, t, encoder_hidden_states=told).sample for each in (shallow, deep))
    assert len(deep.state_dict()) > len(shallow.state_dict())
    assert torch.allclose(a, b, atol=1e-5)
