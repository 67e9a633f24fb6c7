"""LoRA kinds: which change a module's tensors in a LoRA-like file are, and whether they fit the module.

The names are those of kohya's sd-scripts, LyCORIS, OneTrainer, diffusers and peft; `adapters/deltas/` has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sdcli.checkpoints.header import FLOATS, Entry
from sdcli.errors import ModelError

Tensors = Mapping[str, Entry]
"""The tensors of one module in a file, by suffix."""

SPELLED = {
    "down": ("lora_down.weight", "lora.down.weight", "lora_linear_layer.down.weight", "lora_A.weight",
             "lora_A.default.weight", "lora_A"),
    "up": ("lora_up.weight", "lora.up.weight", "lora_linear_layer.up.weight", "lora_B.weight",
           "lora_B.default.weight", "lora_B"),
    "mid": ("lora_mid.weight", "lora.mid.weight"),
    "alpha": ("alpha", "lora.alpha", "lora_linear_layer.alpha"),
    "scale": ("scale",),
    "scalar": ("scalar",),
    "dora_scale": ("dora_scale",),
    "magnitude": ("lora_magnitude_vector.weight", "lora_magnitude_vector.default.weight",
                  "lora_magnitude_vector.default", "lora_magnitude_vector"),
    **{name: (name,) for name in (
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
        "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
        "diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "oft_diag", "rescale", "on_input",
        "bias_indices", "bias_values", "bias_size",
    )},
    **{name: (f"{name}.weight",) for name in ("a1", "a2", "b1", "b2", "bm")},
    "oft_R": ("oft_R.weight", "oft_R.default.weight", "oft_R"),
    "scaled_oft": ("oft_R.scaled_oft", "scaled_oft"),
    "weight": ("weight",),
}  # fmt: skip
"""Suffix -> how files spell it behind the module's name and a dot."""

_SUFFIX_OF = {f".{spelling}": suffix for suffix, spellings in SPELLED.items() for spelling in spellings}
_SUFFIX_OF |= {"_lora.down.weight": "down", "_lora.up.weight": "up"}  # diffusers before 0.22
_BY_LENGTH = sorted(_SUFFIX_OF, key=len, reverse=True)

_BESIDE = ("alpha", "scale", "scalar", "dora_scale", "magnitude")
"""What may stand beside the tensors of several kinds."""

_MARKS = {
    "lora": ("up", "down", "mid"),
    "loha": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    "lokr": ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    "ia3": ("weight", "on_input"),
    "full": ("diff", "diff_b"),
    "norm": ("w_norm", "b_norm"),
    "glora": ("a1", "a2", "b1", "b2", "bm"),
    "oft": ("oft_blocks", "rescale"),
    "oft_diag": ("oft_diag",),
    "oft_input": ("oft_R", "scaled_oft"),
    "sparse bias": ("bias_indices", "bias_values", "bias_size"),
}
"""Kind -> the suffixes that are its own. `boft` has those of `oft`, with one more axis."""

NAMES = {
    "lora": "LoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "ia3": "(IA)^3",
    "full": "full-difference",
    "norm": "norm-difference",
    "glora": "GLoRA",
    "oft": "OFT",
    "oft_diag": "OFT",
    "oft_input": "OFT",
    "boft": "BOFT",
    "sparse bias": "sparse-bias",
}
"""Kind -> what it is called."""


def split_key(key: str) -> tuple[str, str] | None:
    """(module as the file spells it, suffix) of a key; None if it ends like no tensor of an adapter."""
    for spelling in _BY_LENGTH:
        if key.endswith(spelling) and len(key) > len(spelling):
            return key.removesuffix(spelling), _SUFFIX_OF[spelling]
    return None


def is_telling(tensors: Tensors) -> bool:
    """True for tensors that nothing but an adapter has; `weight` alone is that of any layer."""
    return bool(tensors.keys() - {"weight", "scale", "alpha"}) or tensors.keys() >= {"weight", "on_input"}


def name(tensors: Tensors) -> str:
    """What the change that these tensors are is called, such as `LoRA`; a DoRA is named so, whatever it scales."""
    if {"dora_scale", "magnitude"} & tensors.keys():
        return "DoRA"
    return " and ".join(NAMES[kind] for kind in _kinds(tensors))


def rank(tensors: Tensors) -> int | None:
    """The rank of the change; None for kinds without one, or if the tensor that has it is missing."""
    for suffix, axis in (("down", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0), ("a2", 0)):
        if suffix in tensors and tensors[suffix].shape:
            return tensors[suffix].shape[axis]
    return None


def check(path: Path, module: str, tensors: Tensors, shape: Sequence[int], has_bias: bool) -> str:
    """The kind of change that these tensors are for a module whose weight has this shape.

    Raises ModelError, which names the file and the module, if they are of two kinds, incomplete, or do not fit.
    """

    def wrong(reason: str) -> ModelError:
        return ModelError(f"{path}: {module[:80]} {reason}")

    for suffix, entry in tensors.items():
        if entry.dtype not in FLOATS and suffix not in ("on_input", "alpha"):
            raise wrong(f"has {suffix} as {entry.dtype}, which no adapter is; fetch it again")
        if not math.prod(entry.shape):
            raise wrong(f"has rank 0: {suffix} is empty; fetch it again")
    kinds = _kinds(tensors)
    if not kinds:
        raise wrong(f"has {', '.join(sorted(tensors))} without the weights that belong to it; fetch it again")
    if len(kinds) > 1:
        raise wrong(
            f"has tensors of {' and '.join(NAMES[kind] for kind in kinds)}; get a file with one of them"
        )
    (kind,) = kinds
    for suffix in ("alpha", "scale", "scalar", "scaled_oft"):
        if suffix in tensors and math.prod(tensors[suffix].shape) != 1:
            raise wrong(
                f"has a {suffix} of shape {list(tensors[suffix].shape)}, and it is one number; fetch it again"
            )
    if fault := _CHECKS[kind](_Sides(tensors), list(shape), has_bias):
        raise wrong(f"{fault}; was it made for another model?")
    if fault := _dora_fault(kind, tensors, list(shape)):
        raise wrong(f"{fault}; was it made for another model?")
    is_boft = kind == "oft" and len(tensors["oft_blocks"].shape) == 4
    return "boft" if is_boft else kind


def _kinds(tensors: Tensors) -> list[str]:
    return [kind for kind, marks in _MARKS.items() if any(mark in tensors for mark in marks)]


# --- whether the shapes fit: each check returns what is wrong, or nothing


class _Sides:
    """The shapes of a module's tensors, flattened to matrices, by suffix."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def has(self, *suffixes: str) -> bool:
        return all(suffix in self._tensors for suffix in suffixes)

    def shape(self, suffix: str) -> list[int]:
        return list(self._tensors[suffix].shape)

    def matrix(self, suffix: str) -> list[int]:
        """(rows, the product of all other axes)."""
        first, *others = self.shape(suffix) or [1]
        return [first, math.prod(others)]

    def missing(self, *suffixes: str) -> str:
        lacking = [suffix for suffix in suffixes if suffix not in self._tensors]
        return f"lacks {' and '.join(lacking)}" if lacking else ""


def _differs(what: str, found: Sequence[int], wanted: Sequence[int]) -> str:
    return (
        ""
        if list(found) == list(wanted)
        else f"has {what} of shape {list(found)}, and the model's is {list(wanted)}"
    )


def _lora(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    if fault := sides.missing("up", "down"):
        return fault
    if len(shape) < 2:
        return "changes a layer without a matrix"
    up, down = sides.matrix("up"), sides.matrix("down")
    if sides.has("mid"):
        mid = sides.shape("mid")
        wanted = [up[1], down[0], *shape[2:]]
        return _differs("lora_mid", mid, wanted) or _differs("up · down", [up[0], down[1]], shape[:2])
    if up[1] != down[0]:
        return f"has {up[1]} ranks in up and {down[0]} in down"
    return _differs("up · down", [up[0], down[1]], [shape[0], math.prod(shape[1:])])


def _loha(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    if fault := sides.missing("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"):
        return fault
    if sides.has("hada_t1") != sides.has("hada_t2"):
        return "has one of hada_t1 and hada_t2"
    for number in "12":
        a, b = sides.matrix(f"hada_w{number}_a"), sides.matrix(f"hada_w{number}_b")
        if sides.has("hada_t1"):
            core = sides.shape(f"hada_t{number}")
            fault = _differs(f"hada_t{number}", core, [a[0], b[0], *shape[2:]])
            fault = fault or _differs(f"hada_w{number}", [a[1], b[1]], shape[:2])
        else:
            fault = "" if a[1] == b[0] else f"has {a[1]} and {b[0]} ranks in hada_w{number}"
            fault = fault or _differs(f"hada_w{number}", [a[0], b[1]], [shape[0], math.prod(shape[1:])])
        if fault:
            return fault
    return ""


def _lokr(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    factors = []
    for number in "12":
        whole, a, b = (f"lokr_w{number}{end}" for end in ("", "_a", "_b"))
        if sides.has(whole):
            if sides.has(a) or sides.has(b):
                return f"has {whole} both whole and as two factors"
            factors.append(sides.matrix(whole))
            continue
        if fault := sides.missing(a, b):
            return fault
        left, right = sides.matrix(a), sides.matrix(b)
        if number == "2" and sides.has("lokr_t2"):
            core = sides.shape("lokr_t2")
            if core[:2] != [left[0], right[0]]:
                return f"has lokr_t2 of shape {core} for {left[0]} and {right[0]} ranks"
            factors.append([left[1], right[1] * math.prod(core[2:])])
        elif left[1] != right[0]:
            return f"has {left[1]} and {right[0]} ranks in lokr_w{number}"
        else:
            factors.append([left[0], right[1]])
    (rows_1, columns_1), (rows_2, columns_2) = factors
    return _differs("w1 ⊗ w2", [rows_1 * rows_2, columns_1 * columns_2], [shape[0], math.prod(shape[1:])])


def _ia3(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    if fault := sides.missing("weight", "on_input"):
        return fault
    if len(shape) < 2:
        return "changes a layer without a matrix"
    count = math.prod(sides.shape("weight"))
    return "" if count in shape[:2] else f"has {count} factors for a weight of shape {shape}"


def _full(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    fault = ""
    if sides.has("diff"):
        diff = sides.matrix("diff") if len(shape) > 1 else sides.shape("diff")
        fault = _differs("diff", diff, [shape[0], math.prod(shape[1:])] if len(shape) > 1 else shape)
    return fault or _bias(sides, "diff_b", shape, has_bias)


def _norm(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    fault = _differs("w_norm", sides.shape("w_norm"), shape) if sides.has("w_norm") else ""
    return fault or _bias(sides, "b_norm", shape, has_bias)


def _bias(sides: _Sides, suffix: str, shape: list[int], has_bias: bool) -> str:
    if not sides.has(suffix):
        return ""
    if not has_bias:
        return f"has {suffix}, and the model's layer has no bias"
    return _differs(suffix, sides.shape(suffix), shape[:1])


def _glora(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    if fault := sides.missing("a1", "a2", "b1", "b2"):
        return fault
    if sides.has("bm"):
        return "has bm, a middle factor, which no published GLoRA has"
    if len(shape) < 2:
        return "changes a layer without a matrix"
    a1, a2, b1, b2 = (sides.matrix(suffix) for suffix in ("a1", "a2", "b1", "b2"))
    outputs, inputs, columns = shape[0], shape[1], math.prod(shape[1:])
    ranks = {"a1": a1[1], "a2": a2[0]}
    is_new = a1[0] == inputs and a2[1] == inputs and a1[1] == a2[0]
    is_old = a1[1] == inputs and a2[0] == inputs and a1[0] == a2[1]
    if not is_new and not is_old:
        return f"has a1 · a2 of shapes {a1} and {a2} for {inputs} inputs ({ranks})"
    first, second = (b1, b2) if is_new else (b2, b1)
    return _differs("b1 · b2", [first[0], second[1]], [outputs, columns]) or (
        "" if first[1] == second[0] else f"has {first[1]} and {second[0]} ranks in b1 and b2"
    )


def _oft(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    if fault := sides.missing("oft_blocks"):
        return fault
    blocks = sides.shape("oft_blocks")
    if len(blocks) not in (3, 4) or blocks[-1] != blocks[-2]:
        return f"has oft_blocks of shape {blocks}, which are no square blocks"
    if blocks[-3] * blocks[-1] != shape[0]:
        return f"has {blocks[-3]} blocks of {blocks[-1]} for {shape[0]} outputs"
    if len(blocks) == 4 and (
        blocks[-1] % 2 or (blocks[0] > 1 and shape[0] % (2 ** (blocks[0] - 1) * blocks[-1]))
    ):
        return f"has {blocks[0]} stages of blocks of {blocks[-1]} for {shape[0]} outputs"
    if sides.has("rescale") and math.prod(sides.shape("rescale")) != shape[0]:
        return f"has a rescale of shape {sides.shape('rescale')} for {shape[0]} outputs"
    return ""


def _oft_diag(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    blocks = sides.shape("oft_diag")
    if len(blocks) not in (2, 3) or blocks[-1] != blocks[-2] or shape[0] % math.prod(blocks[:-1]):
        return f"has oft_diag of shape {blocks} for {shape[0]} outputs"
    return ""


def _oft_input(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    if fault := sides.missing("oft_R"):
        return fault
    if len(shape) < 2:
        return "changes a layer without a matrix"
    triangles = sides.shape("oft_R")
    if len(triangles) != 2:
        return f"has oft_R of shape {triangles}, which is no list of triangles"
    size = math.isqrt(2 * triangles[1]) + 1  # of the blocks: size (size - 1) / 2 values above the diagonal
    if size * (size - 1) // 2 != triangles[1] or math.prod(shape[1:]) != triangles[0] * size:
        return f"has oft_R of shape {triangles} for {math.prod(shape[1:])} inputs"
    return ""


def _sparse_bias(sides: _Sides, shape: list[int], has_bias: bool) -> str:
    return "has a sparse bias (bias_indices), which is not read here"


_CHECKS: Mapping[str, Callable[[_Sides, list[int], bool], str]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "ia3": _ia3,
    "full": _full,
    "norm": _norm,
    "glora": _glora,
    "oft": _oft,
    "oft_diag": _oft_diag,
    "oft_input": _oft_input,
    "sparse bias": _sparse_bias,
}


def _dora_fault(kind: str, tensors: Tensors, shape: list[int]) -> str:
    for suffix in ("dora_scale", "magnitude"):
        if suffix not in tensors:
            continue
        if kind not in ("lora", "loha", "lokr"):
            return f"has {suffix} beside {NAMES[kind]}"
        count = math.prod(tensors[suffix].shape)
        sides = shape[:1] if suffix == "magnitude" else shape[:2]
        if count not in sides:
            return f"has a {suffix} of shape {list(tensors[suffix].shape)} for a weight of shape {shape}"
    return ""
