"""The plan of a batch: paths, order, shards and identities, before anything is loaded."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.batch.identity import request_key
from sdcli.batch.plan import Destination
from sdcli.batch.planner import make_plan
from sdcli.request.jobfile.batch_job import BatchJob, Fault, JobFileError, Source
from sdcli.request.request import Request
from tests.batch.stub import jobs, plan_of


def test_each_job_goes_where_its_name_says(tmp_path):
    assert [str(each.path) for each in plan_of(tmp_path, jobs(3)).jobs] == [
        "job-0.png",
        "job-1.png",
        "job-2.png",
    ]


def test_a_template_may_hold_the_axes_of_a_sweep_and_the_number_of_the_job(tmp_path):
    job = BatchJob(
        Request("a cat", seed=7, model="test:sd1"), axes={"cfg": 4.5}, out="{cfg}/{index}-{seed}.jpg"
    )
    plan = plan_of(tmp_path, [job], suffixes=(".png", ".jpg"))
    assert plan.jobs[0].path == Path("4.5/1-7.jpg")


def test_two_jobs_with_one_path_are_a_fault_of_the_file_in_whatever_case_they_are_written(tmp_path):
    first, second = jobs(2)
    twin = BatchJob(second.request, name="JOB-0", source=Source("jobs.yaml", 9))
    with pytest.raises(JobFileError, match=r"jobs\.yaml:9: .*both called JOB-0\.png"):
        plan_of(tmp_path, [first, twin])


def test_every_fault_is_listed_with_its_line(tmp_path):
    bad = [
        BatchJob(Request("x", seed=1, model="none.safetensors"), source=Source("jobs.yaml", line))
        for line in (3, 8)
    ]
    with pytest.raises(JobFileError) as error:
        plan_of(tmp_path, [*bad, *jobs(1)])
    assert [fault.source.line for fault in error.value.faults] == [3, 8]


@pytest.mark.parametrize("out", ["../x.png", "/x.png", "a/../../x.png", "{prompt}/../../x.png"])
def test_a_job_file_writes_nothing_outside_of_its_folder(out, tmp_path):
    job = BatchJob(jobs(1)[0].request, out=out)
    with pytest.raises(JobFileError, match="leads out of"):
        plan_of(tmp_path, [job])


def test_a_link_to_another_folder_is_no_way_out(tmp_path):
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path, tmp_path / "out" / "link")
    with pytest.raises(JobFileError, match="link that leads out"):
        plan_of(tmp_path / "out", [BatchJob(jobs(1)[0].request, out="link/x.png")])


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_name_and_no_prompt_leads_out_of_the_folder(name, prompt):
    try:
        request = Request(prompt, seed=1, model="test:sd1")
        plan = plan_of(Path("/nowhere"), [BatchJob(request, name=name, out="{prompt}/{name}.png")])
    except Exception as error:
        assert type(error).__name__ in ("UsageError", "JobFileError")
        return
    path = plan.jobs[0].path
    assert len(path.parts) == 2 and ".." not in path.parts
    assert all(len(part.encode()) <= 200 for part in path.parts)


def test_jobs_are_drawn_by_model_then_by_prompt_and_else_in_the_files_order(tmp_path):
    def job(i, model, prompt):
        return BatchJob(Request(prompt, seed=i, model=model, width=64, height=64), name=str(i))

    some = [
        job(0, "test:sd1", "a"),
        job(1, "test:sd2-v", "a"),
        job(2, "test:sd1", "b"),
        job(3, "test:sd1", "a"),
    ]
    assert [each.number for each in plan_of(tmp_path, some).order] == [0, 3, 2, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_each_job_is_in_exactly_one_shard(count, tmp_path):
    plan = plan_of(tmp_path, jobs(40))
    shards = [plan.shard(i, count).jobs for i in range(1, count + 1)]
    assert sorted(each.number for shard in shards for each in shard) == list(range(40))


def test_the_shard_of_a_job_does_not_depend_on_the_other_jobs(tmp_path):
    some = jobs(30)
    mixed = random.Random(0).sample(some, 20)
    names = {each.job.name for each in plan_of(tmp_path, some).shard(1, 3).jobs}
    assert {each.job.name for each in plan_of(tmp_path, mixed).shard(1, 3).jobs} == names & {
        job.name for job in mixed
    }


def test_the_identity_of_a_job_changes_with_all_that_decides_its_pixels(tmp_path, monkeypatch):
    def identity(**changes):
        return plan_of(tmp_path, jobs(1, **changes)).jobs[0].identity

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    seen = [identity(), identity(steps=3), identity(threads=1), identity(dtype="bfloat16"), identity(cfg=3.5)]
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    seen.append(identity())
    assert len(set(seen)) == len(seen)


def test_a_changed_input_picture_makes_another_identity_of_the_same_key(tmp_path):
    from PIL import Image

    def planned(colour):
        Image.new("RGB", (64, 64), colour).save(tmp_path / "in.png")
        return plan_of(tmp_path, jobs(1, image=str(tmp_path / "in.png"))).jobs[0]

    red, blue = planned("red"), planned("blue")
    assert red.key == blue.key and red.identity != blue.identity


def test_the_key_of_a_request_is_the_same_wherever_its_files_lie():
    assert request_key(Request("x", seed=1, lora=("/a/b/style.safetensors@0.8",))) == request_key(
        Request("x", seed=1, lora=("style.safetensors@0.8",))
    )


def test_every_file_that_a_job_names_is_in_its_identity(tmp_path, monkeypatch):
    """Also the image encoder of IP-Adapters, which a variable may name."""
    from sdcli.batch.identity import FileHashes

    (tmp_path / "encoder").mkdir()
    for name in ("a.png", "ip.safetensors", "encoder/model.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setenv("SDCLI_IMAGE_ENCODER", str(tmp_path / "encoder"))
    request = Request("x", seed=1, ip_adapter=(f"{tmp_path}/ip.safetensors:image={tmp_path}/a.png",))
    before = FileHashes().of(request)
    (tmp_path / "encoder/model.safetensors").write_bytes(b"another")
    after = FileHashes().of(request)
    assert len(before) == 3 and [name for name in before if before[name] != after[name]] == ["file 2"]


def test_faults_of_the_files_and_of_the_plan_are_listed_together_by_line(tmp_path):
    good, lost = jobs(2)
    lost = BatchJob(lost.request.replace(model="nowhere"), name="lost", source=Source("jobs.yaml", 4))
    known = [Fault(Source("jobs.yaml", 7), "no field is called 'x'"), Fault(Source("jobs.yaml", 2), "bad")]
    with pytest.raises(JobFileError) as caught:
        make_plan([good, lost], Destination(tmp_path), known=known)
    assert [fault.source.line for fault in caught.value.faults] == [2, 4, 7]


def test_a_prompt_is_checked_with_the_settings_of_each_job(tmp_path):
    def last(prompt, model="test:sd1", **settings):
        plain, asked = (Request(text, seed=1, model=model, **settings) for text in ("x", prompt))
        return plan_of(tmp_path, [BatchJob(plain, name="x"), BatchJob(asked, name="y")]).jobs[1]

    assert any("AND" in note for note in last("a AND b", emphasis="comfyui").notes)
    assert not last("a AND b", emphasis="a1111").notes
    with pytest.raises(JobFileError, match="has one text encoder"):
        last("a cat", negative_2="a dog")
