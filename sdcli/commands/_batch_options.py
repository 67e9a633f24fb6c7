"""Batch options: how a batch is drawn, where its pictures go, and what it leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sdcli.commands._types import PATH, Word
from sdcli.errors import UsageError

if TYPE_CHECKING:
    from sdcli.commands._output import Output

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class BatchOptions:
    """The options of `batch_options`, as they were given. `shard` is (index, count), counted from 1."""

    out: str | None = None
    format: str | None = None
    quality: int | None = None
    metadata: bool = True
    plan: bool = False
    allow_slow: bool = False
    as_json: bool = False
    quiet: bool = False
    show: bool = False
    on: str = "local"
    shard: tuple[int, int] | None = None
    merge: tuple[str, ...] = ()
    fail_fast: bool = False
    retry_failed: bool = False
    check: str | None = None
    update: bool = False
    junit: str | None = None
    markdown: str | None = None
    index: str | None = None
    sheet: str | None = None
    gallery: str | None = None
    embed: bool = False
    openai: str | None = None

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> BatchOptions:
        """The batch options among all the values of a command; raises UsageError for some that exclude each other."""
        given: dict[str, Any] = {each.name: values.get(each.name) for each in dataclasses.fields(cls)}
        shard = _parse_shard(values["shard"]) if values["shard"] else None
        options = cls(**given | {"shard": shard, "fail_fast": not values["keep_going"]})
        if options.out == "-":
            raise UsageError("-o -: standard output holds one picture; name a folder for a batch")
        if options.merge and options.shard:
            raise UsageError("--merge puts shards together, and --shard draws one; leave one of them out")
        if options.update and not options.check:
            raise UsageError("--update renews the pictures of --check; name them with --check")
        return options

    @classmethod
    def of_sweep(cls, output: Output) -> BatchOptions:
        """The options of a batch that a drawing command makes of --sweep; raises UsageError for what it cannot have."""
        for option in ("steps_dir", "filmstrip", "latents_out", "attention", "decode_steps"):
            if getattr(output, option):
                flag = "--" + option.replace("_", "-")
                raise UsageError(f"{flag} is of one picture, and --sweep draws many; leave one of them out")
        if output.out == "-":
            raise UsageError("-o -: standard output holds one picture; name a folder for --sweep")
        shared = {each.name for each in dataclasses.fields(cls)} & {
            each.name for each in dataclasses.fields(output)
        }
        return cls(**{name: getattr(output, name) for name in shared})


def batch_options(command: F) -> F:
    """Decorate a command with the options of a batch."""
    for option in reversed(
        [
            click.option("-o", "--out", type=PATH, default=None,
                         help="Folder of the pictures and of the journal. Names below it may follow: "
                              "out/{name}-{seed}.png."),
            click.option("--format", type=Word(("png", "jpg", "webp")), default=None,
                         help="Format of a picture whose name does not tell: png, jpg or webp."),
            click.option("--quality", type=click.IntRange(1, 100), default=None,
                         help="Quality of a .jpg, 95 if not given, or of a .webp, which is without loss otherwise."),
            click.option("--metadata/--no-metadata", default=True,
                         help="Write into the pictures how they were made, or do not."),
            click.option("--plan", is_flag=True,
                         help="Check everything, tell what would be drawn and what it takes, and draw nothing."),
            click.option("--allow-slow", is_flag=True,
                         help="Draw a picture even if it would take hours, or more memory than is free."),
            click.option("--keep-going/--fail-fast", "keep_going", default=True, show_default=True,
                         help="Draw on after a job that failed, or stop."),
            click.option("--retry-failed", is_flag=True,
                         help="Draw the jobs again that failed in an earlier run."),
            click.option("--shard", metavar="I/N", default=None,
                         help="Draw part I of N, on one of N machines: each job is in exactly one part."),
            click.option("--merge", type=PATH, multiple=True, metavar="FOLDER",
                         help="Draw nothing: put together what shards drew into this folder. Repeatable."),
            click.option("--on", default="local", metavar="WHERE",
                         help="Where pictures are drawn: local, batched:N on a GPU, processes:N, or ray:ADDRESS."),
            click.option("--check", type=PATH, default=None, metavar="GOLDENS",
                         help="Compare with this folder of pictures, or .jsonl of their hashes; any difference is a "
                              "failure."),
            click.option("--update", is_flag=True, help="Make the pictures of --check those that are drawn now."),
            click.option("--sheet", type=PATH, default=None, help="Save labelled contact sheets in this PNG."),
            click.option("--gallery", type=PATH, default=None,
                         help="Save a page to look at the pictures in this HTML."),
            click.option("--embed", is_flag=True, help="Put the whole pictures into the page of --gallery."),
            click.option("--index", type=PATH, default=None, help="Save a table of all jobs in this CSV."),
            click.option("--junit", type=PATH, default=None, help="Save a JUnit report in this XML."),
            click.option("--markdown", type=PATH, default=None, help="Save a report in this Markdown file."),
            click.option("--openai", type=PATH, default=None,
                         help="Save the answers to the lines of an OpenAI Batch file in this JSONL."),
            click.option("--show", is_flag=True,
                         help="Draw the pictures, and previews of them, in the terminal, if it can."),
            click.option("--json", "as_json", is_flag=True, help="Print events, one JSON object a line."),
            click.option("-q", "--quiet", is_flag=True, help="Show no progress on standard error."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


def _parse_shard(text: str) -> tuple[int, int]:
    """`3/8` -> (3, 8); raises UsageError."""
    index, slash, count = text.partition("/")
    if slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count) <= 10_000:
        return int(index), int(count)
    raise UsageError(f"--shard {text!r} is no part of a batch; write 1/8 … 8/8 for eight parts")
