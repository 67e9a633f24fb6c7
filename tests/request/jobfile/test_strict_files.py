"""Strict YAML and JSON: JSON's values with their lines, and what is refused."""

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request.jobfile.nodes import NotReadable
from sdcli.request.jobfile.strict_json import read_json, read_json_line
from sdcli.request.jobfile.strict_yaml import read_yaml
from tests.speed import allowed

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def problems(read, text):
    with pytest.raises(NotReadable) as caught:
        read(text)
    return caught.value.problems


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1:8", "1:8"),
        ("no", "no"),
        ("on", "on"),
        ("True", "True"),
        ("~", "~"),
        ("007", "007"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("+5", "+5"),
        (".5", ".5"),
        (".inf", ".inf"),
        ("2026-01-01", "2026-01-01"),
        ("12:30:00", "12:30:00"),
        ("1..8", "1..8"),
        ("7", 7),
        ("-7", -7),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("", None),
        ("'7'", "7"),
        ('"true"', "true"),
    ],
)
def test_a_plain_scalar_is_what_json_would_read_or_a_text(scalar, value):
    found = read_yaml(f"a: {scalar}").plain()["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3", 3, "'a' is here twice, first on line 1"),
        ("- {a: 1, a: 2}", 1, "here twice"),
        ("a: !!str 1", 1, "has the tag"),
        ("a: !!python/object:os.system x", 1, "has the tag"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("a: &x {b: 1}\nc: {<<: *x}", 2, "merge key"),
        ("a: &x [*x]", 1, "inside of what it names"),
        ("a: *x", 1, "defined nowhere"),
        ("? [a]\n: 1", 1, "as a key"),
        ("a: [1, 2", 1, "is no YAML"),
        ("a: b: c", 1, "is no YAML"),
        ("a:\n\t- b", 2, "is no YAML"),
        ("a: \x01", 1, "character that YAML does not allow"),
        ("[" * 22 + "]" * 22, 1, "nested more than 20 deep"),
    ],
)
def test_yaml_that_could_be_misread_is_refused_with_its_line(text, line, reason):
    found_line, found = problems(read_yaml, text)[-1]
    assert reason in found
    assert abs(found_line - line) <= ("is no YAML" in found)  # libyaml may say the line behind it


def test_all_duplicate_keys_are_listed():
    assert [line for line, _ in problems(read_yaml, "a: 1\na: 2\nb: {c: 1, c: 2}\na: 4")] == [2, 3, 4]


def test_an_alias_stands_for_its_value():
    assert read_yaml("a: &x [1, 2]\nb: *x").plain() == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
        "[" * 100_000,
        "{a: " * 100_000,
        "a: x\n" * 5_000,
        "".join(f"k{i}: &a{i} x\n" for i in range(3_000)) + "x: [" + "*a1," * 3_000 + "!",
    ],
    ids=["laughs", "brackets", "braces", "doubles", "anchors"],
)
def test_a_bomb_is_answered_in_less_than_a_second(bomb):
    begin = time.process_time()
    with pytest.raises(NotReadable):
        read_yaml(bomb)
    assert time.process_time() - begin < allowed(1)


@given(JSON_VALUES)
def test_json_is_read_as_pythons_own_reader_reads_it(value):
    for text in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
        assert read_json(text).plain() == value
    assert read_json_line(json.dumps(value), 1).plain() == value


@given(JSON_VALUES.filter(lambda value: "\x7f" not in json.dumps(value, ensure_ascii=False)))
def test_yaml_is_read_as_it_was_dumped(value):
    text = yaml.safe_dump(value, default_style='"' if isinstance(value, str) else None, allow_unicode=False)
    found = read_yaml(text).plain() if "!!" not in text else value
    assert _texts(found) == _texts(value)


def _texts(value):
    """A value with all its scalars as texts: YAML dumps 1e22 in a way that JSON does not read."""
    if isinstance(value, dict):
        return {key: _texts(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_texts(each) for each in value]
    return str(float(value)) if isinstance(value, int | float) or _is_float(value) else str(value)


def _is_float(text):
    try:
        return bool(float(text)) or True
    except (TypeError, ValueError):
        return False


def test_each_value_of_json_has_its_line():
    node = read_json('{\n "a": 1,\n "b": [\n  2,\n  {"c": 3}\n ]\n}')
    assert node.value["a"].line == 2
    assert node.value["b"].line == 3
    assert [each.line for each in node.value["b"].value] == [4, 5]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        '{"a": }',
        "{a: 1}",
        "nul",
        "01",
        "NaN",
        "[Infinity]",
        '"a',
        '"\n"',
        "1 2",
        '{"a" 1}',
        "[1 2]",
        "'a'",
    ],
)
def test_no_json_is_refused_as_pythons_own_reader_does(text):
    assert "is no JSON" in problems(read_json, text)[-1][1]
    assert "is no JSON" in problems(lambda text: read_json_line(text, 1), text)[-1][1]


def test_equal_keys_of_json_are_faults():
    assert problems(read_json, '{"a": 1,\n"a": 2}') == [(2, "'a' is here twice, first on line 1; keep one")]
    assert problems(lambda text: read_json_line(text, 7), '{"a": 1, "a": 2}') == [
        (7, "'a' is here twice; keep one")
    ]
