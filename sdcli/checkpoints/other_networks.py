"""Other networks: the LoRAs and the upscaler of another tool's picture, looked for in the user's folders."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdcli import notes
from sdcli.checkpoints import hashes, names
from sdcli.checkpoints.folders import named_files
from sdcli.checkpoints.lookup import with_any_hash
from sdcli.request.other_tools.reading import UPSCALER, OtherLora, OtherPicture, lora_text
from sdcli.request.prepare import PROMPTS

Changes = Mapping[str, Any]


def with_networks_of(other: OtherPicture, changes: Changes) -> tuple[Changes, Mapping[str, str]]:
    """(the changes with the files that the tool used as far as they are here, what is not taken over).

    What the changes say of LoRAs or of the upscaler holds in place of the tool's.
    """
    left = dict(other.left)
    if other.upscaler:
        found_upscaler = names.same_name(other.upscaler, named_files("upscalers"))
        if "hires_by" not in changes and len(found_upscaler) == 1:
            changes = {**changes, "hires_by": str(found_upscaler[0].path)}
        if "hires_by" in changes:
            left.pop(UPSCALER, None)
    if not other.loras:
        return changes, left
    paths = {} if "lora" in changes else {lora: _path(lora) for lora in other.loras}
    found = {lora: path for lora, path in paths.items() if path is not None}
    for key in {lora.key for lora in other.loras}:
        missing = [lora for lora in other.loras if lora.key == key and lora not in found]
        if not missing or "lora" in changes:
            left.pop(key, None)
        else:
            left[key] = lora_text(missing)
    if found:
        changes = {**changes, "lora": tuple(_option(lora, path) for lora, path in found.items())}
    return changes, left


def with_names_here(other: OtherPicture) -> OtherPicture:
    """The picture; a LoRA that its prompts name, and that has another name here, has that name in them.

    It is found by the hash that the tool recorded. One whose name is here stays, whatever its hash is.
    """
    fields = dict(other.fields)
    for name, digits in other.lora_hashes.items():
        is_named = re.compile(rf"(?<=<lora:|<lyco:){re.escape(name)}(?=[:>])")
        texts = {key: fields[key] for key in PROMPTS if is_named.search(fields.get(key) or "")}
        if not texts or names.same_name(name, named_files("loras")):
            continue
        if path := with_any_hash("loras", digits):
            notes.tell(f"the LoRA {name} is called {path.stem} here: {path} has its hash")
            here = path.stem.replace("\\", r"\\")
            fields |= {key: is_named.sub(here, text) for key, text in texts.items()}
    return dataclasses.replace(other, fields=fields)


def _path(lora: OtherLora) -> Path | None:
    """The file of a LoRA: of its name and hash, else of its hash, else of its name alone, if only one has that."""
    named = [file.path for file in names.same_name(lora.name, named_files("loras"))]
    digits = lora.hash.lower().removeprefix("0x")
    if digits:
        of_both = [path for path in named if _has_hash(path, digits)]
        path = of_both[0] if of_both else with_any_hash("loras", digits)
        if path is not None:
            return path
    return named[0] if len(named) == 1 else None


def _has_hash(path: Path, digits: str) -> bool:
    try:
        return hashes.without_header(path).startswith(digits) or hashes.digest([path]).startswith(digits)
    except OSError:
        return False


def _option(lora: OtherLora, path: Path) -> str:
    return f"{path}@{lora.unet!r}" + ("" if lora.te == lora.unet else f":te={lora.te!r}")
