"""Variants and wildcards: the answers of dynamicprompts, the seed that decides, and what is text beside them."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request.prompt.literal import hide, show
from sdcli.request.prompt.variants import choose, combinations, holds_variants
from tests.request.prompt.known import ANSWERS, answers

A_COMMENT_IN_A_LINE = "a # comment\nb"  # which dynamicprompts cuts, and our own language leaves
SIGNS = [
    "{",
    "}",
    "|",
    "$$",
    "$",
    "%",
    "__",
    "${",
    "%{",
    "x=",
    "a",
    "2",
    "-",
    "::",
    " ",
    "#",
    "//",
    "\n",
    "!",
    "~",
    "…",
]
TEMPLATES = st.lists(st.sampled_from(SIGNS), max_size=16).map("".join) | st.text(max_size=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The wildcards of the known answers."""
    folder = tmp_path_factory.mktemp("wildcards")
    for name, text in ANSWERS["wildcards"].items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("known", answers("dynamic", "template"))
def test_the_combinations_are_those_of_dynamicprompts(known, folder):
    template = known["template"]
    expected = [template] if template == A_COMMENT_IN_A_LINE else known["all"]
    assert list(combinations(template, folder, 100)) == expected


@pytest.mark.parametrize("known", answers("dynamic", "template"))
def test_a_seed_draws_one_of_the_combinations_and_always_the_same(known, folder):
    template = known["template"]
    possible = list(combinations(template, folder, 100))
    for seed in range(3):
        drawn = choose(template, seed, folder)
        assert drawn == choose(template, seed, folder)
        assert drawn in possible or template == "${x=!{a|b}}${x}"  # of which only one counts as a combination


def test_every_choice_is_drawn_about_equally_often():
    drawn = Counter(choose("{a|b|c}", seed) for seed in range(600))
    assert sorted(drawn) == ["a", "b", "c"]
    assert all(150 < count < 250 for count in drawn.values())


def test_a_weight_says_how_often_a_choice_is_drawn(folder):
    assert Counter(choose("{3::a|b}", seed) for seed in range(400))["a"] == pytest.approx(300, abs=30)
    assert Counter(choose("__style__", seed, folder) for seed in range(300))["ink"] == pytest.approx(
        200, abs=30
    )


@pytest.mark.parametrize(
    "text",
    [
        "a cat",
        "[a|b] (c:1.2) [d:e:3] AND",
        "<lora:my__own__file:0.8>",
        "snake__case",
        "a } b",
        "x __ y __",
        "50% #1 $5",
    ],
)
def test_other_syntax_is_no_variant(text):
    assert not holds_variants(text)
    assert choose(text, 1) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("50% {a}", "50% a"),
        ("$5 $$ {a}", "$5 $$ a"),
        ("in #ff8800 {a}", "in #ff8800 a"),
        ("https://x /* y */ {a}", "https://x /* y */ a"),
        ("one{ a}\tb", "one a\tb"),
        ("<lora:my__own__file:{1}>", "<lora:my__own__file:1>"),
        ("snake__case {a}", "snake__case a"),
        ("(x:1.2) [b|c] [d:e:3] {a}", "(x:1.2) [b|c] [d:e:3] a"),
        ("# {never read\n{a}", "a"),
    ],
)
def test_text_beside_variants_stays_as_it_is(template, text):
    assert choose(template, 1) == text


@given(TEMPLATES, st.booleans())
def test_what_was_hidden_is_shown_again(text, comments):
    assert show(hide(text, comments)) == text


@settings(max_examples=100)
@given(TEMPLATES, st.integers(0, 2**64 - 1))
def test_any_text_is_drawn_or_refused_in_one_line(text, seed):
    try:
        assert isinstance(choose(text, seed), str)
    except UsageError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("a {red|blue apple", r"^\{red\|blue apple: a \{ is never closed; .*--no-variants"),
        ("a {b{c|d} e", r"^\{b\{c\|d\} e: a \{ is never closed"),
        ("{1-$$$$a|b}", "the variants cannot be read"),
        ("{0::a|0::b}", "weights must be greater than zero"),
        ("{a|${x}}", r"has no value; write \$\{name=value\} first"),
        ("{" * 90 + "a" + "}" * 90, "without end"),
        ("b {@c|d}", r"^\{@c\|d\}: a picture draws by its seed .*leave the @ out"),
        ("__!colour__", "leave the ! out"),
        ("__colour__", r"^__colour__: there is no folder of wildcards; name one with --wildcards"),
    ],
)
def test_a_template_that_cannot_be_drawn_is_refused_with_the_place_and_the_reason(template, reason):
    with pytest.raises(UsageError, match=reason) as error:
        choose(template, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(3))
def test_an_unknown_wildcard_is_refused_even_where_it_is_not_drawn(folder, seed):
    reason = r"^__color__: there is no such wildcard in .*; did you mean 'colour'\?"
    with pytest.raises(UsageError, match=reason):
        choose("{a|b|__color__}", seed, folder)
    with pytest.raises(UsageError, match=reason):
        list(combinations("a __color__", folder, 10))


def test_a_wildcard_is_found_without_its_folder(folder):
    assert set(combinations("__small__", folder, 9)) == {"cat", "dog"}


def test_a_sign_behind_a_wildcard_is_text(folder):
    assert choose("__place/cold__! a", 1, folder) == "pole! a"


def test_wildcards_that_hold_each_other_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("__b__")
    (tmp_path / "b.txt").write_text("__a__")
    with pytest.raises(UsageError, match="without end"):
        choose("__a__", 1, tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.txt", b"caf\xe9", r"a\.txt: the wildcards are not UTF-8"),
        ("a.txt", b"# nothing\n\n", "__a__: is empty in"),
        ("a.yaml", b"a: [b", r"a\.yaml: is no YAML"),
        ("a.json", b"{", r"a\.json: is no JSON"),
        ("a.yaml", b"a: [[b]]", r"a\.yaml: a: \[\"b\"\] is no text; put it in quotes"),
        ("a.yaml", b"a: [{text: b, weight: x}]", r"a\.yaml: a: the weight 'x' is no number"),
    ],
)
def test_a_file_of_wildcards_that_cannot_be_used_is_named_with_the_reason(tmp_path, name, text, reason):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(UsageError, match=reason) as error:
        choose("__a__", 1, tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_of_wildcards_that_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"--wildcards .*none: there is no such folder"):
        choose("__a__", 1, tmp_path / "none")


def test_lists_of_every_kind_of_file_are_found_by_their_names(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "plain.txt").write_bytes(b"\xef\xbb\xbfa 50% {b|c}\r\n")
    (inside / "keyed.yml").write_text("k: {one: [1, 2.5], two: text}")
    (inside / "list.json").write_text('["x", {"content": "y"}]')
    (tmp_path / ".hidden.txt").write_text("z")
    for name, values in {
        "in/plain": ["a 50% b", "a 50% c"],
        "in/k/one": ["1", "2.5"],
        "in/k/*": ["1", "2.5", "text"],
        "in/list": ["x", "y"],
    }.items():
        assert list(combinations(f"__{name}__", tmp_path, 9)) == values
    with pytest.raises(UsageError, match="no such wildcard"):
        choose("__hidden__", 1, tmp_path)


def test_combinations_end_at_the_limit():
    assert list(combinations("{a|b|c}", None, 2)) == ["a", "b"]
    assert len(list(combinations("{~a|b}", None, 7))) == 7
