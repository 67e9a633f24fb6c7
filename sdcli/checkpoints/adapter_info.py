"""Adapter info: what a file that changes a model is, for whom it was made and how it is used, by its header alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
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


def describe(path: Path) -> dict[str, Any] | None:
    """What an adapter file is: `kind` first, then its facts; None if it is none, or cannot be told from a model.

    Raises ModelError for a file that can be nothing else, but is damaged or of a kind that is not drawn with here.
    """
    for described in _KINDS:
        facts = described(path)
        if facts is not None:
            return facts
    return None


def _embedding(path: Path) -> dict[str, Any] | None:
    if not embedding_file.is_embedding(path):
        return None
    file = embedding_file.read_header(path)
    return {
        "kind": f"an embedding for {file.trained_for}",
        "typed as": ", ".join(dict.fromkeys((file.name, file.trigger) if file.trigger else (file.name,))),
        "vectors": file.vectors,
        "width": f"{' and '.join(map(str, file.widths.values()))} values a vector",
        "sha256": hashes.digest([path]),
    }


def _hypernet(path: Path) -> dict[str, Any] | None:
    if not hypernet_file.is_hypernet(path):
        return None
    file = hypernet_file.read_header(path)
    output = ", of its output too" if file.activates_output and file.activation != "linear" else ""
    return {
        "kind": f"a hypernetwork for {file.trained_for}" if file.trained_for else "a hypernetwork",
        "changes": f"attention to contexts of width {', '.join(map(str, file.widths))}",
        "layers": f"{' '.join(f'{each:g}' for each in file.structure)} times the width",
        "activation": file.activation + output,
        "layer norms": "yes" if file.has_norms else "no",
        "typed as": f"<hypernet:{file.name}:1>",
        "sha256": hashes.digest([path]),
    }


def _ip_adapter(path: Path) -> dict[str, Any] | None:
    if not ip_adapter_file.is_ip_adapter(path):
        return None
    file = ip_adapter_file.read_header(path)
    kind = file.kind.replace("_", "-")
    return {
        "kind": f"a {kind} IP-Adapter for {file.trained_for}" if file.trained_for else f"a {kind} IP-Adapter",
        "image encoder": f"{file.encoder}, of width {file.reads}",
        "tokens": file.tokens or "one for each state of the encoder",
        "layers": len(file.layers),
        "sha256": hashes.digest([path]),
    }


def _image_encoder(path: Path) -> dict[str, Any] | None:
    if not image_encoder_file.is_image_encoder(path):
        return None
    file = image_encoder_file.read_header(path)
    return {
        "kind": f"an image encoder, {file.kind}",
        "states": f"of width {file.hidden}, {file.settings['num_hidden_layers']} layers",
        "vector of a picture": f"of width {file.projection}" if file.projection else "none",
        "pictures": f"{file.settings['image_size']}x{file.settings['image_size']}",
        "sha256": hashes.digest([path]),
    }


def _lora(path: Path) -> dict[str, Any] | None:
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
        "autov3": hashes.without_header(path)[:12],
        "sha256": hashes.digest([path]),
    }
    return {key: value for key, value in facts.items() if value}


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


def _control(path: Path) -> dict[str, Any] | None:
    if not control_file.is_control(path):
        return None
    found = control_file.read(path)
    facts = control_file.facts(found)
    return {**facts, "network": amount_of_weights(found.everything), "sha256": hashes.digest(found.paths)}


def _upscaler(path: Path) -> dict[str, Any] | None:
    if not upscaler_file.is_upscaler(path):
        return None
    file = upscaler_file.read_header(path)
    return {
        "kind": upscaler_file.KINDS[file.kind],
        "enlarges": f"{file.scale} times",
        "blocks": f"{file.network.blocks} of width {file.network.width}",
        "network": amount_of_weights(file.component),
        "sha256": hashes.digest([path]),
    }


_KINDS: tuple[Callable[[Path], dict[str, Any] | None], ...] = (
    _embedding,
    _hypernet,
    _ip_adapter,
    _image_encoder,
    _upscaler,
    _lora,
    _control,
)
"""The kinds of adapters, each asked in turn."""
