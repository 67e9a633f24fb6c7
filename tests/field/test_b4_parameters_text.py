"""B4 (A1111#12128): the text in our PNGs is one that readers of A1111's pictures understand.

Version 0.1 wrote `Sampler: "euler_a:eta=0.5"`, in which sd-parsers found no sampler, and so no prompt and no seed.
"""

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from sd_parsers import ParserManager

from sdcli import registry
from sdcli.request import aliases
from sdcli.request.labels import TOOLS
from sdcli.request.picture import Picture, parameters
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request

DECIDED = {"seed": 7, "steps": 20, "cfg": 6.5, "width": 512, "height": 256, "clip_skip": 1, "guidance": "cfg",
           "sampler": "euler", "schedule": "karras"}  # fmt: skip


def read(request: Request):
    """What sd-parsers makes of a picture of this request: (sampler, prompt, negative prompt)."""
    png = Picture(Image.new("RGB", (8, 8)), request, {"model": {"sha256": "0123456789abcdef"}}).png()
    assert read_png_metadata(io.BytesIO(png), "x.png").request("x.png") == request
    info = ParserManager().parse(io.BytesIO(png))
    (sampler,) = info.samplers
    prompts, negatives = (
        [each.value for each in some] for some in (sampler.prompts, sampler.negative_prompts)
    )
    return sampler, "".join(prompts), "".join(negatives)


def changed(option, value):
    """Another value of an option, near its default."""
    if isinstance(value, bool):
        return f"{option}={not value}".lower()
    return f"{option}={value / 2 if isinstance(value, float) else value - 1}"


def specs(kind):
    """Each plugin of a kind, alone and with each of its options."""
    for name in registry.names(kind):
        yield name
        options = registry.describe(kind, name).options
        yield from (f"{name}:{changed(*each)}" for each in options.items() if not isinstance(each[1], str))


SPECS = [(kind, spec) for kind in ("samplers", "schedules") for spec in specs(kind)]


@pytest.mark.parametrize(("kind", "spec"), SPECS)
def test_b4_sd_parsers_reads_every_sampler_and_schedule_with_any_option(kind, spec):
    asked = {**DECIDED, kind.removesuffix("s"): spec}
    sampler, prompt, negative = read(Request("a cat", negative="a dog", **asked))
    assert (prompt, negative) == ("a cat", "a dog")
    assert ":" not in sampler.name and "=" not in sampler.name and '"' not in sampler.name
    assert Request("x", sampler=sampler.name).sampler.partition(":")[0] == asked["sampler"].partition(":")[0]
    schedule = sampler.parameters["scheduler"]
    assert Request("x", schedule=schedule).schedule.partition(":")[0] == asked["schedule"].partition(":")[0]
    assert {key: sampler.parameters[key] for key in ("seed", "steps", "cfg_scale")} == {
        "seed": "7", "steps": "20", "cfg_scale": "6.5"}  # fmt: skip
    assert (sampler.model.name, sampler.model.hash) == ("tiny", "0123456789")


@pytest.mark.parametrize(
    "label", [label for label in TOOLS["a1111"].samplers if label in aliases.A1111.values()]
)
def test_b4_the_label_is_the_one_that_a1111_writes(label):
    assert f"Sampler: {label}, " in parameters(Request("x", **{**DECIDED, "sampler": label}), {})


@pytest.mark.parametrize(
    ("asked", "pairs"),
    [
        ({"sampler": "euler_a:eta=0.5"}, ["Sampler: Euler a", "Eta: 0.5"]),
        ({"sampler": "ddim:eta=1"}, ["Sampler: DDIM", "Eta DDIM: 1"]),
        ({"sampler": "dpmpp_2m_sde:heun=true,eta=0.5"}, ["Sampler: DPM++ 2M SDE Heun", "Eta: 0.5"]),
        ({"sampler": "unipc:order=2,bh2=true"}, ["Sampler: UniPC", "UniPC order: 2", "UniPC variant: bh2"]),
        ({"sampler": "euler_a:s_noise=1.02"}, ["Sigma noise: 1.02"]),
        ({"schedule": "karras:rho=5"}, ["Schedule type: Karras", "Schedule rho: 5"]),
        ({"schedule": "beta:alpha=0.5"}, ["Schedule type: Beta", "Beta schedule alpha: 0.5"]),
        ({"schedule": "sgm_uniform"}, ["Schedule type: SGM Uniform"]),
        ({"clip_skip": 2}, ["Clip skip: 2"]),
    ],
    ids=str,
)
def test_b4_options_are_a1111s_keys(asked, pairs):
    text = parameters(Request("x", **{**DECIDED, **asked}), {}).splitlines()[-1]
    assert set(pairs) <= set(text.split(", "))


def test_b4_a_clip_skip_of_1_is_not_written_as_in_a1111():
    assert "Clip skip" not in parameters(Request("x", **DECIDED), {})


PROMPTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs", "Cc"]), st.sampled_from("\n,:\"'()[]{}<>|\\")),
    max_size=80,
)
TRICKS = st.sampled_from(
    [
        "Steps: 1, Sampler: LMS, Seed: 1, CFG scale: 2",
        "\nSteps: 1, Sampler: x",
        'say "hi", twice',
        "a\n\nb",
        "",
    ]
)


@settings(deadline=None, max_examples=200)
@given(st.tuples(PROMPTS, TRICKS, PROMPTS).map("".join), st.tuples(PROMPTS, TRICKS).map("".join))
@example("Negative prompt: x", "a Negative prompt: y")
def test_b4_any_prompt_is_read_back(prompt, negative):
    def as_written(text):
        return text.replace("Negative prompt:", "Negative prompt :").strip()

    sampler, *read_back = read(Request(prompt, negative=negative, **DECIDED))
    assert read_back == [as_written(prompt), as_written(negative)]
    assert (sampler.name, sampler.parameters["seed"]) == ("Euler", "7")


def test_b4_a_drawn_picture_is_read(sd, draw):
    ran = draw(
        "a red, round apple\nSteps: 3", "-n", "a dog: brown", "--seed", 7, "--sampler", "euler_a:eta=0.5"
    )
    info = ParserManager().parse(ran.lines[0])
    (sampler,) = info.samplers
    assert (sampler.name, sampler.prompts[0].value, sampler.negative_prompts[0].value) == (
        "Euler a", "a red, round apple\nSteps: 3", "a dog: brown")  # fmt: skip
    assert info.metadata["Eta"] == "0.5"
