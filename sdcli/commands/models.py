from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sdcli import registry
from sdcli.checkpoints import folders, hub
from sdcli.checkpoints.catalogue import CatalogueFile, catalogue, of_hub
from sdcli.commands._help import UncutGroup
from sdcli.commands._streams import print_note, print_result
from sdcli.commands._types import PATH, ModelName, Word
from sdcli.errors import UsageError
from sdcli.file_signatures import HEAD_BYTES, PICKLES, kind_of
from sdcli.home import expand_home
from sdcli.request.request import Request

SHOWN_WORDS = 5
DTYPES = ("float32", "float16", "bfloat16")


class ModelsGroup(UncutGroup):
    """The commands of `sd models`; the name of a kind of file in a command's place is --kind."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if ctx.resilient_parsing or args[0] in self.commands:
            return super().resolve_command(ctx, args)
        raise UsageError(
            f"{args[0]}: no such command; {registry.nearest(args[0], [*self.commands, *folders.TITLES])}"
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((i for i, each in enumerate(args) if not each.startswith("-")), None)
        if first is not None and args[first] not in self.commands and "--kind" not in args[:first]:
            with contextlib.suppress(UsageError):
                kind = folders.kind_of_word(args[first])
                args = [*args[:first], "--kind", kind, *args[first + 1 :]]
        return super().parse_args(ctx, args)


@click.group(cls=ModelsGroup, invoke_without_command=True)
@click.option(
    "--kind", type=Word([*folders.TITLES]), default=None, help="Only files of this kind: loras, vaes, …"
)
@click.option("--hash", "with_hashes", is_flag=True, help="Compute the hashes that are not known yet.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
@click.pass_context
def models(ctx: click.Context, kind: str | None, with_hashes: bool, as_json: bool) -> None:
    """List the files that can be used here, by kind; `sd models loras` lists the LoRAs.

    The kinds are checkpoints, vaes, loras, embeddings, hypernets, controls, ip_adapters, image_encoders and upscalers.
    They are looked for in the model folders (SDCLI_MODELS, else on Linux ~/.local/share/sdcli/models), in the folders
    that A1111 and ComfyUI have in or beside those, and in the hub's cache.
    """
    if ctx.invoked_subcommand:
        return
    kinds = (folders.kind_of_word(kind),) if kind else tuple(folders.TITLES)
    files = _all_files(kinds, with_hashes)
    if as_json:
        for file in files:
            print_result(json.dumps(file.as_dict(), ensure_ascii=False))
        return
    for each in kinds:
        own = [file for file in files if file.kind == each]
        if own:
            print_result(f"{each}:")
        for file in own:
            print_result(f"  {_line(file)}")
    if not files:
        places = ", ".join(map(str, folders.places(kinds[0]))) or "no folder of them"
        print_note(f"there are no {kinds[0]} here: looked in {places}")


def _all_files(kinds: Sequence[str], with_hashes: bool) -> list[CatalogueFile]:
    """The embedded model, the user's files, those of the hub's cache, and the test models."""
    files = catalogue(kinds, with_hashes)
    if folders.CHECKPOINTS not in kinds:
        return files

    from sdcli.checkpoints import header, toy  # not needed for the other kinds

    read_header = functools.lru_cache(maxsize=100)(header.read)
    hub_files = [of_hub(*found) for found in hub.all_cached(read_header)]
    tests = [_built_in(name) for name in toy.MODELS]
    return [_built_in("tiny"), *files, *hub_files, *tests]


def _built_in(name: str) -> CatalogueFile:
    from sdcli.checkpoints import checkpoint

    family = checkpoint.read(name).family.name
    return CatalogueFile(folders.CHECKPOINTS, name, name, family, f"a {family} model")


def _line(file: CatalogueFile) -> str:
    """A file in one line: its name, and what is known of it."""
    name = f"{file.name} --revision {file.revision}" if file.revision else file.name
    if file.fault:
        return _printable(f"{name}  unusable: {file.fault}")
    is_told = file.kind != folders.CHECKPOINTS  # of a checkpoint, the family tells all
    parts = [name, file.summary if is_told else file.family, _size(file.size), file.sha256[:10]]
    if file.words:
        parts.append("words: " + ", ".join(file.words[:SHOWN_WORDS]))
    return _printable("  ".join(filter(None, parts)))


def _size(count: int) -> str:
    """The bytes as people write them; empty for none."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.1f} MB" if count else ""


def _printable(text: str) -> str:
    """The text with control characters escaped, because names and metadata may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@models.command()
@click.argument("source")
@click.option("--revision", default=None, help="Revision of a repo of the hub; the newest if not given.")
def pull(source: str, revision: str | None) -> None:
    """Fetch a model or file, and print its path; what was broken off goes on.

    SOURCE is a repo of the hub, owner/name, of which the files that are needed are fetched into its cache, or one of
    its files, owner/name:file.safetensors; or civitai:VERSION, civitai:MODEL@VERSION or civitai:https://… (a page of a
    model), which is fetched into the folder for its kind. HF_TOKEN and CIVITAI_TOKEN are used where they are set.
    """
    if source.startswith("civitai:"):
        if revision is not None:
            raise UsageError(
                f"--revision {revision}: {source} is no repo of the hub; write civitai:MODEL@VERSION"
            )
        from sdcli.commands._download_progress import download_progress
        from sdcli.pull import civitai

        with download_progress(source) as watch:
            path = civitai.pull(source, print_note, watch)
    else:
        repo, _, file = source.partition(":")
        with hub.progress(sys.stderr.isatty()):
            path = hub.fetch_file(repo, file, revision) if file else hub.fetch(repo, revision)
    print_result(str(path), saved=path)


@models.command()
@click.argument("files", type=ModelName(), nargs=-1, required=True)
@click.option(
    "--online",
    is_flag=True,
    help="Ask Civitai by which name it knows the file's hash; only the hash is sent.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
def check(files: tuple[str, ...], online: bool, as_json: bool) -> None:
    """Check that files are whole, that every value is finite, and that their hashes are those that are recorded.

    FILES are safetensors files, folders or names. A file is read once, in pieces; its hash is compared with what its
    metadata record (sshs_model_hash, modelspec.hash_sha256) and with its name in the hub's cache. Exits 3 if one is
    bad.
    """
    from sdcli.commands._model_check import check_files

    check_files(files, online, as_json)


@models.command()
@click.argument("model", type=ModelName())
@click.argument("out", type=PATH)
@click.option("--dtype", default=None, help="float32, float16 or bfloat16; unchanged if not given.")
@click.option("--prediction", default="auto", help="What the U-Net predicts, if it is not recognised.")
@click.option("--revision", default=None, help="Revision of a hub repo; the newest if not given.")
def convert(model: str, out: str, dtype: str | None, prediction: str, revision: str | None) -> None:
    """Write MODEL as a single file if OUT ends in .safetensors, else as a diffusers folder.

    The same model gives the same bytes. Nothing is overwritten. An old pickled file (.ckpt, .pt, .pth, .bin: a model,
    a LoRA, an embedding, a hypernetwork, …) becomes safetensors without running anything that is in it.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r} is unknown; use float32, float16 or bfloat16")
    if _begins_as_pickle(Path(expand_home(model))):
        _check_unused(prediction, revision)
        _convert_pickle(Path(expand_home(model)), Path(out), dtype)
        return
    from sdcli.checkpoints import checkpoint

    request = Request(prediction=prediction, revision=revision)  # raises for values that are not allowed
    with hub.progress(sys.stderr.isatty()):
        found = checkpoint.read(model, request.prediction, revision=request.revision)

    import torch

    from sdcli import convert as conversion

    written = conversion.convert(found, Path(out), getattr(torch, dtype) if dtype else None)
    print_result(str(written), saved=written)


@models.command("compile")
@click.argument("model", type=ModelName())
@click.option("-W", "--width", type=int, default=None, help="Width in pixels; the model's own if not given.")
@click.option(
    "-H", "--height", type=int, default=None, help="Height in pixels; the model's own if not given."
)
@click.option("--dtype", default="auto", help="float32 or bfloat16; what drawing takes if not given.")
@click.option("--revision", default=None, help="Revision of a hub repo; the newest if not given.")
def compile_model(
    model: str, width: int | None, height: int | None, dtype: str, revision: str | None
) -> None:
    """Compile the networks of MODEL for one size of picture, for --engine compile on this CPU.

    It needs a C++ compiler and takes minutes. The code is kept in the cache folder and serves all models of this kind.
    """
    from sdcli.checkpoints import checkpoint

    request = Request(
        model=model, width=width, height=height, dtype=dtype, revision=revision, engine="compile"
    )
    found = checkpoint.read_for(request.loading)

    from sdcli.models.compiling import compile_networks

    for folder in compile_networks(found, request.loading, width or found.size, height or found.size):
        print_result(str(folder), saved=folder)


def _begins_as_pickle(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(HEAD_BYTES)) in PICKLES
    except OSError:
        return False


def _check_unused(prediction: str, revision: str | None) -> None:
    """Raise UsageError for an option that changes nothing for a pickle, whose tensors keep their names."""
    for option, is_given in (("--prediction", prediction != "auto"), ("--revision", revision is not None)):
        if is_given:
            raise UsageError(
                f"{option} means nothing for a pickle, which is converted as it is; leave it out"
            )


def _convert_pickle(path: Path, out: Path, dtype: str | None) -> None:
    from sdcli.convert import pickles

    for note in pickles.convert(path, out, dtype or ""):
        print_note(f"{path}: {note}")
    print_result(str(out), saved=out)
