from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdcli import file_signatures
from sdcli.checkpoints import checkpoint, hashes, header
from sdcli.checkpoints.adapter_info import describe
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.component import amount_of_weights
from sdcli.checkpoints.lookup import any_file
from sdcli.checkpoints.vae_file import kind_of_vae
from sdcli.commands._options import options_given, options_of
from sdcli.commands._streams import print_result, standard_input
from sdcli.commands._types import ModelName
from sdcli.errors import UsageError
from sdcli.request.request import Request, flag
from sdcli.tiny import words as tiny_words

if TYPE_CHECKING:  # reading pictures is imported only for a picture
    from sdcli.request.other_tools.reading import OtherPicture

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
LISTED_ALONE = 3
"""Ignored tensors whose keys begin alike are counted together if there are more than this many."""


@click.command()
@click.argument("file", type=ModelName())
@options_of("prediction", "ztsnr", "vae", "revision")
@click.option("--words", is_flag=True, help="List the words that tiny was taught.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every ignored tensor in it.")
def info(file: str, as_json: bool, words: bool, **values: Any) -> None:
    """Show what a picture, a model or an adapter is, by its header alone.

    FILE is a picture, - for one on standard input, an adapter (an embedding, a LoRA, a hypernetwork, a ControlNet, an
    IP-Adapter, an image encoder, an upscaler), a VAE, or a model as -m takes it: tiny, a safetensors file, a diffusers
    folder, or a hub repo that was fetched before. The name of a file in your folders, or a part of it, will do. For a
    picture by another tool, what that tool wrote into it is shown.
    """
    options = options_given(values)
    if words:
        _print_words(file, as_json)
        return
    is_picture = _is_picture(file)
    path = file if is_picture else _path(file)
    adapter = None if is_picture or not os.path.exists(path) else _adapter_facts(Path(path))
    if options and (is_picture or adapter):
        what = "a picture" if is_picture or adapter is None else adapter["kind"]
        raise UsageError(f"{flag(next(iter(options)))} is about a model, and {file} is {what}; leave it out")
    facts = _picture_facts(file) if is_picture else adapter or _model_facts(path, Request(**options))
    if as_json:
        print_result(json.dumps({"path": path, **facts}))
        return
    print_result(_printable(f"{file}: {facts.pop('kind')}"))
    is_of_another_tool = "texts" in facts  # a picture's own facts have such names too
    for key, value in facts.items():
        if key in _OTHER_FACTS and is_of_another_tool:
            for line in _other_lines(key, value):
                print_result(_printable(f"  {line}"))
        else:
            text = _summary(value) if key == "ignored" else _to_text(value)
            print_result(_printable(f"  {key}: {text}"))


def _path(file: str) -> str:
    """The path of what is named: itself, unless it is the name of one of the user's files."""
    named = None if os.path.exists(file) else any_file(file, file)
    return str(named.path) if named else file


def _adapter_facts(path: Path) -> dict[str, Any] | None:
    """What a file that is no whole model is: an adapter or a VAE alone; None for another."""
    facts = describe(path)
    if facts is None and path.is_file() and (kind := kind_of_vae(header.read(path))):
        return {"kind": kind, "sha256": hashes.digest([path])}
    return facts


def _print_words(file: str, as_json: bool) -> None:
    """What the embedded model was taught, a line for each kind of word."""
    if file != "tiny":
        raise UsageError(f"--words {file}: only the captions of tiny are known; leave it out")
    listing = tiny_words.listing()
    if as_json:
        print_result(json.dumps(listing))
        return
    for kind, texts in listing.items():
        words = map(_with_other_names, texts.items()) if isinstance(texts, dict) else texts
        print_result(f"{kind}: {', '.join(words)}")


def _with_other_names(thing: tuple[str, list[str]]) -> str:
    name, others = thing
    return f"{name} ({', '.join(others)})" if others else name


def _is_picture(file: str) -> bool:
    """True if the name or the first bytes are a picture's; everything else is looked for as a model."""
    if file == "-":
        return True
    if os.path.isdir(file):
        return False
    is_named_so = file.lower().endswith(PICTURE_SUFFIXES)
    return is_named_so or file_signatures.kind_of(_first_bytes(file)) in file_signatures.PICTURES


def _first_bytes(file: str) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    if not os.path.isfile(file):  # a pipe would be waited for
        return b""
    try:
        with open(file, "rb") as opened:
            return opened.read(file_signatures.HEAD_BYTES)
    except OSError:
        return b""


# --- what is shown


def _picture_facts(file: str) -> dict[str, Any]:
    from sdcli.request.other_tools.loras import loras_of
    from sdcli.request.other_tools.recognise import recognise
    from sdcli.request.png_metadata import read_png_metadata

    source, name = (standard_input("the picture"), "standard input") if file == "-" else (file, file)
    metadata = read_png_metadata(source, name)
    kind = f"{metadata.format}, {metadata.width}x{metadata.height}"
    if "sd" not in metadata.texts:
        other = recognise(metadata.texts, (metadata.width, metadata.height))
        loras = [] if other is None else loras_of(other)
        return {"kind": kind, **_other_facts(other, metadata.texts, loras)}
    facts = metadata.facts(file)
    request = metadata.request(file).as_dict()
    return {"kind": kind, **request, **{key: value for key, value in facts.items() if key != "request"}}


def _other_facts(
    other: OtherPicture | None, texts: Mapping[str, str], loras: list[dict[str, Any]]
) -> dict[str, Any]:
    """What another tool wrote, in one form for all of them, and the texts themselves.

    `request` are the fields that `sd again` takes over, `left` is what it does not, `loras` are those in the prompts
    and those that the tool lists.
    """
    if other is None:
        return {"texts": dict(texts)} if texts else {"made": "it does not say how"}
    return {
        "tool": other.tool,
        "request": dict(other.fields),
        "left": dict(other.left),
        "model": {"name": other.model, "hash": other.model_hash},
        "loras": loras,
        **({"upscaler": other.upscaler} if other.upscaler else {}),
        "over_picture": other.start,
        "masked": other.masked,
        "texts": dict(texts),
    }


def _model_facts(file: str, request: Request) -> dict[str, Any]:
    found = checkpoint.read(
        file, request.prediction, request.loading.vae, request.revision, fetches=False, ztsnr=request.ztsnr
    )
    return {
        "kind": f"a {found.family.name} model",
        "family": found.family.summary,
        "prediction": f"{found.prediction}, by {found.prediction_from}",
        "sampling": f"{found.family.sampler}, schedule {found.family.schedule}, by {found.sampling_from}",
        "size": f"{found.size}x{found.size}",
        **(
            {"guidance": "a latent consistency model: --cfg is told to its U-Net"}
            if found.family.embeds_guidance
            else {}
        ),
        **{part: amount_of_weights(component) for part, component in found.components.items()},
        **_added_words(found),
        "ignored": list(found.ignored),
    }


def _added_words(found: Checkpoint) -> dict[str, str]:
    """The words that the model adds to CLIP's vocabulary, if there are any."""
    words = dict.fromkeys(word.text for tokenizer in found.tokenizers.values() for word in tokenizer.added)
    return {"added words": ", ".join(words)} if words else {}


# --- how it is printed


_OTHER_FACTS = ("tool", "request", "left", "model", "loras", "over_picture", "masked", "texts")


def _other_lines(key: str, value: Any) -> list[str]:
    """The lines of what another tool wrote."""
    if key == "tool":
        return [f"tool: {value}"]
    if key == "model":
        return [f"model: {' '.join(filter(None, value.values()))}"] if any(value.values()) else []
    if key == "loras":
        return [f"LoRA: {each['name']}@{each['unet']:g} {each['hash']}".rstrip() for each in value]
    if key in ("over_picture", "masked"):
        return ["made over another picture" if key == "over_picture" else "only a part was repainted"] * value
    named = {"left": "not taken over: "}.get(key, "")
    return [f"{named}{name}: {text}" for name, text in value.items() if text != ""]


def _to_text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(map(_to_text, value.values()))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _summary(keys: list[str]) -> str:
    """How many tensors are ignored, and their keys; keys that begin alike are counted if there are many of them."""
    counts = Counter(_beginning(key) for key in keys)
    shown = dict.fromkeys(
        f"{counts[_beginning(key)]:,} of {_beginning(key)}.*"
        if counts[_beginning(key)] > LISTED_ALONE
        else key
        for key in keys
    )
    count = f"{len(keys):,} tensor{'s' * (len(keys) != 1)} that no network needs"
    return f"{count}: {', '.join(shown)}" if shown else count


def _beginning(key: str) -> str:
    return key.partition(".")[0]


def _printable(text: str) -> str:
    """The text with control characters escaped, because a file's keys and metadata may hold anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
