"""`sd tokens`: what a prompt is to the text encoder."""

import json
import subprocess
import sys

import pytest

from tests.request.prompt.known import answers


def tokens(sd, *arguments, **more):
    ran = sd("tokens", *arguments, "--json", **more)
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@pytest.mark.parametrize("known", answers("schedule")[:12])
def test_the_schedule_is_the_known_answer(sd, known):
    (part,) = tokens(sd, known["prompt"], "--steps", known["steps"], "--like", "a1111", "--negative")["parts"]
    assert [[entry["until"], entry["text"]] for entry in part["schedule"]] == known["schedule"]


def test_pieces_ids_and_weights_of_a_prompt(sd):
    (part,) = tokens(sd, "a (red:1.3) cat", "--steps", 5)["parts"]
    (entry,) = part["schedule"]
    (chunk,) = entry["chunks"]
    assert (part["text"], part["weight"], entry["until"]) == ("a (red:1.3) cat", 1.0, 5)
    assert entry["pieces"] == [["a ", 1.0], ["red", 1.3], [" cat", 1.0]]
    assert len(chunk["ids"]) == len(chunk["weights"]) == 77
    assert chunk["ids"][:6] == [49406, 320, 736, 2368, 49407, 49407]
    assert chunk["weights"][:5] == [1.0, 1.0, 1.3, 1.0, 1.0]
    assert chunk["words"] == ["a", "red", "cat"]


def test_parts_have_weights_and_a_negative_prompt_of_a1111_has_one(sd):
    found = tokens(sd, "a cat :1.2 AND a dog")
    assert [(part["text"], part["weight"]) for part in found["parts"]] == [("a cat", 1.2), (" a dog", 1.0)]
    assert len(tokens(sd, "a AND b", "--negative", "--like", "a1111")["parts"]) == 1


def test_sd2_pads_with_zeros(sd):
    (part,) = tokens(sd, "a cat", "-m", "test:sd2")["parts"]
    assert part["schedule"][0]["chunks"][0]["ids"][3:6] == [49407, 0, 0]


@pytest.mark.parametrize(
    ("prompt", "options", "note"),
    [("a [b:c:1.0] d", [], "never changes: the run has 20 steps; write 1 for step 1"),
     ("a | b [c:d:5]", [], "a | outside of [ ] switches all changing words off, [c:d:5] too"),
     ("ratio 16:9", ["--like", "a1111"], "A1111 reads the number at the end, 9, as a weight of the whole prompt"),
     ("(a BREAK b:1.2)", ["--like", "a1111"], "BREAK inside brackets is the word BREAK at weight -1.2 to A1111"),
     ("a [b:c:1.5] d", [], "[b:c:1.5] changes in the second pass of --hires alone"),
     ("[a:b:0.5]", ["--like", "a1111"], "so each change comes one step later than shown"),
     ("[a:b:0.5]", ["--like", "a1111", "--sampler", "heun"], "two for each step of heun"),
     ("a (b:1.2) c++", ["--emphasis", "compel"], "another tool's syntax: (b:1.2)"),
     ("a <other:x:1>", [], "read as plain words, for it is another tool's syntax: <other:x:1>"),
     (", ".join(["a red cat on the green mat"] * 12), [], "chunk 1 ends at its last comma; 3 places stay empty")],
)  # fmt: skip
def test_traps_are_told(sd, prompt, options, note):
    found = tokens(sd, prompt, *options)
    assert any(note in each for each in found["notes"]), found["notes"]
    assert note in sd("tokens", prompt, *options).err


@pytest.mark.parametrize("prompt", ["a cat", "a (red:1.2) [dog:cat:0.5] [a|b], c AND d :0.5 BREAK e", "16:9"])
def test_nothing_is_told_of_a_prompt_that_means_what_it_says(sd, prompt):
    assert tokens(sd, prompt)["notes"] == []


def test_people_see_words_with_ids_and_weights_and_the_steps_of_each_text(sd):
    ran = sd("tokens", "a (red:1.3) [cat|dog]", "--steps", "4")
    assert ran.lines == [
        "steps 1, 3: a (red:1.3) cat",
        "chunk: 3 of 75 tokens",
        "  a·320 red·736·x1.3 cat·2368",
        "steps 2, 4: a (red:1.3) dog",
        "chunk: 3 of 75 tokens",
        "  a·320 red·736·x1.3 dog·1929",
    ]


def test_the_prompt_can_be_standard_input(sd):
    assert tokens(sd, "-", stdin="é 日本".encode())["parts"][0]["text"] == "é 日本"


def test_it_needs_no_torch():
    code = "import sys; from sdcli import cli; cli.run(['tokens', 'a (red:1.3) cat']); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"


def test_the_embedded_model_is_not_said_to_lack_the_signs_of_the_language(sd):
    ran = sd("txt2img", "a (red:1.2) [apple:pear:0.4] BREAK grass AND a gryphon", "--seed", 1, "--plan")
    assert ran.err.startswith("sd: tiny was not taught: gryphon;")


def test_variants_are_shown_as_their_seed_draws_them(sd):
    shown = {tokens(sd, "a {red|blue} cat", "--seed", seed)["parts"][0]["text"] for seed in range(8)}
    assert shown == {"a red cat", "a blue cat"}
    assert tokens(sd, "a {red|blue} cat") == tokens(sd, "a {red|blue} cat", "--seed", 0)
