"""Labels: the names other tools have for samplers and schedules, and ours. "DPM++ 2M Karras" is dpmpp_2m, karras."""

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
"""Our name -> the label A1111 writes into pictures; a name that is not here is written as it is."""

_SAME = {
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
    # diffusers' classes, their `Scheduler` and `Discrete` left out
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
"""Another name -> ours, with the options that it stands for."""

_AS_SCHEDULE = {"ddim": "ddim_uniform", "linspace": "uniform"}
"""A name that stands for something else, or nothing, where it is a sampler's -> our schedule."""


def plain(label: str) -> str:
    """A label in our spelling, options untouched: "DPM++ 2M" -> "dpmpp_2m", "Euler a:eta=0.5" -> "euler_a:eta=0.5"."""
    name, _, options = label.strip().partition(":")
    return _joined(_ours(re.sub(r"[\s\-]+", "_", name.strip().lower().replace("++", "pp"))), options)


def schedule(label: str) -> str:
    """A schedule's label in our spelling: "DDIM" -> "ddim_uniform"."""
    name, _, options = plain(label).partition(":")
    return _joined(_AS_SCHEDULE.get(name, name), options)


def parse(label: str) -> tuple[str, str | None]:
    """A sampler's label -> (sampler, schedule), the schedule being what the label ends in, if it is one."""
    name, _, options = plain(label).partition(":")
    if name not in registry.names("samplers"):
        for at in (i for i, letter in enumerate(name) if letter == "_"):
            schedule = _ours(name[at + 1 :])
            if schedule in registry.names("schedules"):
                return _joined(_ours(name[:at]), options), schedule
    return _joined(name, options), None


def _ours(name: str) -> str:
    bare = re.sub(r"(discrete)?(scheduler)?$", "", name)
    return _SAME.get(name) or _SAME.get(bare) or (bare if bare and "_" not in name else name)


def _joined(name: str, options: str) -> str:
    """A name, which may bring options along, and the options that were typed; those count last."""
    name, _, own = name.partition(":")
    both = ",".join(each for each in (own, options) if each)
    return f"{name}:{both}" if both else name
