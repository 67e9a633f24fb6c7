"""Request: everything that decides the pixels of one picture, as one frozen value, checked at birth.

Each field is declared once; its default, flags, help and range become the command line's option, the job file's
key and the PNG's key from here. None means: the model's own default.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.request import aliases, sigmas

LONGEST_PROMPT = 20_000  # characters; what fits a PNG's text chunk with room to spare


def option(
    default: Any,
    *flags: str,
    type: type,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    group: str = "",
) -> Any:
    """A field of the Request: its default, the flags it has on the command line, its type, help, and its range or the
    words it knows. `group` names what it is about (a picture, a mask, …), where not every command has to do with that.
    """
    told = {
        "flags": flags,
        "type": type,
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "group": group,
    }
    return field(default=default, metadata=told)


@dataclass(frozen=True)
class Request:
    """What is asked: one picture. `but(seed=8)` is the same with a change."""

    prompt: str = option("", type=str, help="What to draw; - reads it from standard input.")
    negative: str = option("", "-n", "--negative", type=str, help="What to steer away from.")
    model: str = option(
        "tiny",
        "-m",
        "--model",
        type=str,
        help="tiny (embedded), a safetensors file, a diffusers folder, or a hub repo.",
    )
    seed: int | None = option(
        None, "--seed", type=int, low=0, high=2**32 - 1, help="Which noise to start from; drawn if not given."
    )
    rng: str = option(
        "torch",
        "--rng",
        type=str,
        choices=("torch", "philox", "comfyui"),
        help="Whose noise: torch, philox (CUDA's, as in A1111) or comfyui.",
    )
    variation_seed: int | None = option(
        None,
        "--variation-seed",
        type=int,
        low=0,
        high=2**32 - 1,
        help="Another noise to go towards, by --variation-strength.",
    )
    variation_strength: float = option(
        0.0,
        "--variation-strength",
        type=float,
        low=0,
        high=1,
        help="How far towards the noise of --variation-seed, 0 to 1.",
    )
    seed_size: str | None = option(
        None, "--seed-size", type=str, help="Keep the composition of the seed at another size, as 512x512."
    )
    steps: int | None = option(
        None, "-s", "--steps", type=int, low=1, high=1000, help="Steps of the sampler."
    )
    cfg: float | None = option(
        None,
        "--cfg",
        type=float,
        low=-1000,
        high=1000,
        help="How strongly the prompt guides; 1 is not at all.",
    )
    sampler: str | None = option(None, "--sampler", type=str, help="How to walk: see `sd samplers`.")
    schedule: str | None = option(
        None, "--schedule", type=str, help="Which noise levels to visit: see `sd samplers`."
    )
    sigmas: str | None = option(
        None,
        "--sigmas",
        type=str,
        help="Noise levels of one's own, as 14.6,7,2.1,0; for --steps and --schedule.",
    )
    guidance: str | None = option(
        None, "--guidance", type=str, help="How prompt and negative are weighed: see `sd samplers`."
    )
    like: str = option(
        "sdcli",
        "--like",
        type=str,
        choices=("sdcli", "a1111", "comfyui", "diffusers", "compvis"),
        help="Whose conventions: sdcli, a1111, comfyui, diffusers or compvis.",
    )
    width: int | None = option(
        None, "-W", "--width", type=int, low=64, high=8192, help="Width in pixels, a multiple of 8."
    )
    height: int | None = option(
        None, "-H", "--height", type=int, low=64, high=8192, help="Height in pixels, a multiple of 8."
    )
    clip_skip: int | None = option(
        None,
        "--clip-skip",
        type=int,
        low=1,
        high=12,
        help="Which text layer from the end is read; 1 is the last.",
    )
    image: str | None = option(
        None,
        "-i",
        "--image",
        type=str,
        group="picture",
        help="The picture to start from; - is standard input.",
    )
    strength: float | None = option(
        None,
        "--strength",
        type=float,
        low=0,
        high=1,
        group="picture",
        help="How much is redrawn: that part of the steps; 0 is the picture as the VAE sees it.",
    )
    fit: str = option(
        "crop",
        "--fit",
        type=str,
        choices=("crop", "pad", "stretch", "error"),
        group="picture",
        help="How a picture comes to another size: crop, pad, stretch, or not at all (error).",
    )
    background: str = option(
        "white", "--background", type=str, group="picture", help="The colour behind a transparent picture."
    )
    mask: str | None = option(
        None, "--mask", type=str, group="mask", help="Which part is repainted: the white of this picture."
    )
    alpha_mask: bool = option(
        False, "--alpha-mask", type=bool, group="mask", help="Repaint what is transparent in the picture."
    )
    invert_mask: bool = option(
        False, "--invert-mask", type=bool, group="mask", help="Repaint the black of the mask instead."
    )
    mask_blur: float = option(
        4.0,
        "--mask-blur",
        type=float,
        low=0,
        high=256,
        group="edge",
        help="Pixels by which its edge is softened.",
    )
    mask_grow: int = option(
        0,
        "--mask-grow",
        type=int,
        low=-512,
        high=512,
        group="edge",
        help="Pixels by which it grows; below 0 it shrinks.",
    )
    masked_content: str = option(
        "original",
        "--masked-content",
        type=str,
        choices=("original", "fill", "noise", "empty"),
        group="edge",
        help="What the white part starts from: original, fill (the colours round it), noise or empty.",
    )
    only_masked: bool = option(
        False,
        "--only-masked",
        type=bool,
        group="mask",
        help="Draw the surroundings of the white part alone, at full size, and paste them back.",
    )
    padding: int = option(
        32,
        "--padding",
        type=int,
        low=0,
        high=2048,
        group="mask",
        help="Pixels round the white part for --only-masked.",
    )
    margins: str | None = option(
        None, type=str, help="Pixels to add at left, top, right and bottom, as 128,0,128,0."
    )
    depth: str | None = option(
        None, "--depth", type=str, group="depth", help="A depth map, near is white; else it is estimated."
    )
    scale: float = option(
        1.0, "--scale", type=float, low=1, high=16, group="scale", help="How many times larger, each way."
    )
    noise_level: int = option(
        20,
        "--noise-level",
        type=int,
        low=0,
        high=350,
        group="scale",
        help="Noise that an x4 upscaler adds to the picture first: more invents more.",
    )
    window: int | None = option(
        None,
        "--window",
        type=int,
        low=64,
        high=8192,
        group="scale",
        help="Draw in overlapping windows of this side in pixels, a multiple of 8.",
    )
    hires: float = option(
        1.0,
        "--hires",
        type=float,
        low=1,
        high=8,
        group="hires",
        help="Draw, enlarge so many times, and draw again.",
    )
    hires_strength: float = option(
        0.6,
        "--hires-strength",
        type=float,
        low=0,
        high=1,
        group="hires",
        help="How much is drawn again after --hires.",
    )
    hires_by: str = option(
        "picture",
        "--hires-by",
        type=str,
        choices=("picture", "latents"),
        group="hires",
        help="What --hires enlarges: the picture, or the latents.",
    )
    tile: str = option(
        "none",
        "--tile",
        type=str,
        choices=("none", "x", "y", "both"),
        help="A texture without seams, if laid side by side: x, y or both.",
    )
    latents_in: str | None = option(
        None, "--latents-in", type=str, help="Start from this safetensors file instead of seeded noise."
    )
    stop_after: int | None = option(
        None,
        "--stop-after",
        type=int,
        low=1,
        high=1000,
        help="End after this many steps, with the estimate so far; --latents-out then keeps the rest for later.",
    )
    vae: str | None = option(
        None, "--vae", type=str, help="Another VAE: a safetensors file or a folder of one."
    )
    revision: str | None = option(
        None, "--revision", type=str, help="Which revision of a hub repo; the newest if not given."
    )
    prediction: str = option(
        "auto",
        "--prediction",
        type=str,
        choices=("auto", "epsilon", "v_prediction", "sample"),
        help="What the network predicts: auto, epsilon, v_prediction or sample.",
    )
    device: str = option("auto", "--device", type=str, help="auto, cpu, cuda or cuda:N.")
    dtype: str = option(
        "auto",
        "--dtype",
        type=str,
        choices=("auto", "float32", "bfloat16", "float16"),
        help="auto, float32, bfloat16 or float16.",
    )

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            object.__setattr__(self, each.name, _checked(each, getattr(self, each.name)))
        if self.sampler is not None:
            sampler, schedule = aliases.parse_sampler(self.sampler)
            object.__setattr__(self, "sampler", sampler)
            object.__setattr__(self, "schedule", self.schedule or schedule)
            registry.check("samplers", sampler)
        if self.schedule is not None:
            object.__setattr__(self, "schedule", aliases.parse_schedule(self.schedule))
            registry.check("schedules", self.schedule)
        if self.sigmas is not None:
            levels = sigmas.parse(self.sigmas)
            object.__setattr__(self, "sigmas", sigmas.to_text(levels))
            object.__setattr__(self, "steps", _same(self.steps, len(levels) - 1))
        if (self.variation_seed is None) != (self.variation_strength == 0):
            raise UsageError("--variation-seed and --variation-strength go together; give both or neither")
        if self.seed_size is not None:
            object.__setattr__(self, "seed_size", "{}x{}".format(*size(self.seed_size)))
        if self.guidance is not None:
            registry.check("guidance", self.guidance)
        for side in ("width", "height", "window"):
            _check_multiple_of_8(side, getattr(self, side))
        _check_pictures(self)
        if self.device not in ("auto", "cpu", "cuda") and not _is_cuda_index(self.device):
            raise UsageError(f"--device {self.device!r} is not a device; use auto, cpu, cuda or cuda:0")

    def replace(self, **changes: Any) -> Request:
        """The same request with some fields changed."""
        return dataclasses.replace(self, **changes)

    def nth(self, i: int) -> Request:
        """Picture i of a count: the seed and i, or if there is a variation seed, the same seed and that and i."""
        if self.variation_seed is not None:
            return self.replace(variation_seed=self.variation_seed + i)
        return self.replace(seed=(self.seed or 0) + i)

    def as_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, and the prompt: what makes the request again."""
        pairs = ((each, getattr(self, each.name)) for each in dataclasses.fields(self))
        return {each.name: v for each, v in pairs if each.name == "prompt" or v != each.default}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """The request that `as_dict` wrote; raises UsageError for an unknown key or a bad value."""
        known = [each.name for each in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise UsageError(f"no setting is called {key!r}; {registry.nearest(str(key), known)}")
        return cls(**values)


def size(text: str) -> tuple[int, int]:
    """`512x768` -> (512, 768), width and height in pixels, multiples of 8; raises UsageError."""
    sides = re.fullmatch(r"(\d{1,4})\s*[xX×]\s*(\d{1,4})", text.strip(), re.ASCII)
    found = tuple(map(int, sides.groups())) if sides else ()
    if not found or any(side % 8 or not 64 <= side <= 8192 for side in found):
        raise UsageError(f"--seed-size {text!r} is not width x height in multiples of 8 from 64; try 512x512")
    return found[0], found[1]


def colour(text: str) -> tuple[int, int, int]:
    """A colour's name or #rrggbb -> red, green, blue; raises UsageError."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise UsageError(f"--background {text!r} is no colour; try white, black or #8080ff") from None
    return red, green, blue


def margins(text: str) -> tuple[int, int, int, int]:
    """`128,0,128,0` -> pixels to add at left, top, right and bottom; raises UsageError."""
    found = re.fullmatch(r"(\d{1,4}),(\d{1,4}),(\d{1,4}),(\d{1,4})", text, re.ASCII)
    if not found or not any(int(each) for each in found.groups()):
        raise UsageError(f"margins {text!r} add nothing; give --left, --right, --top or --bottom pixels")
    left, top, right, bottom = map(int, found.groups())
    return left, top, right, bottom


def flag(name: str) -> str:
    """The field's name as it is typed: its long flag, or PROMPT for the prompt."""
    about = {each.name: each.metadata for each in dataclasses.fields(Request)}[name]
    return about["flags"][-1] if about["flags"] else name.upper()


def _checked(each: dataclasses.Field[Any], value: Any) -> Any:
    of, low, high = each.metadata["type"], each.metadata["low"], each.metadata["high"]
    name = each.metadata["flags"][-1] if each.metadata["flags"] else each.name
    if value is None and each.default is None:
        return None
    if of is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, of) or (isinstance(value, bool) and of is not bool):
        raise UsageError(f"{name}: {value!r} is not {_a(of)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name}: {value} is not a finite number")
    if isinstance(value, str):
        _check_text(name, value)
    if low is not None and not low <= value <= high:
        raise UsageError(f"{name}: {value} is outside {low}...{high}")
    known = each.metadata["choices"]
    if known and value not in known:
        raise UsageError(f"{name}: {value!r} is unknown; {registry.nearest(value, known)}")
    return value


def _check_text(name: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{name}: the text is not valid UTF-8; check the terminal's encoding") from None
    if "\0" in value:
        raise UsageError(f"{name}: the text holds a NUL character; take it out")
    if len(value) > LONGEST_PROMPT:
        raise UsageError(f"{name}: {len(value):,} characters are more than {LONGEST_PROMPT:,}; shorten it")


def _check_pictures(asked: Request) -> None:
    """What only makes sense together, as it is typed."""
    masks = [asked.mask is not None, asked.alpha_mask, asked.margins is not None]
    if sum(masks) > 1:
        raise UsageError(
            "--mask, --alpha-mask and the margins of an outpainting exclude each other; give one"
        )
    if any(masks) and asked.image is None:
        raise UsageError("a mask says which part of a picture is repainted; give the picture with -i")
    if asked.margins is not None:
        margins(asked.margins)
    if [asked.image, asked.mask, asked.depth].count("-") > 1:
        raise UsageError(
            "only one of -i, --mask and --depth can be standard input; name a file for the others"
        )
    if asked.hires > 1 and asked.stop_after is not None:
        raise UsageError("--stop-after ends one run, --hires takes two; leave one of them out")
    if asked.hires > 1 and asked.image is not None:
        raise UsageError(
            "--hires draws a picture from nothing first; to enlarge one there is, use sd upscale"
        )


def _same(steps: int | None, levels: int) -> int:
    if steps not in (None, levels):
        raise UsageError(f"--steps {steps} is not the {levels} of --sigmas; leave one of them out")
    return levels


def _check_multiple_of_8(side: str, value: int | None) -> None:
    if value is not None and value % 8:
        below = value - value % 8
        raise UsageError(f"--{side} {value} is not a multiple of 8; the nearest are {below} and {below + 8}")


def _is_cuda_index(device: str) -> bool:
    kind, _, index = device.partition(":")
    return kind == "cuda" and index.isascii() and index.isdigit()


def _a(type: type) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[type]
