"""B3 (InvokeAI#3551, pictures of NovelAI): labels of other tools are understood, in every spelling that is about.

Version 0.1 refused `k_euler_a`, `k_dpmpp_2s_ancestral`, `dpmpp_2m_k` and "DPM++ 2M SGMUniform".
"""

import diffusers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.request import aliases
from sdcli.request.labels import TOOLS
from sdcli.request.request import Request


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("k_euler_a", ("euler_a", None)),
        ("k_euler_ancestral", ("euler_a", None)),
        ("k_dpmpp_2s_ancestral", ("dpmpp_2s_a", None)),
        ("k_dpmpp_2m_ka", ("dpmpp_2m", "karras")),
        ("k_dpm_2_a_ka", ("dpm2_a", "karras")),
        ("k_dpm_ad", ("dpm_adaptive", None)),
        ("dpmpp_2m_k", ("dpmpp_2m", "karras")),
        ("kdpm_2_a_k", ("dpm2_a", "karras")),
        ("lms_k", ("lms", "karras")),
        ("DPM++ 2M SGMUniform", ("dpmpp_2m", "sgm_uniform")),
        ("DPM++ 2M SDE SGMUniform", ("dpmpp_2m_sde", "sgm_uniform")),
        ("DPM++ 2m (Karras)", ("dpmpp_2m", "karras")),
        ("DPM++ 2s Ancestral (Karras)", ("dpmpp_2s_a", "karras")),
        ("Euler Ancestral", ("euler_a", None)),
        ("Euler A Trailing", ("euler_a", "trailing")),
        ("DPM++ 2M AYS", ("dpmpp_2m", "align_your_steps")),
        ("sample_dpmpp_2m", ("dpmpp_2m", None)),
        ("dpm++2s_a", ("dpmpp_2s_a", None)),
        ("euler_a discrete", ("euler_a", "uniform")),
        ("dpm++2m karras", ("dpmpp_2m", "karras")),
        ("EulerDiscrete", ("euler", None)),
        ("DPM++ 2M Karras:", ("dpmpp_2m", "karras")),
        ("Euler a Automatic", ("euler_a", "automatic")),
    ],
)
def test_b3_a_label_is_understood(label, expected):
    assert aliases.parse_sampler(label) == expected


@pytest.mark.parametrize("name", [each for each in dir(diffusers) if each.endswith("Scheduler")])
def test_b3_every_scheduler_class_of_the_installed_diffusers_is_understood_or_refused_by_name(name):
    try:
        assert registry.parse("samplers", aliases.parse_sampler(name)[0])
    except UsageError as error:
        assert name in str(error) and "the nearest is" in str(error)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("dpmpp_3m_k", "InvokeAI has a sampler 'dpmpp_3m_k', which is not available here; the nearest is"),
        ("DPM++ 2M v2", "the nearest is dpmpp_2m"),
        ("ddim_v3", "NovelAI has a sampler 'ddim_v3', which is not available here; the nearest is ddim"),
        ("Euler a Turbo", "A1111 has a schedule 'Turbo', which is not available here; the nearest is"),
    ],
)
def test_b3_what_we_lack_is_refused_by_its_own_name(sd, label, words):
    ran = sd("txt2img", "x", "--sampler", label)
    assert ran.code == 2 and words in ran.err and len(ran.err.splitlines()) == 1


def test_b3_a_label_that_is_nobodys_is_refused_with_the_nearest(sd):
    ran = sd("txt2img", "x", "--sampler", "eulre_a")
    assert ran.code == 2 and "did you mean 'euler_a'?" in ran.err


LABELS = sorted({label for tool in TOOLS.values() for label in tool.samplers})


@given(st.sampled_from(LABELS), st.sampled_from([str.upper, str.lower, str.title]), st.sampled_from(" _-"))
def test_b3_case_and_separators_of_a_label_do_not_matter(label, case, separator):
    written = case(label.replace(" ", separator).replace("_", separator))
    assert aliases.parse_sampler(written)[0].partition(":")[0] in registry.names("samplers")


@pytest.mark.parametrize("name", registry.names("samplers"))
@pytest.mark.parametrize("schedule", registry.names("schedules"))
def test_b3_a_name_of_ours_is_itself_alone_and_before_a_schedule(name, schedule):
    assert aliases.parse_sampler(name) == (name, None)
    assert aliases.parse_sampler(f"{name}_{schedule}") == (name, schedule)
    assert Request("x", sampler=name, schedule=schedule).schedule == schedule
