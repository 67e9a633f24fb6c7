"""LoRA kinds: which kind of change the tensors of one module in a LoRA-like file make, and whether they fit its weight.

The names of tensors are the canonical ones of `lora_suffixes.SUFFIXES`. Shapes: a weight is [out, in] or
[out, in, kh, kw] or, of a norm layer, [n]; r is the rank, and k stands for kh, kw. A linear layer and a convolution
with a 1×1 kernel are the same to all kinds: axes of size 1 after the second are free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sdcli.checkpoints.header import FLOATS, Entry
from sdcli.errors import ModelError

Kind = Literal[
    "lora", "loha", "lokr", "glora", "ia3", "full", "norm", "oft", "boft", "oft_diag", "oft_inputs"
]
"""What LyCORIS calls them, except for:

`full`: a whole difference (`diff`), or one of the bias alone; `oft`: LyCORIS' diag-oft and kohya's OFT;
`oft_diag`: old LyCORIS, whose blocks are the rotations; `oft_inputs`: OneTrainer's and peft's, which rotates inputs.
"""

Shape = tuple[int, ...]


class HasShape(Protocol):
    """An Entry, or a tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Tensors = Mapping[str, HasShape]
"""Canonical suffix -> tensor."""
Expected = dict[str, list[Shape]]
"""Canonical suffix -> the shapes that a tensor may have."""

SCALARS = ("alpha", "scale", "scalar", "on_input", "scaled_oft")
MAY_BE_INTEGERS = (*SCALARS, "bias_indices", "bias_size")

_SCALE = ("alpha", "scale", "scalar")
_MAGNITUDES = ("dora_scale", "magnitude")
_SPARSE_BIAS = ("bias_indices", "bias_values", "bias_size")


@dataclass(frozen=True)
class _Rule:
    """What a kind consists of: its own tensors (those of `needed` always), those it shares, and their shapes.

    `expected` is called with the shapes that are there and that of the base weight; it raises ValueError, with the
    reason, if these cannot be made to fit.
    """

    own: tuple[str, ...]
    needed: tuple[str, ...]
    expected: Callable[[Tensors, Shape], Expected]
    shared: tuple[str, ...] = ("alpha", "diff_b")


def check(path: Path, module: str, tensors: Mapping[str, Entry], base: Sequence[int]) -> Kind:
    """The kind of the tensors of one module, checked against the shape of the module's weight.

    Raises ModelError as `recognise` does, and if a tensor does not fit.
    """
    kind = recognise(path, module, tensors)
    weight = tuple(base)
    try:
        expected = _RULES[kind].expected(tensors, weight) | _shared(weight)
    except ValueError as error:
        raise _error(path, module, str(error)) from None
    for name, entry in tensors.items():
        shape = entry.shape
        if name in expected and not any(_same(shape, allowed) for allowed in expected[name]):
            needed = " or ".join(map(_shown, dict.fromkeys(expected[name])))
            reason = f"{name} is {_shown(shape)}, and a weight of {_shown(weight)} takes {needed}"
            raise _error(path, module, f"{reason}; is it for another model?")
    return kind


def recognise(path: Path, module: str, tensors: Mapping[str, Entry]) -> Kind:
    """The kind of the tensors of one module, without its weight.

    Raises ModelError if they are of no kind or of two, if one is missing, empty, or not what it is called.
    """
    kinds = _kinds(tensors)
    if len(kinds) > 1:
        raise _error(
            path, module, f"has tensors of two kinds ({' and '.join(kinds[:2])}); only one can be meant"
        )
    if not kinds:
        raise _error(path, module, f"has {_listed(tensors)} but no weights; the file is incomplete")
    _check_names(path, module, kinds[0], tensors)
    for name, entry in tensors.items():
        _check_entry(path, module, name, entry)
    return kinds[0]


def rank(tensors: Tensors) -> int | None:
    """The rank of a module's tensors, of an Entry or a tensor each; None if the kind has none."""
    if "a1" in tensors and "a2" in tensors:
        name, axis = ("a1", 0) if is_old_glora(tensors) else ("a2", 0)
    else:
        ranked = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
        name, axis = next((name for name in ranked if name in tensors), ""), 0
    return tensors[name].shape[axis] if name and tensors[name].shape else None


def is_old_glora(tensors: Tensors) -> bool:
    """True for the layout of LyCORIS 1: a1 [r, in], a2 [in, r], b1 [r, in], b2 [out, r]; the new one is the reverse."""
    shapes = [tuple(tensors[name].shape) for name in ("a1", "b1", "a2", "b2") if name in tensors]
    if len(shapes) < 4 or any(len(shape) < 2 for shape in shapes):
        return False
    a1, b1, a2, b2 = shapes
    is_new = a1[1] == b1[1] == a2[0] == b2[0]
    return not is_new and a1[0] == b1[0] == a2[1] == b2[1]


def reads_weight(kind: Kind, names: Iterable[str]) -> bool:
    """True if the change depends on the values of the weight, so that the order of several changes matters."""
    return kind not in ("lora", "loha", "lokr", "full", "norm") or any(name in _MAGNITUDES for name in names)


def has_low_rank_form(kind: Kind, names: Iterable[str]) -> bool:
    """True if the change is a product of two or three small layers, whatever the weight, and nothing else."""
    return kind == "lora" and set(names) <= {"down", "up", "mid", *_SCALE}


# --- one rule for each kind


def _lora(tensors: Tensors, base: Shape) -> Expected:
    out, inner, *kernel = _matrix(base)
    r = _axis(tensors, "down", 0)
    expected: Expected = {"up": [(out, r)], "down": [(r, inner, *kernel), (r, inner * math.prod(kernel))]}
    if "mid" in tensors:
        expected |= {"down": [(r, inner)], "mid": [(r, r, *kernel)]}
    count = _axis(tensors, "bias_values", 0)
    return expected | {"bias_values": [(count,)], "bias_indices": [(2, count)], "bias_size": [(2,)]}


def _loha(tensors: Tensors, base: Shape) -> Expected:
    out, inner, *kernel = _matrix(base)
    expected: Expected = {}
    r = _axis(tensors, "hada_w1_b", 0)
    for half in "12":
        a, b, t = f"hada_w{half}_a", f"hada_w{half}_b", f"hada_t{half}"
        if t in tensors:
            expected |= {t: [(r, r, *kernel)], a: [(r, out)], b: [(r, inner)]}
        else:
            expected |= {a: [(out, r)], b: [(r, inner * math.prod(kernel)), (r, inner, *kernel)]}
    return expected


def _lokr(tensors: Tensors, base: Shape) -> Expected:
    out, inner, *kernel = _matrix(base)
    _check_factors(tensors)
    r1, r2 = _axis(tensors, "lokr_w1_b", 0), _axis(tensors, "lokr_w2_b", 0)
    rows = _axis(tensors, "lokr_w1", 0) or _axis(tensors, "lokr_w1_a", 0)
    columns = _axis(tensors, "lokr_w1", 1) or _axis(tensors, "lokr_w1_b", 1)
    if not rows or not columns or out % rows or inner % columns:
        raise ValueError(
            f"its first factor is {rows} x {columns}, which does not divide a weight of {_shown(base)}; "
            "is it for another model?"
        )
    rest, inner_rest = out // rows, inner // columns
    expected: Expected = {
        "lokr_w1": [(rows, columns)],
        "lokr_w1_a": [(rows, r1)],
        "lokr_w1_b": [(r1, columns)],
        "lokr_w2": [(rest, inner_rest, *kernel)],
    }
    if "lokr_t2" in tensors:
        return expected | {
            "lokr_t2": [(r2, r2, *kernel)], "lokr_w2_a": [(r2, rest)], "lokr_w2_b": [(r2, inner_rest)]
        }  # fmt: skip
    flat = (r2, inner_rest * math.prod(kernel))
    return expected | {"lokr_w2_a": [(rest, r2)], "lokr_w2_b": [flat, (r2, inner_rest, *kernel)]}


def _check_factors(tensors: Tensors) -> None:
    """Raise ValueError unless each factor of a Kronecker product is there once: whole, or as a product."""
    for whole in ("lokr_w1", "lokr_w2"):
        pair = [name for name in (f"{whole}_a", f"{whole}_b") if name in tensors]
        if whole in tensors and (pair or (whole == "lokr_w2" and "lokr_t2" in tensors)):
            raise ValueError(f"has {whole} whole and in parts; only one can be meant")
        if whole not in tensors and len(pair) < 2:
            raise ValueError(f"has neither {whole} nor both {whole}_a and {whole}_b; the file is incomplete")


def _glora(tensors: Tensors, base: Shape) -> Expected:
    out, inner, *kernel = _matrix(base)
    r = rank(tensors) or 0
    if is_old_glora(tensors):
        if "bm" in tensors:
            raise ValueError("has bm, which the layout of LyCORIS 1 does not have; the file is damaged")
        return {"a1": [(r, inner)], "a2": [(inner, r)], "b1": [(r, inner, *kernel)], "b2": [(out, r)]}
    expected: Expected = {
        "a1": [(inner, r)],
        "a2": [(r, inner)],
        "b1": [(out, r)],
        "b2": [(r, inner, *kernel)],
    }
    return expected | ({"b2": [(r, inner)], "bm": [(r, r, *kernel)]} if "bm" in tensors else {})


def _ia3(tensors: Tensors, base: Shape) -> Expected:
    out, inner, *_ = _matrix(base)
    return {"weight": [(out,), (inner,), (1, out), (1, inner)]}


def _full(tensors: Tensors, base: Shape) -> Expected:
    return {"diff": [base]}


def _norm(tensors: Tensors, base: Shape) -> Expected:
    if len(base) != 1:
        raise ValueError(
            f"is a change of a norm layer, and the weight is {_shown(base)}; is it for another model?"
        )
    return {"w_norm": [base], "b_norm": [base]}


def _oft(tensors: Tensors, base: Shape) -> Expected:
    name = "oft_diag" if "oft_diag" in tensors else "oft_blocks"
    return {name: [_blocks(base, _axis(tensors, name, -1))], **_rescale(base)}


def _boft(tensors: Tensors, base: Shape) -> Expected:
    stages, size = _axis(tensors, "oft_blocks", 0), _axis(tensors, "oft_blocks", -1)
    blocks = _blocks(base, size)
    if size % 2 or stages > 64 or base[0] % (2 ** max(stages - 1, 0) * size):
        raise ValueError(
            f"a weight of {_shown(base)} cannot be cut into blocks of {size} in stages, of which it has {stages}; "
            "is it for another model?"
        )
    return {"oft_blocks": [(stages, *blocks)], **_rescale(base)}


def _oft_inputs(tensors: Tensors, base: Shape) -> Expected:
    _, *inputs = _matrix(base)
    values = _axis(tensors, "oft_R", 1)
    size = block_size(values)
    if size * (size - 1) // 2 != values or math.prod(inputs) % size:
        raise ValueError(
            f"has rotations of {values} values, which {math.prod(inputs)} inputs cannot be cut into; "
            "is it for another model?"
        )
    return {"oft_R": [(math.prod(inputs) // size, values), (1, values)]}


def block_size(values: int) -> int:
    """b of a triangle of b(b − 1)/2 values above the diagonal of a b×b matrix; rounded down if there is none."""
    return (1 + math.isqrt(1 + 8 * values)) // 2


def _blocks(base: Shape, size: int) -> Shape:
    """The shape of blocks of this size on the diagonal of a rotation of the outputs."""
    out, *_ = _matrix(base)
    if not size or out % size:
        raise ValueError(f"has blocks of {size}, which do not divide {out} outputs; is it for another model?")
    return (out // size, size, size)


def _rescale(base: Shape) -> Expected:
    return {"rescale": [(base[0],), (base[0], 1)]}


_RULES: dict[Kind, _Rule] = {
    "lora": _Rule(
        ("down", "up", "mid"), ("down", "up"), _lora,
        ("diff_b", *_SCALE, *_MAGNITUDES, *_SPARSE_BIAS),
    ),
    "loha": _Rule(
        ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
        ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), _loha,
        ("diff_b", *_SCALE, *_MAGNITUDES),
    ),
    "lokr": _Rule(
        ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"), (), _lokr,
        ("diff_b", *_SCALE, *_MAGNITUDES),
    ),
    "glora": _Rule(("a1", "a2", "b1", "b2", "bm"), ("a1", "a2", "b1", "b2"), _glora, ("diff_b", *_SCALE)),
    "ia3": _Rule(("weight", "on_input"), ("weight", "on_input"), _ia3),
    "full": _Rule(("diff",), (), _full),
    "norm": _Rule(("w_norm", "b_norm"), (), _norm, ("alpha",)),
    "oft": _Rule(("oft_blocks",), ("oft_blocks",), _oft, ("alpha", "diff_b", "rescale")),
    "boft": _Rule(("oft_blocks",), ("oft_blocks",), _boft, ("alpha", "diff_b", "rescale")),
    "oft_diag": _Rule(("oft_diag",), ("oft_diag",), _oft, ("alpha", "diff_b", "rescale")),
    "oft_inputs": _Rule(("oft_R", "scaled_oft"), ("oft_R",), _oft_inputs),
}  # fmt: skip


# --- what is common to the kinds


def _kinds(tensors: Tensors) -> list[Kind]:
    """The kinds that tensors are of, by their names; butterflies are OFT with one axis more, for their stages."""
    found = [kind for kind, rule in _RULES.items() if tensors.keys() & set(rule.own)]
    if "oft_blocks" in tensors:
        found.remove("oft" if len(tensors["oft_blocks"].shape) == 4 else "boft")
    return found or (["full"] if "diff_b" in tensors else [])


def _shared(base: Shape) -> Expected:
    """The shapes of the tensors that several kinds have."""
    expected: Expected = {"diff_b": [base[:1]], "magnitude": [base[:1], (1, *base[:1])]}
    if len(base) > 1:
        expected["dora_scale"] = [base[:1], (base[0], 1), (1, base[1])]
    return expected


def _check_names(path: Path, module: str, kind: Kind, tensors: Mapping[str, Entry]) -> None:
    """Raise ModelError if a tensor is missing, or if one is there that the kind does not have."""
    rule = _RULES[kind]
    missing = [name for name in rule.needed if name not in tensors]
    missing += [name for name in _SPARSE_BIAS if name not in tensors and tensors.keys() & set(_SPARSE_BIAS)]
    if "hada_t1" in tensors or "hada_t2" in tensors:
        missing += [name for name in ("hada_t1", "hada_t2") if name not in tensors]
    if missing:
        raise _error(path, module, f"has {_listed(tensors)} but no {missing[0]}; the file is incomplete")
    for name in tensors:
        if name not in (*rule.own, *rule.shared):
            raise _error(
                path, module, f"{name} has no meaning in {kind}, and leaving it out would change the picture"
            )
    if all(name in tensors for name in _MAGNITUDES):
        raise _error(path, module, "has dora_scale and a magnitude vector; only one can be meant")


def _check_entry(path: Path, module: str, name: str, entry: Entry) -> None:
    """Raise ModelError for a tensor of whole numbers that are no weights, an empty one, or a scalar that is none."""
    if entry.dtype not in FLOATS and name not in MAY_BE_INTEGERS:
        raise _error(
            path,
            module,
            f"{name} is stored as {entry.dtype}, which is not read; get it in float16 or float32",
        )
    if name in SCALARS and math.prod(entry.shape) != 1:
        raise _error(
            path, module, f"{name} is {_shown(entry.shape)} and should be one number; the file is damaged"
        )
    if not math.prod(entry.shape):
        raise _error(path, module, f"{name} is empty ({_shown(entry.shape)}); the file is damaged")


def _matrix(base: Shape) -> Shape:
    """The shape of a weight that is no norm layer's; raises ValueError for any other."""
    if len(base) < 2:
        raise ValueError(f"changes a matrix, and the weight is {_shown(base)}; is it for another model?")
    return base


def _axis(tensors: Tensors, name: str, axis: int) -> int:
    """The size of an axis of a tensor; 0 if there is no such tensor or axis."""
    shape = tensors[name].shape if name in tensors else ()
    return shape[axis] if -len(shape) <= axis < len(shape) else 0


def _same(shape: Shape, allowed: Shape) -> bool:
    """True if the shapes are the same but for axes of size 1 after the second."""
    return _without_ones(shape) == _without_ones(allowed)


def _without_ones(shape: Shape) -> Shape:
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _listed(tensors: Mapping[str, Entry]) -> str:
    return ", ".join(list(tensors)[:4]) or "nothing"


def _shown(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _error(path: Path, module: str, reason: str) -> ModelError:
    return ModelError(f"{path}: {module[:120]!r}: {reason}")
