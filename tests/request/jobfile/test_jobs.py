"""Jobs of the one schema: axes, zip, except, also, defaults, variables, includes, seeds and names."""

import hashlib
import os
import time

import pytest

from sdcli.request.jobfile.batch_job import Tolerance
from sdcli.request.jobfile.combinations import MAX_JOBS
from tests.request.jobfile.reading import faults, read, read_file, values

SWEEP = """
    version: 1
    defaults: {model: tiny, steps: 20, out: "fruit/{prompt}/{cfg}-{seed}.png"}
    jobs:
      - name: apple
        prompt: [a red apple, a green apple]
        cfg: [4, 7, 10]
        seed: 1..8
        except: [{prompt: a green apple, cfg: 10}]
"""


def test_a_sweep_has_the_product_of_its_axes_less_the_exceptions():
    jobs = read(SWEEP)
    assert len(jobs) == 40
    assert {job.out for job in jobs} == {"fruit/{prompt}/{cfg}-{seed}.png"}
    assert ("a green apple", 10.0) not in values(jobs, "prompt", "cfg")


def test_the_last_axis_runs_fastest():
    jobs = read("jobs: [{prompt: [a, b], cfg: [4, 7], seed: 1..2}]")
    expected = [(p, c, s) for p in "ab" for c in (4.0, 7.0) for s in (1, 2)]
    assert values(jobs, "prompt", "cfg", "seed") == expected
    assert [dict(job.axes) for job in jobs] == [{"prompt": p, "cfg": c, "seed": s} for p, c, s in expected]


def test_the_axes_of_defaults_come_before_those_of_the_job():
    jobs = read("{defaults: {seed: [1, 2]}, jobs: [{prompt: a, cfg: [4, 7]}]}")
    assert values(jobs, "seed", "cfg") == [(1, 4), (1, 7), (2, 4), (2, 7)]


def test_zipped_fields_step_together(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("cat", "bus"):
        (tmp_path / "in" / f"{name}.png").touch()
    jobs = read_file(
        tmp_path / "suite.yaml",
        """
        version: 1
        jobs:
          - {name: samplers, prompt: a blue car, seed: 3, sampler: [euler, dpmpp_2m, "euler_a:eta=0.5"]}
          - name: pairs
            seed: 5
            zip: {prompt: [a cat, a bus], image: [in/cat.png, in/bus.png]}
            strength: 0.4..0.8 by 0.2
        """,
    )
    cat, bus = ((f"a {name}", os.path.join(tmp_path, f"in/{name}.png")) for name in ("cat", "bus"))
    assert values(jobs[3:], "prompt", "image", "strength") == [
        (*p, s) for p in (cat, bus) for s in (0.4, 0.6, 0.8)
    ]
    assert jobs[3].axes == {"prompt": "a cat", "image": "in/cat.png", "strength": 0.4}


def test_zipped_lists_of_unequal_lengths_are_a_fault():
    assert faults("jobs: [{zip: {prompt: [a, b], cfg: [1, 2, 3]}}]") == [
        (1, "zip: prompt has 2, cfg has 3; give them equally many values")
    ]


def test_several_groups_of_zipped_fields_multiply():
    jobs = read("jobs: [{zip: [{prompt: [a, b], cfg: [4, 7]}, {steps: [5, 9], seed: 1..2}]}]")
    assert values(jobs, "prompt", "cfg", "steps", "seed") == [
        ("a", 4, 5, 1), ("a", 4, 9, 2), ("b", 7, 5, 1), ("b", 7, 9, 2),
    ]  # fmt: skip


def test_also_joins_and_adds_as_githubs_include_does():
    jobs = read(
        """
        jobs:
          - prompt: [apple, pear]
            sampler: [euler, heun]
            seed: 1
            also:
              - {negative: green}
              - {negative: pink, sampler: euler}
              - {prompt: apple, width: 64}
              - {prompt: banana}
              - {prompt: banana, sampler: euler}
        """
    )
    assert values(jobs, "prompt", "sampler", "negative", "width") == [
        ("apple", "euler", "pink", 64),
        ("apple", "heun", "green", 64),
        ("pear", "euler", "pink", None),
        ("pear", "heun", "green", None),
        ("banana", None, "", None),
        ("banana", "euler", "", None),
    ]


def test_a_job_without_axes_has_the_combinations_of_also_alone():
    assert values(read("jobs: [{prompt: a, seed: 1, also: [{cfg: 4}, {cfg: 7}]}]"), "cfg") == [4, 7]


def test_an_exception_compares_values_and_not_spellings():
    jobs = read("jobs: [{prompt: a, cfg: [4, 7.0, 9], seed: 1, except: [{cfg: [4.0, 7]}]}]")
    assert values(jobs, "cfg") == [9]


@pytest.mark.parametrize(
    ("exception", "reason"),
    [
        ("{cfg: 5}", "except: fits no combination; correct its values or take it out"),
        ("{steps: 5}", "except: steps is no axis of this job, which has cfg; take it out"),
        ("{cfg: [4, 7]}", "no combination is left for a job; take an exception out"),
    ],
)
def test_an_exception_that_cannot_be_meant_is_a_fault(exception, reason):
    assert faults(f"jobs: [{{prompt: a, cfg: [4, 7], except: [{exception}]}}]") == [(1, reason)]


def test_a_list_is_the_value_of_a_field_of_many_and_a_list_of_lists_its_axis():
    jobs = read(
        "jobs: [{prompt: a, style: [x, y]}, {prompt: a, style: [[], [x], [x, y]]}, {prompt: a, style: x}]"
    )
    assert values(jobs, "style") == [("x", "y"), (), ("x",), ("x", "y"), ("x",)]


def test_ranges_may_stand_in_a_list():
    assert values(read("jobs: [{prompt: a, seed: [1..3, 7]}]"), "seed") == [1, 2, 3, 7]


def test_a_count_numbers_the_seeds():
    jobs = read("jobs: [{prompt: a, seed: 5, cfg: [4, 7], count: 3}]")
    assert values(jobs, "cfg", "seed") == [(c, s) for c in (4, 7) for s in (5, 6, 7)]
    assert jobs[1].axes == {"cfg": 4, "seed": 6}


def test_a_count_numbers_the_variation_seeds_where_there_is_one():
    jobs = read("jobs: [{prompt: a, seed: 5, variation_seed: 1, variation_strength: 0.1, count: 2}]")
    assert values(jobs, "seed", "variation_seed") == [(5, 1), (5, 2)]


def test_a_job_without_a_seed_has_the_same_one_in_each_run_and_another_than_other_jobs():
    text = "jobs: [{prompt: a, cfg: [4, 7]}, {prompt: b}]"
    seeds = values(read(text), "seed")
    assert seeds == values(read(text), "seed") == values(read(text, steps=4), "seed")
    assert seeds[0] == seeds[1] != seeds[2]


def test_the_seed_of_a_job_is_that_of_its_text():
    text = b'{"prompt": "a red apple"}'
    seed = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % (2**32 - 1_000_000)
    assert values(read("jobs: [{prompt: a red apple}]"), "seed") == [seed]


def test_a_name_or_a_folder_does_not_change_the_seed_of_a_job():
    plain, named = read("jobs: [{prompt: a}, {prompt: a, name: x, out: y/, tolerance: {max: 0}}]")
    assert plain.request == named.request


@pytest.mark.parametrize("seed", ["random", "-1"])
def test_a_seed_may_be_left_open(seed):
    assert values(read(f"jobs: [{{prompt: a, seed: {seed}, count: 2}}]"), "seed") == [None, None]


def test_null_is_what_is_not_said():
    jobs = read("{defaults: {cfg: 9, seed: 3}, jobs: [{prompt: a, cfg: null}]}")
    assert values(jobs, "cfg", "seed") == [(None, 3)]


def test_the_jobs_are_named_by_the_entry_and_what_tells_them_apart():
    jobs = read(
        "jobs: [{name: x, prompt: a, seed: 1}, {name: y, zip: {prompt: [a, b], cfg: [4, 7]}, seed: 1..2, steps: [5]}]"
    )
    assert [job.name for job in jobs] == ["x", "y-a-1", "y-a-2", "y-b-1", "y-b-2"]
    assert [job.entry for job in jobs] == ["x", "y", "y", "y", "y"]


def test_a_name_may_be_a_template():
    jobs = read('jobs: [{name: "{index}: {prompt} at {cfg}", prompt: [a, b], cfg: 4.5, seed: 1}]')
    assert [job.name for job in jobs] == ["1: a at 4.5", "2: b at 4.5"]


@pytest.mark.parametrize("name", ["{promt}", "{cfg:>9}", "{cfg!r}", "{cfg.real}", "{", "{0}"])
def test_a_template_that_cannot_be_filled_in_is_a_fault(name):
    assert faults(f'jobs: [{{name: "{name}", prompt: a}}]')[0][1].startswith("name: ")


def test_an_entry_without_a_name_is_called_by_its_number():
    assert [(job.entry, job.name) for job in read("jobs: [{prompt: a}, {prompt: b}]")] == [
        ("1", ""),
        ("2", ""),
    ]


def test_a_tolerance_is_read():
    jobs = read("jobs: [{prompt: a, tolerance: {max: 0}}, {prompt: b, tolerance: {psnr: 40}}]")
    assert [job.tolerance for job in jobs] == [Tolerance(max=0), Tolerance(psnr=40)]


def test_a_variable_is_replaced_in_texts_and_stands_for_its_value_alone():
    jobs = read(
        """
        vars: {fruit: apple, scales: [4, 7]}
        defaults: {cfg: $scales}
        jobs: ["a red $fruit for $5 in {2$$a|b}"]
        """
    )
    assert values(jobs, "prompt", "cfg") == [("a red apple for $5 in {2$$a|b}", cfg) for cfg in (4, 7)]


def test_a_variable_may_be_the_size():
    assert values(read("vars: {s: 64x128}\njobs: [{prompt: a, size: $s}]"), "width", "height") == [(64, 128)]


def test_an_unknown_variable_is_a_fault():
    assert faults("vars: {fruit: apple}\njobs: [a red $friut]") == [
        (2, "$friut: no variable has this name; did you mean 'fruit'?")
    ]


def test_a_file_overrides_what_it_includes_and_its_own_paths_are_its_own(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "mask.png").touch()
    (tmp_path / "in.png").touch()
    (tmp_path / "shared" / "base.yaml").write_text(
        "vars: {a: x}\ndefaults: {steps: 5, cfg: 3, mask: mask.png}"
    )
    (tmp_path / "shared" / "common.yaml").write_text("include: base.yaml\nvars: {a: y}\ndefaults: {cfg: 4}")
    jobs = read_file(
        tmp_path / "jobs.yaml",
        """
        include: [shared/common.yaml]
        defaults: {image: in.png}
        jobs: [{prompt: $a}]
        """,
    )
    assert values(jobs, "prompt", "steps", "cfg") == [("y", 5, 4)]
    assert values(jobs, "image", "mask") == [
        (str(tmp_path / "in.png"), str(tmp_path / "shared" / "mask.png"))
    ]


def test_files_that_include_each_other_are_a_fault(tmp_path):
    (tmp_path / "a.yaml").write_text("include: b.yaml")
    (tmp_path / "b.yaml").write_text("include: a.yaml")
    with pytest.raises(Exception, match="includes itself"):
        read_file(tmp_path / "jobs.yaml", "include: a.yaml\njobs: [a]")


def test_alternatives_are_axes_with_expand_all():
    jobs = read(
        "jobs: [{prompt: 'a {red|blue} {car|bus}', negative: '{x|y}', seed: 1, cfg: [4, 7], expand: all}]"
    )
    prompts = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("car", "bus")]
    assert values(jobs, "prompt", "negative", "cfg") == [
        (p, n, c) for p in prompts for n in "xy" for c in (4, 7)
    ]
    assert jobs[0].axes == {"prompt": "a red car", "negative": "x", "cfg": 4}


def test_wildcards_are_axes_with_expand_all(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "animal.txt").write_text("cat\ndog\n")
    jobs = read_file(tmp_path / "jobs.yaml", "jobs: [{prompt: a __animal__, wildcards: lists, expand: all}]")
    assert values(jobs, "prompt", "wildcards") == [("a cat", None), ("a dog", None)]


def test_alternatives_are_drawn_by_the_seed_without_it():
    assert values(read("jobs: ['a {red|blue} car']"), "prompt", "variants") == [("a {red|blue} car", None)]


def test_more_than_a_million_jobs_are_refused_with_their_number():
    text = "jobs: [{prompt: a, cfg: 1..1000, steps: 1..1000, seed: 1..2}]"
    assert faults(text) == [
        (1, "1000 x 1000 x 2 are 2,000,000 jobs, and at most 1,000,000 are taken; shorten an axis")
    ]
    assert MAX_JOBS == 1_000_000


def test_the_names_of_other_tools_are_understood():
    jobs = read(
        "jobs: [{prompt: a, cfg_scale: 5, num_inference_steps: 9, negative-prompt: b, size: 512x768, "
        "scheduler: DPM++ 2M Karras, n_iter: 2, seed: 1}]"
    )
    expected = (5.0, 9, "b", 512, 768, "dpmpp_2m", "karras")
    names = ("cfg", "steps", "negative", "width", "height", "sampler", "schedule")
    assert values(jobs, *names) == [expected, expected]


def test_what_is_typed_for_the_batch_wins_over_the_file():
    text = "defaults: {steps: 20, cfg: 4}\njobs: [{prompt: a, steps: 30}, {prompt: b}]"
    assert values(read(text, steps=4), "steps", "cfg") == [(4, 4), (4, 4)]


def test_what_is_typed_for_the_batch_and_is_an_axis_of_a_job_is_a_fault():
    assert faults("jobs: [{prompt: a, cfg: [4, 7]}]", cfg=5) == [
        (
            1,
            "cfg is an axis here, and was given for the whole batch too; leave it out there, or give the job one value",
        )
    ]


def test_what_is_typed_for_the_batch_and_is_in_also_is_a_fault():
    text = "jobs: [{prompt: a, cfg: [4, 7], also: [{cfg: 4, steps: 9}]}]"
    assert faults(text, steps=5) == [
        (1, "steps is in also, and was given for the whole batch too; leave it out there")
    ]


def test_paths_are_relative_to_the_job_file_and_names_stay_names(tmp_path):
    for name in ("edges.png", "face.png", "mask.png", "style.safetensors"):
        (tmp_path / "f" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "f" / name).touch()
    [job] = read_file(
        tmp_path / "f" / "jobs.yaml",
        """
        jobs:
          - prompt: a
            model: org/model
            lora: [style.safetensors@0.8, "other@0.5:te=0.2", "style.safetensors@1:0-0.5"]
            hypernet: [h.safetensors@0.5]
            control: ["canny.safetensors:image=edges.png:weight=0.5"]
            ip_adapter: ["ip:image=face.png:encoder=enc.safetensors"]
            reference: face.png:fidelity=0.2
            region: ["a cat@mask.png,0.5", "a dog@0,0,0.5,1"]
            styles_file: styles.csv
        """,
    )
    request, f = job.request, os.path.join(tmp_path, "f", "")
    assert request.model == "org/model"
    assert request.lora == (
        f"{f}style.safetensors@0.8",
        "other@0.5:te=0.2",
        f"{f}style.safetensors@1:0-0.5",
    )
    assert request.hypernet == (f"{f}h.safetensors@0.5",)
    assert request.control == (f"{f}canny.safetensors:image={f}edges.png:weight=0.5",)
    assert request.ip_adapter == (f"ip:image={f}face.png:encoder={f}enc.safetensors",)
    assert request.reference == f"{f}face.png:fidelity=0.2"
    assert request.region == (f"a cat@{f}mask.png,0.5", "a dog@0,0,0.5,1")
    assert request.styles_file == f"{f}styles.csv"


def test_a_thousand_jobs_are_read_in_less_than_a_quarter_of_a_second():
    text = "jobs: [{name: x, prompt: [a, b, c, d, e], cfg: 1..10, steps: [10, 20], seed: 1..10}]"
    times = []
    for _ in range(3):
        begin = time.process_time()
        assert len(read(text)) == 1000
        times.append(time.process_time() - begin)
    assert min(times) < 0.25


def test_a_list_of_sizes_is_an_axis_that_takes_the_place_of_a_default():
    jobs = read(
        """
        defaults: {width: 64, height: 64}
        jobs: [{prompt: a cat, size: [512x768, 768x512], seed: [1, 2]}]
        """
    )
    found = values(jobs, "width", "height", "seed")
    assert found == [(512, 768, 1), (512, 768, 2), (768, 512, 1), (768, 512, 2)]


def test_a_job_that_stands_alone_keeps_its_dollar_signs():
    assert values(read("prompt: a $colour cat"), "prompt") == ["a $colour cat"]
