"""Which file a name stands for: exactly, in another case, or by a part that only one has."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.checkpoints.folders import NamedFile
from sdcli.checkpoints.names import find
from sdcli.errors import UsageError
from sdcli.notes import telling

WORDS = st.text("abAB_-. 1", min_size=1, max_size=6).filter(lambda text: any(map(str.isalnum, text)))
NAMES = st.lists(WORDS, min_size=1, max_size=2).map("/".join)


def files(*names):
    return [NamedFile(name, Path("/m", f"{name}.safetensors")) for name in names]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("dreamshaper_8", "DreamShaper_8"),
        ("DreamShaper_8.safetensors", "DreamShaper_8"),
        ("dreamshaper 8", "DreamShaper_8"),
        ("dream", "DreamShaper_8"),
        ("shaper", "DreamShaper_8"),
        ("people/anna", "people/anna"),
        ("people\\anna", "people/anna"),
        ("anna", "people/anna"),
        ("ann", "people/anna"),
        ("peop", "people/anna"),
    ],
)
def test_a_name_or_a_part_that_only_one_has_is_found(wanted, name):
    found = find("-m x", wanted, files("DreamShaper_8", "people/anna", "v1-5"))
    assert found is not None and found.name == name


def test_the_whole_name_goes_before_its_case_and_that_before_a_part():
    all_three = files("style-v2", "Style", "style")
    assert [find("-m", each, all_three).name for each in ("style", "Style", "style-v")] == [
        "style",
        "Style",
        "style-v2",
    ]
    assert find("-m", "STYLE", files("style-v2", "Style")).name == "Style"


def test_several_are_an_error_that_lists_them():
    with pytest.raises(UsageError, match="-m an: may be anna, anne; write more of the name"):
        find("-m an", "an", files("anna", "anne"))


def test_only_a_part_is_told_of_and_once():
    told = []
    with telling(told.append):
        for wanted in ("anna", "ANNA", "ann", "ann"):
            find("--lora ann", wanted, files("anna"))
    assert told == [f"--lora ann: taken for anna ({Path('/m/anna.safetensors')})"]


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), NAMES)
def test_the_same_files_give_the_same_answer_in_any_order(names, wanted):
    def answer(some):
        try:
            found = find("-m", wanted, files(*some))
        except UsageError:
            return "several"
        return found and found.name

    assert answer(names) == answer(names[::-1])


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_a_whole_name_is_never_taken_for_a_file_of_another_name(names):
    for name in names:
        try:
            found = find("-m", name, files(*names))
        except UsageError:  # a file in a sub-folder is called so too
            continue
        assert found is not None and (found.name == name or found.name.endswith(f"/{name}"))
