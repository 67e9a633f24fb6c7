"""A job leaves nothing open, and the record in a picture makes the same job again."""

import dataclasses
import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings

from sdcli import registry
from sdcli.engine import generate
from sdcli.errors import UsageError
from sdcli.models.load import load
from sdcli.pipeline import latents_file
from sdcli.request.job import Job, job_of
from sdcli.request.request import Request
from tests.request.strategies import requests


@pytest.fixture(scope="module")
def model():
    return load("test:sd1", "cpu", "float32")


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(request=requests())
def test_the_record_of_a_job_makes_the_same_job_again(model, request):
    job = model.with_defaults(request)
    record = json.loads(json.dumps(job.request.as_dict()))
    assert model.with_defaults(Request.from_dict(record)) == job


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(request=requests())
def test_no_field_of_a_job_is_left_open(model, request):
    job = model.with_defaults(request)
    open_fields = [each.name for each in dataclasses.fields(Job) if getattr(job, each.name) is None]
    assert open_fields == []


def test_a_request_without_a_seed_gets_one_and_the_record_holds_it(model):
    jobs = [model.with_defaults(Request("a cat")) for _ in range(2)]
    assert jobs[0].seed != jobs[1].seed
    assert [job.request.seed for job in jobs] == [job.seed for job in jobs]


def test_a_picture_drawn_without_a_seed_is_drawn_again_from_its_record():
    """Version 0.1 drew such a picture with seed 0 and recorded none, so that `sd again` drew another one."""
    first = generate(Request("a cat", model="test:sd1", steps=2))
    second = generate(first.picture.request)
    assert first.picture.request.seed is not None
    assert second.picture.png() == first.picture.png()


def test_a_request_that_is_not_closed_is_no_job():
    with pytest.raises(UsageError, match="seed is not decided"):
        job_of(Request("a cat"))


def test_a_plugin_is_parsed_once_with_its_options():
    spec = registry.parse("samplers", "euler_a:eta=0.5, s_noise=2")
    assert (spec.name, dict(spec.options)) == ("euler_a", {"eta": 0.5, "s_noise": 2.0})
    assert registry.parse("samplers", str(spec)) == spec


def test_the_pictures_of_a_count_need_a_seed_to_be_numbered_by():
    with pytest.raises(UsageError, match="--seed"):
        Request("a cat").nth(1)
    assert Request("a cat", seed=3).nth(2).seed == 5


def test_the_record_holds_the_hash_of_the_latents_that_a_run_started_from(tmp_path):
    """Another file under the same name is another picture, and `sd again` can say so."""
    first = generate(Request("a cat", model="test:sd1", seed=1, steps=2))
    path = tmp_path / "x.safetensors"
    path.write_bytes(latents_file.to_bytes(first.latents, 0.0))
    picture = generate(Request("a cat", model="test:sd1", seed=1, steps=2, latents_in=str(path))).picture
    assert picture.facts["given"] == {"latents": hashlib.sha256(path.read_bytes()).hexdigest()}
