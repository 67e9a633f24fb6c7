"""Faults at every stage of one picture: that job fails alone, and the others are drawn as if nothing had happened."""

import dataclasses

import pytest
import torch

from sdcli.batch.executor import Task
from sdcli.batch.executors.local import local
from sdcli.request.request import Request

BAD = 2  # the seed of the job in which the fault happens


def tasks():
    requests = [
        Request(f"thing {i}", seed=i, model="test:sd1", width=64, height=64, steps=1) for i in range(1, 4)
    ]
    return [Task(request.seed, request) for request in requests]


def answers():
    return {event.number: event for event in local().run(tasks(), lambda number: None)}


@pytest.fixture(scope="module")
def undisturbed(load_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdcli.models.load.load_model", load_once)
        return {number: drawn.encode() for number, drawn in answers().items()}


def raise_in_bad_job(monkeypatch, where, error):
    """Let the function `where`, which is given a Job, raise in the bad job."""
    import importlib

    module, name = where.rsplit(".", 1)
    call = getattr(importlib.import_module(module), name)

    def failing(*args, **options):
        if any(getattr(each, "seed", None) == BAD for each in args):
            raise error
        return call(*args, **options)

    monkeypatch.setattr(where, failing)


STAGES = (
    "sdcli.engine.open_inputs",
    "sdcli.engine.adapters_of",
    "sdcli.engine.encode_prompts",
    "sdcli.engine.start_of",
    "sdcli.engine._predict",
    "sdcli.engine._end",
    "sdcli.engine.facts_of",
)
ERRORS = {
    "memory": (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")),
    "bug": (RuntimeError("a bug"), KeyError("x"), RecursionError()),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("error", [error for errors in ERRORS.values() for error in errors], ids=repr)
def test_whatever_is_raised_at_a_stage_fails_that_job_alone(
    stage, error, monkeypatch, undisturbed, load_once
):
    monkeypatch.setattr("sdcli.models.load.load_model", load_once)
    raise_in_bad_job(monkeypatch, stage, error)
    found = answers()
    assert found[BAD].failure.kind in ("memory", "bug")
    assert {n: found[n].encode() for n in (1, 3)} == {n: undisturbed[n] for n in (1, 3)}


def test_a_result_that_is_not_finite_fails_that_job_alone(monkeypatch, undisturbed, load_once):
    monkeypatch.setattr("sdcli.models.load.load_model", load_once)
    from sdcli import engine

    call = engine.start_of

    def start_with_nan(model, job, *rest):
        start = call(model, job, *rest)
        return dataclasses.replace(start, x=start.x * float("nan")) if job.seed == BAD else start

    monkeypatch.setattr("sdcli.engine.start_of", start_with_nan)
    found = answers()
    assert found[BAD].failure.kind == "not_finite" and found[BAD].failure.code == 7
    assert {n: found[n].encode() for n in (1, 3)} == {n: undisturbed[n] for n in (1, 3)}


def test_a_prompt_is_encoded_once_for_all_pictures_of_a_model(monkeypatch):
    from sdcli.pipeline import text

    seen = []
    call = text.encode_prompt
    monkeypatch.setattr(text, "encode_prompt", lambda *args: seen.append(args[1]) or call(*args))
    prompts = ["a cat", "a dog", "a cat", "a dog", "a cat"]
    some = [
        Task(i, Request(prompt, seed=i, model="test:sd1", width=64, height=64, steps=1))
        for i, prompt in enumerate(prompts)
    ]
    executor = local()
    assert len(list(executor.run(some, lambda number: None))) == 5
    assert len(seen) == 3  # two prompts, and the empty negative one
