"""Scheduler: what a scheduler_config.json says of a model. Each key is used, harmless, or refused by name.

A scheduler of diffusers says two things. One is how the network was trained: its noise levels and what it predicts. The
other is how pictures are drawn: a sampler and the spacing of its timesteps, which are the model's defaults here. The
tables below are those of diffusers 0.42.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from sdcli import registry
from sdcli.checkpoints.family import Config, Family
from sdcli.diffusion.levels import DDPM_BETAS, SD_BETAS, TIMESTEPS, Levels
from sdcli.diffusion.limits import Threshold
from sdcli.errors import ModelError

MAX_LEVELS = 100_000  # noise levels that a network may have been trained on
MAX_SIGMA = 1e6  # of an EDM network
FEW_STEPS = 4  # of a model that was distilled to need few


@dataclass(frozen=True)
class Sampling:
    """The noise levels that a model was trained on, and its family with the model's own sampling defaults."""

    levels: Levels
    family: Family
    decided_by: str  # what the default sampler and schedule come from, for the user
    threshold: Threshold | None = None  # of each estimate


def sampling(
    config: Config, family: Family, where: str, prediction: str, class_name: str | None = None
) -> Sampling:
    """The sampling of a model of this family by its scheduler's config, which may be empty.

    `where` is what holds the config, for errors. `class_name` is the scheduler's class if the config names none. Raises
    ModelError for a class that no Stable Diffusion model has, for an unknown key, and for a value that would change the
    picture and is not honoured here.
    """
    scheduler = _scheduler(config.get("_class_name", class_name), where)
    _check_known(config, where)
    settings = {key: config.get(key, default) for key, default in scheduler.keys.items()}
    turned_off = () if family.pipeline.startswith("StableDiffusionXL") else TURNED_OFF
    checked = {key: value for key, value in {**config, **settings}.items() if key not in turned_off}
    _check_values(scheduler, checked, where)
    if scheduler.is_edm and prediction == "sample":
        raise ModelError(f"{where}: an EDM model that predicts sample is not known; try --prediction epsilon")
    levels = _edm_levels(settings, where) if scheduler.is_edm else _trained_levels(settings, where)
    threshold = _threshold(scheduler, settings)
    if (family.own_sampling and not scheduler.is_edm) or (
        scheduler.sampler is None and not any(config.get(key) for key in SPACING)
    ):
        return Sampling(levels, family, "the family's default", threshold)
    drawn = replace(family, schedule=scheduler.schedule(settings))
    if scheduler.sampler is None:
        return Sampling(levels, drawn, where, threshold)
    drawn = replace(drawn, sampler=scheduler.sampler(settings))
    if scheduler.few_steps and not family.embeds_guidance:
        drawn = replace(drawn, steps=FEW_STEPS, cfg=1.0)
    return Sampling(levels, drawn, f"{where} ({scheduler.name})", threshold)


# --- the classes


@dataclass(frozen=True)
class SchedulerClass:
    """One of diffusers' scheduler classes: its keys with their defaults, and what stands for it here.

    `sampler` and `schedule` give the plugin's name with options; a class without a sampler leaves it to the family.
    `accepted` lists the values of keys that mean something of their own in this class.
    """

    name: str
    keys: Config
    sampler: Callable[[Config], str] | None
    schedule: Callable[[Config], str]
    accepted: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    few_steps: bool = False  # of models that are distilled to few steps, which are drawn without guidance

    @property
    def is_edm(self) -> bool:
        """True for the preconditioning of Karras et al. 2022."""
        return "sigma_data" in self.keys


def _threshold(scheduler: SchedulerClass, settings: Config) -> Threshold | None:
    """The thresholding of a class that has it and asks for it."""
    if not settings.get("thresholding") or "thresholding" in scheduler.accepted:
        return None
    return Threshold(float(settings["dynamic_thresholding_ratio"]), float(settings["sample_max_value"]))


SPACING = (
    "timestep_spacing",
    "steps_offset",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
)
"""Keys that say which of the trained levels a run visits."""
_CURVES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
_TRAINED: Config = {
    "num_train_timesteps": TIMESTEPS,
    "beta_start": DDPM_BETAS[0],
    "beta_end": DDPM_BETAS[1],
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
}
_SD_TRAINED: Config = {**_TRAINED, "beta_start": SD_BETAS[0], "beta_end": SD_BETAS[1]}
_ZERO_SNR: Config = {"rescale_betas_zero_snr": False}
_OFFSET: Config = {"steps_offset": 0}
_LINSPACE: Config = {"timestep_spacing": "linspace", **_OFFSET}
_LEADING: Config = {"timestep_spacing": "leading", **_OFFSET}
_SIGMAS: Config = dict.fromkeys(_CURVES, False)
_THRESHOLD: Config = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
# diffusers' classes have True, which its Stable Diffusion pipelines turn off
_CLIP: Config = {"clip_sample": False, "clip_sample_range": 1.0}
_FLOW: Config = {"use_flow_sigmas": False, "flow_shift": 1.0}
_SHIFT: Config = {"use_dynamic_shifting": False, "time_shift_type": "exponential"}
_FINAL: Config = {"final_sigmas_type": "zero"}
_SOLVER: Config = {
    **_TRAINED, **_THRESHOLD, **_SIGMAS, **_FLOW, "solver_order": 2, "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint", "lower_order_final": True, "lambda_min_clipped": -math.inf, "variance_type": None,
}  # fmt: skip
_DDIM: Config = {**_TRAINED, **_LEADING, **_ZERO_SNR, **_THRESHOLD, **_CLIP, "set_alpha_to_one": True}
_DISTILLED: Config = {
    **_DDIM, **_SD_TRAINED, "beta_schedule": "scaled_linear", "clip_sample": False,
    "original_inference_steps": 50, "timestep_scaling": 10.0,
}  # fmt: skip
_EDM: Config = {
    "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "sigma_schedule": "karras", "rho": 7.0,
    "num_train_timesteps": TIMESTEPS, "prediction_type": "epsilon", **_FINAL,
}  # fmt: skip
_K_DIFFUSION: Config = {**_SD_TRAINED, **_LINSPACE, **_SIGMAS}


def _whole(settings: Config) -> str:
    """Whole timesteps."""
    return _spaced(settings, "uniform:whole=true")


def _fractional(settings: Config) -> str:
    """Timesteps that may be fractions; a curve of sigmas goes between the ends of the spacing."""
    return _spaced(settings, "uniform")


def _solver(settings: Config) -> str:
    """Timesteps spaced as for one step more; a curve of sigmas goes between the ends of the trained levels."""
    return _spaced(settings, "sgm_uniform:whole=true", beyond=1)


_CURVED = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta:in_sigma=true",
}


def _spaced(settings: Config, linspace: str, beyond: int = 0) -> str:
    """The schedule by a class's keys, where `linspace` is what stands for that spacing."""
    spacing = settings.get("timestep_spacing") or "linspace"
    offset = settings.get("steps_offset") or 0
    spaced = {"linspace": linspace, "trailing": "trailing", "leading": f"leading:offset={offset}"}[spacing]
    if spacing == "leading" and beyond:
        spaced += f",beyond={beyond}"
    curve = next((schedule for key, schedule in _CURVED.items() if settings.get(key)), "")
    if not curve:
        return spaced
    if spacing == "linspace" or beyond:
        return curve
    return f"{curve}{',' if ':' in curve else ':'}ends={spaced}"


def _edm_schedule(settings: Config) -> str:
    """`karras` or `exponential`, between the ends of the model's levels."""
    if settings["sigma_schedule"] == "exponential":
        return "exponential"
    return "karras" if settings["rho"] == 7 else f"karras:rho={float(settings['rho'])}"


def _dpm_solver(settings: Config) -> str:
    """The DPM-Solver++ of an order, for the ODE or the SDE. Its first order is Euler's method."""
    order, is_sde = settings["solver_order"], settings["algorithm_type"] == "sde-dpmsolver++"
    if order == 3:
        return "dpmpp_3m_sde" if is_sde else "dpmpp_3m_sde:eta=0.0"
    if order == 1:
        return "euler"
    if settings["solver_type"] == "heun":
        return "dpmpp_2m_sde:heun=true" if is_sde else "dpmpp_2m_sde:eta=0.0,heun=true"
    return "dpmpp_2m_sde" if is_sde else "dpmpp_2m"


def _always(sampler: str) -> Callable[[Config], str]:
    return lambda settings: sampler


def _unipc(settings: Config) -> str:
    return f"unipc:order={settings['solver_order']},bh2={str(settings['solver_type'] != 'bh1').lower()}"


_ODE_OR_SDE = ("dpmsolver++", "sde-dpmsolver++", "deis")  # diffusers reads deis as dpmsolver++
_SOLVER_TYPES = ("midpoint", "heun", "logrho", "bh1", "bh2")  # diffusers reads the last three as midpoint

_LISTED = (
    SchedulerClass("", {**_SD_TRAINED, "beta_schedule": "scaled_linear", **_LINSPACE, **_ZERO_SNR, **_SIGMAS},
                   None, _fractional),
    SchedulerClass("DDIMScheduler", _DDIM, _always("ddim"), _whole),
    SchedulerClass("DDIMParallelScheduler", _DDIM, _always("ddim"), _whole),
    *(
        SchedulerClass(
            name, {**_TRAINED, **_LEADING, **_ZERO_SNR, **_THRESHOLD, **_CLIP, "variance_type": "fixed_small"},
            _always("ddpm"), _whole, {"variance_type": (None, "fixed_small", "fixed_small_log")},
        )
        for name in ("DDPMScheduler", "DDPMParallelScheduler")
    ),
    SchedulerClass(
        "PNDMScheduler", {**_TRAINED, **_LEADING, "skip_prk_steps": False, "set_alpha_to_one": False},
        _always("plms"), _whole,
    ),
    SchedulerClass("LMSDiscreteScheduler", {**_K_DIFFUSION, **_TRAINED}, _always("lms"), _fractional),
    SchedulerClass(
        "EulerDiscreteScheduler",
        {**_K_DIFFUSION, **_TRAINED, **_ZERO_SNR, **_FINAL, "interpolation_type": "linear", "sigma_min": None,
         "sigma_max": None, "timestep_type": "discrete"},
        _always("euler"), _fractional,
    ),
    SchedulerClass(
        "EulerAncestralDiscreteScheduler", {**_TRAINED, **_LINSPACE, **_ZERO_SNR}, _always("euler_a"), _fractional
    ),
    SchedulerClass(
        "HeunDiscreteScheduler", {**_K_DIFFUSION, **_CLIP, "clip_sample": False}, _always("heun"), _fractional
    ),
    SchedulerClass("KDPM2DiscreteScheduler", _K_DIFFUSION, _always("dpm2"), _fractional),
    SchedulerClass("KDPM2AncestralDiscreteScheduler", _K_DIFFUSION, _always("dpm2_a"), _fractional),
    SchedulerClass(
        "DPMSolverSDEScheduler", {**_K_DIFFUSION, "noise_sampler_seed": None}, _always("dpmpp_sde"), _fractional
    ),
    SchedulerClass(
        "DPMSolverMultistepScheduler",
        {**_SOLVER, **_LINSPACE, **_ZERO_SNR, **_FINAL, **_SHIFT, "euler_at_final": False, "use_lu_lambdas": False},
        _dpm_solver, _solver,
        {"algorithm_type": _ODE_OR_SDE, "solver_type": _SOLVER_TYPES, "solver_order": (1, 2, 3)},
    ),
    SchedulerClass(
        "DPMSolverSinglestepScheduler", {**_SOLVER, **_FINAL, **_SHIFT, "lower_order_final": False},
        _always("dpmpp_2s_a:eta=0.0"), _solver,
        {"algorithm_type": ("dpmsolver++", "deis"), "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
         "solver_order": (2,), "lower_order_final": (False, True)},
    ),
    SchedulerClass(
        "DEISMultistepScheduler",
        {**_TRAINED, **_LINSPACE, **_SIGMAS, **_THRESHOLD, **_FLOW, **_SHIFT, "solver_order": 2,
         "algorithm_type": "deis", "solver_type": "logrho", "lower_order_final": True},
        lambda settings: f"deis:order={settings['solver_order']}", _solver,
        # diffusers reads what the other solvers' configs say as its own
        {"algorithm_type": ("deis", "dpmsolver", "dpmsolver++"), "solver_order": (1, 2, 3),
         "solver_type": ("logrho", "midpoint", "heun", "bh1", "bh2")},
    ),
    SchedulerClass(
        "UniPCMultistepScheduler",
        {**_TRAINED, **_LINSPACE, **_SIGMAS, **_THRESHOLD, **_FLOW, **_SHIFT, **_FINAL, **_ZERO_SNR, "solver_order": 2,
         "predict_x0": True, "solver_type": "bh2", "lower_order_final": True, "disable_corrector": [],
         "solver_p": None, "sigma_min": None, "sigma_max": None, "shift_terminal": None},
        _unipc, _solver,
        {"solver_type": ("bh1", "bh2", "midpoint", "heun", "logrho"), "solver_order": (1, 2, 3)},
    ),
    SchedulerClass(
        "SASolverScheduler",
        {**_TRAINED, **_LINSPACE, **_SIGMAS, **_THRESHOLD, **_FLOW, "predictor_order": 2, "corrector_order": 2,
         "tau_func": None, "algorithm_type": "data_prediction", "lower_order_final": True,
         "lambda_min_clipped": -math.inf, "variance_type": None},
        lambda settings: f"sa_solver:order={settings['predictor_order']},corrector={settings['corrector_order']}",
        _solver,
        {"algorithm_type": ("data_prediction",), "predictor_order": (1, 2, 3), "corrector_order": (0, 1, 2, 3)},
    ),
    SchedulerClass(
        "LCMScheduler", _DISTILLED, _always("lcm"),
        lambda settings: f"trailing:among={settings['original_inference_steps']}", few_steps=True,
    ),
    SchedulerClass(
        "TCDScheduler", _DISTILLED, _always("tcd"),
        lambda settings: f"trailing:among={settings['original_inference_steps']}",
        # diffusers' class has these keys and does not read them
        dict.fromkeys(("clip_sample", "thresholding"), (True, False, None)), few_steps=True,
    ),
    SchedulerClass("EDMEulerScheduler", _EDM, _always("euler"), _edm_schedule),
    SchedulerClass(
        "EDMDPMSolverMultistepScheduler",
        {**_EDM, **_THRESHOLD, "solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint",
         "lower_order_final": True, "euler_at_final": False},
        _dpm_solver, _edm_schedule,
        {"algorithm_type": _ODE_OR_SDE, "solver_type": _SOLVER_TYPES, "solver_order": (1, 2, 3)},
    ),
)  # fmt: skip
CLASSES: Mapping[str, SchedulerClass] = {each.name: each for each in _LISTED}
"""Class name -> what is known of it; the nameless one stands for a config that names no class."""

_NOT_STABLE_DIFFUSION = {
    "FlowM": "flow matching (Stable Diffusion 3, Flux)",
    "CM": "a consistency model",
    "SCM": "a consistency model",
    "Inverse": "turning pictures into noise",
}
"""What is in the name of a class -> what its models are for."""


def _scheduler(name: Any, where: str) -> SchedulerClass:
    """The class of a config; raises ModelError for one that is not known here."""
    found = CLASSES.get(name or "") if name is None or isinstance(name, str) else None
    if found is not None:
        return found
    purpose = next((text for part, text in _NOT_STABLE_DIFFUSION.items() if part in str(name)), "")
    reason = f"is for {purpose}, which sd does not draw" if purpose else "is not a scheduler known here"
    hint = registry.nearest(str(name)[:60], [each for each in CLASSES if each])
    raise ModelError(f"{where}: _class_name {str(name)[:60]!r} {reason}; {hint}")


# --- the keys

_HARMLESS = {
    "set_alpha_to_one": "a run ends at noise level 0; --like diffusers ends ddim and plms as false asks",
    "clip_sample_range": "read only with clip_sample",
    "flow_shift": "read only with use_flow_sigmas",
    "use_dynamic_shifting": "read only with use_flow_sigmas",
    "time_shift_type": "read only with use_flow_sigmas",
    "euler_at_final": "the step to noise level 0 is of first order in any case",
    "predict_epsilon": "an older name of prediction_type, which has its own check",
    "tensor_format": "a leftover of diffusers 0.1",
    "timestep_values": "a leftover of diffusers 0.2, which never read it",
}
"""Key -> why it changes no picture."""


@dataclass(frozen=True)
class _Rule:
    """The values of a key that are honoured, and what is said of any other."""

    honours: Callable[[Any], bool]
    otherwise: str


def _off(value: Any) -> bool:
    return value is None or value is False


_RULES = {
    "thresholding": _Rule(lambda value: isinstance(value, bool) or value is None, "is not true or false"),
    "dynamic_thresholding_ratio": _Rule(lambda value: _is_number(value) and 0 <= value <= 1, "is no share from 0 to 1"),
    "sample_max_value": _Rule(lambda value: _is_number(value) and value >= 1, "is no number from 1"),
    "clip_sample": _Rule(_off, "cuts latents as if they were pixels; set it to false"),
    "use_flow_sigmas": _Rule(_off, "is for flow matching, which sd does not draw; get a Stable Diffusion model"),
    "use_lu_lambdas": _Rule(_off, "is a spacing unknown here; set it to false and choose one with --schedule"),
    "shift_terminal": _Rule(_off, "is for flow matching, which sd does not draw; set it to null"),
    "noise_sampler_seed": _Rule(_off, "fixes the noise of every picture; set it to null, --seed decides"),
    "solver_p": _Rule(_off, "names another solver that is not known here; set it to null"),
    "tau_func": _Rule(_off, "cannot be read from a file; set it to null"),
    "predict_x0": _Rule(lambda value: value is True, "is not known to unipc here; set it to true"),
    "disable_corrector": _Rule(lambda value: value in (None, []), "is not known to unipc here; set it to []"),
    "skip_prk_steps": _Rule(lambda value: value is True, "asks for Runge-Kutta steps; set it to true"),
    "predict_epsilon": _Rule(lambda value: value in (None, True), "is an old key; set prediction_type to sample"),
    "interpolation_type": _Rule(lambda value: value == "linear", "is not known here; set it to linear"),
    "timestep_type": _Rule(lambda value: value == "discrete", "is not known here; set it to discrete"),
    "timestep_scaling": _Rule(lambda value: value == 10, "is not known to lcm and tcd here; set it to 10"),
    "lower_order_final": _Rule(lambda value: value is True, "is not known here; set it to true"),
    "lambda_min_clipped": _Rule(
        lambda value: isinstance(value, int | float) and value <= -10, "leaves out high levels; set it to -Infinity"
    ),
    "variance_type": _Rule(lambda value: value is None, "is for U-Nets that predict it; set it to null"),
    "final_sigmas_type": _Rule(lambda value: value == "zero", "is not known here; use zero"),
    "rescale_betas_zero_snr": _Rule(lambda value: isinstance(value, bool), "is not true or false"),
    "timestep_spacing": _Rule(
        lambda value: value in ("linspace", "leading", "trailing"), "is not known; use linspace, leading or trailing"
    ),
    "steps_offset": _Rule(
        lambda value: type(value) is int and 0 <= value < TIMESTEPS, "is no timestep; use 0 or 1"
    ),
    "original_inference_steps": _Rule(
        lambda value: type(value) is int and 0 < value <= TIMESTEPS, "is no number of steps; use 50"
    ),
    "sigma_schedule": _Rule(
        lambda value: value in ("karras", "exponential"), "is not known; use karras or exponential"
    ),
    "rho": _Rule(lambda value: _is_number(value) and 0.1 <= value <= 100, "is not in 0.1 … 100; use 7"),
    **{key: _Rule(lambda value: isinstance(value, bool) or value is None, "is not true or false") for key in _CURVES},
}  # fmt: skip
"""Key -> the values that are honoured or change nothing. Keys of the noise levels are checked by `_trained_levels`."""

TURNED_OFF = ("clip_sample",)
"""Keys that diffusers' pipelines of Stable Diffusion 1 and 2 set to false, whatever the config says."""

KNOWN = frozenset({key for each in CLASSES.values() for key in each.keys} | _HARMLESS.keys())
"""Every key of every class here."""


def _check_known(config: Config, where: str) -> None:
    """Raise ModelError for a key that no class has; null says nothing, and what begins with _ is not about pictures."""
    for key, value in config.items():
        if key not in KNOWN and not key.startswith("_") and value is not None:
            raise ModelError(
                f"{where}: {key[:60]} is a key of no scheduler known here; take it out if it is a mistake"
            )


def _check_values(scheduler: SchedulerClass, settings: Config, where: str) -> None:
    """Raise ModelError for the first key whose value would change the picture and is not honoured.

    A key that the class does not have is not read, as in diffusers; a config that names no class may have all of them.
    """
    for key, value in settings.items():
        if scheduler.name and key not in scheduler.keys:
            continue
        if key in scheduler.accepted:
            if value not in scheduler.accepted[key]:
                usable = ", ".join(json.dumps(each) for each in scheduler.accepted[key])
                raise _refused(scheduler, key, value, f"is not known here; use {usable}", where)
        elif key in _RULES and not _RULES[key].honours(value):
            raise _refused(scheduler, key, value, _RULES[key].otherwise, where)
    curves = [key for key in _CURVES if settings.get(key) and (key in scheduler.keys)]
    if len(curves) > 1:
        raise ModelError(f"{where}: {curves[0]} and {curves[1]} exclude each other; set one of them to false")
    _check_curve(scheduler, settings, curves, where)


def _check_curve(scheduler: SchedulerClass, settings: Config, curves: list[str], where: str) -> None:
    """Raise ModelError for a curve of sigmas between other ends than the model's."""
    for key in ("sigma_min", "sigma_max"):
        if curves and settings.get(key) is not None:
            reason = f"is not known here together with {curves[0]}; set it to null"
            raise _refused(scheduler, key, settings[key], reason, where)


def _refused(scheduler: SchedulerClass, key: str, value: Any, reason: str, where: str) -> ModelError:
    of = f" of {scheduler.name}" if scheduler.name else ""
    return ModelError(f"{where}: {key} {json.dumps(value)[:60]}{of} {reason}")


# --- the noise levels


def _trained_levels(settings: Config, where: str) -> Levels:
    """The noise levels that the betas make; raises ModelError if they are none that a network can be trained on."""
    kind = settings["beta_schedule"]
    try:
        levels = _levels_of_betas(settings)
        levels = levels.rescaled() if settings.get("rescale_betas_zero_snr") else levels
        if not all(0 < lower < upper < math.inf for lower, upper in pairwise(levels.table)):
            raise ValueError
        return levels
    except (LookupError, TypeError, ValueError, ArithmeticError):
        shown = "trained_betas" if settings["trained_betas"] is not None else str(kind)[:60]
        raise ModelError(
            f"{where} describes no noise levels known here ({shown}); fetch the model again"
        ) from None


def _levels_of_betas(settings: Config) -> Levels:
    count = settings["num_train_timesteps"]
    if type(count) not in (int, float) or count != int(count) or not 1 < count <= MAX_LEVELS:
        raise ValueError
    trained = settings["trained_betas"]
    if trained is not None:
        if len(trained) != count:
            raise ValueError
        return Levels.from_betas([float(beta) for beta in trained])
    if settings["beta_schedule"] == "squaredcos_cap_v2":
        return Levels.cosine(int(count))
    make = {"scaled_linear": Levels.scaled_linear, "linear": Levels.linear}[settings["beta_schedule"]]
    return make(float(settings["beta_start"]), float(settings["beta_end"]), int(count))


def _edm_levels(settings: Config, where: str) -> Levels:
    """The noise levels of an EDM network; raises ModelError for sigmas that are none."""
    low, high, data = (settings[key] for key in ("sigma_min", "sigma_max", "sigma_data"))
    if not all(_is_number(value) and 0 < value < MAX_SIGMA for value in (low, high, data)) or low >= high:
        shown = f"sigma_min {low}, sigma_max {high}, sigma_data {data}"
        raise ModelError(f"{where}: {shown} are no noise levels; fetch the model again")
    return Levels.edm(float(low), float(high), float(data))


def _is_number(value: Any) -> bool:
    """True for a finite number; a JSON true is none."""
    return type(value) in (int, float) and math.isfinite(value)
