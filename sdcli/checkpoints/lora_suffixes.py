"""LoRA suffixes: the end of a tensor's name in a LoRA-like file, which says what the tensor is of its module.

A name is the text of a module and a suffix: `lora_unet_mid_block_attentions_0_proj_in` + `.lora_down.weight`. The same
tensor has other suffixes in the files of other tools; each is known here by one canonical name, such as `down`.
"""

from __future__ import annotations

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "down": (
        ".lora_down.weight", ".lora.down.weight", "_lora.down.weight", ".lora_linear_layer.down.weight",
        ".lora_A.weight", ".lora_A.default.weight", ".lora_A", ".lora_A.default",
    ),
    "up": (
        ".lora_up.weight", ".lora.up.weight", "_lora.up.weight", ".lora_linear_layer.up.weight",
        ".lora_B.weight", ".lora_B.default.weight", ".lora_B", ".lora_B.default",
    ),
    "mid": (".lora_mid.weight",),
    "magnitude": (
        ".lora_magnitude_vector", ".lora_magnitude_vector.weight",
        ".lora_magnitude_vector.default", ".lora_magnitude_vector.default.weight",
    ),
    "a1": (".a1.weight",),
    "a2": (".a2.weight",),
    "b1": (".b1.weight",),
    "b2": (".b2.weight",),
    "bm": (".bm.weight",),
    "oft_R": (".oft_R.weight", ".oft_R.default.weight", ".oft_R"),
    "scaled_oft": (".oft_R.scaled_oft", ".oft_R.default.scaled_oft"),
}  # fmt: skip
_AS_THEY_ARE = (
    "alpha", "scale", "scalar", "dora_scale", "bias_indices", "bias_values", "bias_size",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    "weight", "on_input", "diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "oft_diag", "rescale",
)  # fmt: skip

SUFFIXES = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
SUFFIXES |= {f".{name}": name for name in _AS_THEY_ARE}
"""Suffix as files spell it -> canonical name.

`dora_scale` and `magnitude` are two: [1, n, 1, 1] is one number per input in the first, and per output in the second.
"""

_LONGEST_FIRST = sorted(SUFFIXES, key=len, reverse=True)


def split_key(key: str) -> tuple[str, str] | None:
    """(text of the module, canonical suffix) of a tensor's name, by its longest known suffix; None if it has none."""
    for spelling in _LONGEST_FIRST:
        if key.endswith(spelling):
            module = key.removesuffix(spelling)
            return (module, SUFFIXES[spelling]) if module else None
    return None
