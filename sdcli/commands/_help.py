"""Help: how `--help` lays out many options under headings, and the commands of a group without cutting their lines."""

from __future__ import annotations

import dataclasses

import click

from sdcli.commands._batch_options import BatchOptions
from sdcli.commands._output import Output
from sdcli.request.fields import own_fields
from sdcli.request.request import Depth, Hires, Loading, Mask, MaskEdge, StartImage, Upscale

PICTURE, BATCH, OUTPUT, OTHER = "The picture", "The batch", "Output", "Other"
GROUPS = {
    StartImage: "The picture to start from",
    MaskEdge: "The mask",
    Mask: "The mask",
    Depth: "The depth map",
    Upscale: "Enlarging",
    Hires: "A second, larger pass",
    Loading: "The model",
}
"""Group of a request's fields -> its heading."""

OWN = {
    PICTURE: (
        "unconditional",
        "prompt_file",
        "negative",
        "style",
        "styles_file",
        "wildcards",
        "variants",
        "embedding",
        "lora",
        "allow_partial",
        "control",
        "width",
        "height",
        "tile",
        "clip_skip",
    ),
    "Noise": ("seed", "rng", "ensd", "variation_seed", "variation_strength", "seed_size", "latents_in"),
    "Sampling": ("steps", "cfg", "sampler", "schedule", "sigmas", "guidance", "like", "stop_after", "ztsnr"),
}
"""Heading -> the fields of no group; one that is not listed is about the picture."""

ORDER = (PICTURE, "Noise", "Sampling", *dict.fromkeys(GROUPS.values()), BATCH, OUTPUT, OTHER)


class GroupedCommand(click.Command):
    """A command whose `--help` lists its options under headings: those of a request by their groups, then the rest."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        rows: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ORDER}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                rows[heading_of(parameter)].append(record)
        for heading, records in rows.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class UncutGroup(click.Group):
    """A group of commands whose `--help` shows the whole first sentence of each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands."""
        rows = [
            (name, command.get_short_help_str(limit=500)) for name, command in sorted(self.commands.items())
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def heading_of(parameter: click.Parameter) -> str:
    """The heading under which an option is listed."""
    name = str(parameter.name)
    for heading, names in OWN.items():
        if name in names:
            return heading
    for group, heading in GROUPS.items():
        if name in own_fields(group):
            return heading
    if name in {each.name for each in dataclasses.fields(Output)}:
        return OUTPUT
    if name == "keep_going" or name in {each.name for each in dataclasses.fields(BatchOptions)}:
        return BATCH
    return PICTURE if parameter.expose_value else OTHER  # --debug and --help are not passed to the command
