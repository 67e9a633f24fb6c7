"""Prompts that change, add up and differ by place, as the conditions of a run."""

import math
from dataclasses import replace

import pytest
import torch

from sdcli.diffusion.conditioning import Part
from sdcli.engine import generate
from sdcli.errors import UsageError
from sdcli.models.load import load
from sdcli.pipeline.text import encode_prompts
from sdcli.request.request import Request

LEVELS = (*(float(10 - i) for i in range(10)), 0.0)  # 10 steps
SMALL = {"seed": 1, "steps": 4, "width": 64, "height": 64, "sampler": "euler", "cfg": 3.0}


@pytest.fixture(scope="module")
def model():
    return load("test:sd1", "cpu", "float32")


def job_of(model, prompt, **changes):
    return model.with_defaults(Request(prompt, **{"seed": 1, "steps": 10, "sampler": "euler", **changes}))


def encoded(model, prompt, levels=LEVELS, **changes):
    return encode_prompts(model, job_of(model, prompt, **changes), levels)


def context(model, prompt, **changes):
    """The context of a prompt that is one part."""
    (part,) = encoded(model, prompt, **changes)[0].parts
    return part.cond.context


def drawn(prompt, **changes):
    return generate(Request(prompt, model="test:sd1", **{**SMALL, **changes})).latents


# Words that mean the same


@pytest.mark.parametrize(
    ("prompt", "same"),
    [("a (red:1) cat", "a red cat"), ("a [dog:cat:0]", "a cat"), ("a [cat|cat]", "a cat"), ("a [cat:dog:10]", "a cat"),
     ("# a comment\na cat", "a cat"), (r"a \(cat\)", "a (cat"[:0] + "a (cat)")],
)  # fmt: skip
def test_prompts_that_mean_the_same_are_the_same_bits(model, prompt, same):
    literal = {"emphasis": "none"} if "\\" in prompt else {}
    assert torch.equal(context(model, prompt), context(model, same, **literal))


def test_a_plain_prompt_is_one_whole_part(model):
    positive, negative = encoded(model, "a cat", negative="a dog")
    assert [part.is_whole for part in (*positive.parts, *negative.parts)] == [True, True]
    assert (positive.parts[0].start, positive.parts[0].end) == (math.inf, -math.inf)


def test_a_weight_changes_the_context_and_a_literal_prompt_has_none(model):
    assert not torch.equal(context(model, "a (red:1.4) cat"), context(model, "a red cat"))
    assert torch.equal(
        context(model, "a red cat", emphasis="none"), context(model, "a red cat", emphasis="comfyui")
    )


# Words that change


def spans_of(model, prompt, **changes):
    return [(part.start, part.end) for part in encoded(model, prompt, **changes)[0].parts]


def test_a_word_that_changes_is_two_parts_that_meet_at_a_level(model):
    parts = encoded(model, "a [cat:dog:0.4]")[0].parts
    assert [(part.start, part.end) for part in parts] == [(math.inf, 6.0), (6.0, -math.inf)]
    assert torch.equal(parts[0].cond.context, context(model, "a cat"))
    assert torch.equal(parts[1].cond.context, context(model, "a dog"))


def test_a1111_itself_changes_one_evaluation_later(model):
    assert spans_of(model, "a [cat:dog:0.4]", like="a1111") == [(math.inf, 5.0), (5.0, -math.inf)]


def test_words_in_turn_are_encoded_once_each(model):
    parts = encoded(model, "a [cat|dog]")[0].parts
    assert len(parts) == 10
    assert len({id(part.cond) for part in parts}) == 2


def test_a_sampler_of_two_evaluations_has_a_part_for_each_only_as_a1111_counts(model):
    """20 evaluations, of which A1111 takes the first twice."""
    assert spans_of(model, "[a|b] cat", sampler="heun") == spans_of(model, "[a|b] cat")
    assert len(spans_of(model, "[a|b] cat", sampler="dpm2", like="a1111")) == 19
    assert spans_of(model, "a [cat:dog:0.5]", sampler="dpm2", like="a1111")[0][1] == math.nextafter(5.0, 0)


def test_the_second_pass_goes_on_counting_steps_and_1_5_is_its_middle(model):
    job = replace(job_of(model, "a [cat:dog:1.5]"), first_pass_steps=10)
    assert [part.end for part in encode_prompts(model, job, LEVELS)[0].parts] == [5.0, -math.inf]
    assert spans_of(model, "a [cat:dog:1.5]") == [(math.inf, -math.inf)]
    job = replace(job_of(model, "a [cat:dog:12]"), first_pass_steps=10)
    assert [part.end for part in encode_prompts(model, job, LEVELS)[0].parts] == [8.0, -math.inf]


def test_a_run_over_a_picture_counts_the_steps_that_are_made(model):
    assert [part.end for part in encoded(model, "a [cat:dog:0.5]", LEVELS[6:])[0].parts] == [2.0, -math.inf]


def test_a_run_that_was_stopped_goes_on_with_the_words_of_its_steps(tmp_path):
    from sdcli.pipeline import latents_file

    request = Request("a [cat:dog:0.75]", model="test:sd1", **SMALL)
    whole = generate(request)
    half = generate(request.replace(stop_after=2))
    path = tmp_path / "half.safetensors"
    path.write_bytes(latents_file.to_bytes(half.latents, half.sigma, half.recording))
    assert torch.equal(generate(request.replace(latents_in=str(path))).latents, whole.latents)


def test_a_picture_that_changes_is_neither_that_of_its_first_word_nor_that_of_its_last():
    changed = drawn("a [cat:dog:0.5]")
    assert not torch.equal(changed, drawn("a cat")) and not torch.equal(changed, drawn("a dog"))
    assert torch.equal(changed, drawn("a [cat:dog:2]"))


# AND


def test_equal_parts_whose_weights_add_up_to_one_are_the_prompt_itself():
    both = drawn("a cat :0.25 AND a cat :0.75", negative="a dog")
    assert torch.allclose(both, drawn("a cat", negative="a dog"), atol=1e-3)


def test_a_weight_at_the_end_is_text_but_for_a1111_itself(model):
    assert encoded(model, "a cat :3")[0].parts[0].weight == 1
    assert encoded(model, "a cat :3", like="a1111")[0].parts[0].weight == 3


def test_a_negative_prompt_of_two_parts_is_compared_with_the_empty_prompt(model):
    positive, negative = encoded(model, "a cat", negative="bad AND ugly")
    assert positive.base is negative
    assert torch.equal(negative.base.parts[0].cond.context, context(model, ""))
    assert len(encoded(model, "a cat", negative="bad AND ugly", like="a1111")[1].parts) == 1


def test_the_parts_of_a_prompt_are_one_length_and_a1111_repeats_the_last_row(model):
    long = "a cat on a mat, " * 20
    for like, is_repeated in (("sdcli", False), ("a1111", True)):
        short = encoded(model, f"a dog AND {long}", like=like)[0].parts[0].cond.context
        assert short.shape[1] == 154
        assert torch.equal(short[:, 77:], short[:, 76:77].expand(-1, 77, -1)) is is_repeated


# Two text encoders


@pytest.fixture(scope="module")
def sdxl():
    return load("test:sdxl", "cpu", "float32")


def test_the_second_prompt_is_read_by_the_second_encoder(sdxl):
    both, cat, dog = (
        encoded(sdxl, prompt, prompt_2=second)[0].parts[0].cond
        for prompt, second in (("a cat", "a dog"), ("a cat", None), ("a dog", None))
    )
    width = sdxl.configs["text_encoder"]["hidden_size"]
    assert torch.equal(both.context[..., :width], cat.context[..., :width])
    assert torch.equal(both.context[..., width:], dog.context[..., width:])
    assert torch.equal(both.pooled, dog.pooled)


def test_the_second_prompt_has_as_many_parts_or_one(sdxl):
    assert len(encoded(sdxl, "a AND b", prompt_2="c")[0].parts) == 2
    with pytest.raises(UsageError, match="--prompt-2 has 3 parts joined by AND, and the prompt has 2"):
        encoded(sdxl, "a AND b", prompt_2="c AND d AND e")


def test_a_model_with_one_encoder_refuses_a_second_prompt():
    with pytest.raises(UsageError, match="--prompt-2: test:sd1 has one text encoder"):
        drawn("a cat", prompt_2="a dog")


# Regions


def test_the_prompt_and_its_regions_share_out_the_picture(model):
    levels = LEVELS
    job = job_of(model, "a hill", region=["a cat@0,0,0.5,1", "a dog@0.25,0,0.5,1,1"], width=64, height=64)
    hill, cat, dog = (part.area for part in encode_prompts(model, job, levels, (None, None))[0].parts)
    assert torch.allclose(hill + cat + dog, torch.ones(1, 1, 8, 8))
    assert cat[0, 0, 3].tolist() == pytest.approx([0.8, 0.8, 0.8 / 1.8, 0.8 / 1.8, 0, 0, 0, 0])
    assert dog[0, 0, 3].tolist() == pytest.approx([0, 0, 1 / 1.8, 1 / 1.8, 1, 1, 0, 0])


def test_a_region_over_the_whole_picture_at_full_strength_is_its_prompt():
    whole = drawn("a hill", region=["a cat@0,0,1,1,1"], negative="a dog")
    assert torch.allclose(whole, drawn("a cat", negative="a dog"), atol=1e-3)


def test_a_region_of_a_mask_is_that_of_the_box_it_draws(tmp_path):
    from PIL import Image

    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "left.png")
    by_mask = drawn("a hill", region=[f"a cat@{tmp_path}/left.png"])
    assert torch.equal(by_mask, drawn("a hill", region=["a cat@0,0,0.5,1"]))


def test_words_of_a_region_can_change(model):
    parts = encode_prompts(
        model, job_of(model, "a hill", region=["a [cat:dog:0.5]@0,0,1,1"]), LEVELS, (None,)
    )[0].parts
    assert [part.end for part in parts] == [-math.inf, 5.0, -math.inf]
    assert isinstance(parts[0], Part)


# What A1111 does


def test_the_second_pass_of_a1111_makes_all_its_steps():
    counted = []

    def watch(steps):
        for step in steps:
            counted.append(step.total)
            yield step

    generate(
        Request("a cat", model="test:sd1", **SMALL, like="a1111", hires=2, hires_strength=0.5), watch=watch
    )
    assert counted == [4] * 8


@pytest.mark.parametrize(
    ("prompt", "sampler", "told"),
    [("a [cat:dog:0.5]", "heun", "counts two steps of changing words"), ("a cat", "heun", ""),
     ("a [cat:dog:0.5]", "dpm2", ""), ("a “cat”", "euler", "curly quotes"), ("a ﬁne cat", "euler", "ligatures")],
)  # fmt: skip
def test_what_a1111_does_otherwise_with_words_is_told(sd, prompt, sampler, told):
    options = ["-m", "test:sd1", "--seed", 1, "--steps", 2, "-W", 64, "-H", 64, "--sampler", sampler]
    ran = sd("txt2img", prompt, *options, "--like", "a1111")
    assert (told in ran.err) if told else "not exact" not in ran.err


@pytest.mark.parametrize(
    ("region", "told"),
    [("a cat@0,0,0.001,0.001", "covers nothing of the picture"), ("a cat@0,0,nan,1", "a box is X,Y,WIDTH,HEIGHT"),
     ("a cat@0,0,1,1,2", "its strength 2 is not above 0"), ("a cat@none.png", "--region …@none.png: there is no such"),
     ("a cat", "is not PROMPT@PLACE"), ("@0,0,1,1", "is not PROMPT@PLACE"), ("a cat@1,2,3", "a box is")],
)  # fmt: skip
def test_a_region_that_cannot_be_meant_is_refused(region, told):
    from sdcli.errors import SdError

    with pytest.raises(SdError, match=told):
        drawn("a hill", region=[region])
