"""Other networks: the LoRAs and the upscaler of another tool's picture, looked for in the user's folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdcli import settings
from sdcli.checkpoints import upscaler_file
from sdcli.checkpoints.named_files import files_in
from sdcli.request.other_tools.reading import UPSCALER, OtherLora, OtherPicture, lora_text

Changes = Mapping[str, Any]


def with_networks_of(other: OtherPicture, changes: Changes) -> tuple[Changes, Mapping[str, str]]:
    """(the changes with the files that the tool used as far as they are here, what is not taken over).

    What the changes say of LoRAs or of the upscaler holds in place of the tool's.
    """
    left = dict(other.left)
    if other.upscaler:
        path = None if "hires_by" in changes else upscaler_file.find(other.upscaler)
        if path is not None:
            changes = {**changes, "hires_by": str(path)}
        if "hires_by" in changes:
            left.pop(UPSCALER, None)
    if not other.loras:
        return changes, left
    files = {} if "lora" in changes else files_in(settings.network_folders("loras"))
    found = {lora: str(files[lora.name][0]) for lora in other.loras if len(files.get(lora.name, [])) == 1}
    for key in {lora.key for lora in other.loras}:
        missing = [lora for lora in other.loras if lora.key == key and lora not in found]
        if not missing or "lora" in changes:
            left.pop(key, None)
        else:
            left[key] = lora_text(missing)
    if found:
        changes = {**changes, "lora": tuple(_option(lora, path) for lora, path in found.items())}
    return changes, left


def _option(lora: OtherLora, path: str) -> str:
    return f"{path}@{lora.unet!r}" + ("" if lora.te == lora.unet else f":te={lora.te!r}")
