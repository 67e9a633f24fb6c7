from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sdcli import settings
from sdcli.checkpoints import checkpoint, hub, toy
from sdcli.errors import SdError, UsageError
from sdcli.request.request import Request


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a model.")
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models that can be used here; `models pull` fetches one.

    They are the embedded one, those in the model folders (SDCLI_MODELS, else ~/.local/share/sdcli/models), those the
    hub's cache holds, and the test models.
    """
    if ctx.invoked_subcommand:
        return
    for name, revision, path in _all():
        try:
            kind = checkpoint.read(str(path)).family.name
        except SdError as error:
            kind = f"unusable: {error}"
        if as_json:
            print(json.dumps({"name": name, "revision": revision, "path": str(path), "kind": kind}))
        else:
            print(f"{name} --revision {revision}  {kind}" if revision else f"{name}  {kind}")


@models.command()
@click.argument("repo")
@click.option("--revision", default=None, help="Which revision; the newest if not given.")
def pull(repo: str, revision: str | None) -> None:
    """Fetch a model from the hub into its cache, only what is needed, and print where it lies."""
    with hub.progress(sys.stderr.isatty()):
        print(hub.fetch(repo, revision))


@models.command()
@click.argument("model")
@click.argument("out")
@click.option("--dtype", default=None, help="float32, float16 or bfloat16; as it is stored if not given.")
@click.option("--prediction", default="auto", help="What its network predicts, where that is not recognised.")
@click.option("--revision", default=None, help="Which revision of a hub repo.")
def convert(model: str, out: str, dtype: str | None, prediction: str, revision: str | None) -> None:
    """Write MODEL anew: as a single file if OUT ends in .safetensors, else as a diffusers folder.

    The same model gives the same bytes. Nothing is overwritten.
    """
    if dtype not in (None, "float32", "float16", "bfloat16"):
        raise UsageError(f"--dtype {dtype!r} is unknown; use float32, float16 or bfloat16")
    asked = Request(
        "", prediction=prediction, revision=revision
    )  # checked as they are where a picture is drawn
    with hub.progress(sys.stderr.isatty()):
        found = checkpoint.read(model, asked.prediction, revision=asked.revision)

    import torch

    from sdcli import convert as conversion

    print(conversion.convert(found, Path(out), getattr(torch, dtype) if dtype else None))


def _all() -> Iterator[tuple[str, str | None, Path | str]]:
    """Name, revision and place of each."""
    yield "tiny", None, "tiny"
    for folder in settings.model_folders():
        for path in sorted(folder.glob("*")) if folder.is_dir() else []:
            whole = not path.name.startswith(".")  # what is being written is hidden
            if whole and (path.suffix == ".safetensors" or (path / "unet").is_dir()):
                yield path.stem if path.is_file() else path.name, None, path
    yield from hub.all_cached()
    for name in toy.MODELS:
        yield name, None, name
