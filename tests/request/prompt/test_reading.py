"""Dialects: which language a prompt is read in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request.prompt import notes, reading
from sdcli.request.prompt.emphases import EMPHASES, EMPHASIS_OF
from sdcli.request.prompt.schedule import Timeline
from sdcli.tokenizer import Tokenizer
from tests.request.prompt.strategies import PROMPTS

LANGUAGES = [(emphasis, like) for emphasis in EMPHASES for like in ("sdcli", "a1111")]


@pytest.mark.parametrize(
    ("like", "language"),
    [("a1111", reading.A1111), ("comfyui", reading.COMFYUI), ("diffusers", reading.PLAIN), ("compvis", reading.PLAIN)],
)  # fmt: skip
def test_each_tool_has_its_language(like, language):
    assert reading.dialect(EMPHASIS_OF[like], like) is language


def test_comfyui_knows_neither_parts_nor_changing_words():
    (part,) = reading.read("a AND [b:c:0.5]", reading.COMFYUI, Timeline(10))
    assert part.entries == ((10, "a AND [b:c:0.5]"),)


@pytest.mark.parametrize(("emphasis", "like"), LANGUAGES)
@given(prompt=PROMPTS)
def test_every_prompt_can_be_read_and_noted_on_in_every_language(emphasis, like, prompt):
    from sdcli.errors import UsageError

    language, timeline = reading.dialect(emphasis, like), Timeline(4)
    try:
        parts = reading.read(prompt, language, timeline)
        chunks = [language.chunked(language.pieces(part.at(0)), Tokenizer(), {}) for part in parts]
        list(notes.notes(prompt, language, timeline, Tokenizer()))
    except UsageError:
        assert emphasis == "compel"  # which refuses blends that it cannot draw
        return
    assert all(len(each) >= 1 and all(len(chunk) <= 75 for chunk in each) for each in chunks)


@given(st.text(alphabet="ab c", max_size=60))
def test_words_alone_are_the_same_to_every_language(prompt):
    ids = set()
    for emphasis, like in LANGUAGES:
        language = reading.dialect(emphasis, like)
        (part,) = reading.read(prompt, language, Timeline(4))
        chunks = language.chunked(language.pieces(part.at(0)), Tokenizer(), {})
        ids.add(tuple(token.id for chunk in chunks for token in chunk))
    assert len(ids) == 1
