"""C12: `-o 'r/{prompt}/{seed}.png'` made a folder called `{prompt}`."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdcli import store
from sdcli.errors import UsageError
from sdcli.request.request import Request

PROMPTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=120)


def test_c12_fields_are_filled_in_the_folder_part_of_every_output(sd):
    ran = sd(
        "txt2img", "a red cat", "-m", "test:sd1", "-s", 1, "--seed", 7, "-o", "r/{prompt}/{seed}.png",
        "--steps-dir", "steps/{seed}", "--filmstrip", "film/{seed}/{model}.png",
        "--latents-out", "{steps}/x.safetensors",
    )  # fmt: skip
    assert (ran.code, ran.lines) == (0, ["r/a-red-cat/7.png"]), ran.err
    files = {str(path) for path in Path().rglob("*") if path.is_file()}
    assert files == {
        "r/a-red-cat/7.png", "film/7/test-sd1.png", "1/x.safetensors",
        "steps/7/a-red-cat-7-step-1.png", "steps/7/a-red-cat-7-step-1-x.png",
    }  # fmt: skip


def test_c12_each_picture_of_a_count_fills_the_fields_anew(sd):
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "-s", 1, "--seed", 7, "-c", 2, "-o", "{seed}/")
    assert ran.lines == ["7/a-cat-7.png", "8/a-cat-8.png"]


@given(
    PROMPTS, st.sampled_from(["..", ".", "a/../../b", "CON", "model.safetensors", "~", "C:\\x", "nul.txt"])
)
@example("../../etc", "..")
def test_c12_no_field_leads_out_of_the_folder_or_makes_a_name_that_a_system_refuses(prompt, model):
    request = Request(prompt, seed=7, model=model)
    for out in ("r/{prompt}/{seed}.png", "r/{model}/", "r/{prompt}{model}", "r/{sampler}-{model}/x.png"):
        path = store.output_path(out, request)
        assert path.parts[0] == "r" and len(path.parts) == 3
        assert os.path.normpath(path) == str(path)
        for name in path.parts[1:]:
            assert 0 < len(name.encode()) <= 200
            assert not set('<>:"/\\|?*\0\n') & set(name)
            assert name.strip(" .") == name
            assert not re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", name, re.IGNORECASE)


@pytest.mark.parametrize("where", ["r/{}/x.png", "r/{}/", "{}", "{}-{{seed}}/x.png"])
@pytest.mark.parametrize("field", ["{promt}", "{", "}", "{seed", "{}", "{0}", "{seed.real}", "{prompt!x}"])
def test_c12_an_unknown_field_or_an_unbalanced_brace_is_refused_before_anything_is_loaded(sd, where, field):
    ran = sd(
        "txt2img",
        "a cat",
        "-m",
        "no-such-model",
        "-o",
        where.replace("{}", field, 1).replace("{{", "{").replace("}}", "}"),
    )
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert not list(Path().iterdir())


def test_c12_an_unknown_field_is_answered_with_the_nearest_one(sd):
    assert "'promt'; did you mean 'prompt'?" in sd("txt2img", "a cat", "-o", "r/{promt}/x.png").err


def test_c12_doubled_braces_are_braces():
    assert store.output_path("{{x}}/{{{seed}}}.png", Request("a cat", seed=7)).as_posix() == "{x}/{7}.png"


def test_c12_a_folder_that_exists_may_have_braces_in_its_name(tmp_path):
    folder = tmp_path / "{6F9619FF-8B86}"
    folder.mkdir()
    request = Request("a cat", seed=7)
    assert store.output_path(f"{folder}/x.png", request) == folder / "x.png"
    assert store.output_path(str(folder), request) == folder / "a-cat-7.png"
    with pytest.raises(UsageError):
        store.output_path(f"{folder}/new/x.png", request)


@pytest.mark.parametrize("out", ["../x.png", "./x.png", "/tmp/a/../x.png", "a b/c.d/x.png", ".hidden/x.png"])
def test_c12_a_folder_without_fields_is_taken_as_it_is_written(out):
    assert store.output_path(out, Request("a cat", seed=7)) == Path(out)
