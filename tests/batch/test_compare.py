"""Comparing pictures: figures in closed form, and what they mean together with how the pictures were made."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdcli.batch.compare import Figures, compare, figures, pixels_of, verdict
from sdcli.batch.reasons import ROUNDING, explain_rounding, reasons, told
from sdcli.errors import ImageError
from sdcli.request.jobfile.batch_job import Tolerance

FACTS = {
    "model": {"family": "sd1", "sha256": "a" * 64},
    "sdcli": "0.2.0",
    "torch": "2.6",
    "threads": 2,
    "arithmetic": "AMD AVX512",
    "device": "cpu",
    "dtype": "float32",
    "given": {"image": "b" * 64},
    "loras": {"style": {"file": "style.safetensors", "sha256": "c" * 64}},
    "request": {"prompt": "a cat", "steps": 20, "lora": ["style.safetensors@0.8"]},
}
OTHER_ROUNDING = {
    "threads": 1, "arithmetic": "Intel AVX2", "torch": "2.7", "sdcli": "0.3.0",
}  # fmt: skip
OTHER_PICTURE = {
    "model": {"family": "sd1", "sha256": "d" * 64},
    "dtype": "bfloat16",
    "device": "NVIDIA H100",
    "given": {"image": "e" * 64},
    "loras": {"style": {"file": "style.safetensors", "sha256": "f" * 64}},
    "fallback": "float32 in the VAE",
    "request": {**FACTS["request"], "steps": 21},
}
ROWS = st.tuples(st.integers(0, 6), st.floats(0, 1), st.floats(40, 100)).map(lambda row: Figures(*row))


def png(pixels, mode=None, **options):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(file, "PNG", **options)
    return file.getvalue()


GREY = np.full((4, 6, 3), 128, np.uint8)


def off(by, picture=GREY):
    """The picture with one value that is off."""
    pixels = picture.copy()
    pixels[1, 2, 0] += by
    return pixels


def test_equal_pictures_are_nothing_apart():
    assert figures(GREY, GREY) == Figures(0, 0.0, math.inf)


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 6, 3), (64, 64, 4)])
def test_one_value_off_by_one_has_a_psnr_of_255_squared_times_the_number_of_values(shape):
    before = np.full(shape, 7, np.uint8)
    now = before.copy()
    now[0, 0, 0] = 8
    apart = figures(before, now)
    assert apart.psnr == pytest.approx(10 * math.log10(255**2 * before.size), rel=1e-15)
    assert (apart.max, apart.changed) == (1, 1 / (shape[0] * shape[1]))


def test_black_and_white_are_as_far_apart_as_can_be():
    assert figures(np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)) == Figures(255, 1.0, 0.0)


def test_the_order_of_two_pictures_does_not_matter():
    before, now = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert figures(before, now) == figures(now, before)


def test_figures_agree_with_float64_arithmetic():
    before, now = np.random.default_rng(1).integers(0, 256, (2, 33, 17, 3), dtype=np.uint8)
    mean = np.mean((before.astype(np.float64) - now.astype(np.float64)) ** 2)
    assert figures(before, now).psnr == pytest.approx(10 * np.log10(255**2 / mean), rel=1e-14)


def test_the_same_bytes_are_identical_whatever_the_facts_say():
    assert compare(png(GREY), png(GREY), FACTS, {}).verdict == "identical"


def test_other_bytes_of_the_same_pixels_are_the_same_picture():
    found = compare(png(GREY), png(GREY, compress_level=0), FACTS, FACTS)
    assert (found.verdict, found.passes, found.message) == (
        "same_pixels", True, "only its metadata, or how it is encoded",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (GREY[:2], "6x4 RGB -> 6x2 RGB"),
        (GREY[..., 0], "6x4 RGB -> 6x4 L"),
        (np.concatenate([GREY, np.full((4, 6, 1), 250, np.uint8)], 2), "6x4 RGB -> 6x4 RGBA"),
    ],
)
def test_another_size_or_mode_is_a_difference_and_said_so(other, message):
    found = compare(png(GREY), png(other), FACTS, FACTS)
    assert (found.verdict, found.message, found.is_measured) == ("different", message, False)


def test_another_alpha_is_a_difference():
    before = np.dstack([GREY, np.full((4, 6), 200, np.uint8)])
    now = before.copy()
    now[0, 0, 3] = 199
    found = compare(png(before), png(now), FACTS, FACTS)
    assert (found.verdict, found.max) == ("different", 1)


def test_another_colour_profile_is_a_difference():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = compare(png(GREY), png(GREY, icc_profile=profile), FACTS, FACTS)
    assert (found.verdict, found.message) == ("different", "another colour profile")


def test_of_lossy_files_the_decoded_pixels_are_compared():
    files = []
    for comment in (b"one", b"two"):
        file = io.BytesIO()
        Image.fromarray(GREY).save(file, "JPEG", quality=60, comment=comment)
        files.append(file.getvalue())
    assert files[0] != files[1]
    assert compare(*files, FACTS, FACTS).verdict == "same_pixels"


def test_a_file_that_is_cut_short_is_an_error_of_pictures():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match="the picture before"):
        compare(png(noise)[:-2000], png(noise), FACTS, FACTS)


# --- what figures and reasons mean together


@given(st.dictionaries(st.sampled_from(sorted(OTHER_ROUNDING)), st.just(True), min_size=1), ROWS)
def test_what_rounds_otherwise_passes_within_the_tolerance_and_only_there(keys, apart):
    apart = replace(apart, max=max(1, apart.max))
    found = reasons(FACTS, {**FACTS, **{key: OTHER_ROUNDING[key] for key in keys}})
    assert set(found) == set(keys)
    word = verdict(apart, found, Tolerance()).verdict
    assert word == ("rounding" if apart.max <= 2 and apart.psnr >= 65 else "different")


@given(
    st.sampled_from(sorted(OTHER_PICTURE)),
    st.dictionaries(st.sampled_from(sorted(OTHER_ROUNDING)), st.just(True)),
    ROWS,
)
def test_what_makes_another_picture_never_passes_as_rounding(key, keys, apart):
    apart = replace(apart, max=max(1, apart.max))
    now = {**FACTS, **{each: OTHER_ROUNDING[each] for each in keys}, key: OTHER_PICTURE[key]}
    found = reasons(FACTS, now)
    assert len(found) == 1 + len(keys)
    assert verdict(apart, found, Tolerance(255, 0)).verdict == "different"


@given(ROWS)
def test_the_same_facts_explain_no_other_pixels(apart):
    found = verdict(replace(apart, max=max(1, apart.max)), reasons(FACTS, FACTS), Tolerance(255, 0))
    assert (found.verdict, found.message.endswith("; nothing that is recorded explains it")) == (
        "different",
        True,
    )


@given(st.integers(0, 4), st.floats(50, 80), st.integers(0, 4), st.floats(50, 80))
def test_a_wider_tolerance_fails_nothing_that_a_narrower_one_passes(max_, psnr, more, apart_psnr):
    apart, found = Figures(max(1, max_), 0.5, apart_psnr), reasons(FACTS, {**FACTS, "threads": 1})
    if verdict(apart, found, Tolerance(max_, psnr)).passes:
        assert verdict(apart, found, Tolerance(max_ + more, psnr - more)).passes


def test_the_same_picture_by_another_number_format_is_the_same_and_says_so():
    found = compare(png(GREY), png(GREY, compress_level=0), FACTS, {**FACTS, "dtype": "bfloat16"})
    assert (found.verdict, found.message) == ("same_pixels", "dtype float32 -> bfloat16")


def test_one_gpu_rounds_otherwise_than_another_but_not_than_a_cpu():
    gpus = [{**FACTS, "device": f"NVIDIA {name}"} for name in ("H100", "A100")]
    assert explain_rounding(reasons(*gpus))
    assert not explain_rounding(reasons(FACTS, gpus[0]))


def test_a_fact_that_only_one_records_is_no_reason():
    old = {key: value for key, value in FACTS.items() if key not in ROUNDING}
    assert reasons(old, FACTS) == {}


def test_a_file_that_only_one_was_made_with_is_a_reason():
    without = {key: value for key, value in FACTS.items() if key != "loras"}
    assert told(reasons(without, FACTS)) == "LoRA style none -> cccccccccccc"


def test_the_folder_of_a_file_is_no_reason_and_its_strength_is_one():
    def lora(text):
        return {**FACTS, "request": {**FACTS["request"], "lora": [text]}}

    assert reasons(FACTS, lora("/elsewhere/style.safetensors@0.8")) == {}
    assert set(reasons(FACTS, lora("style.safetensors@0.9"))) == {"lora"}


@given(
    st.dictionaries(
        st.sampled_from(sorted({*FACTS, "fallback", "upscaler"})),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                     lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=5), each, max_size=2)),
    )
)  # fmt: skip
def test_facts_that_were_altered_are_compared_without_an_error(facts):
    assert reasons(facts, facts) == {}
    told(reasons(facts, FACTS))
    told(reasons(FACTS, facts))


def test_the_hash_of_pixels_is_that_of_their_values_row_by_row():
    import hashlib

    assert pixels_of(png(GREY), "grey").sha256 == hashlib.sha256(bytes([128] * 72)).hexdigest()
