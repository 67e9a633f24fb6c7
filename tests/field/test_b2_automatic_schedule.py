"""B2 (A1111#16567, #15521, dream-factory#57): "Automatic", A1111's default label, is a schedule by sampler.

Version 0.1 drew it as uniform with every sampler.
"""

import json

import pytest

from sdcli import registry
from sdcli.request.request import Request

KARRAS = ["DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"]
EXPONENTIAL = ["DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"]


@pytest.mark.parametrize("label", KARRAS)
def test_b2_automatic_is_karras_for_these_samplers(label):
    assert Request("x", sampler=label, schedule="Automatic").schedule == "karras"


@pytest.mark.parametrize("label", EXPONENTIAL)
def test_b2_automatic_is_exponential_for_these_samplers(label):
    assert Request("x", sampler=label, schedule="automatic").schedule == "exponential"


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_b2_automatic_is_uniform_for_all_others(name):
    known = {Request("x", sampler=label).sampler for label in KARRAS + EXPONENTIAL}
    if name not in known:
        assert Request("x", sampler=name, schedule="Automatic").schedule == "uniform"


def test_b2_automatic_without_a_sampler_waits_for_the_models(sd, draw):
    ran = draw("x", "--schedule", "Automatic", "--json")
    assert ran.code == 0, ran.err
    request = json.loads(ran.lines[0])["request"]
    assert (request["sampler"], request["schedule"]) == ("dpmpp_2m", "karras")


def test_b2_options_do_not_change_what_automatic_is():
    assert Request("x", sampler="dpmpp_2m_sde:eta=0.5", schedule="Automatic").schedule == "exponential"


def test_b2_a_schedule_in_the_samplers_label_comes_before_automatic():
    assert Request("x", sampler="Euler a Karras", schedule="Automatic").schedule == "karras"
