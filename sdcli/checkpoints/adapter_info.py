"""Adapter info: what a file that changes a model is, for whom it was made and how it is used, by its header alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.checkpoints import (
    control_file,
    embedding_file,
    hashes,
    hypernet_file,
    image_encoder_file,
    ip_adapter_file,
    lora_file,
    upscaler_file,
)
from sdcli.checkpoints.component import amount_of_weights
from sdcli.checkpoints.lora_file import LoraFile
from sdcli.errors import ModelError

SHOWN_WORDS = 10
"""How many of the words that a LoRA was trained with are shown."""


@dataclass(frozen=True)
class Adapter:
    """What a file that changes a model, or stands beside one, is: its kind as settings name it, and its facts."""

    kind: str  # as in folders.TITLES
    facts: Mapping[str, Any]  # `kind` in words comes first; none is a hash
    trained_for: str = ""  # such as `SD 1`; empty if unknown
    words: tuple[str, ...] = ()  # that it answers to


def describe(path: Path) -> dict[str, Any] | None:
    """What an adapter file is: `kind` first, then its facts and hashes; None if it is none, or may be a model.

    Raises ModelError for a file that can be nothing else, but is damaged or of a kind that is not drawn with here.
    """
    found = recognise(path)
    if found is None:
        return None
    facts = dict(found.facts)
    if found.kind == "loras":
        facts["autov3"] = hashes.without_header(path)[:12]
    paths = control_file.read(path).paths if found.kind == "controls" else [path]
    return {**facts, "sha256": hashes.digest(paths)}


def recognise(path: Path) -> Adapter | None:
    """What an adapter file is, by its header alone; no file is hashed. Raises ModelError as `describe`."""
    for recognised in _KINDS:
        found = recognised(path)
        if found is not None:
            return found
    return None


def _embedding(path: Path) -> Adapter | None:
    if not embedding_file.is_embedding(path):
        return None
    file = embedding_file.read_header(path)
    facts = {
        "kind": f"an embedding for {file.trained_for}",
        "typed as": ", ".join(dict.fromkeys((file.name, file.trigger) if file.trigger else (file.name,))),
        "vectors": file.vectors,
        "width": f"{' and '.join(map(str, file.widths.values()))} values a vector",
    }
    return Adapter("embeddings", facts, file.trained_for, (file.trigger,) if file.trigger else ())


def _hypernet(path: Path) -> Adapter | None:
    if not hypernet_file.is_hypernet(path):
        return None
    file = hypernet_file.read_header(path)
    output = ", of its output too" if file.activates_output and file.activation != "linear" else ""
    facts = {
        "kind": f"a hypernetwork for {file.trained_for}" if file.trained_for else "a hypernetwork",
        "changes": f"attention to contexts of width {', '.join(map(str, file.widths))}",
        "layers": f"{' '.join(f'{each:g}' for each in file.structure)} times the width",
        "activation": file.activation + output,
        "layer norms": "yes" if file.has_norms else "no",
        "typed as": f"<hypernet:{file.name}:1>",
    }
    return Adapter("hypernets", facts, file.trained_for)


def _ip_adapter(path: Path) -> Adapter | None:
    if not ip_adapter_file.is_ip_adapter(path):
        return None
    file = ip_adapter_file.read_header(path)
    kind = file.kind.replace("_", "-")
    facts = {
        "kind": f"a {kind} IP-Adapter for {file.trained_for}" if file.trained_for else f"a {kind} IP-Adapter",
        "image encoder": f"{file.encoder}, of width {file.reads}",
        "tokens": file.tokens or "one for each state of the encoder",
        "layers": len(file.layers),
    }
    return Adapter("ip_adapters", facts, file.trained_for)


def _image_encoder(path: Path) -> Adapter | None:
    if not image_encoder_file.is_image_encoder(path):
        return None
    file = image_encoder_file.read_header(path)
    facts = {
        "kind": f"an image encoder, {file.kind}",
        "states": f"of width {file.hidden}, {file.settings['num_hidden_layers']} layers",
        "vector of a picture": f"of width {file.projection}" if file.projection else "none",
        "pictures": f"{file.settings['image_size']}x{file.settings['image_size']}",
    }
    return Adapter("image_encoders", facts)


def _lora(path: Path) -> Adapter | None:
    try:
        file = lora_file.read_header(path)
    except ModelError:
        return None
    if len(file.others) > len(file.modules):
        return None
    kinds = " and ".join(file.kinds)
    facts = {
        "kind": f"a {kinds} file for {file.trained_for}" if file.trained_for else f"a {kinds} file",
        "rank": ", ".join(map(str, file.ranks)),
        "changes": f"{len(file.modules)} modules",
        "typed as": f"<lora:{path.stem}:1>",
        "trained words": ", ".join(trained_words(file)),
        "embeddings": ", ".join(file.bundled_names),
    }
    facts = {key: value for key, value in facts.items() if value}
    return Adapter("loras", facts, file.trained_for, tuple(trained_words(file)))


def trained_words(file: LoraFile) -> list[str]:
    """The words that a LoRA answers to, as its metadata tell: its trigger, or the most frequent tags it was trained on.

    The tags are kohya's `ss_tag_frequency`, a JSON object of folders with their tags and counts.
    """
    if trigger := file.header.metadata.get("modelspec.trigger_phrase", "").strip():
        return [trigger]
    try:
        folders = json.loads(file.header.metadata.get("ss_tag_frequency", "{}"))
    except (ValueError, RecursionError):
        return []
    counts: Counter[str] = Counter()
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            counts[tag.strip()] += count if type(count) is int else 0
    return [tag for tag, _ in counts.most_common(SHOWN_WORDS)]


def _control(path: Path) -> Adapter | None:
    if not control_file.is_control(path):
        return None
    found = control_file.read(path)
    facts = {**control_file.facts(found), "network": amount_of_weights(found.everything)}
    return Adapter("controls", facts, found.trained_for)


def _upscaler(path: Path) -> Adapter | None:
    if not upscaler_file.is_upscaler(path):
        return None
    file = upscaler_file.read_header(path)
    facts = {
        "kind": upscaler_file.KINDS[file.kind],
        "enlarges": f"{file.scale} times",
        "blocks": f"{file.network.blocks} of width {file.network.width}",
        "network": amount_of_weights(file.component),
    }
    return Adapter("upscalers", facts)


_KINDS: tuple[Callable[[Path], Adapter | None], ...] = (
    _embedding,
    _hypernet,
    _ip_adapter,
    _image_encoder,
    _upscaler,
    _lora,
    _control,
)
"""The kinds of adapters, each asked in turn."""
