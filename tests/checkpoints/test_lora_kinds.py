"""LoRA kinds: the tensors of a module are recognised by their names, and what does not fit is refused in one line."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.checkpoints.lora_kinds import check, has_low_rank_form, rank, reads_weight, recognise
from sdcli.checkpoints.lora_suffixes import SUFFIXES, split_key
from sdcli.errors import ModelError
from tests.checkpoints.loras import (
    BOFT,
    CONV_LORA,
    CONVOLUTION,
    FILE,
    GLORA,
    LINEAR,
    LOHA,
    LOHA_TUCKER,
    LOKR,
    LOKR_PARTS,
    LOKR_TUCKER,
    LORA,
    NORM,
    OFT,
    OLD_GLORA,
    TUCKER,
    VALID,
    entries,
    entry,
)  # fmt: skip


@pytest.mark.parametrize(("kind", "shapes", "base"), VALID)
def test_each_kind_is_recognised_and_fits_its_weight(kind, shapes, base):
    assert check(FILE, "m", entries(shapes), list(base)) == kind


@pytest.mark.parametrize(("kind", "shapes", "base"), [case for case in VALID if len(case[2]) == 2])
def test_what_fits_a_linear_layer_fits_a_1x1_convolution(kind, shapes, base):
    whole = {"diff": (*base, 1, 1)}
    assert (
        check(FILE, "m", entries(shapes | {k: whole[k] for k in shapes.keys() & whole}), [*base, 1, 1])
        == kind
    )
    assert (
        check(FILE, "m", entries({k: (*v, 1, 1) if len(v) == 2 else v for k, v in shapes.items()}), base)
        == kind
    )


@pytest.mark.parametrize(("shapes", "base", "reason"), [
    ({"up": (24, 4)}, LINEAR, "has up but no down; the file is incomplete"),
    ({"down": (4, 16), "alpha": ()}, LINEAR, "has down, alpha but no up"),
    ({"alpha": ()}, LINEAR, "has alpha but no weights"),
    ({"dora_scale": (24, 1)}, LINEAR, "has dora_scale but no weights"),
    ({}, LINEAR, "has nothing but no weights"),
    (LORA | {"down": (4, 32)}, LINEAR, "down is 4 x 32, and a weight of 24 x 16 takes 4 x 16; is it for another"),
    (LORA | {"up": (48, 4)}, LINEAR, "up is 48 x 4, and a weight of 24 x 16 takes 24 x 4"),
    (LORA | {"up": (24, 8)}, LINEAR, "up is 24 x 8, and a weight of 24 x 16 takes 24 x 4"),
    (LORA, CONVOLUTION, "down is 4 x 16, and a weight of 24 x 16 x 3 x 3 takes 4 x 16 x 3 x 3 or 4 x 144"),
    (CONV_LORA, LINEAR, "down is 4 x 16 x 3 x 3"),
    (LORA, NORM, "changes a matrix, and the weight is 24"),
    (LORA | {"up": (24, 0), "down": (0, 16)}, LINEAR, "up is empty (24 x 0)"),
    (LORA | {"up": (24,), "down": (1, 16)}, LINEAR, "up is 24, and a weight of 24 x 16 takes 24 x 1"),
    (LORA | {"alpha": (2,)}, LINEAR, "alpha is 2 and should be one number"),
    (LORA | {"alpha": (0,)}, LINEAR, "alpha is 0 and should be one number"),
    (LORA | {"dora_scale": (16, 1)}, LINEAR, "dora_scale is 16 x 1"),
    (LORA | {"dora_scale": (24, 1), "magnitude": (24,)}, LINEAR, "has dora_scale and a magnitude vector"),
    (LORA | {"bias_values": (7,)}, LINEAR, "no bias_indices"),
    (LORA | {"diff": LINEAR}, LINEAR, "has tensors of two kinds (lora and full); only one can be meant"),
    (LORA | {"rescale": (24, 1)}, LINEAR, "rescale has no meaning in lora"),
    (GLORA | {"dora_scale": (24, 1)}, LINEAR, "dora_scale has no meaning in glora"),
    (LORA | {"lora_w9": (1,)}, LINEAR, "lora_w9 has no meaning in lora"),
    (TUCKER | {"mid": (4, 5, 3, 3)}, CONVOLUTION, "mid is 4 x 5 x 3 x 3"),
    (LOHA | {"hada_w2_b": (4, 8)}, LINEAR, "hada_w2_b is 4 x 8"),
    ({k: v for k, v in LOHA.items() if k != "hada_w2_b"}, LINEAR, "no hada_w2_b; the file is incomplete"),
    ({k: v for k, v in LOHA_TUCKER.items() if k != "hada_t2"}, CONVOLUTION, "no hada_t2; the file is incomplete"),
    ({"lokr_w1": (4, 4)}, LINEAR, "has neither lokr_w2 nor both lokr_w2_a and lokr_w2_b; the file is incomplete"),
    (LOKR | {"lokr_w2_a": (6, 2)}, LINEAR, "has lokr_w2 whole and in parts"),
    (LOKR | {"lokr_w1": (5, 4)}, LINEAR, "its first factor is 5 x 4, which does not divide a weight of 24 x 16"),
    (LOKR | {"lokr_w2": (6, 8)}, LINEAR, "lokr_w2 is 6 x 8"),
    (GLORA | {"b1": (24, 5)}, LINEAR, "b1 is 24 x 5"),
    (OLD_GLORA | {"a2": (24, 4)}, LINEAR, "a2 is 24 x 4, and a weight of 24 x 16 takes 16 x 4"),
    ({"weight": (24,)}, LINEAR, "has weight but no on_input"),
    ({"weight": (20,), "on_input": ()}, LINEAR, "weight is 20, and a weight of 24 x 16 takes 24 or 16"),
    ({"diff": (16, 24)}, LINEAR, "diff is 16 x 24"),
    ({"w_norm": (24,)}, LINEAR, "is a change of a norm layer, and the weight is 24 x 16"),
    (OFT | {"oft_blocks": (5, 5, 5)}, LINEAR, "has blocks of 5, which do not divide 24 outputs"),
    (OFT | {"oft_blocks": (4, 4, 4)}, LINEAR, "oft_blocks is 4 x 4 x 4, and a weight of 24 x 16 takes 6 x 4 x 4"),
    (BOFT | {"oft_blocks": (4, 4, 6, 6)}, LINEAR, "cannot be cut into blocks of 6 in stages, of which it has 4"),
    (BOFT | {"oft_blocks": (1, 8, 3, 3)}, LINEAR, "cannot be cut into blocks of 3 in stages"),
    ({"oft_R": (4, 7)}, LINEAR, "has rotations of 7 values, which 16 inputs cannot be cut into"),
    ({"oft_R": (3, 6)}, LINEAR, "oft_R is 3 x 6, and a weight of 24 x 16 takes 4 x 6 or 1 x 6"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_reason(shapes, base, reason):
    with pytest.raises(ModelError) as error:
        check(FILE, "lora_unet_mid_block", entries(shapes), base)
    assert str(error.value).startswith("style.safetensors: 'lora_unet_mid_block': ")
    assert reason in str(error.value)


def test_weights_in_whole_numbers_are_refused_but_not_an_alpha():
    tensors = entries(LORA) | {"alpha": entry("alpha", (), "I64")}
    assert check(FILE, "m", tensors, LINEAR) == "lora"
    with pytest.raises(ModelError, match="up is stored as I8, which is not read"):
        check(FILE, "m", tensors | {"up": entry("up", (24, 4), "I8")}, LINEAR)


@pytest.mark.parametrize(("shapes", "expected"), [
    (LORA, 4), (TUCKER, 4), (LOHA, 4), (LOHA_TUCKER, 4), (LOKR, None), (LOKR_PARTS, 2), (LOKR_TUCKER, 2), (GLORA, 4),
    (OLD_GLORA, 4), (OFT, None), ({"diff": LINEAR}, None),
])  # fmt: skip
def test_the_rank_is_read_from_the_shapes(shapes, expected):
    assert rank(entries(shapes)) == expected


def test_only_a_plain_lora_has_a_form_of_small_layers():
    assert has_low_rank_form("lora", list(TUCKER))
    assert not has_low_rank_form("lora", [*LORA, "dora_scale"])
    assert not has_low_rank_form("lokr", list(LOKR_PARTS))


@pytest.mark.parametrize(("kind", "names", "expected"), [
    ("lora", LORA, False), ("lora", [*LORA, "dora_scale"], True), ("lora", [*LORA, "magnitude"], True),
    ("lokr", LOKR, False), ("glora", GLORA, True), ("oft", OFT, True), ("full", ["diff_b"], False),
])  # fmt: skip
def test_some_changes_depend_on_the_weight(kind, names, expected):
    assert reads_weight(kind, names) is expected


# --- names


@pytest.mark.parametrize(("key", "module", "suffix"), [
    ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "lora_unet_mid_block_attentions_0_proj_in", "down"),
    ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora.up.weight",
     "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "up"),
    ("unet.a.attn1.processor.to_out_lora.down.weight", "unet.a.attn1.processor.to_out", "down"),
    ("text_encoder.q_proj.lora_linear_layer.up.weight", "text_encoder.q_proj", "up"),
    ("base_model.model.a.to_q.lora_A.default.weight", "base_model.model.a.to_q", "down"),
    ("unet.a.lora_B", "unet.a", "up"), ("unet.a.lora_magnitude_vector", "unet.a", "magnitude"),
    ("unet.a.lora_magnitude_vector.weight", "unet.a", "magnitude"),
    ("lora_unet_a.dora_scale", "lora_unet_a", "dora_scale"),
    ("lora_unet_a.a1.weight", "lora_unet_a", "a1"), ("lora_unet_a.weight", "lora_unet_a", "weight"),
    ("lora_unet_a.oft_R.weight", "lora_unet_a", "oft_R"), ("lora_unet_a.oft_R.scaled_oft", "lora_unet_a", "scaled_oft"),
    ("lora_unet_a.hada_w1_a", "lora_unet_a", "hada_w1_a"), ("lora_unet_a.alpha", "lora_unet_a", "alpha"),
])  # fmt: skip
def test_a_name_is_a_module_and_a_suffix(key, module, suffix):
    assert split_key(key) == (module, suffix)


@pytest.mark.parametrize(
    "key", ["", "alpha", ".alpha", "lora_unet_a", "lora_unet_a.lora_E", "bundle_emb.x.clip_l"]
)
def test_a_name_without_a_module_or_a_known_suffix_is_no_tensor_of_a_lora(key):
    assert split_key(key) is None


@given(st.text(min_size=1), st.sampled_from(sorted(SUFFIXES)))
def test_a_name_is_split_at_its_longest_suffix(text, spelling):
    module, suffix = split_key(text + spelling)
    assert (text + spelling).startswith(module)
    assert SUFFIXES[(text + spelling).removeprefix(module)] == suffix
    assert len(module) <= len(text)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 24, 36, 2**62]), max_size=5)
NAMES = st.sampled_from([*sorted(set(SUFFIXES.values())), "unknown"])


@given(
    st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(["F16", "BF16", "I64", "BOOL"])), max_size=6),
    st.sampled_from([LINEAR, CONVOLUTION, NORM, (24, 16, 1, 1)]),
)
def test_any_tensors_are_of_one_kind_or_refused(described, base):
    tensors = {name: entry(name, shape, dtype) for name, (shape, dtype) in described.items()}
    rank(tensors)
    for recognised in (lambda: recognise(FILE, "m", tensors), lambda: check(FILE, "m", tensors, base)):
        try:
            assert recognised()
        except ModelError as error:
            assert "\n" not in str(error)


@given(st.sampled_from(VALID), st.data())
def test_a_tensor_of_another_shape_is_refused_or_does_not_matter(case, data):
    _, shapes, base = case
    name = data.draw(st.sampled_from(sorted(shapes)))
    try:
        check(FILE, "m", entries(shapes | {name: data.draw(SHAPES)}), base)
    except ModelError as error:
        assert str(error).startswith("style.safetensors: 'm': ")


def test_recognising_needs_no_torch():
    modules = "sdcli.checkpoints.lora_kinds, sdcli.checkpoints.lora_suffixes"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
