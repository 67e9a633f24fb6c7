"""Aliases: the names that other tools use for samplers and schedules: "DPM++ 2M Karras" is dpmpp_2m and karras."""

import re

from sdcli import registry

A1111 = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_a": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde:heun=true": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "restart": "Restart",
    "ddim": "DDIM",
    "euler_cfg_pp": "DDIM CFG++",
    "plms": "PLMS",
    "unipc": "UniPC",
    "lcm": "LCM",
    "uniform": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
    "sgm_uniform": "SGM Uniform",
    "kl_optimal": "KL Optimal",
    "align_your_steps": "Align Your Steps",
    "simple": "Simple",
    "beta": "Beta",
}
"""Our name -> the label that A1111 writes into pictures; names that are not listed are written as they are."""

_ALIASES = {
    # k-diffusion and ComfyUI
    "normal": "uniform",
    "automatic": "uniform",
    "euler_ancestral": "euler_a",
    "euler_ancestral_cfg_pp": "euler_a_cfg_pp",
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2_a",
    "dpm2_ancestral": "dpm2_a",
    "dpmpp_2s_ancestral": "dpmpp_2s_a",
    "dpmpp_2m_sde_heun": "dpmpp_2m_sde:heun=true",
    "dpmpp_sde_gpu": "dpmpp_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun_gpu": "dpmpp_2m_sde:heun=true",
    "dpmpp_3m_sde_gpu": "dpmpp_3m_sde",
    "res_multistep_ancestral": "res_multistep:eta=1",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc:bh2=true",
    "ddim_cfgpp": "euler_cfg_pp",
    "ays": "align_your_steps",
    # classes of diffusers, without `Discrete` and `Scheduler` at the end
    "eulerancestral": "euler_a",
    "kdpm2": "dpm2",
    "kdpm2ancestral": "dpm2_a",
    "dpmsolvermultistep": "dpmpp_2m",
    "dpmsolversde": "dpmpp_sde",
    "dpmsolversinglestep": "dpmpp_2s_a:eta=0",
    "edmeuler": "euler",
    "edmdpmsolvermultistep": "dpmpp_2m",
    "deismultistep": "deis",
    "unipcmultistep": "unipc:order=2,bh2=true",
    "pndm": "plms",
    "sasolver": "sa_solver",
}
"""Another tool's name -> ours, with the options that it implies."""

_SCHEDULE_ALIASES = {"ddim": "ddim_uniform", "linspace": "uniform"}
"""Another tool's schedule -> ours, for names that mean something else, or nothing, as a sampler."""


def canonical(label: str) -> str:
    """A label in our spelling; options stay: "DPM++ 2M" -> "dpmpp_2m", "Euler a:eta=0.5" -> "euler_a:eta=0.5"."""
    name, _, options = label.strip().partition(":")
    name = re.sub(r"[\s\-]+", "_", name.strip().lower().replace("++", "pp"))
    return _with_options(_our_name(name), options)


def parse_sampler(label: str) -> tuple[str, str | None]:
    """The sampler and the schedule that a sampler's label names: "Euler a Karras" -> ("euler_a", "karras").

    The schedule is None if the label does not end in one.
    """
    name, _, options = canonical(label).partition(":")
    if name not in registry.names("samplers"):
        for underscore in re.finditer("_", name):
            schedule = _our_name(name[underscore.end() :])
            if schedule in registry.names("schedules"):
                return _with_options(_our_name(name[: underscore.start()]), options), schedule
    return _with_options(name, options), None


def parse_schedule(label: str) -> str:
    """A schedule's label in our spelling: "DDIM" -> "ddim_uniform"."""
    name, _, options = canonical(label).partition(":")
    return _with_options(_SCHEDULE_ALIASES.get(name, name), options)


def _our_name(name: str) -> str:
    """Our name, maybe with options, for a name of another tool in lower case with underscores.

    A name that is not listed comes back as it is, except that a single word loses `discrete` and `scheduler` at its
    end: diffusers' `DDIMScheduler` is our ddim.
    """
    bare = re.sub(r"(discrete)?(scheduler)?$", "", name)
    if alias := _ALIASES.get(name) or _ALIASES.get(bare):
        return alias
    return bare if bare and "_" not in name else name


def _with_options(name: str, typed: str) -> str:
    """The name with the options that were typed; they come after those that the name brings, and override them."""
    name, _, implied = name.partition(":")
    options = ",".join(each for each in (implied, typed) if each)
    return f"{name}:{options}" if options else name
