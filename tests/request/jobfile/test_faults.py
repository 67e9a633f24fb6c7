"""Faults of job files: each is listed with its file and line, in one line; nothing else is ever raised."""

import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sdcli.request.jobfile.batch_job import BatchJob, JobFileError
from sdcli.request.jobfile.keys import COMBINING, DECLARED, OPTIONS, SHARED, TOP
from sdcli.request.jobfile.read import read_jobs
from sdcli.request.jobfile.sweep import sweep
from sdcli.request.request import Request
from tests.request.jobfile.reading import faults, no_input, read, read_file


def test_every_fault_is_listed_with_its_line():
    found = faults(
        """\
        version: 2
        defaults: {zip: {cfg: [1]}}
        jbos: []
        jobs:
          - prompt: a cat
            stpes: 4
            cfg: 1:8
            seed: "7"
            sampler: [eulr]
          - {width: 65, prompt: no}
          - {prompt: 5, image: nope.png, tolerance: {x: 1}, count: 0}
          - {steps: 9}
          - 7
        """
    )
    assert [line for line, _ in found] == [1, 2, 3, 6, 7, 8, 10, 11, 11, 11, 11, 12, 13]
    assert ("did you mean 'jobs'" in found[2][1]) and ("did you mean 'steps'" in found[3][1])


def test_the_error_says_the_first_fault_and_how_many_follow(tmp_path):
    with pytest.raises(JobFileError) as caught:
        read_file(tmp_path / "a.yaml", "jobs:\n- {prompt: a, cfg: x}\n- {prompt: b, cfg: y}\n- 3")
    assert str(caught.value) == f"{tmp_path / 'a.yaml'}:2: cfg: 'x' is not a number (and 2 more faults)"


def test_a_fault_names_fields_and_not_options():
    assert faults("jobs: [{prompt: a, stop_after: 3, hires: 2}]") == [
        (1, "stop_after ends one run, hires takes two; leave one of them out")
    ]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("prompt: [a, 5]", "prompt: 5 is not a text; put it in quotes"),
        ("prompt: a, steps: true", "steps: True is not a whole number"),
        ("prompt: a, steps: 5.0", "steps: 5.0 is not a whole number"),
        ("prompt: a, only_masked: yes", "only_masked: 'yes' is not true or false, which are written so"),
        ("prompt: a, cfg: 5000", "cfg: 5000.0 is outside -1000...1000"),
        ("prompt: a, cfg: []", "cfg: an axis without a value gives no job; put values into the list"),
        ("prompt: a, cfg: [[4]]", "cfg: a list stands where a value is wanted; give one"),
        ("prompt: a, cfg: {by: 2}", "cfg: a mapping stands where a value is wanted; give one"),
        ("prompt: a, style: [3]", "style: a number is not a text; give a list of texts"),
        ("prompt: a, cfg: 4, cfg_scale: 7", "cfg_scale: cfg is given twice; keep one"),
        ("prompt: a, half: true", "half is no field; give dtype float16"),
        ("prompt: a, seed: 1..2, count: 2", "count numbers the pictures by seed, an axis here; write that as a range"),
        ("prompt: a, cfg: [4], zip: {cfg: [4]}", "cfg is an axis twice; keep one"),
        ("prompt: a, zip: [3]", "zip: a number is not a mapping of fields to lists; write zip: {cfg: [4, 7], …}"),
        ("prompt: a, zip: {name: [x]}", "name has no meaning here; take it out"),
        ("prompt: a, except: {cfg: 4}", "except: a mapping is not a list of mappings; write except: [{cfg: 7}]"),
        ("prompt: a, also: [{cfg: [4, 7]}]", "also: cfg has several values; write an entry for each"),
        ("prompt: a, out: '-'", "out: the pictures of a batch cannot go to standard output; name a folder or a file"),
        ("prompt: a, image: '-'", "image: a job's picture cannot be standard input; name a file"),
        ("prompt: a, expand: some", "expand: 'some' is unknown; it is all, or draw, which the seed decides"),
        ("prompt: a, name: 7", "name: 7 is not a text; put it in quotes"),
        ("prompt: a, tolerance: 3", "tolerance: a number is not a mapping; write {max: 2, psnr: 65}"),
        ("prompt: a, mask: x.png", "mask: x.png: there is no such file; check the path, from the job file's folder on"),
        ("negative: a", 'no prompt: say what to draw, or write prompt: "" to draw without one'),
    ],
)  # fmt: skip
def test_a_fault_of_a_job_is_told_in_its_words(job, message):
    assert faults(f"jobs: [{{{job}}}]") == [(1, message)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no job; write one on a line"),
        ("# nothing\n", "there is no job; write one on a line"),
        ("version: 1", "has no jobs; write jobs: [{prompt: …}]"),
        ("jobs: a cat", "jobs is not a list with a job in it; write jobs: [{prompt: …}]"),
        (b"\xff", "is not UTF-8, first on line 1; save the file as that"),
        (b"a\nb\xc3(", "is not UTF-8, first on line 2; save the file as that"),
        ("vars: 3\njobs: [a]", "vars: a number is not a mapping; write vars: {…}"),
        ("vars: {a-b: 3}\njobs: [a]", "vars: 'a-b' is no name; it has letters, digits and _"),
    ],
)
def test_a_fault_of_a_file_is_told_in_its_words(text, message):
    assert [each for _, each in faults(text)] == [message]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.yaml", "there is no such file"),
        ("", "is a folder; name the job files"),
        ("a\0b", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_fault(tmp_path, name, reason):
    with pytest.raises(JobFileError, match=reason):
        read_jobs([f"{tmp_path}/{name}"], no_input, {})


def test_the_name_of_a_file_does_not_break_the_line_of_a_fault(tmp_path):
    with pytest.raises(JobFileError) as caught:
        read_jobs([f"{tmp_path}/a\nb\udc80"], no_input, {})
    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()


def test_standard_input_can_be_named_once():
    with pytest.raises(JobFileError, match="named twice"):
        read_jobs(["-", "-"], lambda: b"a cat", {})


# --- generated files

KEYS = [
    *DECLARED,
    *SHARED,
    *COMBINING,
    *TOP,
    "size",
    "cfg_scale",
    "karras",
    "custom_id",
    "body",
    "method",
    "url",
    "stpes",
    "<<",
]
TEXTS = [
    "a cat", "", "1..8", "4..10 by 2", "1-10 (+2)", "2",
    "0.3..0.9 in 4", "9..1 by 0", "1:8", "7", "random", "euler", "DPM++ 2M",
    "{red|blue} car", "{a", "__x__", "$a", "$b", "512x512", "-", "~", "~nobody/x", "a@0,0,1,1", "f.safetensors@0.5",
    "n:image=a.png", "all", "{seed}", "{", "\0", "\n", "\ud800", "--steps 5", "x.png", "1" * 30, "é" * 50, "POST",
    "/v1/images/generations", "1..99999999999",
]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats(width=32)
    | st.sampled_from(TEXTS)
    | st.text(max_size=8)
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)
LIKELY = st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in [
    ("prompt", "a"), ("prompt", ["a", "b"]), ("cfg", [4, 7]), ("seed", "1..3"), ("count", 2), ("name", "x-{cfg}"),
    ("zip", {"steps": [1, 2], "width": [64, 128]}), ("except", [{"cfg": 4}]), ("also", [{"cfg": 9}]), ("expand", "all"),
]})  # fmt: skip
JOB = st.builds(
    lambda one, other: {**one, **other}, LIKELY, st.dictionaries(st.sampled_from(KEYS), ANY, max_size=3)
)
DOCUMENT = JOB | st.fixed_dictionaries(
    {"jobs": st.lists(JOB | ANY, max_size=3)},
    optional={"version": ANY, "defaults": JOB | ANY, "vars": ANY, "include": ANY},
) | st.lists(JOB, max_size=3) | ANY  # fmt: skip


@st.composite
def job_texts(draw):
    """The text of a job file in some dialect, mostly with something wrong in it."""
    kind = draw(st.sampled_from(["json", "yaml", "lines", "csv", "jsonl", "a1111", "openai", "noise"]))
    if kind in ("json", "yaml"):
        text = json.dumps(
            draw(DOCUMENT), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
        )
        return text if kind == "json" else f"# yaml\n{text}"
    if kind == "jsonl":
        return "\n".join(json.dumps(each) for each in draw(st.lists(JOB, min_size=1, max_size=3)))
    if kind == "openai":
        line = {"custom_id": "x", "method": "POST", "url": "/v1/images/generations", "body": draw(JOB)}
        return json.dumps({**line, **draw(st.dictionaries(st.sampled_from(KEYS), ANY, max_size=1))})
    if kind == "csv":
        header = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4))
        rows = draw(st.lists(st.lists(st.sampled_from(TEXTS), max_size=5), max_size=3))
        return "\n".join(",".join(row) for row in [header, *rows])
    if kind == "a1111":
        words = draw(st.lists(st.sampled_from([*(f"--{key}" for key in KEYS), *TEXTS]), max_size=6))
        return " ".join(["--prompt a", *words])
    return (
        draw(st.text(max_size=60))
        if kind == "noise"
        else "\n".join(draw(st.lists(st.sampled_from(TEXTS), max_size=4)))
    )


def check(text):
    """Read a text as standard input; whatever it is, it gives jobs or one line for each fault."""
    data = text.encode("utf-8", "surrogatepass")
    try:
        jobs = read_jobs(["-"], lambda: data, {})
        assert jobs and all(isinstance(job, BatchJob) for job in jobs)
    except JobFileError as error:
        assert error.faults
        for line in [*map(str, error.faults), str(error)]:
            assert len(line.splitlines()) == 1
            line.encode()


@example("jobs: [{prompt: a, seed: 1..3, count: 2}]")
@example("model\n~,\0,n:image=a.png")
@example('[{"model": {}}, {"model": {}}]')  # the same fault twice on one line
@example("- prompt: a\n  zip: {}")
@given(job_texts())
def test_a_generated_job_file_gives_jobs_or_one_line_for_each_fault(text):
    check(text)


@pytest.mark.slow
@settings(max_examples=200_000)
@given(job_texts())
def test_200_000_generated_job_files_give_jobs_or_one_line_for_each_fault(text):
    check(text)


def test_a_mutated_job_file_gives_jobs_or_one_line_for_each_fault():
    job = "{name: '{cfg}', prompt: $a, seed: 1..3, zip: {steps: [1, 2]}}"
    text = f"version: 1\nvars: {{a: x}}\ndefaults: {{cfg: [4, 7]}}\njobs:\n  - {job}\n"
    choose = random.Random(0)
    for _ in range(300):
        signs = list(text)
        for _ in range(choose.randint(1, 4)):
            signs[choose.randrange(len(signs))] = choose.choice("{}[]:,-'\"\n\t &*!|>%@`#$ax1.\0é")
        check("".join(signs))


NUMBERS_OR_TEXTS = st.lists(
    st.sampled_from([*TEXTS, "1,2", '"a, b"', "1-10 [5]", "(+", "]"]), max_size=3
).map(",".join)


@given(
    st.lists(
        st.tuples(st.sampled_from([*KEYS, ""]), NUMBERS_OR_TEXTS).map("=".join) | st.text(max_size=9),
        max_size=3,
    )
)
def test_a_generated_sweep_gives_jobs_or_one_line_for_each_fault(texts):
    try:
        assert sweep(Request(prompt="a", seed=1), texts)
    except JobFileError as error:
        for line in [*map(str, error.faults), str(error)]:
            assert len(line.splitlines()) == 1


@pytest.mark.parametrize("name", DECLARED)
def test_every_field_can_be_said_in_a_job_file_and_refuses_a_mapping(name):
    assert name in OPTIONS
    assert faults(
        f"jobs: [{{prompt: a, {name}: {{x: 1}}}}]" if name != "prompt" else "jobs: [{prompt: {x: 1}}]"
    )


def test_a_job_file_whose_every_key_is_misspelt_is_a_job_file_still(tmp_path):
    with pytest.raises(JobFileError) as caught:
        read_file(tmp_path / "a.yaml", "jbos: [{prompt: a cat}]")
    assert [fault.message for fault in caught.value.faults] == [
        "jbos: a job file has no such key; did you mean 'jobs'?"
    ]


def test_a_variable_of_a_file_without_any_is_a_fault():
    assert faults("jobs: [{prompt: a $colour cat}]") == [
        (1, "$colour: no variable has this name; write vars: {colour: …}")
    ]


def test_the_jobs_without_a_fault_are_there_for_the_plan_to_find_more():
    with pytest.raises(JobFileError) as caught:
        read("jobs: [{prompt: a cat}, {prompt: a dog, cfg: x}]")
    assert [job.request.prompt for job in caught.value.jobs] == ["a cat"]
