"""Fields: the one table of what A1111's API calls the settings of a picture, and what they are in a Request.

Read in: A1111 1.10, modules/api/models.py and modules/processing.py, where the defaults are. What is not sent is left
to the model, as on the command line: steps, cfg_scale, width, height and the sampler.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.request import aliases
from sdcli.request.jobfile.keys import DECLARED
from sdcli.request.names_elsewhere import FIELDS, HINTS
from sdcli.request.request import MAX_SEED
from sdcli.serve.a1111 import controlnet
from sdcli.serve.a1111.hires import hires_values
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.a1111.start import start_values
from sdcli.serve.budget import Budget
from sdcli.serve.pictures import FIELDS as PICTURE_FIELDS

TAKEN_OVER: Mapping[str, Callable[[Sent, str], object]] = {
    "prompt": Sent.text,
    "negative_prompt": Sent.text,
    "steps": Sent.whole,
    "cfg_scale": Sent.number,
    "width": Sent.whole,
    "height": Sent.whole,
    "seed": Sent.whole,
}
"""A field that means here what it means there -> how it is read. Our name for it is in `names_elsewhere`."""
HARMLESS = (
    "save_images", "do_not_save_samples", "do_not_save_grid", "include_init_images", "force_task_id", "script_args",
    "s_tmin", "s_tmax", "refiner_switch_at", "comments", "distilled_cfg_scale", "url", "auth",
)  # fmt: skip
"""Fields that change no picture here, alone or beside what is refused."""
REFUSED: Mapping[str, tuple[object, ...]] = {
    "restore_faces": (False,),
    "script_name": ("", "None"),
    "latent_mask": (),
    "disable_extra_networks": (False,),
    "refiner_checkpoint": ("", "None"),
    "infotext": ("",),
    "s_churn": (0,),
    "s_min_uncond": (0,),
    "initial_noise_multiplier": (1,),
}
"""A field that is not done here -> its values that change nothing."""
OURS_ELSEWHERE = {"count": "send batch_size or n_iter"}
"""Keys of a job that A1111 has other words for -> what to do."""
IMAGE_FIELDS = ("init_images", *PICTURE_FIELDS)
"""What an answer does not send back with the other fields of the body."""


def values_of(sent: Sent, settings: Mapping[str, Any], budget: Budget, is_img2img: bool) -> dict[str, Any]:
    """The keys of a job for what a body asks for under these settings, which are keys of a job too.

    Raises UsageError, by name, for what would change the picture and is not done here, and ImageError.
    """
    values: dict[str, Any] = {"like": "a1111", "prompt": "", **settings}
    for name, read in TAKEN_OVER.items():
        if (value := read(sent, name)) is not None:
            values[FIELDS.get(name, name)] = value
    values |= _count(sent) | _variation(sent) | _sampler(sent)
    if styles := sent.texts("styles"):
        values["style"] = styles
    if sent.truth("tiling"):
        values["tile"] = "both"
    values |= start_values(sent, budget, values) if is_img2img else hires_values(sent, values)
    for name, script in sent.table("alwayson_scripts").items():
        if name.lower() == controlnet.NAME and not _is_idle(script):
            values |= controlnet.control_values(script, values, budget)
        else:
            _check_idle(name, script)
    for name, allowed in REFUSED.items():
        sent.only(name, allowed, HINTS.get(name, "leave it out"))
    sent.drop(HARMLESS)
    for name, value in sent.left.items():  # fields of a Request, by our names, may be sent too
        if name not in DECLARED:
            advice = OURS_ELSEWHERE.get(name, "leave it out")
            raise UsageError(f"{name:.80}: is not done here, and may change the picture; {advice}")
        if name in values and name != "like" and values[name] != value:
            raise UsageError(
                f"{name}: {value!r:.80} is not the {values[name]!r:.80} of another field; keep one"
            )
        values[name] = value
    return values


def _count(sent: Sent) -> dict[str, Any]:
    """The number of pictures: batch_size in each of n_iter batches."""
    count = 1
    for name in ("batch_size", "n_iter"):
        value = sent.whole(name)
        if value is not None and value < 1:
            raise UsageError(f"{name}: {value} is less than 1")
        count *= 1 if value is None else value
    return {"count": count}


def _variation(sent: Sent) -> dict[str, Any]:
    """The second noise, which a strength of 0 leaves out, and the size that the noise is drawn for."""
    found: dict[str, Any] = {}
    seed, strength = sent.whole("subseed"), sent.number("subseed_strength")
    if strength:
        is_open = seed is None or seed == -1
        found = {"variation_seed": secrets.randbelow(MAX_SEED - 1024) if is_open else seed}
        found["variation_strength"] = strength
    width, height = (sent.whole(f"seed_resize_from_{side}") or 0 for side in "wh")
    if width > 0 and height > 0:
        found["seed_size"] = f"{width}x{height}"
    return found


def _sampler(sent: Sent) -> dict[str, Any]:
    """Sampler and schedule. A schedule in the sampler's label counts, and "Automatic" is the default beside a label."""
    old = sent.text("sampler_index")
    label = sent.text("sampler_name") or old
    scheduler = sent.text("scheduler")
    options = {"eta": sent.number("eta"), "s_noise": sent.number("s_noise")}
    if not label:
        if options["eta"] is not None:
            raise UsageError("eta: is an option of a sampler; give sampler_name too, or leave it out")
        return {"schedule": aliases.parse_schedule(scheduler, "a1111")} if scheduler else {}
    sampler, schedule = aliases.parse_sampler(label, "a1111")
    schedule = schedule or aliases.parse_schedule(scheduler or "Automatic", "a1111")
    return {"sampler": _with_options(sampler, options), "schedule": schedule}


def _with_options(sampler: str, options: Mapping[str, float | None]) -> str:
    """The sampler with the options that it has and that differ from its own; A1111 gives others to no sampler."""
    from sdcli.diffusion.conventions import CONVENTIONS

    name, _, typed = sampler.partition(":")
    if name not in registry.names("samplers"):
        return sampler  # which is refused with the nearest
    known = {
        **registry.describe("samplers", name).options,
        **CONVENTIONS["a1111"].sampler_options.get(name, {}),
    }
    own = [
        f"{key}={value:.12g}"
        for key, value in options.items()
        if key in known and value not in (None, known[key])
    ]
    texts = [*([typed] if typed else []), *own]
    return f"{name}:{','.join(texts)}" if texts else name


def _check_idle(name: str, script: object) -> None:
    """Raise UsageError for a script that would do something."""
    if not _is_idle(script):
        raise UsageError(
            f"alwayson_scripts: {name:.80} would change the picture and is not done here; leave it out"
        )


def _is_idle(script: object) -> bool:
    """True for a script that is turned off: without arguments, with a first one that is false, or no unit enabled."""
    args = script.get("args") if isinstance(script, dict) else script
    units = list(args.values()) if isinstance(args, dict) else args
    if not units:
        return True
    if not isinstance(units, list):
        return False
    return units[0] is False or all(
        each is None or (isinstance(each, dict) and each.get("enabled") is False) for each in units
    )
