"""Sweep: axes that are typed behind a drawing command."""

import pytest

from sdcli.request.jobfile.batch_job import JobFileError
from sdcli.request.jobfile.sweep import sweep
from sdcli.request.request import Request
from tests.request.jobfile.reading import values

CAT = Request(prompt="a cat", seed=1, steps=9)


def test_the_axes_multiply_and_the_last_runs_fastest():
    jobs = sweep(CAT, ["cfg=4..10 by 2", "seed=1..2"])
    assert values(jobs, "cfg", "seed") == [(c, s) for c in (4, 6, 8, 10) for s in (1, 2)]
    assert jobs[1].axes == {"cfg": 4, "seed": 2}
    assert {(job.request.prompt, job.request.steps) for job in jobs} == {("a cat", 9)}


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("seed=1-3", "seed", [1, 2, 3]),
        ("steps=10-1 (-3)", "steps", [10, 7, 4, 1]),
        ("cfg=1-2 (+0.5), 7", "cfg", [1, 1.5, 2, 7]),
        ("steps=1-10 [4]", "steps", [1, 4, 7, 10]),
        ("cfg_scale=4,7.5", "cfg", [4, 7.5]),
        ("sampler=euler, DPM++ 2M", "sampler", ["euler", "dpmpp_2m"]),
        ('sampler="euler_a:eta=0.5,s_noise=1.1",heun', "sampler", ["euler_a:eta=0.5,s_noise=1.1", "heun"]),
        ('prompt="a cat, red",a dog', "prompt", ["a cat, red", "a dog"]),
        ("only_masked=true,false", "only_masked", [True, False]),
        ("lora=,a.safetensors@0.5", "lora", [(), ("a.safetensors@0.5",)]),
        ("tile=none,both", "tile", ["none", "both"]),
        ("seed=random,7", "seed", [None, 7]),
        ("--cfg=4", "cfg", [4]),
    ],
)
def test_values_are_converted_by_the_field(text, field, expected):
    assert values(sweep(CAT, [text]), field) == expected


def test_a_list_of_sizes_is_one_axis():
    assert values(sweep(CAT, ["size=512x768,768x512"]), "width", "height") == [(512, 768), (768, 512)]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["cfg"], "'cfg' is not FIELD=VALUES"),
        (["cfg="], "cfg: there are no values"),
        (["cgf=1"], "did you mean 'cfg'"),
        (["cfg=4:7"], "a range is written"),
        (["cfg=4..x"], "is not a number"),
        (["cfg=4,,7"], "'' is not a number"),
        (["cfg=4", "cfg_scale=7"], "cfg is swept twice"),
        (["count=4"], "count is no field of a picture"),
        (["sampler=eulr"], "did you mean 'euler'"),
        (["width=65"], "is not a multiple of 8"),
        (["seed=1..2000", "steps=1..1000"], "2,000,000 jobs"),
        (['prompt="a'], "correct the quotes"),
        (["size=512x512,9"], "'9' is not width x height"),
        (["size=512x512", "width=512"], "width is swept twice"),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_a_fault(texts, reason):
    with pytest.raises(JobFileError) as caught:
        sweep(CAT, texts)
    assert [fault for fault in caught.value.faults if reason in str(fault)]


def test_all_pictures_of_a_sweep_without_a_seed_share_one():
    jobs = sweep(Request(prompt="a cat"), ["cfg=4,7"])
    assert len(set(values(jobs, "seed"))) == 1
    assert values(jobs, "seed")[0] is not None
