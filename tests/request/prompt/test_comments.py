"""Comments: A1111's own answers, and what our own language leaves."""

import pytest
from hypothesis import given

from sdcli.request.prompt.comments import cut_comments, whole_line_comments
from tests.request.prompt.known import answers
from tests.request.prompt.strategies import PROMPTS


@pytest.mark.parametrize("known", answers("comments"))
def test_the_text_without_comments_is_that_of_a1111(known):
    assert cut_comments(known["prompt"]) == known["text"]


@pytest.mark.parametrize("cut", [cut_comments, whole_line_comments])
@given(text=PROMPTS)
def test_a_text_without_a_hash_is_itself(cut, text):
    words = text.replace("#", "")
    assert cut(words) == words


@given(PROMPTS, PROMPTS)
def test_no_hash_is_left_where_a1111_cuts_comments(before, behind):
    assert "#" not in cut_comments(f"{before}#{behind}")


def test_our_own_language_cuts_whole_lines_only():
    assert (
        whole_line_comments("a\n# hidden\nthe colour #ff8800\n#1 dad\n#") == "a\nthe colour #ff8800\n#1 dad"
    )
