from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import Any

import click

from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.component import Component
from sdcli.commands._options import options_given, options_of
from sdcli.errors import UsageError
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request, flag

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8")
"""What the names of pictures end in, and what their files begin with."""


@click.command()
@click.argument("file")
@options_of("prediction", "vae", "revision")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every ignored tensor in it.")
def info(file: str, as_json: bool, **values: Any) -> None:
    """Tell what a picture or a model is, from its header alone.

    FILE is a PNG, - for one on standard input, or a model as -m takes it: tiny, a safetensors file, a diffusers
    folder, a name in a model folder, or a hub repo that was fetched before. Pictures of other tools tell what those
    wrote into them.
    """
    asked = options_given(values)
    if not _is_picture(file):
        told = _model(file, Request(**asked))
    elif asked:
        raise UsageError(f"{flag(next(iter(asked)))} is about a model, and {file} is a picture; leave it out")
    else:
        told = _picture(file)
    if as_json:
        print(json.dumps({"path": file, **told}))
        return
    for key, value in {file: told.pop("kind"), **told}.items():
        print(_printable(f"{'' if key == file else '  '}{key}: {_text(value)}"))


def _is_picture(file: str) -> bool:
    """Whether its name or its first bytes are a picture's; all else is looked for as a model is."""
    if file == "-":
        return True
    if os.path.isdir(file):
        return False
    return file.lower().endswith(PICTURES) or _start(file).startswith(STARTS)


def _start(file: str) -> bytes:
    """A file's first bytes; none where there is no file that can be read."""
    try:
        with open(file if os.path.isfile(file) else os.devnull, "rb") as opened:
            return opened.read(8)
    except OSError:
        return b""


def _text(value: Any) -> str:
    """A value as it stands on its line."""
    if isinstance(value, dict):
        return " ".join(map(str, value.values()))
    return _listed(value) if isinstance(value, list) else str(value)


def _listed(keys: list[str]) -> str:
    """Tensors that are ignored: how many, and their names; where more than three begin alike, how many do."""
    heads = Counter(key.partition(".")[0] for key in keys)
    many = {head: f"{count:,} of {head}.*" for head, count in heads.items() if count > 3}
    names = dict.fromkeys([many.get(key.partition(".")[0]) or key for key in keys])
    what = f"{len(keys):,} tensor{'s' * (len(keys) != 1)} that no network needs"
    return f"{what}: {', '.join(names)}" if names else what


def _printable(text: str) -> str:
    """The text without what would speak to the terminal; a file's own names and words may hold anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _picture(file: str) -> dict[str, Any]:
    source, name = (sys.stdin.buffer, "standard input") if file == "-" else (file, file)
    told = read_png_metadata(source, name)
    kind = f"PNG, {told.width}x{told.height}"
    if "sd" not in told.texts:
        return {"kind": kind, **(dict(told.texts) or {"made": "it tells nothing of how"})}
    facts = told.facts(file)
    request = told.request(file).as_dict()
    return {"kind": kind, **request, **{key: value for key, value in facts.items() if key != "request"}}


def _model(file: str, asked: Request) -> dict[str, Any]:
    found = checkpoint.read(file, asked.prediction, asked.vae, asked.revision, fetches=False)
    networks = {part: _described(network) for part, network in found.networks.items()}
    return {
        "kind": f"a {found.family.name} model",
        "family": found.family.summary,
        "prediction": f"{found.prediction}, by {found.rule}",
        "size": f"{found.size}x{found.size}",
        **networks,
        "ignored": list(found.ignored),
    }


def _described(network: Component) -> str:
    if network.header is None:
        return "random weights"
    entries = [network.header.tensors[key] for key in {source.key for source in network.sources.values()}]
    dtypes = "/".join(kind for kind, _ in Counter(entry.dtype for entry in entries).most_common())
    return f"{sum(_count(entry.shape) for entry in entries) / 1e6:,.1f} M parameters in {dtypes}"


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
