"""Styles: A1111's own answers, both kinds of files, and errors that name what is wrong in one line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request.prompt.styles import Style, applied, read_styles, with_styles
from tests.request.prompt.known import answers

CSV = """name,prompt,negative_prompt
film,"{prompt}, film still, 35mm",blurry
# old,x,y
"two lines","one,
two",
"""
TOML = """
[film]
prompt = "{prompt}, film still, 35mm"
negative_prompt = "blurry"

["two lines"]
prompt = "one,\\ntwo"
"""
STYLES = {"film": Style("{prompt}, film still, 35mm", "blurry"), "two lines": Style("one,\ntwo")}


@pytest.mark.parametrize("known", answers("styles", "style"))
def test_a_style_is_applied_as_by_a1111(known):
    assert applied(known["style"], known["prompt"]) == known["text"]


@pytest.fixture
def file(tmp_path):
    def write(name: str, text: str, encoding: str = "utf-8") -> Path:
        (tmp_path / name).write_text(text, encoding=encoding, newline="")
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("styles.csv", CSV, "utf-8"),
        ("styles.csv", CSV, "utf-8-sig"),
        ("styles.csv", CSV.replace("name,prompt", "name,text"), "utf-8"),
        ("styles.toml", TOML, "utf-8"),
    ],
    ids=["csv", "csv with a mark", "old csv", "toml"],
)
def test_every_kind_of_file_holds_the_same_styles(file, name, text, encoding):
    assert read_styles(file(name, text, encoding)) == STYLES


def test_styles_are_applied_in_the_order_of_their_names():
    styles = {"a": Style("one", "x"), "b": Style("({prompt})", "{prompt}, y")}
    assert with_styles("cat", "", ["a", "b"], styles, Path("s.csv")) == ("(cat, one)", "x, y")
    assert with_styles("cat", "", ["b", "a"], styles, Path("s.csv")) == ("(cat), one", ", y, x")


def test_an_unknown_style_is_refused_with_the_nearest_one(file):
    path = file("styles.csv", CSV)
    with pytest.raises(UsageError, match=r"--style 'flim' is not in .*styles\.csv; did you mean 'film'\?"):
        with_styles("cat", "", ["flim"], read_styles(path), path)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("s.csv", "a,b\nc,d\n", "has no columns name and prompt"),
        ("s.csv", 'name,prompt\na,"' + "x" * 200_000, "is no CSV file of styles: field larger"),
        ("s.toml", "[a", "is no TOML file"),
        ("s.toml", 'a = "x"', "a is no table"),
        ("s.toml", '[a]\nsteps = "x"', r"a\.steps is no text of a style"),
        ("s.toml", "[a]\nprompt = 3", r"a\.prompt is no text of a style"),
    ],
)
def test_a_file_that_holds_no_styles_is_named_with_the_reason_in_one_line(file, name, text, reason):
    path = file(name, text)
    with pytest.raises(UsageError, match=f"{path.name}: {reason}") as error:
        read_styles(path)
    assert "\n" not in str(error.value)


def test_an_unknown_style_that_is_like_none_is_refused_with_some_there_are():
    with pytest.raises(
        UsageError, match=r"'x' is not in s\.csv; there are: name0, name1, name2, name3, name4, …$"
    ):
        with_styles("cat", "", ["x"], {f"name{i}": Style() for i in range(9)}, Path("s.csv"))


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv: there is no such styles file; check --styles-file"):
        read_styles(tmp_path / "none.csv")


def test_a_file_that_is_not_utf_8_is_named(file):
    with pytest.raises(UsageError, match=r"s\.csv: the styles are not UTF-8"):
        read_styles(file("s.csv", "name,prompt\né,x\n", "latin-1"))


@given(st.text(max_size=60), st.sampled_from([".csv", ".toml"]))
def test_a_file_of_any_text_holds_styles_or_is_refused(tmp_path_factory, text, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_text(text.encode("utf-8", "ignore").decode(), encoding="utf-8")
    try:
        assert isinstance(read_styles(path), dict)
    except UsageError as error:
        assert "\n" not in str(error)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_style_without_words_changes_nothing_and_one_with_a_place_keeps_the_prompt(style, prompt):
    assert applied(" ", prompt) == prompt
    assert prompt in applied(f"{style}{{prompt}}", prompt)
