"""Request: what is asked for one picture. Everything that decides its pixels, as one frozen value, checked when made.

Each field is declared once, in the group it belongs to; the command line's option, the key of job files and PNG
metadata, and all checks come from there. None means: not asked for, the model's own default.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sdcli import errors, registry
from sdcli.errors import UsageError
from sdcli.request import aliases, controls, fields, loras, regions, sigmas
from sdcli.request.fields import option
from sdcli.request.prompt.emphases import EMPHASES
from sdcli.request.resize import FITS
from sdcli.request.sigmas import MAX_STEPS

if TYPE_CHECKING:
    from sdcli.request.field_types import OptionalImage, OptionalPath, Path

MAX_SEED = 2**32 - 1
MAX_LONG_SEED = 2**64 - 1
"""The largest seed of generators that count 64 bits, and of ComfyUI; torch's CPU generator uses the low 32 bits."""
INDEPENDENT = frozenset({"prompt", "negative", "prompt_2", "negative_2", "strength", "cfg", "seed"})
"""Fields that are checked by themselves, but for the range of a seed: changing them leaves the others as they are."""
Group = TypeVar("Group", bound="Loading | MaskEdge | Hires")


@dataclass(frozen=True, kw_only=True)
class Loading(fields.Checked):
    """Which model is loaded, and how. Two pictures with equal values share one loaded model."""

    model: Path = option(
        "tiny", "-m", "--model", type=str, path=True,
        help="Model: tiny (embedded), a safetensors file, a diffusers folder, or a hub repo.",
    )  # fmt: skip
    vae: OptionalPath = option(
        None,
        "--vae",
        type=str,
        path=True,
        help="Use another VAE: a safetensors file or a folder that holds one.",
    )
    revision: str | None = option(
        None, "--revision", type=str, help="Revision of a hub repo; the newest if not given."
    )
    prediction: str = option(
        "auto", "--prediction", type=str, choices=("auto", "epsilon", "v_prediction", "sample"),
        help="What the U-Net predicts: auto, epsilon, v_prediction or sample.",
    )  # fmt: skip
    ztsnr: bool = option(
        False, "--ztsnr", type=bool,
        help="Rescale the noise levels to zero terminal SNR, for models trained so that do not say it.",
    )  # fmt: skip
    networks: str = option(
        "sdcli", "--networks", type=str, choices=("sdcli", "diffusers"),
        help="Network code: sdcli's own, or the classes of diffusers and transformers, for comparison.",
    )  # fmt: skip
    engine: str = option(
        "torch", "--engine", type=str, plugin="engines",
        help="What runs the U-Net and the VAE's decoder; torch is the reference, the others are of other speed.",
    )  # fmt: skip
    device: str = option("auto", "--device", type=str, help="Device: auto, cpu, cuda or cuda:N.")
    dtype: str = option(
        "auto", "--dtype", type=str, choices=("auto", "float32", "bfloat16", "float16"),
        help="Number format of the networks: auto, float32, bfloat16 or float16.",
    )  # fmt: skip
    store: str = option(
        "auto", "--store", type=str, choices=("auto", "bf16", "fp8"),
        help="Keep weights in memory as bf16 or fp8, and cast each layer to --dtype when it runs; changes the picture.",
    )  # fmt: skip
    stream: bool = option(
        False, "--stream", type=bool, recorded=False,
        help="Read the weights of each layer from the file when it runs: little memory, more time, the same picture.",
    )  # fmt: skip
    threads: int | None = option(
        None, "--threads", type=int, low=1, high=1024,
        help="Threads on a CPU; one per core if not given. Their number changes the last bits of a picture.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        fields.check_fields(self)
        if self.device not in ("auto", "cpu", "cuda") and not _is_cuda_index(self.device):
            raise UsageError(f"--device {self.device!r} is not a device; use auto, cpu, cuda or cuda:0")


@dataclass(frozen=True, kw_only=True)
class StartImage:
    """The picture that a run starts from."""

    image: OptionalImage = option(
        None,
        "-i",
        "--image",
        type=str,
        picture=True,
        help="Picture to start from; - reads it from standard input.",
    )
    strength: float | None = option(
        None, "--strength", type=float, low=0, high=1, from_model=True,
        help="How much is redrawn, as a share of the steps; 0 only encodes and decodes the picture.",
    )  # fmt: skip
    fit: str | None = option(
        None, "--fit", type=str, choices=FITS,
        help="How a picture of another size is fitted: crop (the default), pad, stretch, or refuse it (error). "
        "A mask or depth map of another size than the picture is refused unless this is given.",
    )  # fmt: skip
    background: str = option(
        "white", "--background", type=str, help="Colour behind the transparent parts of a picture."
    )


@dataclass(frozen=True, kw_only=True)
class MaskEdge:
    """How the border between what is kept and what is repainted is treated."""

    mask_blur: float = option(
        4.0, "--mask-blur", type=float, low=0, high=256, help="Blur the edge of the mask by so many pixels."
    )
    mask_grow: int = option(
        0, "--mask-grow", type=int, low=-512, high=512,
        help="Grow the mask by so many pixels; negative values shrink it.",
    )  # fmt: skip
    masked_content: str = option(
        "original", "--masked-content", type=str, choices=("original", "fill", "noise", "empty", "grey"),
        help="What the masked part starts from: original, fill (surrounding colours), noise, empty or grey (grown by "
             "6 pixels, as ComfyUI's VAEEncodeForInpaint).",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mask(MaskEdge):
    """Which part of the picture is repainted."""

    mask: OptionalImage = option(
        None, "--mask", type=str, picture=True, help="Mask: the white part of this picture is repainted."
    )
    alpha_mask: bool = option(
        False, "--alpha-mask", type=bool, help="Repaint the transparent part of the picture."
    )
    invert_mask: bool = option(
        False, "--invert-mask", type=bool, help="Repaint the black part of the mask instead."
    )
    only_masked: bool = option(
        False, "--only-masked", type=bool,
        help="Draw only the masked part and its surroundings, at full size, and paste the result back.",
    )  # fmt: skip
    padding: int = option(
        32, "--padding", type=int, low=0, high=2048,
        help="Pixels of surroundings that --only-masked draws along.",
    )  # fmt: skip
    margins: str | None = option(
        None, type=str, help="Pixels that outpainting adds at left, top, right and bottom, as 128,0,128,0."
    )


@dataclass(frozen=True, kw_only=True)
class Depth:
    """The depth map of a depth-to-image model."""

    depth: OptionalImage = option(
        None,
        "--depth",
        type=str,
        picture=True,
        help="Depth map, white is near; estimated from the picture if not given.",
    )


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """How a picture is enlarged."""

    scale: float = option(1.0, "--scale", type=float, low=1, high=16, help="Enlarge each side so many times.")
    noise_level: int = option(
        20, "--noise-level", type=int, low=0, high=350,
        help="Noise that an x4 upscaler adds to the picture first; more noise lets it invent more.",
    )  # fmt: skip
    window: int | None = option(
        None, "--window", type=int, low=64, high=8192,
        help="Draw in overlapping windows of this side in pixels, a multiple of 8.",
    )  # fmt: skip


HIRES_BY = ("picture", "latents")
"""What --hires-by names beside the upscaler files."""


@dataclass(frozen=True, kw_only=True)
class Hires:
    """The second pass over an enlarged picture."""

    hires: float = option(
        1.0,
        "--hires",
        type=float,
        low=1,
        high=8,
        help="Draw, enlarge each side so many times, and draw again.",
    )
    hires_strength: float = option(
        0.6, "--hires-strength", type=float, low=0, high=1, help="Strength of the second pass of --hires."
    )
    hires_by: str = option(
        "picture", "--hires-by", type=str, path=True,
        help="What --hires enlarges: the decoded picture (picture), by Lanczos' filter; the latents (latents); or the "
             "picture, by the ESRGAN, Real-ESRGAN or SwinIR file of this path or name.",
    )  # fmt: skip

    @property
    def hires_upscaler(self) -> str:
        """The upscaler file of --hires-by; empty if it names none, or if there is no second pass."""
        return "" if self.hires == 1 or self.hires_by in HIRES_BY else self.hires_by


@dataclass(frozen=True)
class Request(Hires, Upscale, Depth, Mask, StartImage, Loading):
    """What is asked for one picture; `replace(seed=8)` is the same request with a change."""

    prompt: str = option(
        "", type=str, may_be_empty=True, help="What to draw; - reads it from standard input."
    )
    negative: str = option(
        "", "-n", "--negative", type=str, may_be_empty=True, help="What to steer away from."
    )
    style: tuple[str, ...] = option(
        (), "--style", type=str, many=True,
        help="Add the style of this name to the prompts; may be given several times.",
    )  # fmt: skip
    styles_file: OptionalPath = option(
        None, "--styles-file", type=str, path=True,
        help="Where the styles are: a styles.csv of A1111, or TOML; SDCLI_STYLES if not given.",
    )  # fmt: skip
    wildcards: OptionalPath = option(
        None, "--wildcards", type=str, path=True,
        help="Folder with a list for each __name__ in a prompt; SDCLI_WILDCARDS if not given.",
    )  # fmt: skip
    variants: bool | None = option(
        None, "--variants", type=bool, off="--no-variants",
        help="Draw one of {red|blue}, and a line for __name__, by the seed, or take them as words; they are drawn "
             "if this is not given, but not with another --like.",
    )  # fmt: skip
    prompt_2: str | None = option(
        None, "--prompt-2", type=str, may_be_empty=True,
        help="Another prompt for the second text encoder, of SDXL; the same one if not given.",
    )  # fmt: skip
    negative_2: str | None = option(
        None, "--negative-2", type=str, may_be_empty=True,
        help="Another negative prompt for the second text encoder, of SDXL.",
    )  # fmt: skip
    region: tuple[str, ...] = option(
        (), "--region", type=str, many=True,
        help="A prompt for a part of the picture: 'a cat@0,0,0.5,1' for the left half, as X,Y,WIDTH,HEIGHT in shares "
             "of the picture, or 'a cat@mask.png'; ,0.5 behind it is its strength, 0.8 if not given. Repeatable.",
    )  # fmt: skip
    control: tuple[str, ...] = option(
        (), "--control", type=str, many=True, path=True,
        help="A ControlNet, Control-LoRA or T2I-Adapter and what it is shown: 'canny.safetensors:image=edges.png'; "
             "behind it :weight=0.8, :start=0.2, :end=0.6, :mode=prompt or control, :annotate=canny. Repeatable.",
    )  # fmt: skip
    emphasis: str | None = option(
        None, "--emphasis", type=str, choices=EMPHASES, from_model=True,
        help="How weights such as (word:1.3) act: a1111, no_norm, comfyui or compel, each with its language; none "
             "draws the prompt as it is typed.",
    )  # fmt: skip
    embedding: tuple[str, ...] = option(
        (), "--embedding", type=str, many=True, path=True,
        help="Textual inversion that the prompts name: a safetensors file, typed by its name without the ending; may "
             "be given several times. Those in the folder SDCLI_EMBEDDINGS need no option.",
    )  # fmt: skip
    lora: tuple[str, ...] = option(
        (), "--lora", type=str, many=True, path=True,
        help="LoRA, or a kin of it: FILE, FILE@0.8 for its strength, FILE@0.8:te=0.6 for another one in the text "
             "encoder, FILE@0.8:0-0.5 for the first half of the steps. Repeatable; a prompt names one as "
             "<lora:name:0.8>, from the folder SDCLI_LORAS.",
    )  # fmt: skip
    hypernet: tuple[str, ...] = option(
        (), "--hypernet", type=str, many=True, path=True,
        help="Hypernetwork of A1111, as safetensors: FILE, or FILE@0.5 for half its strength. Repeatable; a prompt "
             "names one as <hypernet:name:0.5>, from the folder SDCLI_HYPERNETS.",
    )  # fmt: skip
    ip_adapter: tuple[str, ...] = option(
        (), "--ip-adapter", type=str, many=True, path=True,
        help="A picture as a prompt: FILE:image=face.png, with the file of an IP-Adapter; behind it :weight=0.8, "
             ":start=0 and :end=0.5 in shares of the steps, and :encoder=FILE for the image encoder, which "
             "SDCLI_IMAGE_ENCODER names once for all. Repeatable.",
    )  # fmt: skip
    reference: str | None = option(
        None, "--reference", type=str, path=True,
        help="Take on the looks of this picture: in.png, or in.png:fidelity=0.5:mode=attention:weight=1; mode is "
             "attention, adain or both, and a higher fidelity keeps closer to its style. Each step takes twice as "
             "long.",
    )  # fmt: skip
    freeu: str | None = option(
        None, "--freeu", type=str,
        help="Weigh the U-Net's own features more and its skip connections less: auto, or b1,b2,s1,s2 as "
             "1.5,1.6,0.9,0.2; version=2 and by=block may follow.",
    )  # fmt: skip
    tome: float = option(
        0.0, "--tome", type=float, low=0, high=0.75,
        help="Merge this share of the tokens that are alike before self-attention: faster on large pictures, less "
             "exact; 0.5 is common.",
    )  # fmt: skip
    deepcache: int = option(
        1, "--deepcache", type=int, low=1, high=20,
        help="Run the whole U-Net at every N-th noise level only, and its outer layers at the others: faster, less "
             "exact; 2 or 3 is common, and 1 always runs all of it.",
    )  # fmt: skip
    allow_partial: bool = option(
        False, "--allow-partial", type=bool,
        help="Draw with an adapter of which some tensors fit nothing in the model; they are listed.",
    )  # fmt: skip
    seed: int | None = option(
        None,
        "--seed",
        type=int,
        low=0,
        high=MAX_LONG_SEED,
        help="Seed of the noise; drawn at random if not given.",
    )
    rng: str = option(
        "torch", "--rng", type=str, choices=("torch", "philox", "comfyui", "comfyui_cpu"),
        help="Noise generator: torch, philox (CUDA's, the default of A1111), comfyui (on a GPU) or comfyui_cpu.",
    )  # fmt: skip
    ensd: int = option(
        0, "--eta-noise-seed-delta", type=int, low=-MAX_SEED, high=MAX_SEED,
        help="Number added to the seed of the steps' noise, as A1111's ENSD.",
    )  # fmt: skip
    variation_seed: int | None = option(
        None, "--variation-seed", type=int, low=0, high=MAX_LONG_SEED,
        help="Seed of a second noise that --variation-strength mixes in.",
    )  # fmt: skip
    variation_strength: float = option(
        0.0, "--variation-strength", type=float, low=0, high=1,
        help="How much of the noise of --variation-seed is mixed in, 0 to 1.",
    )  # fmt: skip
    seed_size: str | None = option(
        None, "--seed-size", type=str,
        help="Draw the noise for this size, as 512x512, to keep a seed's composition at another size.",
    )  # fmt: skip
    steps: int | None = option(
        None, "-s", "--steps", type=int, low=1, high=MAX_STEPS, from_model=True,
        help="Steps of the sampler.",
    )  # fmt: skip
    cfg: float | None = option(
        None, "--cfg", type=float, low=-1000, high=1000, from_model=True,
        help="Guidance scale: how strongly the prompt steers; 1 turns guidance off.",
    )  # fmt: skip
    sampler: str | None = option(
        None,
        "--sampler",
        type=str,
        plugin="samplers",
        from_model=True,
        help="Sampler; `sd samplers` lists them.",
    )
    schedule: str | None = option(
        None, "--schedule", type=str, plugin="schedules", from_model=True,
        help="Noise schedule; `sd samplers` lists them, automatic is the one that A1111 takes for the sampler.",
    )  # fmt: skip
    sigmas: str | None = option(
        None, "--sigmas", type=str,
        help="Noise levels of your own, as 14.6,7,2.1,0; they replace --steps and --schedule.",
    )  # fmt: skip
    guidance: str | None = option(
        None, "--guidance", type=str, plugin="guidance", from_model=True,
        help="How prompt and negative prompt are combined; `sd samplers` lists the ways.",
    )  # fmt: skip
    like: str = option(
        "sdcli", "--like", type=str, choices=("sdcli", "a1111", "comfyui", "diffusers", "compvis"),
        help="Follow the conventions of this tool: sdcli, a1111, comfyui, diffusers or compvis.",
    )  # fmt: skip
    width: int | None = option(
        None, "-W", "--width", type=int, low=64, high=8192, from_model=True,
        help="Width in pixels, a multiple of 8.",
    )  # fmt: skip
    height: int | None = option(
        None, "-H", "--height", type=int, low=64, high=8192, from_model=True,
        help="Height in pixels, a multiple of 8.",
    )  # fmt: skip
    clip_skip: int | None = option(
        None, "--clip-skip", type=int, low=1, high=24, from_model=True,
        help="Text encoder layer to use, counted from the end; 1 is the last, which SD 1 uses by itself. SD 2 and SDXL "
             "use 2, the penultimate: there 1 and 2 change nothing, and 3 is the one before. The clip_skip of "
             "diffusers is 1 less for SD 1, and 2 less for SD 2 and SDXL.",
    )  # fmt: skip
    tile: str = option(
        "none", "--tile", type=str, choices=("none", "x", "y", "both"),
        help="Make a texture that repeats without seams: x (sideways), y (up and down) or both.",
    )  # fmt: skip
    latents_in: OptionalPath = option(
        None,
        "--latents-in",
        type=str,
        path=True,
        help="Start from the latents in this safetensors file, not from seeded noise.",
    )
    stop_after: int | None = option(
        None, "--stop-after", type=int, low=1, high=MAX_STEPS,
        help="Stop after so many steps and decode the estimate; --latents-out then saves what is needed to go on.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self._normalise_sampling()
        if self.seed_size is not None:
            self._set("seed_size", "{}x{}".format(*parse_size(self.seed_size)))
        if (self.variation_seed is None) != (self.variation_strength == 0):
            raise UsageError("--variation-seed and --variation-strength go together; give both or neither")
        for side in ("width", "height", "window"):
            _check_multiple_of_8(side, getattr(self, side))
        for region in self.region:
            regions.parse(region)
        for lora in self.lora:
            loras.parse(lora)
        _check_adapters(self)
        is_masked = self.mask is not None or self.alpha_mask or self.margins is not None
        controls.check(self.control, self.image is not None, is_masked)
        _check_seeds(self)
        _check_masks(self)
        _check_hires(self)
        if [self.image, self.mask, self.depth].count("-") > 1:
            raise UsageError(
                "only one of -i, --mask and --depth can be standard input; name a file for the others"
            )

    def _normalise_sampling(self) -> None:
        """Give samplers, schedules and noise levels their one spelling, and check that they exist."""
        if self.sampler is not None:
            sampler, schedule = aliases.parse_sampler(self.sampler)
            self._set("sampler", sampler)
            if schedule and (self.schedule is None or aliases.parse_schedule(self.schedule) == "automatic"):
                self._set("schedule", schedule)
        if self.schedule is not None:
            self._set("schedule", aliases.parse_schedule(self.schedule))
        if self.schedule == "automatic" and self.sampler is not None:
            self._set("schedule", aliases.automatic(self.sampler))
        if self.sigmas is not None:
            levels = sigmas.parse(self.sigmas)
            self._set("sigmas", sigmas.to_text(levels))
            self._set("steps", _steps_of(self.steps, len(levels) - 1))
        for name, kind in _PLUGINS.items():
            value = getattr(self, name)
            if value not in (None, "automatic"):  # which waits until the model has named the sampler
                registry.parse(kind, value)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @functools.cached_property
    def loading(self) -> Loading:
        """Which model is to be loaded, and how."""
        return self.group(Loading)

    def group(self, kind: type[Group]) -> Group:
        """One group of the request's fields, such as `Loading`, `Mask` or `Hires`, as a value of its own."""
        names = fields.declared_in(kind)  # type: ignore[arg-type]
        return kind(**{name: getattr(self, name) for name in names})

    def replace(self, **changes: Any) -> Request:
        """The same request with some fields changed; raises UsageError as making one does."""
        if not changes.keys() <= INDEPENDENT:
            return dataclasses.replace(self, **changes)
        changed: Request = object.__new__(type(self))
        changed.__dict__.update(self.__dict__)  # `loading` too, which none of them is in
        for name, value in changes.items():
            changed._set(name, fields.checked(_DECLARED[name], value))
        _check_seeds(changed)
        return changed

    def with_seed(self) -> Request:
        """The same request; where it has no seed, with one drawn at random."""
        if self.seed is not None:
            return self

        import secrets

        return self.replace(seed=secrets.randbelow(MAX_SEED + 1))

    def nth(self, i: int) -> Request:
        """Picture i of a count: seed + i; with a variation seed, the same seed and variation seed + i."""
        if self.variation_seed is not None:
            return self.replace(variation_seed=self.variation_seed + i)
        if self.seed is None:
            raise UsageError("the pictures of a count are numbered by their seed; give --seed")
        return self.replace(seed=self.seed + i)

    def as_dict(self) -> dict[str, Any]:
        """The prompt and the fields that differ from their defaults, as JSON values: `from_dict` reads them."""
        return {"prompt": self.prompt, **fields.as_dict(self)}

    def as_record(self) -> dict[str, Any]:
        """`as_dict` without what changes no bit of the picture: what its metadata says."""
        return {"prompt": self.prompt, **fields.as_record(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """The request that `as_dict` wrote; raises UsageError for an unknown key or a bad value."""
        fields.check_keys(values, [each.name for each in dataclasses.fields(cls)])
        return cls(**values)


_DECLARED = fields.declared_in(Request)
_PLUGINS = {name: kind for name, each in _DECLARED.items() if (kind := fields.option_of(each).plugin)}
errors.PYTHON_NAMES.update(fields.python_names(Request))
Request.__doc__ = f"{Request.__doc__}\n\n{fields.documentation(Request)}"


def parse_size(text: str) -> tuple[int, int]:
    """`512x768` -> (512, 768), width and height in pixels, multiples of 8; raises UsageError."""
    sides = re.fullmatch(r"(\d{1,4})\s*[xX×]\s*(\d{1,4})", text.strip(), re.ASCII)
    width, height = map(int, sides.groups()) if sides else (0, 0)
    if any(side % 8 or not 64 <= side <= 8192 for side in (width, height)):
        raise UsageError(f"--seed-size {text!r} is not width x height in multiples of 8 from 64; try 512x512")
    return width, height


def parse_colour(text: str) -> tuple[int, int, int]:
    """A colour's name or #rrggbb -> red, green, blue; raises UsageError."""
    if text == "white":  # the default, which takes no table of colours
        return 255, 255, 255

    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise UsageError(f"--background {text!r} is no colour; try white, black or #8080ff") from None
    return red, green, blue


def parse_margins(text: str) -> tuple[int, int, int, int]:
    """`128,0,128,0` -> pixels to add at left, top, right and bottom; raises UsageError if there are none."""
    numbers = re.fullmatch(r"(\d{1,4}),(\d{1,4}),(\d{1,4}),(\d{1,4})", text, re.ASCII)
    if not numbers or not any(int(each) for each in numbers.groups()):
        raise UsageError(f"margins {text!r} add nothing; give --left, --right, --top or --bottom pixels")
    left, top, right, bottom = map(int, numbers.groups())
    return left, top, right, bottom


def flag(name: str) -> str:
    """The field's name as it is typed: its long flag, or PROMPT for the prompt."""
    declared = _DECLARED[name]
    return fields.spelling(declared) if fields.option_of(declared).flags else name.upper()


def _check_seeds(request: Request) -> None:
    """Raise UsageError for a seed of which the generator would use only the low 32 bits, unless ComfyUI does so too."""
    if request.ensd and request.rng.startswith("comfyui"):
        raise UsageError(
            "--eta-noise-seed-delta is A1111's; it goes with --rng torch or philox, not with ComfyUI's generators"
        )
    if request.rng != "torch" or request.like == "comfyui":
        return
    for name in ("seed", "variation_seed"):
        if (value := getattr(request, name) or 0) > MAX_SEED:
            raise UsageError(
                f"{flag(name)}: {value} is outside 0...{MAX_SEED}; --rng philox and --rng comfyui take seeds to 2^64-1"
            )


def _check_masks(request: Request) -> None:
    masks = [request.mask is not None, request.alpha_mask, request.margins is not None]
    if sum(masks) > 1:
        raise UsageError(
            "--mask, --alpha-mask and the margins of an outpainting exclude each other; give one"
        )
    if any(masks) and request.image is None:
        raise UsageError("a mask says which part of a picture is repainted; give the picture with -i")
    if request.margins is not None:
        parse_margins(request.margins)


def _check_adapters(request: Request) -> None:
    """Raise UsageError for a setting of an adapter that cannot be meant; how each is typed is imported if it is."""
    if request.hypernet:
        from sdcli.request.weighted_file import parse_weighted_file

        for text in request.hypernet:
            parse_weighted_file("--hypernet", text)
    if request.ip_adapter:
        from sdcli.request import ip_adapters

        for text in request.ip_adapter:
            ip_adapters.parse(text)
    if request.reference is not None:
        from sdcli.request import reference

        reference.parse(request.reference)
    if request.freeu is not None:
        from sdcli.request import freeu

        freeu.parse(request.freeu)


def _check_hires(request: Request) -> None:
    if request.hires > 1 and request.stop_after is not None:
        raise UsageError("--stop-after ends one run, --hires takes two; leave one of them out")
    if request.hires > 1 and request.image is not None:
        raise UsageError(
            "--hires draws a picture from nothing first; to enlarge one there is, use sd upscale"
        )


def _steps_of(steps: int | None, levels: int) -> int:
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
