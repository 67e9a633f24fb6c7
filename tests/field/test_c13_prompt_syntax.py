"""C13: `<lora:…>`, `embedding:`, BREAK, AND and their kin are read as words, and that is said.

Version 0.1 read them as words without a word.
"""

import pytest

from sdcli.request.prompt_syntax import syntax_in


@pytest.mark.parametrize(
    "syntax",
    ["<lora:detail:0.8>", "<hypernet:x:1>", "<lyco:a b:1>", "embedding:bad-hands", "BREAK", "AND", "[a:b:0.5]", "[a|b]",
     "[fog::10]", "(word:1.3)", "(word)", "[word]", "bright++", "(a cat)++",
     "(a b)1.3", "\\("],
)  # fmt: skip
def test_c13_each_syntax_is_named_in_one_line(draw, syntax):
    ran = draw(f"a hill {syntax} at dusk")
    assert ran.code == 0
    assert ran.err == f"sd: read as plain words, for prompts have no syntax here: {syntax}\n"


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "a cat AND-like", "rock and roll, break dance", "3:4 ratio, 1.5 m", "a <3 b", "snake_case_word", "50%"],
)  # fmt: skip
def test_c13_plain_prompts_are_not_noted(draw, prompt):
    expected = 1 if "AND-like" in prompt else 0  # a hyphen ends a word in A1111 too
    assert len(draw(prompt).err.splitlines()) == expected


def test_c13_several_are_one_line_with_each_once_the_negative_prompt_too(draw):
    ran = draw("<lora:a:1> BREAK x <lora:a:1>", "-n", "(ugly:1.2), BREAK", "-c", 2)
    (line,) = ran.err.splitlines()
    assert line.endswith(": <lora:a:1>, BREAK, (ugly:1.2)")


def test_c13_a_long_piece_is_shortened():
    assert syntax_in(f"({'x' * 200})") == [f"({'x' * 39}…"]
