"""Settings behind a file as other tools write them, in our spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request import loras
from sdcli.request.respelled import respelled

STEMS = st.text("abxyz_-/.", min_size=1, max_size=8).filter(str.strip)
NUMBERS = st.decimals(0, 2, places=2).map(str)


@pytest.mark.parametrize(
    "text", ["a", "a@0.8", "a@0.8:te=0.6", "a.safetensors@1", "C:\\loras\\a", "a:b", "", "@1"]
)
def test_what_is_typed_as_here_is_left_alone(text):
    assert respelled("lora", text) == ""


def test_of_two_bare_numbers_nobody_knows_which_is_which():
    assert respelled("lora", "a:0.8:0.6") == ""


@given(STEMS, NUMBERS, NUMBERS, st.sampled_from("@:,;"), st.sampled_from(",;:@"))
def test_a_respelled_lora_is_read_with_the_numbers_that_were_typed(stem, unet, te, first, second):
    text = f"{stem}{first}{unet}{second}te={te}"
    found = loras.parse(respelled("lora", text) or text)
    assert (found.path, found.unet, found.te) == (stem, float(unet), float(te))
