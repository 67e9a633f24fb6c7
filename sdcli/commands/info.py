from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import Any

import click

from sdcli.networks import checkpoint
from sdcli.request import picture


@click.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def info(file: str, as_json: bool, debug: bool) -> None:
    """Tell what a picture or a model is, from its header alone.

    FILE is a PNG, - for one on standard input, a safetensors file, a diffusers folder, or tiny. Pictures of other
    tools tell what those wrote into them.
    """
    told = _picture(file) if _is_picture(file) else _model(file)
    if as_json:
        print(json.dumps({"path": file, **told}))
        return
    for key, value in {file: told.pop("kind"), **told}.items():
        text = " ".join(map(str, value.values())) if isinstance(value, dict) else value
        print(f"{'' if key == file else '  '}{key}: {text}")


def _is_picture(file: str) -> bool:
    """Whatever does not look like a model is taken for a picture, whose reader says best what is wrong with it."""
    models = (".safetensors", ".ckpt", ".pt", ".bin", ".gguf")
    return not (file == "tiny" or file.startswith("test:") or os.path.isdir(file) or file.endswith(models))


def _picture(file: str) -> dict[str, Any]:
    told = picture.read(sys.stdin.buffer, "standard input") if file == "-" else picture.read(file)
    kind = f"PNG, {told.width}x{told.height}"
    if "sd" not in told.texts:
        return {"kind": kind, **(dict(told.texts) or {"made": "it tells nothing of how"})}
    facts = told.facts(file)
    request = told.request(file).as_dict()
    return {"kind": kind, **request, **{key: value for key, value in facts.items() if key != "request"}}


def _model(file: str) -> dict[str, Any]:
    found = checkpoint.read(file)
    networks = {part: _described(network) for part, network in found.networks.items()}
    return {
        "kind": f"a {found.family.name} model",
        "family": found.family.summary,
        "prediction": f"{found.prediction}, by {found.rule}",
        "size": f"{found.size}x{found.size}",
        **networks,
        "ignored": f"{len(found.ignored)} tensors that no network needs",
    }


def _described(network: checkpoint.Network) -> str:
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
