from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click

from sdcli import settings
from sdcli.checkpoints import checkpoint, header, hub, toy
from sdcli.checkpoints.named_files import files_in
from sdcli.commands._help import UncutGroup
from sdcli.commands._streams import print_note, print_result
from sdcli.commands._types import PATH, ModelName
from sdcli.errors import SdError, UsageError
from sdcli.file_signatures import HEAD_BYTES, PICKLES, kind_of
from sdcli.home import expand_home
from sdcli.request.request import Request

DTYPES = ("float32", "float16", "bfloat16")


@click.group(cls=UncutGroup, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a model.")
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models that can be used here; `models pull` fetches one, `models convert` writes one in another form.

    `models compile` makes one ready for --engine compile.

    They are the embedded model, those in the model folders (SDCLI_MODELS, else on Linux ~/.local/share/sdcli/models),
    those in the hub's cache, and the test models; then the embeddings, LoRAs, hypernetworks, control networks and
    upscalers in their folders.
    """
    if ctx.invoked_subcommand:
        return
    read_header = functools.lru_cache(maxsize=100)(
        header.read
    )  # a model of the hub is first checked, then read
    for name, revision, path in _all_models(read_header):
        try:
            kind = checkpoint.read(path, read_header=read_header).family.name
        except SdError as error:
            kind = f"unusable: {error}"
        if as_json:
            print_result(json.dumps({"name": name, "revision": revision, "path": path, "kind": kind}))
        else:
            print_result(f"{name} --revision {revision}  {kind}" if revision else f"{name}  {kind}")
    for file in _adapters():
        kind = _kind_of_adapter(file)
        if as_json:
            print_result(json.dumps({"name": file.stem, "revision": None, "path": str(file), "kind": kind}))
        else:
            print_result(f"{file.stem}  {kind}")


@models.command()
@click.argument("repo")
@click.option("--revision", default=None, help="Revision of the repo; the newest if not given.")
def pull(repo: str, revision: str | None) -> None:
    """Fetch the files of a model that are needed from the hub into its cache, and print their folder."""
    with hub.progress(sys.stderr.isatty()):
        folder = hub.fetch(repo, revision)
    print_result(str(folder), saved=folder)


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


def _adapters() -> Iterator[Path]:
    """The files in the folders of embeddings and networks."""
    folders = [settings.embeddings_folder(), *chain(*map(settings.network_folders, settings.NETWORK_FOLDERS))]
    for paths in files_in(folder for folder in dict.fromkeys(folders) if folder).values():
        yield from paths


def _kind_of_adapter(file: Path) -> str:
    from sdcli.checkpoints.adapter_info import describe  # not needed by those who have none

    try:
        facts = describe(file)
    except SdError as error:
        return f"unusable: {error}"
    return str(facts["kind"]) if facts else "unusable: not recognised; `sd info` says more"


def _all_models(read_header: header.ReadHeader) -> Iterator[tuple[str, str | None, str]]:
    """(name, revision, what -m takes for it) of each."""
    yield "tiny", None, "tiny"
    for folder in settings.model_folders():
        for path in sorted(folder.glob("*")) if folder.is_dir() else []:
            is_hidden = path.name.startswith(".")  # as a file is while it is being written
            if not is_hidden and (path.suffix == ".safetensors" or (path / "unet").is_dir()):
                yield path.stem if path.is_file() else path.name, None, str(path)
    for repo, revision, path in hub.all_cached(read_header):
        yield repo, revision, str(path)
    for name in toy.MODELS:
        yield name, None, name
