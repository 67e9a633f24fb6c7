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
from sdcli.request import labels, sigmas

LONGEST_PROMPT = 20_000  # characters; what fits a PNG's text chunk with room to spare


def asks(
    default: Any, *flags: str, of: type, help: str, low: float | None = None, high: float | None = None
) -> Any:
    """A field of the Request: its default, the flags it has on the command line, its type, help and range."""
    about = {"flags": flags, "of": of, "help": help, "low": low, "high": high}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Request:
    """What is asked: one picture. `but(seed=8)` is the same with a change."""

    prompt: str = asks("", of=str, help="What to draw; - reads it from standard input.")
    negative: str = asks("", "-n", "--negative", of=str, help="What to steer away from.")
    model: str = asks(
        "tiny",
        "-m",
        "--model",
        of=str,
        help="tiny (embedded), a safetensors file, a diffusers folder, or a hub repo.",
    )
    seed: int | None = asks(
        None, "--seed", of=int, low=0, high=2**32 - 1, help="Which noise to start from; drawn if not given."
    )
    rng: str = asks(
        "torch",
        "--rng",
        of=str,
        help="Whose noise: torch, philox (CUDA's, as in A1111) or comfyui.",
    )
    variation_seed: int | None = asks(
        None,
        "--variation-seed",
        of=int,
        low=0,
        high=2**32 - 1,
        help="Another noise to go towards, by --variation-strength.",
    )
    variation_strength: float = asks(
        0.0,
        "--variation-strength",
        of=float,
        low=0,
        high=1,
        help="How far towards the noise of --variation-seed, 0 to 1.",
    )
    seed_size: str | None = asks(
        None, "--seed-size", of=str, help="Keep the composition of the seed at another size, as 512x512."
    )
    steps: int | None = asks(None, "-s", "--steps", of=int, low=1, high=1000, help="Steps of the sampler.")
    cfg: float | None = asks(
        None, "--cfg", of=float, low=-1000, high=1000, help="How strongly the prompt guides; 1 is not at all."
    )
    sampler: str | None = asks(None, "--sampler", of=str, help="How to walk: see `sd samplers`.")
    schedule: str | None = asks(
        None, "--schedule", of=str, help="Which noise levels to visit: see `sd samplers`."
    )
    sigmas: str | None = asks(
        None,
        "--sigmas",
        of=str,
        help="Noise levels of one's own, as 14.6,7,2.1,0; for --steps and --schedule.",
    )
    guidance: str = asks("cfg", "--guidance", of=str, help="How prompt and negative are weighed.")
    like: str = asks(
        "sdcli",
        "--like",
        of=str,
        help="Whose conventions: sdcli, a1111, comfyui, diffusers or compvis.",
    )
    width: int | None = asks(
        None, "-W", "--width", of=int, low=64, high=8192, help="Width in pixels, a multiple of 8."
    )
    height: int | None = asks(
        None, "-H", "--height", of=int, low=64, high=8192, help="Height in pixels, a multiple of 8."
    )
    clip_skip: int | None = asks(
        None,
        "--clip-skip",
        of=int,
        low=1,
        high=12,
        help="Which text layer from the end is read; 1 is the last.",
    )
    latents_in: str | None = asks(
        None, "--latents-in", of=str, help="Start from this safetensors file instead of seeded noise."
    )
    stop_after: int | None = asks(
        None,
        "--stop-after",
        of=int,
        low=1,
        high=1000,
        help="End after this many steps, with the estimate so far; --latents-out then keeps the rest for later.",
    )
    vae: str | None = asks(None, "--vae", of=str, help="Another VAE: a safetensors file or a folder of one.")
    revision: str | None = asks(
        None, "--revision", of=str, help="Which revision of a hub repo; the newest if not given."
    )
    prediction: str = asks(
        "auto",
        "--prediction",
        of=str,
        help="What the network predicts: auto, epsilon, v_prediction or sample.",
    )
    device: str = asks("auto", "--device", of=str, help="auto, cpu, cuda or cuda:N.")
    dtype: str = asks("auto", "--dtype", of=str, help="auto, float32, bfloat16 or float16.")

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            object.__setattr__(self, each.name, _checked(each, getattr(self, each.name)))
        if self.sampler is not None:
            sampler, schedule = labels.parse(self.sampler)
            object.__setattr__(self, "sampler", sampler)
            object.__setattr__(self, "schedule", self.schedule or schedule)
            registry.check("samplers", sampler)
        if self.schedule is not None:
            object.__setattr__(self, "schedule", labels.plain(self.schedule))
            registry.check("schedules", self.schedule)
        if self.sigmas is not None:
            levels = sigmas.parse(self.sigmas)
            object.__setattr__(self, "sigmas", sigmas.plain(levels))
            object.__setattr__(self, "steps", _same(self.steps, len(levels) - 1))
        if (self.variation_seed is None) != (self.variation_strength == 0):
            raise UsageError("--variation-seed and --variation-strength go together; give both or neither")
        if self.seed_size is not None:
            object.__setattr__(self, "seed_size", "{}x{}".format(*size(self.seed_size)))
        _check_choice("rng", self.rng, ("torch", "philox", "comfyui"))
        _check_choice("like", self.like, ("sdcli", "a1111", "comfyui", "diffusers", "compvis"))
        registry.check("guidance", self.guidance)
        for side in ("width", "height"):
            _check_multiple_of_8(side, getattr(self, side))
        _check_choice("prediction", self.prediction, ("auto", "epsilon", "v_prediction", "sample"))
        _check_choice("dtype", self.dtype, ("auto", "float32", "bfloat16", "float16"))
        if self.device not in ("auto", "cpu", "cuda") and not _is_cuda_index(self.device):
            raise UsageError(f"--device {self.device!r} is not a device; use auto, cpu, cuda or cuda:0")

    def but(self, **changes: Any) -> Request:
        """The same request with some fields changed."""
        return dataclasses.replace(self, **changes)

    def nth(self, i: int) -> Request:
        """Picture i of a count: the seed and i, or if there is a variation seed, the same seed and that and i."""
        if self.variation_seed is not None:
            return self.but(variation_seed=self.variation_seed + i)
        return self.but(seed=(self.seed or 0) + i)

    def as_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, and the prompt: what makes the request again."""
        pairs = ((each, getattr(self, each.name)) for each in dataclasses.fields(self))
        return {each.name: v for each, v in pairs if each.name == "prompt" or v != each.default}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Request:
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


def flag(name: str) -> str:
    """The field's name as it is typed: its long flag, or PROMPT for the prompt."""
    about = {each.name: each.metadata for each in dataclasses.fields(Request)}[name]
    return about["flags"][-1] if about["flags"] else name.upper()


def _checked(each: dataclasses.Field[Any], value: Any) -> Any:
    of, low, high = each.metadata["of"], each.metadata["low"], each.metadata["high"]
    name = each.metadata["flags"][-1] if each.metadata["flags"] else each.name
    if value is None and each.default is None:
        return None
    if of is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, of) or isinstance(value, bool):
        raise UsageError(f"{name}: {value!r} is not {_a(of)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name}: {value} is not a finite number")
    if isinstance(value, str):
        _check_text(name, value)
    if low is not None and not low <= value <= high:
        raise UsageError(f"{name}: {value} is outside {low}...{high}")
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


def _same(steps: int | None, levels: int) -> int:
    if steps not in (None, levels):
        raise UsageError(f"--steps {steps} is not the {levels} of --sigmas; leave one of them out")
    return levels


def _check_multiple_of_8(side: str, value: int | None) -> None:
    if value is not None and value % 8:
        below = value - value % 8
        raise UsageError(f"--{side} {value} is not a multiple of 8; the nearest are {below} and {below + 8}")


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"--{name}: {value!r} is unknown; {registry.nearest(value, known)}")


def _is_cuda_index(device: str) -> bool:
    kind, _, index = device.partition(":")
    return kind == "cuda" and index.isascii() and index.isdigit()


def _a(of: type) -> str:
    return {int: "a whole number", float: "a number", str: "a text"}[of]
