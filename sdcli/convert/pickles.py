"""Pickles: old model files (.ckpt, .pt, .pth, .bin) become safetensors; nothing else here ever reads one.

A pickle can run code when it is read. Another process reads it with torch's loader for weights, which runs none of it
(`pickle_child.py`); only the safetensors file that it writes is used, and is checked before it gets its name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdcli import store
from sdcli.checkpoints import header
from sdcli.errors import ModelError, UsageError

SECONDS, BYTES_A_SECOND = 60, 5_000_000  # how long reading and writing may take

_ADVICE = "choose another place"


def convert(path: Path, out: Path, dtype: str = "") -> list[str]:
    """Write the tensors of a pickle to `out`, floats as `dtype` if it is given; returns notes on what is left out.

    Raises ModelError with the reason if the file is not converted, and UsageError if `out` is no .safetensors file, or
    exists.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: a pickle is converted to one file; name it {out.name}.safetensors")
    if os.path.lexists(out):
        raise _exists(out)
    with store.filled_by_another(out, _ADVICE) as file:
        notes = _run(path, file.path, dtype)
        try:
            header.read(file.path)
        except ModelError as error:
            raise ModelError(f"{path}: {_after_path(error, file.path)}") from None
        if not file.publish(out):
            raise _exists(out)
    return notes


def _exists(out: Path) -> UsageError:
    return UsageError(f"{out}: is there already; nothing is overwritten, choose another name")


def _run(path: Path, out: Path, dtype: str) -> list[str]:
    """Let the other process convert; raises ModelError with its reason."""
    command = [sys.executable, "-P", "-m", f"{__package__}.pickle_child"]
    command += [str(path.resolve()), str(out.resolve()), dtype]
    seconds = SECONDS + path.stat().st_size / BYTES_A_SECOND
    try:
        ran = subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{path}: not converted in {seconds:.0f} seconds, and given up; is it a model?"
        ) from None
    answer = _answer(ran.stdout)
    if "error" in answer:
        raise ModelError(f"{path}: {_printable(answer['error'])}")
    if ran.returncode or "notes" not in answer:
        raise ModelError(
            f"{path}: reading it failed ({_ending(ran)}); it is damaged, or needs too much memory"
        )
    return [_printable(note) for note in answer["notes"]]


def _environment() -> Mapping[str, str]:
    """This process's, with its import path and one thread."""
    path = os.pathsep.join(each or os.getcwd() for each in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _answer(output: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(output)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _ending(ran: subprocess.CompletedProcess[bytes]) -> str:
    if ran.returncode < 0:
        return signal.Signals(-ran.returncode).name
    lines = ran.stderr.decode(errors="replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), f"exit code {ran.returncode}")
    return _printable(said)


def _printable(text: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:400])


def _after_path(error: ModelError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
