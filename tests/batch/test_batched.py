"""The batched executor: pictures drawn at once are those drawn alone, and what cannot be joined is drawn alone."""

import threading

import pytest
import torch

from sdcli.batch.executor import Drawn, Failed
from sdcli.batch.executors.batched import Batched, batched
from sdcli.batch.reasons import explain_rounding, reasons
from sdcli.errors import UsageError
from sdcli.models import joint_calls
from sdcli.models.joint_calls import JointCalls
from sdcli.pipeline import vae
from tests.batch.batches import drawn_here, events_of, failures_in, files_in, task
from tests.batch.test_faults import BAD, raise_in_bad_job


@pytest.fixture
def sizes(monkeypatch):
    """The numbers of pictures in each call of the U-Net."""
    found, run = [], JointCalls._run

    def counted_run(self, calls):
        found.append(len(calls))
        return run(self, calls)

    monkeypatch.setattr(JointCalls, "_run", counted_run)
    return found


def together(tasks, count=4):
    return events_of(Batched(count, on_cpu=True), tasks)


@pytest.mark.parametrize("model", ["tiny", "test:sd1", "test:sd2-v", "test:sdxl"])
def test_pictures_drawn_at_once_have_the_bytes_of_those_drawn_alone(model, sizes):
    tasks = [task(number, model, steps=3) for number in range(4)]
    assert files_in(together(tasks)) == drawn_here(tasks)
    assert sizes == [4, 4, 4]


def test_pictures_of_other_samplers_steps_sizes_and_scales_are_joined_as_far_as_they_go(sizes):
    kinds = [
        {"sampler": "euler_a", "steps": 3}, {"sampler": "dpmpp_2s_a", "steps": 2}, {"cfg": 1.0, "steps": 2},
        {"width": 72, "steps": 2, "hires": 1.5},
    ]  # fmt: skip
    tasks = [task(number, **kind) for number, kind in enumerate(kinds)]
    assert files_in(together(tasks)) == drawn_here(tasks)
    assert max(sizes) == 2


def test_groups_are_of_one_model_and_what_alters_the_network_is_drawn_alone(sizes):
    tasks = [
        task(0), task(1, freeu="1.5,1.6,0.9,0.2"), task(2), task(3, "test:sd2"), task(4, "test:sd2"),
        task(5, guidance="pag"),
    ]  # fmt: skip
    assert files_in(together(tasks, 3)) == drawn_here(tasks)
    assert sizes == [2, 2, 2, 2]


@pytest.mark.parametrize("where", ["sdcli.engine.encode_prompts", "sdcli.engine._end"])
def test_one_that_fails_fails_alone(monkeypatch, where):
    tasks = [task(number) for number in (1, BAD, 3)]
    alone = drawn_here(tasks)
    raise_in_bad_job(monkeypatch, where, RuntimeError("a bug"))
    events = together(tasks)
    assert failures_in(events) == {BAD: "bug"}
    assert files_in(events) == {number: data for number, data in alone.items() if number != BAD}


def test_a_joint_call_that_fails_fails_all_its_pictures(monkeypatch):
    def full(self, calls):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(JointCalls, "_run", full)
    assert failures_in(together([task(0), task(1)])) == {0: "memory", 1: "memory"}


def test_a_picture_that_is_not_the_same_as_alone_says_so_and_verify_knows_why(monkeypatch):
    monkeypatch.setattr(joint_calls.torch, "equal", lambda one, other: False)
    events = together([task(0), task(1)])
    facts = [event.facts for event in events if isinstance(event, Drawn)]
    assert [each["batch"] for each in facts] == [2, 2]
    differing = reasons(facts[0], {**facts[0], "batch": None})
    assert differing == {"batch": ("2", "none")} and explain_rounding(differing)


def test_a_decode_that_falls_back_to_float32_does_not_disturb_the_others(monkeypatch):
    """SDXL's own VAE does so in float16. Its weights are in float32 for a while, for all who share it."""
    tasks = [task(number, dtype="bfloat16") for number in range(3)]
    decode = vae._decoded

    def not_finite(model, x, dtype=None):
        pixels = decode(model, x, dtype)
        return pixels if dtype else torch.full_like(pixels, torch.nan)

    monkeypatch.setattr(vae, "_decoded", not_finite)
    assert files_in(together(tasks)) == drawn_here(tasks)


def test_a_device_that_is_not_there_fails_its_task_alone():
    events = together([task(0, device="cuda:9"), task(1), task(2)])
    assert (list(failures_in(events)), sorted(files_in(events))) == ([0], [1, 2])


def test_a_model_that_is_not_there_fails_each_task():
    events = together([task(0, "missing.safetensors"), task(1, "missing.safetensors")])
    assert all(isinstance(event, Failed) for event in events) and len(events) == 2


def test_an_interrupt_stops_the_threads(monkeypatch):
    class Interrupted(threading.Thread):
        def join(self, timeout=None):
            raise KeyboardInterrupt

    monkeypatch.setattr(joint_calls.threading, "Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        together([task(0, steps=200), task(1, steps=200)])
    monkeypatch.undo()
    for thread in threading.enumerate():
        if thread.name.endswith("(draw)"):
            thread.join()  # they end, long before 200 steps


def test_it_is_refused_on_a_cpu_and_by_a_number_that_is_none(sd, tmp_path):
    for option in ("1", "0", "65", "x", "-2", "²"):
        with pytest.raises(UsageError, match="is no number of pictures from 2 to 64; try batched:4"):
            batched(option)
    (tmp_path / "a.txt").write_text("a cat\n")
    ran = sd("batch", tmp_path / "a.txt", "-m", "test:sd1", "--device", "cpu", "--on", "batched:2")
    assert ran.code == 2
    assert "--on batched:2 is for a GPU, and gains nothing on a CPU; leave it out" in ran.err
