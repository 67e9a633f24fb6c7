"""Networks: the LoRAs and hypernetworks that a request names, by options and by `<lora:name:0.8>` in its prompts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sdcli import registry, settings
from sdcli.checkpoints import header, names
from sdcli.checkpoints.folders import named_files
from sdcli.checkpoints.lookup import BY_HASH, file_path, may_be_name
from sdcli.checkpoints.named_files import SUFFIX
from sdcli.errors import ModelError, UsageError
from sdcli.request import loras
from sdcli.request.prompt.emphases import EMPHASIS_OF
from sdcli.request.prompt.networks import Network, take_networks
from sdcli.request.request import Request

Folders = Callable[[str], Sequence[Path]]
"""Kind of network (loras, hypernets) -> the folders in which its files are looked for by name."""

KINDS = {"lora": "lora", "lyco": "lora", "hypernet": "hypernet"}
"""Kind that a prompt names -> the field of a request that such files are in."""

ALIAS = "ss_output_name"
"""The metadata of a LoRA that is its name for A1111 as well."""


def with_networks(request: Request, folders: Folders = settings.network_folders) -> Request:
    """The request that a picture records: the networks in its prompts are options, and each names a file.

    A prompt that is read as it is typed, or in another language than A1111's, names none. Raises UsageError for a name
    that no file has or that several have.
    """
    changes: dict[str, object] = {}
    taken: list[Network] = []
    if _reads_networks(request):
        for name in ("prompt", "prompt_2"):
            text, networks = take_networks(getattr(request, name) or "", KINDS)
            if networks:
                changes[name] = text
                taken += networks
        regions = [take_networks(text, KINDS) for text in request.region]
        taken += [network for _, networks in regions for network in networks]
        changes["region"] = tuple(text for text, _ in regions)
    for field in dict.fromkeys(KINDS.values()):
        given = [_with_path(field, text, folders) for text in getattr(request, field)]
        named = [
            _option_of(network, field, folders, request.steps)
            for network in taken
            if KINDS[network.kind] == field
        ]
        changes[field] = (*given, *named)
    same = all(getattr(request, name) == value for name, value in changes.items())
    return request if same else request.replace(**changes)


def _reads_networks(request: Request) -> bool:
    emphasis = request.emphasis or EMPHASIS_OF.get(request.like)
    return emphasis in (None, "a1111", "no_norm")


def _option_of(network: Network, field: str, folders: Folders, steps: int | None) -> str:
    if not network.args or not network.args[0].strip():
        raise UsageError(f"{network.text}: names no file; write <{network.kind}:name:0.8>")
    path = _found(network.text, field, network.args[0].strip(), folders)
    if path is None:
        raise _unknown(network.text, field, network.args[0].strip(), folders)
    if field == "lora":
        return loras.option_of(network, path, steps)
    if len(network.args) > 2 or network.named:
        raise UsageError(f"{network.text}: a hypernetwork has one strength; write <hypernet:name:0.8>")
    return f"{path}@{network.args[1]}" if len(network.args) == 2 else path


def _with_path(field: str, text: str, folders: Folders) -> str:
    """An option whose file is named by its path: it is so already, or its name is that of a file in a folder."""
    name, shown = loras.path_of(text), f"--{field} {text}"
    if os.path.exists(name):
        return text
    path = _found(shown, field, name, folders, fuzzy=True)
    if path is None:
        from sdcli.request.respelled import check_spelling  # only an error needs it

        check_spelling(field, text)
    if path is None and not Path(name).suffix and name == os.path.basename(name):
        raise _unknown(shown, field, name, folders)
    return text if path is None else path + text[len(name) :]


def _found(shown: str, field: str, name: str, folders: Folders, fuzzy: bool = False) -> str | None:
    """The path of the network of this name: the name of its file, without the ending, or what the file calls itself.

    If `fuzzy`, a part of the name that only one has will do.
    """
    if name.lower().endswith(SUFFIX) and os.path.isfile(name):
        return name
    if fuzzy and name.startswith(BY_HASH):
        return str(file_path(f"{field}s", shown, name))
    files = named_files(f"{field}s", folders(f"{field}s"))
    paths = [file.path for file in names.same_name(name, files)]
    if not paths:
        paths = [file.path for file in files if _alias(file.path) == name]
    if len(paths) > 1:
        raise UsageError(f"{shown}: both {paths[0]} and {paths[1]} are called so; name one with --{field}")
    if not paths and fuzzy and may_be_name(name):
        found = names.find(shown, name, files)
        paths = [found.path] if found else []
    return str(paths[0]) if paths else None


def _alias(path: Path) -> str:
    try:
        return header.read(path).metadata.get(ALIAS, "")
    except ModelError:
        return ""


def _unknown(shown: str, field: str, name: str, folders: Folders) -> UsageError:
    places = folders(f"{field}s")
    files = [file.stem for file in named_files(f"{field}s", places)]
    if not files:
        where = f"{places[0]} has none" if places else "there is no folder of them"
        return UsageError(
            f"{shown}: no file is called {name!r}: {where}; set SDCLI_{field.upper()}S to their folder, "
            f"or give --{field} FILE"
        )
    return UsageError(f"{shown}: no file in {places[0]} is called {name!r}; {registry.nearest(name, files)}")


def stems(options: Sequence[str]) -> Mapping[str, str]:
    """Option text -> the name of its file without the ending, as A1111 writes it into `<lora:name:…>`."""
    return {text: Path(loras.path_of(text)).stem for text in options}
