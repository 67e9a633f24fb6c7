"""ControlNet: the units of `alwayson_scripts.controlnet`, as the clients of A1111's extension send them.

Read in: sd-webui-controlnet, internal_controlnet/args.py and scripts/api.py. A unit becomes a --control; one whose
module is a reference becomes --reference. What is not done here is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdcli.checkpoints import hashes
from sdcli.errors import UsageError
from sdcli.registry import nearest
from sdcli.request.a1111_text import CONTROL_MODES, RESIZE_MODES
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.budget import Budget
from sdcli.serve.names import listed
from sdcli.serve.pictures import picture_of

NAME = "controlnet"
"""The script's key in alwayson_scripts, in lower case."""
MODULES: Mapping[str, str] = {
    "none": "",
    "canny": "canny",
    "invert": "invert",
    "scribble_xdog": "scribble",
    "lineart_standard": "lineart",
    "tile_resample": "",
}
"""A module -> our annotator that makes the same hint, but for rounding; empty: the picture is the hint."""
THRESHOLDS: Mapping[str, tuple[str, ...]] = {
    "canny": ("low", "high"),
    "scribble_xdog": ("threshold",),
    "lineart_standard": ("blur",),
}
"""A module -> the options of our annotator that threshold_a and threshold_b are."""
FIXED: Mapping[str, tuple[float | None, ...]] = {
    "lineart_standard": (None, 8.0),  # the least contrast of a line
    "tile_resample": (1.0,),  # made smaller by this factor first
}
"""A module -> the only values of threshold_a and threshold_b that are done here; None: any."""
REFERENCES = {"reference_only": "attention", "reference_adain": "adain", "reference_adain+attn": "both"}
"""A module -> the mode of --reference."""
SIZELESS = ("", "invert")
"""Annotators to which the size of their picture makes no difference."""
_MODES: Mapping[object, str] = {
    **{label: mode for mode, label in CONTROL_MODES.items()},
    **dict(enumerate(CONTROL_MODES)),
}
_FITS: Mapping[object, str] = {
    **{label: fit for fit, label in RESIZE_MODES.items()},
    "Scale to Fit (Inner Fit)": "crop",
    "Envelope (Outer Fit)": "pad",
    **dict(enumerate(("stretch", "crop", "pad"))),
}
HARMLESS = (
    "low_vram", "lowvram", "save_detected_map", "is_ui", "input_mode", "batch_images", "output_dir", "loopback",
    "use_preview_as_input", "generated_image", "batch_image_dir", "batch_input_gallery", "batch_mask_dir",
    "batch_mask_gallery", "inpaint_crop_input_image",
)  # fmt: skip
"""Fields of a unit that change no picture here."""
UNCHANGED: Mapping[str, tuple[object, ...]] = {
    "mask": ("",),
    "mask_image": ("",),
    "effective_region_mask": (),
    "advanced_weighting": (),
    "ipadapter_input": (),
    "guidance": (1,),
    "guessmode": (False,),
    "hr_option": ("Both", "HiResFixOption.BOTH", 0),
    "union_control_type": ("Unknown", "All"),
    "pulid_mode": ("Fidelity",),
    "multi_inputs_gallery": ([],),
    "mask_upload": (),
}
"""A field that is not done here -> its values that change nothing."""
_HASH = re.compile(r"\s*\[([0-9a-f]{8,64})\]$")


def control_values(script: object, values: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    """The fields of a Request for the units that are enabled; raises UsageError, by name, and ImageError."""
    units = script.get("args") if isinstance(script, dict) else script
    if not isinstance(units, list) or not all(unit is None or isinstance(unit, dict) for unit in units):
        raise UsageError('alwayson_scripts: controlnet: is no {"args": [{…}, …]}')
    control: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    for number, unit in enumerate(units):
        sent = Sent(unit or {"enabled": False})
        try:
            if sent.truth("enabled", True):
                _add(sent, values, budget, control, references)
        except UsageError as error:
            raise UsageError(f"alwayson_scripts: controlnet unit {number}: {error}") from None
    if len(references) > 1:
        raise UsageError("alwayson_scripts: controlnet: one reference is taken here; disable the others")
    found: dict[str, Any] = {"control": control} if control else {}
    return {**found, "reference": references[0]} if references else found


def _add(
    sent: Sent,
    values: Mapping[str, Any],
    budget: Budget,
    control: list[dict[str, Any]],
    references: list[dict[str, Any]],
) -> None:
    """Add what a unit is to the controls or to the references."""
    module = (sent.text("module") or "none").partition(" (")[0].lower()
    model = sent.text("model") or "None"
    image = _image(sent, budget)
    shares = sent.number("guidance_start"), sent.number("guidance_end")
    thresholds = [sent.number(f"threshold_{each}") for each in "ab"]
    weight = sent.number("weight")
    mode = _choice(sent, "control_mode", _MODES, "balanced")
    fit = _choice(sent, "resize_mode", _FITS, "crop")
    is_perfect, side = sent.truth("pixel_perfect"), sent.whole("processor_res")
    for name, allowed in UNCHANGED.items():
        sent.only(name, allowed)
    sent.drop(HARMLESS)
    for name in sent.left:
        raise UsageError(f"{name:.80}: is not done here, and may change the picture; leave it out")
    if module in REFERENCES:
        references.append(_reference(REFERENCES[module], image, shares, thresholds[0], weight, mode))
        return
    annotator = _annotator(module, thresholds, is_perfect, side, values)
    control.append(
        {
            "file": _file(model),
            **({} if image is None else {"image": image}),
            "weight": 1.0 if weight is None else weight,
            "start": shares[0] or 0.0,
            "end": 1.0 if shares[1] is None else shares[1],
            "mode": mode,
            "fit": fit,
            **annotator,
        }
    )


def _image(sent: Sent, budget: Budget) -> Any:
    """The picture of a unit: base64, alone or as {"image", "mask"}; None shows it the picture that is drawn over."""
    given = [value for name in ("image", "input_image") if (value := sent.take(name)) not in (None, "")]
    if len(given) > 1:
        raise UsageError("input_image: is the older name of image; send one of them")
    image = given[0] if given else None
    if isinstance(image, dict):
        if image.get("mask") not in (None, ""):
            raise UsageError("mask: would change the picture and is not done here; leave it out")
        image = image.get("image")
    return None if image is None else picture_of("image", image, budget)


def _choice(sent: Sent, name: str, words: Mapping[object, str], default: str) -> str:
    """A word by its label or its number."""
    value = sent.take(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in words:
        labels = [word for word in words if isinstance(word, str)]
        raise UsageError(f"{name}: {value!r:.80} is not done here; it is {', '.join(labels)}")
    return words[value]


def _annotator(
    module: str, thresholds: list[float | None], is_perfect: bool, side: int | None, values: Mapping[str, Any]
) -> dict[str, Any]:
    """The annotator of a module with its options; here it always works at the size that is drawn, pixel by pixel."""
    if module not in MODULES:
        raise UsageError(
            f"module: {module!r:.80} has no annotator here; send what it makes as image, with module none; or "
            + nearest(module[:40], [*MODULES, *REFERENCES])
        )
    name = MODULES[module]
    if name not in SIZELESS and not is_perfect:
        sides = [values[each] for each in ("width", "height") if each in values]
        if len(sides) < 2 or side != min(sides):
            raise UsageError(
                "processor_res: hints are made at the size of the picture; send pixel_perfect true, or the shorter side"
            )
    sent = [None if value == -1 else value for value in thresholds]  # -1 is the module's own
    for letter, value, fixed in zip("ab", sent, FIXED.get(module, ()), strict=False):
        if value is not None and fixed is not None and value != fixed:
            raise UsageError(f"threshold_{letter}: {module} has {fixed:g} here; send that, or -1")
    options = zip(THRESHOLDS.get(module, ()), sent, strict=False)
    given = {key: value for key, value in options if value is not None}
    return {"annotate": name, **given} if name else {}


def _reference(
    mode: str, image: Any, shares: tuple[Any, Any], fidelity: float | None, weight: float | None, control: str
) -> dict[str, Any]:
    if shares not in ((None, None), (0, 1), (None, 1), (0, None)):
        raise UsageError("guidance_start, guidance_end: a reference acts in all steps here; send 0 and 1")
    if control != "balanced":
        raise UsageError("control_mode: a reference has threshold_a, its style fidelity; send Balanced")
    told = {"mode": mode} if fidelity in (None, -1) else {"mode": mode, "fidelity": fidelity}
    return {"image": image, **told, "weight": 1.0 if weight is None else weight}


# --- files


def title_of(name: str, path: Path) -> str:
    """The extension's name of a file: with A1111's old hash."""
    return f"{name} [{hashes.old_hash(path)}]"


def titles() -> list[str]:
    """The files that units may name."""
    return [title_of(name, path) for name, path in listed("control").items()]


def _file(model: str) -> str:
    """The listed name of a model, which may stand with a hash behind it; raises UsageError."""
    name, files = _HASH.sub("", model), listed("control")
    if model.lower() == "none":
        raise UsageError("model: none is named; GET /controlnet/model_list lists them")
    if name not in files:
        advice = nearest(name[:80], list(files)) if files else "there are none"
        raise UsageError(f"model: {name!r:.80} is not the name of a file that is listed here; {advice}")
    found = _HASH.search(model)
    if (
        found
        and found[1] != hashes.old_hash(files[name])
        and not hashes.digest([files[name]]).startswith(found[1])
    ):
        raise UsageError(
            f"model: the file {name!r:.80} here has another hash; send the name alone to take it"
        )
    return name


INFORMATION: Mapping[str, Any] = {
    "version": {"version": 3},
    "module_list": {"module_list": [*MODULES, *REFERENCES], "module_detail": {}},
    "settings": {"control_net_unit_count": 10},
}
"""Path below /controlnet -> what it always answers."""
