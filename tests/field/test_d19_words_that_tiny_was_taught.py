"""D19: of 30 prompts that a stranger typed, 16 disappointed without a word: "a watercolor of a fox" drew a rainbow.

A note names the words that the embedded model was not taught, and `sd info tiny --words` lists those that it was.
"""

import json

import pytest

from sdcli.tiny import words


@pytest.mark.parametrize(
    ("prompt", "untaught"),
    [
        ("a red apple", []),
        ("two birds on grass, pixel art", []),
        ("An Ice Cream, flat illustration on a light blue background", []),
        ("a cat's house at sunset", []),
        ("a watercolor of a fox", ["watercolor (read as rainbow)"]),
        ("a portrait of a man", ["portrait", "man"]),
        ("a knight, a knight", ["knight"]),
        ("a kitten", ["kitten (read as cat)"]),
        ("a (bowl:1.2) of fruit <lora:style:0.5>", ["bowl"]),
        ("", []),
    ],
)
def test_d19_the_words_that_were_in_no_caption_are_found(prompt, untaught):
    found = words.untaught(prompt)
    assert [word.partition(" ")[0] for word in found] == [word.partition(" ")[0] for word in untaught]
    assert all(word in found for word in untaught if "rainbow" in word or "cat" in word)


def test_d19_the_note_is_one_line_and_only_about_the_embedded_model(sd, toy):
    ran = sd("txt2img", "a knight on grass", "-s", 1)
    assert (ran.code, len(ran.err.splitlines())) == (0, 1)
    assert ran.err.startswith("sd: tiny was not taught: knight; it draws")
    assert sd("txt2img", "a knight", "-m", toy, "-s", 1).err == ""


def test_d19_the_words_are_listed(sd):
    ran = sd("info", "tiny", "--words")
    lines = dict(line.split(": ", 1) for line in ran.lines)
    assert list(lines) == ["things", "styles", "colours", "sizes", "numbers", "places"]
    assert "car (automobile" in lines["things"]
    listing = json.loads(sd("info", "tiny", "--words", "--json").out)
    assert len(listing["things"]) == 200


def test_d19_every_listed_word_is_taught(sd):
    listing = words.listing()
    names = [name for thing, others in listing.pop("things").items() for name in (thing, *others)]
    assert words.untaught(" ".join([*names, *(text for texts in listing.values() for text in texts)])) == []


def test_d19_the_words_of_another_model_are_not_known(sd):
    ran = sd("info", "test:sd1", "--words")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
