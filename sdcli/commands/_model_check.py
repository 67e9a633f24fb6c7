"""Model check: what `sd models check` prints of each file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.file_check import Checked, check
from sdcli.checkpoints.lookup import any_file
from sdcli.commands._streams import print_result
from sdcli.errors import ModelError, SdError
from sdcli.home import expand_home

SHOWN = 3
"""How many of the tensors that are not finite are named."""


def check_files(texts: Sequence[str], online: bool, as_json: bool) -> None:
    """Check each file, print what was checked, and raise ModelError at the end if one is bad."""
    bad = []
    for text in texts:
        for path in _files(text):
            if not _check_file(path, online, as_json):
                bad.append(str(path))
    if bad:
        raise ModelError(
            f"{len(bad)} of the files {'is' if len(bad) == 1 else 'are'} bad: {', '.join(bad)[:200]}"
        )


def _check_file(path: Path, online: bool, as_json: bool) -> bool:
    """Print what was found in a file; True if it is good."""
    try:
        found = check(path)
        kind = _kind(path)
    except SdError as error:
        print_result(
            json.dumps({"path": str(path), "good": False, "fault": str(error)})
            if as_json
            else f"bad: {error}"
        )
        return False
    answer = _ask(found) if online else {}
    if as_json:
        print_result(json.dumps({**_facts(found), "kind": kind, **answer}))
        return found.is_good
    for line in _lines(found, kind, answer):
        print_result(line)
    return found.is_good


def _facts(found: Checked) -> dict[str, object]:
    return {
        "path": str(found.path),
        "good": found.is_good,
        "tensors": found.tensors,
        "values": found.values,
        "not_finite": dict(found.not_finite),
        "recorded": dict(found.recorded),
        "sha256": found.sha256,
        "autov3": found.autov3,
    }


def _lines(found: Checked, kind: str, answer: Mapping[str, str | None]) -> Iterator[str]:
    yield f"{'good' if found.is_good else 'bad'}: {found.path}"
    yield f"  header: {found.tensors:,} tensors, which fill the file; {kind}"
    if found.not_finite:
        named = ", ".join(f"{name} ({count:,})" for name, count in list(found.not_finite.items())[:SHOWN])
        more = f" and {len(found.not_finite) - SHOWN} more" if len(found.not_finite) > SHOWN else ""
        yield f"  values: not finite in {named}{more}; get another copy"
    else:
        yield f"  values: all {found.values:,} are finite"
    yield f"  sha256: {found.sha256} (AutoV2 {found.sha256[:10]}, AutoV3 {found.autov3[:12]})"
    for where, same in found.recorded.items():
        yield f"  recorded hash: {where}: {'the same' if same else 'another; the tensors were changed since'}"
    if not found.recorded:
        yield "  recorded hash: none in it"
    if "known_as" in answer:
        yield f"  known on Civitai: {answer['known_as'] or 'no'}"
    if "not_asked" in answer:
        yield f"  Civitai could not be asked: {answer['not_asked']}"


def _kind(path: Path) -> str:
    """What the file is, in words; raises ModelError if it is damaged, as a checkpoint that lacks a tensor is."""
    from sdcli.checkpoints import header, vae_file
    from sdcli.checkpoints.adapter_info import recognise

    found = recognise(path)
    if found is not None:
        return str(found.facts["kind"])
    if kind := vae_file.kind_of_vae(header.read(path)):
        return kind
    if path.parent.name in ("unet", "vae") or path.parent.name.startswith(("text_encoder", "safety_checker")):
        return f"the {path.parent.name} of a diffusers folder"
    return f"a {checkpoint.read(str(path)).family.name} model, every tensor accounted for"


def _ask(found: Checked) -> dict[str, str | None]:
    """By which name Civitai knows the file's hash, None if it knows none; or why it could not be asked."""
    from sdcli.pull import civitai

    try:
        return {"known_as": civitai.by_hash(found.sha256) or None}
    except ModelError as error:
        return {"not_asked": str(error).removeprefix("civitai: ")}


def _files(text: str) -> list[Path]:
    """The safetensors files that a path, a name in a folder, or a diffusers folder stands for; raises ModelError."""
    path = Path(expand_home(text))
    if not os.path.exists(path):
        named = any_file(text, text)
        path = named.path if named else checkpoint.find(text, fetches=False)
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*.safetensors"))
    if not files:
        raise ModelError(f"{path}: no safetensors file in it; name a file, or a folder with some")
    checkpoint_files = os.path.isdir(path / "unet")
    if checkpoint_files:
        checkpoint.read(str(path))  # raises if a network is not whole
    return files
