"""Conventions: what each tool does where the formulas leave a choice; `--like` picks one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from torch import Tensor

from sdcli import registry
from sdcli.diffusion import a1111_timesteps
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.step_range import StepRange, a1111_range, comfyui_range, diffusers_range
from sdcli.diffusion.types import Denoise, Noise, Sampler, Sigmas
from sdcli.errors import UsageError
from sdcli.registry import Option, Spec

MAX_STEPS = 1000
"""The most steps that every schedule can make."""
DIFFUSERS_SIGMA_SAMPLERS = frozenset({"euler", "euler_a", "heun", "dpm2", "dpm2_a", "dpmpp_sde", "lms"})
"""Samplers whose diffusers scheduler works on x = data + sigma * noise, with fractional timesteps; others work on x of
unit variance, with whole timesteps."""
DIFFUSERS_MULTISTEP_SAMPLERS = frozenset(
    {"deis", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "sa_solver", "unipc"}
)
"""Samplers whose diffusers scheduler spaces its timesteps as DPMSolverMultistepScheduler does: the linspace and leading
spacings of one step more, without the lowest level."""
A1111_TIMESTEP_SAMPLERS = frozenset({"ddim", "euler_cfg_pp", "plms", "unipc"})
"""Samplers that A1111 runs on timesteps of its own and x of unit variance; it runs the others through k-diffusion."""
A1111_WHOLE_TIMESTEP_SAMPLERS = A1111_TIMESTEP_SAMPLERS - {"unipc"}
BROWNIAN_SAMPLERS = frozenset({"dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"})
"""Samplers whose noise A1111 and ComfyUI take from torchsde's Brownian tree."""
STEP_NOISE_SAMPLERS = frozenset({
    "ddpm", "dpm2_a", "dpmpp_2s_a", "er_sde", "euler_a", "euler_a_cfg_pp", "lcm", "sa_solver", "tcd",
})  # fmt: skip
"""Samplers that draw from the picture's stream at each step, with their default options."""

WHOLE_STRENGTH = 0.9999
"""ComfyUI takes all steps of the schedule above this strength."""

Timestep = Callable[[float], float]
"""The timestep of a noise level, in general a fraction -> the one that the network is given."""


@dataclass(frozen=True)
class Run:
    """The facts of a run by which a tool may do something else than we do. Names come without options."""

    sampler: str
    schedule: str = ""  # "" if the levels are the user's own
    steps: int = 20
    over_picture: bool = False
    masked: bool = False
    rng: str = "torch"
    clip_skip: int = 1
    own_clip_skip: int = 1  # the family's: 2 for Stable Diffusion 2 and SDXL
    words_change: bool = False  # as [a:b:0.5] and [a|b] do
    is_typographic: bool = (
        False  # curly quotes, ligatures, full-width letters or HTML entities in the prompts
    )


@dataclass(frozen=True)
class Difference:
    """Something that a tool does and that `--like` does not take over."""

    text: str  # what the tool does: one clause, in the present tense, without a full stop
    applies: Callable[[Run], bool] = lambda run: True
    """True if it changes the picture of such a run."""


@dataclass(frozen=True)
class Conventions:
    """The conventions of one tool. Names of samplers and schedules come without options; a schedule is "" if the levels
    are the user's own."""

    unit_variance_start: Callable[[str, str, bool], bool]
    """(sampler, schedule, whether the first level is the model's highest) -> True if a run from noise alone starts at
    sqrt(1 + sigma^2) times unit noise, so that the network sees unit variance; False if at sigma times."""
    timestep: Callable[[str, str], Timestep]
    """(sampler, schedule) -> how the timestep that the network is given follows from that of a level."""
    img2img_start: Callable[[int, float], tuple[int, int]]
    """(steps, strength) -> (steps of the schedule to make, index of the sigma at which a run over a picture starts)."""
    second_pass_start: Callable[[int, float], tuple[int, int]] | None = None
    """The same for the second pass of --hires, if it differs."""
    sampler_options: Mapping[str, Mapping[str, Option]] = field(default_factory=dict)
    """Sampler -> the tool's defaults for its options."""
    schedule: Callable[[str, str], tuple[str, Mapping[str, Option]]] = lambda schedule, sampler: (
        schedule,
        {},
    )
    """(schedule, sampler) -> the schedule that the tool's sampler takes in its place, and defaults for its options."""
    own_levels: Mapping[str, a1111_timesteps.OwnLevels] = field(default_factory=dict)
    """Samplers that know no schedule -> the levels that they visit."""
    know_no_schedule: frozenset[str] = frozenset()
    """Samplers for which the schedule that is asked for makes no difference, or in a run from noise only its ends."""
    end_at_sigma_min: frozenset[str] = frozenset()
    """Samplers that end at the lowest trained level in place of 0."""
    end_at: Mapping[str, float] = field(default_factory=dict)
    """Sampler -> the level at which it ends in place of 0."""
    drop_second_to_last: frozenset[str] = frozenset()
    """Samplers whose schedule is made one step longer, without its second to last level."""
    ends_only: frozenset[str] = frozenset()
    """Samplers that choose their own levels between the first of a schedule and its last above 0, where they end."""
    ends_with_estimate: frozenset[str] = frozenset()
    """Samplers whose step to 0 returns the network's estimate, though ours uses past slopes there too."""
    fixed_strides: frozenset[tuple[str, str]] = frozenset()
    """(sampler, schedule) in which each step goes 1000 // steps timesteps down, wherever the schedule goes next."""
    unit_variance_end: Callable[[str], bool] = lambda sampler: True
    """sampler -> True if latents that end above 0 are scaled from x = data + sigma * noise to unit variance."""
    cfg_factor: Mapping[str, float] = field(default_factory=dict)
    """Sampler -> what --cfg is multiplied by; 1 for samplers that are not listed."""
    counts_from_end: bool = False
    """True if a run over a picture takes the last levels of a schedule that has more or fewer than were asked for."""
    unit_variance_img2img: bool = False
    """True if a picture, too, gets sqrt(1 + sigma^2) times unit noise where a run starts at the highest level."""
    noised_one_level_higher: Callable[[str], bool] = lambda sampler: False
    """sampler -> True if a picture is given the noise of one level more than the run starts at."""
    pads_prompts: bool = True
    """True if the shorter of prompt and negative prompt gets empty chunks, up to the length of the longer. A1111
    gives the network one after the other instead, and ComfyUI repeats the shorter, which is the same to attention."""
    latent_mask: str = "any_pixel"
    """How a mask of pixels becomes one of latents: any_pixel, bilinear, rounded or nearest."""
    mixes_unmasked: bool = False
    """True if the network is shown the noised picture where the mask is 0; False if only its estimate is replaced."""
    mixes_first_level: bool = True
    """True if that is done at the first level too."""
    holds_outside_mask: bool = False
    """True if the mask also holds for U-Nets that are shown the mask and the masked picture."""
    pure_noise_inpaint: bool = False
    """True if inpainting at strength 1 starts from noise alone."""
    keeps_start: bool = False
    """True if what is kept are the latents that the run starts from, with --masked-content in them."""
    mask_noise_of: Mapping[str, int] = field(default_factory=dict)
    """Sampler -> number added to the seed of the noise that the kept picture is shown with; else it is the first."""
    samples_posterior: bool = False
    """True if the picture's latents are a sample of the VAE's distribution, drawn from the picture's stream."""
    brownian_tree: Callable[[Sequence[float], int], Sequence[float]] | None = None
    """(levels of the schedule, index of the one a run starts at) -> the levels over which the path of BROWNIAN_SAMPLERS
    is torchsde's Brownian tree; None if it is not."""
    tree_draws: str = ""
    """The word of --rng that draws for the tree; empty: that of the picture."""
    step_range: StepRange = a1111_range
    """The noise levels at which a control network counts, by its start and end."""
    truncates_pixels: bool = False
    """True if pixel values are cut to whole bytes, not rounded (half to even)."""
    not_taken_over: tuple[Difference, ...] = ()
    """What this tool does and we do not."""

    def differences(self, run: Run) -> list[str]:
        """What this tool does in such a run and `--like` does not take over, a clause each; empty if nothing is known.

        `sd` prints them in one line, so that nobody takes the picture for the tool's own.
        """
        return [difference.text for difference in self.not_taken_over if difference.applies(run)]

    def sampler(self, sampler: Spec, schedule: str, steps: int, levels: Levels) -> Sampler:
        """The sampler with this tool's defaults for the options that are left open, in a run of so many steps.

        `schedule` is "" if the levels are the user's own.
        """
        found = registry.find("samplers", _with_defaults(sampler, self.sampler_options.get(sampler.name, {})))
        if sampler.name in self.ends_with_estimate:
            return partial(_ending_with_estimate, found)
        if (sampler.name, schedule) in self.fixed_strides:
            return partial(_with_fixed_stride, found, levels, (levels.last + 1) // steps)
        return found

    def levels(
        self,
        schedule: Spec,
        steps: int,
        levels: Levels,
        sampler: str,
        strength: float | None = None,
        is_second_pass: bool = False,
    ) -> tuple[list[float], int]:
        """(the falling levels of this tool's sampler on a schedule, the index of the one at which a run starts).

        `strength` is the share of the steps that a run over a picture takes; None is a run from noise alone. The levels
        are not always steps + 1: ComfyUI's ddim_uniform of 30 steps visits 31.
        """
        if sampler in self.own_levels:
            return self.own_levels[sampler](steps, levels, strength)
        start = self.second_pass_start if is_second_pass and self.second_pass_start else self.img2img_start
        total, first = (steps, 0) if strength is None else start(steps, strength)
        sigmas = self.sigmas(schedule, total, levels, sampler)
        if self.counts_from_end and strength is not None and strength <= WHOLE_STRENGTH:
            first = max(len(sigmas) - 1 - (total - first), 0)
        if sampler in self.ends_only and len(sigmas) - first > 2:
            return [*sigmas[: first + 1], sigmas[-2]], first
        return sigmas, first

    def sigmas(self, schedule: Spec, steps: int, levels: Levels, sampler: str) -> list[float]:
        """The levels that this tool's sampler visits on a schedule, falling."""
        name, defaults = self.schedule(schedule.name, sampler)
        typed = schedule if name == schedule.name else Spec(name)
        make = registry.find("schedules", _with_defaults(typed, defaults))
        if sampler in self.drop_second_to_last and steps < MAX_STEPS:
            sigmas = list(make(steps + 1, levels))
            del sigmas[-2]
        else:
            sigmas = list(make(steps, levels))
        if sampler in self.end_at_sigma_min:
            # a step from the lowest level to itself, as with Karras' levels, changes nothing
            sigmas[-1] = min(levels.sigma_min, sigmas[-2])
        sigmas[-1] = sigmas[-1] or self.end_at.get(sampler, 0.0)
        return sigmas

    def initial_scale(self, sigma: float, levels: Levels, sampler: str, schedule: str) -> float:
        """What unit noise is multiplied by at the start of a run without a picture."""
        unit_variance = self.unit_variance_start(sampler, schedule, _is_highest(sigma, levels))
        return math.sqrt(1 + sigma**2) if unit_variance else sigma

    def cfg(self, scale: float, sampler: str) -> float:
        """The scale of the guidance that this tool means by --cfg."""
        return scale * self.cfg_factor.get(sampler, 1.0)

    def final_scale(self, sigma: float, sampler: str) -> float:
        """What the x that a run ends with, at level sigma, is divided by to be the finished latents."""
        return math.sqrt(1 + sigma**2) if self.unit_variance_end(sampler) else 1.0

    def noised(
        self,
        latents: Tensor,
        noise: Tensor,
        sigmas: Sequence[float],
        start: int,
        levels: Levels,
        sampler: str = "",
    ) -> Tensor:
        """The first x of a run over a picture: its latents with unit noise added, at the level sigmas[start]."""
        sigma = sigmas[start]
        if self.noised_one_level_higher(sampler):
            # CompVis keeps x at unit variance, so the level that the run starts at only rescales what is there
            above = sigmas[max(start - 1, 0)]
            return (latents + noise * above) * math.sqrt((1 + sigma**2) / (1 + above**2))
        unit_variance = self.unit_variance_img2img and _is_highest(sigma, levels)
        return latents + noise * (math.sqrt(1 + sigma**2) if unit_variance else sigma)


def spacing(schedule: Spec) -> str:
    """The name of the schedule from whose ends the first level comes: leading for `karras:ends=leading`."""
    return str(dict(schedule.options).get("ends") or schedule.name)


def _with_defaults(spec: Spec, defaults: Mapping[str, Option]) -> Spec:
    """The plugin with these options, overridden by those that were typed."""
    return Spec(spec.name, tuple({**defaults, **dict(spec.options)}.items()))


def _ending_with_estimate(
    sampler: Sampler, denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise
) -> Iterator[Tensor]:
    """A run of the sampler whose step to 0 returns the network's estimate."""
    if sigmas[-1] > 0:
        yield from sampler(denoise, x, sigmas, noise)
        return
    last = x
    for last in sampler(denoise, x, sigmas[:-1], noise):
        yield last
    yield denoise(last, sigmas[-2])


def _with_fixed_stride(
    sampler: Sampler, levels: Levels, stride: int, denoise: Denoise, x: Tensor, sigmas: Sigmas, noise: Noise
) -> Iterator[Tensor]:
    """A run in which each step goes `stride` timesteps down, and x of unit variance is then taken for the next level's.

    The sampler remembers nothing from step to step.
    """
    for sigma, lower in pairwise(sigmas):
        t = levels.t(sigma) - stride
        target = levels.sigma(t) if t >= 0 else sigmas[-1]
        (x,) = sampler(denoise, x, (sigma, target), noise)
        x = x * math.sqrt((1 + lower**2) / (1 + target**2))
        yield x


def _is_highest(sigma: float, levels: Levels) -> bool:
    return sigma > levels.sigma_max or math.isclose(sigma, levels.sigma_max, rel_tol=1e-5)


def _sdcli_start(steps: int, strength: float) -> tuple[int, int]:
    """The last strength * steps of the steps, rounded to the nearest, but at least one if strength is above 0."""
    return steps, steps - max(round(steps * strength), strength > 0)


def _a1111_start(steps: int, strength: float) -> tuple[int, int]:
    """The last int(strength * steps) + 1 of the steps; strength counts as 0.999 at most."""
    return steps, steps - int(min(strength, 0.999) * steps) - 1


def _a1111_second_pass(steps: int, strength: float) -> tuple[int, int]:
    """All the steps, as the last ones of a schedule of int(steps / strength); strength counts as 0.999 at most."""
    total = int(steps / min(strength, 0.999)) if strength > 0 else steps
    if total > MAX_STEPS:
        raise UsageError(
            f"{steps} steps at strength {strength:g} are the end of {total}, more than {MAX_STEPS}; take fewer steps"
        )
    return total, total - steps if strength > 0 else steps


def _comfyui_start(steps: int, strength: float) -> tuple[int, int]:
    """All the steps, as the last ones of a schedule of int(steps / strength)."""
    total = steps if strength > WHOLE_STRENGTH or strength <= 0 else int(steps / strength)
    if total > MAX_STEPS:
        raise UsageError(
            f"{steps} steps at strength {strength:g} are the end of {total}, more than {MAX_STEPS}; take fewer steps"
        )
    return total, total - steps if strength > 0 else steps


def _diffusers_start(steps: int, strength: float) -> tuple[int, int]:
    """The last int(strength * steps) of the steps."""
    return steps, steps - min(int(steps * strength), steps)


def _compvis_start(steps: int, strength: float) -> tuple[int, int]:
    """The last int(strength * steps) of the steps, but never the first: there is no higher level to noise to."""
    return steps, steps - min(int(strength * steps), steps - 1)


def _as_it_is(t: float) -> float:
    return t


def _below(t: float) -> float:
    """The whole timestep below: diffusers cuts fractions off, and finds the highest level just below its timestep."""
    return max(math.ceil(t) - 1, 0)


def _diffusers_timestep(sampler: str, schedule: str) -> Timestep:
    """Fractions stay for schedulers on sigmas; others have whole timesteps, cut off for two of the schedules."""
    if sampler in DIFFUSERS_SIGMA_SAMPLERS:
        return _as_it_is
    return _below if schedule in ("exponential", "beta") else round


def _a1111_schedule(schedule: str, sampler: str) -> tuple[str, Mapping[str, Option]]:
    if sampler in ("dpm_fast", "dpm_adaptive"):
        return "uniform", {}  # they know the ends of the trained levels only
    return schedule, _A1111_SCHEDULES.get(schedule, {})


_A1111_SCHEDULES: dict[str, dict[str, Option]] = {
    "align_your_steps": {"clamped": False},
    "beta": {"in_sigma": True},
    "ddim_uniform": {"all_levels": True},
    "kl_optimal": {"to_zero": False},
}
_COMFYUI_SCHEDULES: dict[str, dict[str, Option]] = {
    "beta": {"distinct": False},
    "ddim_uniform": {"all_levels": True},
}


_COMFYUI_SA_SOLVER: dict[str, Option] = {
    "order": 3, "corrector": 4, "simple": False, "ahead": True, "path": False,
    "high": 5.09241, "low": 0.571188,  # the levels at t = 799.2 and 199.8
}  # fmt: skip


def _comfyui_schedule(schedule: str, sampler: str) -> tuple[str, Mapping[str, Option]]:
    return schedule, _COMFYUI_SCHEDULES.get(schedule, {})


def _diffusers_schedule(schedule: str, sampler: str) -> tuple[str, Mapping[str, Option]]:
    if sampler in ("lcm", "tcd"):
        return "trailing", {"among": 50}
    if schedule == "beta":
        return schedule, {"in_sigma": True}
    if sampler in DIFFUSERS_MULTISTEP_SAMPLERS and schedule == "leading":
        return schedule, {"beyond": 1}
    if sampler in DIFFUSERS_MULTISTEP_SAMPLERS and schedule == "uniform":
        return "sgm_uniform", {"whole": True}
    if sampler not in DIFFUSERS_SIGMA_SAMPLERS and schedule == "uniform":
        return schedule, {"whole": True}
    return schedule, {}


ALIGN_YOUR_STEPS_OF_COMFYUI = Difference(
    "its Align Your Steps takes one level more from the table and puts 0 in place of the last",
    lambda run: run.schedule == "align_your_steps",
)
STEPS_OF_COMFYUI = Difference(
    "the noise of its steps is that of --rng comfyui (on a GPU) or comfyui_cpu",
    lambda run: run.sampler in STEP_NOISE_SAMPLERS and not run.rng.startswith("comfyui"),
)
MASKS_OF_A1111 = Difference(
    "with a mask, it mixes the picture into x before each step of this sampler",
    lambda run: run.masked and run.sampler in A1111_TIMESTEP_SAMPLERS,
)
CLIP_SKIP_OF_A1111 = Difference(
    "it knows --clip-skip for Stable Diffusion 1 alone, and reads the penultimate layer of this model",
    lambda run: run.clip_skip > run.own_clip_skip > 1,
)
CLIP_SKIP_OF_COMFYUI = Difference(
    "for --clip-skip 1 it reads the text encoder's last layer, of this model too",
    lambda run: run.clip_skip < run.own_clip_skip,
)
MASKS_OF_COMPVIS = Difference(
    "with a mask, it mixes the picture into x before each step, with fresh noise", lambda run: run.masked
)

CONVENTIONS = {
    "sdcli": Conventions(
        unit_variance_start=lambda *_: True,
        timestep=lambda *_: _as_it_is,
        img2img_start=_sdcli_start,
    ),
    "a1111": Conventions(
        unit_variance_start=lambda sampler, *_: sampler in A1111_TIMESTEP_SAMPLERS,
        timestep=lambda sampler, _: round if sampler in A1111_WHOLE_TIMESTEP_SAMPLERS else _as_it_is,
        img2img_start=_a1111_start,
        second_pass_start=_a1111_second_pass,
        sampler_options={
            "dpm_adaptive": {"eta": 1.0},
            "dpm_fast": {"even": True, "eta": 1.0},
            "restart": {"within_steps": True},
            "unipc": {"lower_order_final": True},
        },
        schedule=_a1111_schedule,
        own_levels=dict.fromkeys(A1111_WHOLE_TIMESTEP_SAMPLERS, a1111_timesteps.ddim_levels)
        | {"unipc": a1111_timesteps.unipc_levels},
        know_no_schedule=A1111_TIMESTEP_SAMPLERS | {"dpm_fast", "dpm_adaptive"},
        drop_second_to_last=frozenset({"dpm2", "dpm2_a", "dpmpp_3m_sde"}),
        ends_only=frozenset({"dpm_adaptive"}),
        unit_variance_end=lambda sampler: sampler in A1111_TIMESTEP_SAMPLERS,
        cfg_factor={"euler_cfg_pp": 1 / 12.5},
        noised_one_level_higher=lambda sampler: sampler in A1111_TIMESTEP_SAMPLERS,
        brownian_tree=lambda sigmas, first: sigmas,
        pads_prompts=False,
        latent_mask="rounded",
        truncates_pixels=True,
        not_taken_over=(
            MASKS_OF_A1111,
            Difference(
                "it counts two steps of changing words for each step of this sampler, one of them at the next level",
                lambda run: run.words_change and run.sampler in ("heun", "dpm2_a", "dpmpp_2s_a", "restart"),
            ),
            Difference(
                "it counts the evaluations of DPM adaptive, where changing words count even parts of the levels",
                lambda run: run.words_change and run.sampler == "dpm_adaptive",
            ),
            Difference(
                "it makes plain characters of curly quotes, ligatures, full-width letters and HTML entities",
                lambda run: run.is_typographic,
            ),
            CLIP_SKIP_OF_A1111,
            Difference(
                "its LCM has levels and timesteps of its own table of 50", lambda run: run.sampler == "lcm"
            ),
            Difference(
                "the noise of its DPM adaptive is drawn anew at each step",
                lambda run: run.sampler == "dpm_adaptive",
            ),
        ),
    ),
    "comfyui": Conventions(
        unit_variance_start=lambda sampler, schedule, highest: highest,
        timestep=lambda *_: round,
        step_range=comfyui_range,
        img2img_start=_comfyui_start,
        sampler_options={
            "deis": {"vp_time": True},
            "dpm_fast": {"even": True},
            "res_multistep": {"from_down": True},
            "res_multistep_cfg_pp": {"from_down": True},
            "sa_solver": _COMFYUI_SA_SOLVER,
            "unipc": {"lower_order_final": True},
        },
        schedule=_comfyui_schedule,
        end_at={"unipc": 0.001},
        drop_second_to_last=frozenset({"dpm2", "dpm2_a", "unipc"}),
        ends_only=frozenset({"dpm_adaptive"}),
        ends_with_estimate=frozenset({"gradient_estimation", "ipndm", "lms"}),
        unit_variance_end=lambda _: False,
        counts_from_end=True,
        unit_variance_img2img=True,
        pads_prompts=False,
        latent_mask="bilinear",
        mixes_unmasked=True,
        holds_outside_mask=True,
        keeps_start=True,
        mask_noise_of={"ddim": 1},
        brownian_tree=lambda sigmas, first: sigmas[first:],
        tree_draws="torch",
        truncates_pixels=True,
        not_taken_over=(STEPS_OF_COMFYUI, ALIGN_YOUR_STEPS_OF_COMFYUI, CLIP_SKIP_OF_COMFYUI),
    ),
    "diffusers": Conventions(
        step_range=diffusers_range,
        unit_variance_start=lambda sampler, schedule, _: (
            sampler not in DIFFUSERS_SIGMA_SAMPLERS or schedule == "leading"
        ),
        timestep=_diffusers_timestep,
        img2img_start=_diffusers_start,
        sampler_options={
            "deis": {"order": 2, "lower_order_final": True},
            "dpmpp_2m_sde": {"path": False},
            "dpmpp_3m_sde": {"path": False, "lower_order_final": True},
            "sa_solver": {
                "lower_order_final": True,
                "path": False,
                "high": 5.12,
                "low": 0.5705,
            },  # t = 800 … 200
            "unipc": {"order": 2, "bh2": True},
        },
        schedule=_diffusers_schedule,
        latent_mask="nearest",
        mixes_unmasked=True,
        mixes_first_level=False,
        pure_noise_inpaint=True,
        samples_posterior=True,
        know_no_schedule=frozenset({"lcm", "tcd"}),
        fixed_strides=frozenset({("ddim", "trailing"), ("ddim", "uniform")}),
        end_at_sigma_min=frozenset({"ddim", "deis", "plms", "sa_solver", "tcd"}),
        not_taken_over=(
            Difference(
                "its PNDM steps 1000 // steps timesteps down",
                lambda run: run.sampler == "plms" and run.schedule != "leading",
            ),
            Difference(
                "its KDPM2 schedulers round the timesteps of Karras' levels",
                lambda run: run.sampler in ("dpm2", "dpm2_a") and run.schedule == "karras",
            ),
        ),
    ),
    "compvis": Conventions(
        unit_variance_start=lambda *_: True,
        timestep=lambda *_: round,
        img2img_start=_compvis_start,
        end_at_sigma_min=frozenset({"ddim", "plms"}),
        noised_one_level_higher=lambda _: True,
        truncates_pixels=True,
        not_taken_over=(MASKS_OF_COMPVIS,),
    ),
}
"""The word of --like -> its conventions; diffusers with Stable Diffusion 1's config, A1111 with its default options."""
