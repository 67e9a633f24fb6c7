"""An example of a settings file: every setting with its help, all of them commented out."""

from __future__ import annotations

import textwrap

from sdcli.commands._settings import DECLARED
from sdcli.request.fields import option_of
from sdcli.settings_file import FOLDERS

WIDTH = 100
HEAD = """\
# Settings of sd: what you would otherwise type in every command.
# `sd settings --path` prints where this file belongs, `sd settings` what is in force and whence.
# What is typed wins over a variable (SD_MODEL, SD_STEPS, ...), which wins over this file; SD_SETTINGS= switches it off.
# A picture records what was in force, so `sd again` makes it alike with other settings too.
"""
VALUES = {
    "model": '"dreamshaper"',
    "device": '"cuda:1"',
    "dtype": '"bfloat16"',
    "threads": "8",
    "negative": '"blurry, text"',
    "like": '"a1111"',
    "rng": '"philox"',
    "steps": "30",
    "cfg": "6.5",
    "sampler": '"dpmpp_2m"',
    "schedule": '"karras"',
    "clip_skip": "2",
    "out": '"~/Pictures/sd/{prompt}-{seed}.png"',
    "format": '"webp"',
    "quality": "90",
    "metadata": "false",
}
"""Setting -> a value, as TOML writes it."""
FOLDER_VALUES = {
    "models": ('["~/models", "/srv/models"]', "Where models are looked for by name."),
    "loras": ('["~/loras"]', "LoRAs that a prompt names as <lora:name:0.8>."),
    "hypernets": ('["~/hypernetworks"]', "Hypernetworks that a prompt names as <hypernet:name:0.5>."),
    "controls": ('["~/controlnet"]', "ControlNets and T2I-Adapters."),
    "upscalers": ('["~/upscalers"]', "ESRGAN and Real-ESRGAN files."),
    "embeddings": ('["~/embeddings"]', "Textual inversions that a prompt names."),
    "vaes": ('["~/vae"]', "VAEs that --vae names."),
    "ip_adapters": ('["~/ipadapter"]', "IP-Adapters."),
    "image_encoders": ('["~/clip_vision"]', "Image encoders of IP-Adapters."),
    "wildcards": ('"~/wildcards"', "Lists for __name__ in a prompt."),
    "styles": ('"~/styles.csv"', "The file of styles that --style names."),
    "image_encoder": ('"~/clip_vision.safetensors"', "The image encoder of IP-Adapters that name none."),
    "cache": ('"~/.cache/sdcli"', "Measured speeds and the hashes of models."),
}
"""Key of the table of folders -> a value, and what it is."""


def example_file() -> str:
    """The text of a settings file in which every setting is explained and commented out."""
    options = (_entry(key, VALUES[key], option_of(declared).help) for key, declared in DECLARED.items())
    paths = (_entry(key, value, help) for key, (value, help) in FOLDER_VALUES.items())
    told = "# The folders; relative ones are relative to this file. A variable such as SDCLI_LORAS wins over each.\n"
    return "\n".join([HEAD, *options, f"{told}[{FOLDERS}]\n", *paths])


def _entry(key: str, value: str, help: str) -> str:
    """A setting: its help as comments, and an assignment that is a comment too."""
    lines = textwrap.wrap(help, WIDTH - 2)
    return "".join(f"# {line}\n" for line in lines) + f"#{key} = {value}\n"
