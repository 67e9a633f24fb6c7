"""The names that other tools use for samplers and schedules are understood."""

import pytest

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.request import aliases
from sdcli.request.labels import TOOLS
from sdcli.request.request import Request


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("DPM++ 2M Karras", ("dpmpp_2m", "karras")),
        ("DPM++ 2M", ("dpmpp_2m", None)),
        ("Euler a", ("euler_a", None)),
        ("euler_ancestral", ("euler_a", None)),
        ("Euler a Karras", ("euler_a", "karras")),
        ("Heun normal", ("heun", "uniform")),
        ("DDIM", ("ddim", None)),
        ("euler_a:eta=0.5", ("euler_a:eta=0.5", None)),
        ("DPM++ 2M SDE Heun Exponential", ("dpmpp_2m_sde:heun=true", "exponential")),
        ("DPM++ 2M SDE Heun:eta=0.5", ("dpmpp_2m_sde:heun=true,eta=0.5", None)),
        ("DPM++ 2M SGM Uniform", ("dpmpp_2m", "sgm_uniform")),
        ("DPM++ 2M Align Your Steps", ("dpmpp_2m", "align_your_steps")),
        ("DPM++ 3M SDE Karras", ("dpmpp_3m_sde", "karras")),
        ("DPM2 a Karras", ("dpm2_a", "karras")),
        ("DPM fast", ("dpm_fast", None)),
        ("UniPC", ("unipc", None)),
        ("uni_pc_bh2", ("unipc:bh2=true", None)),
        ("DDIM CFG++", ("euler_cfg_pp", None)),
        ("dpm_2_ancestral", ("dpm2_a", None)),
        ("EulerAncestralDiscreteScheduler", ("euler_a", None)),
        ("EulerDiscreteScheduler", ("euler", None)),
        ("DDIMScheduler", ("ddim", None)),
        ("DPMSolverMultistepScheduler", ("dpmpp_2m", None)),
        ("KDPM2DiscreteScheduler", ("dpm2", None)),
        ("UniPCMultistep", ("unipc:order=2,bh2=true", None)),
        ("LMSDiscrete", ("lms", None)),
    ],
)
def test_a_sampler_label_of_another_tool_gives_our_sampler_and_schedule(label, expected):
    assert aliases.parse_sampler(label) == expected


A1111_SAMPLERS = """DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler,
LMS, Heun, DPM2, DPM2 a, DPM fast, DPM adaptive, Restart, DDIM, DDIM CFG++, PLMS, UniPC, LCM"""
A1111_SCHEDULES = """Automatic, Uniform, Karras, Exponential, Polyexponential, SGM Uniform, KL Optimal,
Align Your Steps, Simple, Normal, DDIM, Beta"""
DIFFUSERS_SCHEDULERS = """DDIM, DDPM, PNDM, LMSDiscrete, EulerDiscrete, EulerAncestralDiscrete, HeunDiscrete,
KDPM2Discrete, KDPM2AncestralDiscrete, DPMSolverMultistep, DPMSolverSinglestep, DPMSolverSDE, DEISMultistep,
UniPCMultistep, SASolver, LCM, TCD, IPNDM, EDMEuler, EDMDPMSolverMultistep"""


def words(text: str) -> list[str]:
    return [" ".join(each.split()) for each in text.split(",")]


@pytest.mark.parametrize("label", words(A1111_SAMPLERS))
def test_every_sampler_of_a1111_is_understood(label):
    sampler, schedule = aliases.parse_sampler(label)
    assert schedule is None
    registry.parse("samplers", sampler)


@pytest.mark.parametrize("label", words(A1111_SCHEDULES))
def test_every_schedule_type_of_a1111_is_understood(label):
    assert Request("x", sampler="euler", schedule=label).schedule in registry.names("schedules")


@pytest.mark.parametrize("name", words(DIFFUSERS_SCHEDULERS))
def test_every_scheduler_class_of_diffusers_is_understood(name):
    spec = registry.parse("samplers", aliases.parse_sampler(f"{name}Scheduler")[0])
    assert spec.name in registry.names("samplers")


def test_ddim_means_another_thing_as_a_schedule_than_as_a_sampler():
    assert Request("x", sampler="DDIM").sampler == "ddim"
    assert Request("x", schedule="DDIM").schedule == "ddim_uniform"


SAMPLER_ROWS = [(tool, label) for tool in TOOLS for label in TOOLS[tool].samplers]
SCHEDULE_ROWS = [(tool, label) for tool in TOOLS for label in TOOLS[tool].schedules]


@pytest.mark.parametrize(("tool", "label"), SAMPLER_ROWS)
def test_every_sampler_of_the_table_stands_for_a_sampler_that_there_is(tool, label):
    sampler, schedule = aliases.parse_sampler(label, tool)
    assert " ".join(filter(None, (sampler, schedule))) == TOOLS[tool].samplers[label]
    registry.find("samplers", sampler)
    registry.find("schedules", schedule or "karras")
    name = aliases.parse_sampler(label)[0].partition(":")[0]  # the same sampler without knowing the tool
    assert name == sampler.partition(":")[0]


@pytest.mark.parametrize(("tool", "label"), SCHEDULE_ROWS)
def test_every_schedule_of_the_table_stands_for_a_schedule_that_there_is(tool, label):
    schedule = aliases.parse_schedule(label, tool)
    assert schedule == TOOLS[tool].schedules[label]
    registry.find("schedules", schedule)


LACKING = [
    (tool, kind, label, nearest)
    for tool in TOOLS
    for kind, labels in {
        "sampler": TOOLS[tool].lacking_samplers,
        "schedule": TOOLS[tool].lacking_schedules,
    }.items()
    for label, nearest in labels.items()
]


@pytest.mark.parametrize(("tool", "kind", "label", "nearest"), LACKING)
def test_what_we_lack_is_refused_by_the_tools_own_name_with_the_nearest_of_ours(tool, kind, label, nearest):
    """Unless a plugin or another tool's label of that name has arrived since."""
    registry.find(f"{kind}s", nearest)
    parse = aliases.parse_sampler if kind == "sampler" else aliases.parse_schedule
    name = label.removesuffix("Scheduler").lower()
    if name in registry.names(f"{kind}s"):
        return
    with pytest.raises(UsageError) as raised:
        parse(label, tool)
    assert repr(label) in str(raised.value) and f"the nearest is {nearest}" in str(raised.value)


@pytest.mark.parametrize(("name", "label"), aliases.A1111.items())
def test_every_label_that_is_written_is_read_back(name, label):
    kind = (
        "schedules"
        if label in TOOLS["a1111"].schedules and name in registry.names("schedules")
        else "samplers"
    )
    read = aliases.parse_schedule(label) if kind == "schedules" else aliases.parse_sampler(label)[0]
    assert read == name


def test_the_schedule_in_a_sampler_label_is_used_unless_one_is_given():
    assert Request("x", sampler="DPM++ 2M Karras").schedule == "karras"
    assert Request("x", sampler="DPM++ 2M Karras", schedule="leading").schedule == "leading"


def test_an_unknown_label_keeps_its_options_and_is_refused_by_name():
    assert aliases.parse_sampler("No Such:eta=1") == ("no_such:eta=1", None)
    with pytest.raises(UsageError, match="no_such"):
        registry.parse("samplers", "no_such:eta=1")
