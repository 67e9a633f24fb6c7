"""Where the words come from, as a user meets it: variants, styles and files of prompts at the command line."""

import pytest

from tests.test_imports import RUN, loaded


def test_a_picture_with_variants_is_called_and_made_again_by_the_words_that_were_drawn(draw, sd, tmp_path):
    ran = draw("a {red|red} apple", "-n", "{blue}", "--seed", 7, "--count", 2)
    assert (ran.lines, ran.err) == (["a-red-apple-7.png", "a-red-apple-8.png"], "")
    assert b'"prompt":"a red apple"' in (tmp_path / "a-red-apple-7.png").read_bytes()
    assert sd("again", "a-red-apple-8.png", "-o", "again.png").code == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "a-red-apple-8.png").read_bytes()


def test_the_words_that_were_drawn_give_the_same_bytes_when_they_are_typed(draw, tmp_path):
    draw("a {red|red} apple", "--seed", 7, "-o", "drawn.png")
    draw("a red apple", "--seed", 7, "-o", "typed.png")
    assert (tmp_path / "drawn.png").read_bytes() == (tmp_path / "typed.png").read_bytes()


def test_an_unknown_wildcard_is_refused_before_the_model_is_looked_for(sd, monkeypatch):
    monkeypatch.setenv("SDCLI_WILDCARDS", "no-such-folder")
    ran = sd("txt2img", "a __colour__ cat", "-m", "no-such-model")
    assert ran.code == 2
    assert ran.err.startswith("sd: __colour__: there is no folder of wildcards")


def test_a_style_is_added_by_its_name(draw, tmp_path):
    (tmp_path / "my.toml").write_text('[film]\nprompt = "{prompt} on film"')
    ran = draw("a cat", "--style", "film", "--styles-file", "my.toml", "--seed", 1)
    assert ran.lines == ["a-cat-on-film-1.png"]


@pytest.mark.parametrize(("name", "stdin"), [("words.txt", b""), ("-", b"a cat\n")])
def test_the_prompt_is_read_from_a_file_or_standard_input(sd, toy, tmp_path, name, stdin):
    (tmp_path / "words.txt").write_text("\ufeffa cat\n", encoding="utf-8")
    ran = sd("txt2img", "--prompt-file", name, "-m", toy, "-s", 1, "--seed", 1, stdin=stdin)
    assert ran.lines == ["a-cat-1.png"], ran.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["a cat", "--prompt-file", "words.txt"],
            "--prompt-file words.txt is a prompt, and there is another",
        ),
        (["--prompt-file", "none.txt"], "--prompt-file none.txt: there is no such file"),
        (["--prompt-file", "."], "--prompt-file .: cannot be read: "),
        (["--prompt-file", "latin.txt"], "--prompt-file latin.txt: is not UTF-8"),
        (["--prompt-file", "empty.txt"], "no prompt: say what to draw"),
        (["--prompt-file", "words.txt", "--unconditional"], "--unconditional draws without a prompt"),
    ],
)
def test_a_file_that_gives_no_prompt_is_named(sd, tmp_path, arguments, reason):
    (tmp_path / "words.txt").write_text("a cat")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_text("\n")
    ran = sd("txt2img", *arguments)
    assert ran.code == 2
    assert ran.err.startswith(f"sd: {reason}")
    assert len(ran.err.splitlines()) == 1


def test_plain_prompts_do_not_import_what_reads_variants(tmp_path):
    libraries = {"dynamicprompts", "pyparsing"}
    plain = loaded(RUN, "txt2img", "a cat [a|b] <lora:x__y__z:1>", "-s", "0", cwd=tmp_path)[1]
    assert not libraries & plain
    program = "from sdcli.request.prompt.variants import choose; code = choose('a (b:1.2)', 1)"
    assert not libraries & loaded(program)[1]
    program = "from sdcli.request.prompt.variants import choose; code = choose('{a}', 1)"
    modules = loaded(program)[1]
    assert "dynamicprompts" in modules
    assert not {"torch", "numpy", "transformers", "requests"} & modules


def test_a_python_program_gets_the_words_that_were_drawn(toy):
    from sdcli import Request, generate

    drawn = generate(Request("a {red|red} apple", seed=7, model=toy, steps=1)).picture.request
    assert drawn.prompt == "a red apple"


def test_variants_of_a_region_are_drawn_and_what_its_words_lack_is_told(draw):
    from sdcli.request.png_metadata import read_png_metadata

    ran = draw("a hill", "--seed", 1, "--region", "a {red|blue} cat <other:x:1>@0,0,0.5,1", "-o", "a.png")
    assert ran.code == 0, ran.err
    (region,) = read_png_metadata(ran.lines[0]).facts("a.png")["request"]["region"]
    assert region in ("a red cat <other:x:1>@0,0,0.5,1", "a blue cat <other:x:1>@0,0,0.5,1")
    assert "another tool's syntax: <other:x:1>" in ran.err
