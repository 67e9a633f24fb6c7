"""Job: what will be done for one picture. A Request with nothing left open and every value parsed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.registry import Spec
from sdcli.request import controls, freeu, ip_adapters, loras, regions, sigmas
from sdcli.request import reference as references
from sdcli.request.controls import ControlUse
from sdcli.request.freeu import FreeU
from sdcli.request.ip_adapters import IpAdapter
from sdcli.request.loras import Lora
from sdcli.request.reference import Reference
from sdcli.request.regions import Region
from sdcli.request.request import Hires, Mask, Request, parse_size
from sdcli.request.resize import FIT
from sdcli.request.weighted_file import WeightedFile, parse_weighted_file


@dataclass(frozen=True)
class Job:
    """Everything that is done for one picture. `request` is the record: it gives the same job again.

    Sizes are in pixels. `model.with_defaults(request)` makes a job; nothing below the engine sees a Request.
    """

    request: Request
    prompt: str
    negative: str
    prompt_2: str  # for the second text encoder
    negative_2: str
    regions: tuple[Region, ...]
    controls: tuple[ControlUse, ...]
    emphasis: str
    embedding: tuple[str, ...]  # paths of the textual inversions that the prompts name
    lora: tuple[Lora, ...]
    hypernet: tuple[WeightedFile, ...]
    ip_adapter: tuple[IpAdapter, ...]
    reference: tuple[Reference, ...]  # one, or none
    freeu: tuple[FreeU, ...]  # one, or none
    tome: float  # share of the tokens that are merged
    deepcache: int  # the whole U-Net runs at every so many noise levels
    allow_partial: bool  # an adapter may have tensors that fit nothing in the model
    clip_skip: (
        int  # text encoder layer, counted from the end; 1 is the last, or the family's own if that is earlier
    )
    seed: int
    rng: str
    ensd: int  # added to the seed of the steps' noise; 0: the steps go on with the first noise's stream
    variation_seed: int
    variation_strength: float  # 0: no variation
    noise_size: tuple[int, ...]  # (width, height) that the noise is drawn for; empty: the picture's own
    steps: int
    cfg: float
    sampler: Spec
    schedule: Spec
    guidance: Spec
    sigmas: tuple[float, ...]  # noise levels that the user typed; empty: those of the schedule
    like: str
    width: int
    height: int
    first_pass_steps: int  # in the second pass of --hires; else 0
    strength: float  # share of the steps that is taken over a picture; 1 where there is none
    fit: str
    scale: float  # how many times a picture is enlarged; 1 where it is not
    noise_level: int
    window: int  # side of the windows that the U-Net sees; 0: the whole picture at once
    tile: str
    latents_in: str  # path of a latents file; empty: seeded noise
    stop_after: int  # steps; 0: all of them
    mask: Mask
    hires: Hires

    def with_words(self, prompt: str, negative: str) -> Job:
        """The same job with another prompt and negative prompt."""
        request = self.request.replace(prompt=prompt, negative=negative)
        words: dict[str, Any] = {"prompt": prompt, "negative": negative, **_second_words(request)}
        changed: Job = object.__new__(Job)  # in a third of the time that dataclasses.replace takes
        changed.__dict__.update(self.__dict__, request=request, **words)
        return changed

    @property
    def second_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the second pass of `--hires`; the job's own size if there is none."""
        width, height = (round(side * self.hires.hires / 8) * 8 for side in (self.width, self.height))
        return width, height

    def enlarged(self, width: int, height: int) -> Job:
        """The second pass of `--hires`: the same job at a larger size, over what the first pass left."""
        return dataclasses.replace(
            self,
            width=width,
            height=height,
            strength=self.hires.hires_strength,
            latents_in="",
            first_pass_steps=self.steps,
        )


_OF_REQUESTS = {each.name for each in dataclasses.fields(Request)}
_SHARED = tuple(each.name for each in dataclasses.fields(Job) if each.name in _OF_REQUESTS)
"""The fields that a Job takes from its Request; it parses some of them."""


def job_of(request: Request) -> Job:
    """The job of a request that has a seed and whose fields with a default from the model are filled in.

    Raises UsageError for a field that is still open.
    """
    for name in (
        "seed",
        "emphasis",
        "clip_skip",
        "steps",
        "cfg",
        "sampler",
        "schedule",
        "guidance",
        "width",
        "height",
    ):
        if getattr(request, name) is None:
            raise UsageError(f"{name} is not decided; make the job with model.with_defaults")
    values: dict[str, Any] = {name: getattr(request, name) for name in _SHARED}
    return Job(
        **values
        | {
            "request": request,
            "variation_seed": request.variation_seed or 0,
            "noise_size": parse_size(request.seed_size) if request.seed_size else (),
            "sampler": registry.parse("samplers", str(request.sampler)),
            "schedule": registry.parse("schedules", str(request.schedule)),
            "guidance": registry.parse("guidance", str(request.guidance)),
            "sigmas": sigmas.parse(request.sigmas) if request.sigmas else (),
            **_second_words(request),
            "first_pass_steps": 0,
            "regions": tuple(map(regions.parse, request.region)),
            "lora": tuple(map(loras.parse, request.lora)),
            "reference": () if request.reference is None else (references.parse(request.reference),),
            "freeu": () if request.freeu is None else (freeu.parse(request.freeu),),
            "ip_adapter": tuple(map(ip_adapters.parse, request.ip_adapter)),
            "hypernet": tuple(parse_weighted_file("--hypernet", each) for each in request.hypernet),
            "controls": tuple(map(controls.parse, request.control)),
            "strength": 1.0 if request.strength is None else request.strength,
            "fit": request.fit or FIT,
            "window": request.window or 0,
            "latents_in": request.latents_in or "",
            "stop_after": request.stop_after or 0,
            "mask": request.group(Mask),
            "hires": request.group(Hires),
        }
    )


def _second_words(request: Request) -> dict[str, str]:
    """The prompts of the second text encoder: those of the first where none are given."""
    return {
        "prompt_2": request.prompt if request.prompt_2 is None else request.prompt_2,
        "negative_2": request.negative if request.negative_2 is None else request.negative_2,
    }
