"""C13: `<lora:…>`, `embedding:`, BREAK, AND and their kin mean what their tools say, or it is said that they do not.

Version 0.1 read them as words without a word.
"""

import pytest

FOREIGN = {
    "sdcli": [
        "<other:detail:0.8>",
        "embedding:bad-hands",
        "bright++",
        "(a cat)++",
        "(a b)1.3",
    ],
    "a1111": [
        "<other:detail:0.8>",
        "embedding:bad-hands",
        "{a|b}",
        "__colour__",
        "__animals/cats__",
        "bright++",
    ],
    "comfyui": ["<lora:detail:0.8>", "BREAK", "AND", "[a:b:0.5]", "[word]", "__colour__", "(a cat)++"],
    "diffusers": [
        "<lora:detail:0.8>",
        "BREAK",
        "AND",
        "[a:b:0.5]",
        "[a|b]",
        "(word:1.3)",
        "(word)",
        "{a|b}",
        "\\(",
    ],
}


@pytest.mark.parametrize(("like", "syntax"), [(like, each) for like in FOREIGN for each in FOREIGN[like]])
def test_c13_the_syntax_of_another_tool_is_named_in_one_line(draw, like, syntax):
    ran = draw(f"a hill {syntax} at dusk", "--like", like)
    assert ran.code == 0
    told = f"sd: read as plain words, for it is another tool's syntax: {syntax}"
    assert [line for line in ran.err.splitlines() if "plain words" in line] == [told]


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat",
        "rock and roll, break dance",
        "3:4 ratio, 1.5 m",
        "a <3 b",
        "snake_case_word",
        "50%",
        "(a:1.2) [b] AND c",
    ],
)
def test_c13_nothing_is_said_of_words_and_of_its_own_syntax(draw, prompt):
    assert "plain words" not in draw(prompt).err


def test_c13_several_are_one_line_with_each_once_the_negative_prompt_too(draw):
    ran = draw("<other:a:1> x <other:a:1>", "-n", "ugly++, y", "-c", 2)
    (line,) = [line for line in ran.err.splitlines() if "plain words" in line]
    assert line.endswith(": <other:a:1>, ugly++")


def test_c13_a_literal_prompt_is_asked_for_and_nothing_is_said_of_it(draw):
    assert "plain words" not in draw("a hill (very:1.3) [dark] AND cold", "--emphasis", "none").err


def test_c13_a_lora_that_there_is_not_is_an_error_and_not_two_words(draw):
    ran = draw("a hill <lora:detail:0.8>")
    assert ran.code == 2
    assert "no file is called 'detail'" in ran.err
