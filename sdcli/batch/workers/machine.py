"""Machine: what two machines must have in common to draw the same bytes, and which files a picture is made from."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sdcli
from sdcli.batch.named_files import file_digest, named_files
from sdcli.checkpoints import checkpoint, hashes
from sdcli.request.request import Loading, Request


@dataclass(frozen=True)
class Machine:
    """The versions and the arithmetic of a machine; all but its name must be equal. `gpu` is empty if it has none."""

    name: str
    sdcli: str  # its version and the first digits of the sha256 of its source text
    torch: str
    python: str
    cpu: str  # architecture, maker, and the vector instructions that torch uses
    gpu: str

    def difference(self, other: Machine) -> str:
        """How another machine differs: `torch is 2.9.0, not 2.9.1`; empty if it does not."""
        facts = [field.name for field in dataclasses.fields(self) if field.name != "name"]
        pairs = [(fact, getattr(other, fact), getattr(self, fact)) for fact in facts]
        return ", ".join(f"{fact} is {its or 'none'}, not {ours}" for fact, its, ours in pairs if its != ours)


def this_machine() -> Machine:
    """The machine that this process runs on, as torch sees it."""
    import torch

    from sdcli.models.device import arithmetic

    cpu = arithmetic(torch.device("cpu"), torch.bfloat16)  # the class in which machines differ most
    return Machine(
        socket.gethostname(),
        f"{sdcli.__version__} ({_source_digest()[:8]})",
        torch.__version__,
        platform.python_version(),
        f"{platform.machine()} {cpu}",
        torch.cuda.get_device_name(0) if torch.cuda.is_available() else "",
    )


def _source_digest() -> str:
    """The sha256 of the package's source text: two states of a version under way may draw different pictures."""
    folder = Path(sdcli.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


def model_digest(loading: Loading) -> str:
    """The sha256 of a model's weights; raises ModelError if a file is missing or bad."""
    return hashes.digest(checkpoint.read_for(loading).paths)


def file_digests(request: Request) -> dict[str, str]:
    """Path -> sha256 of each picture and adapter that a request names; empty for one that cannot be read."""
    return {path: file_digest(Path(path)) for path in named_files(request)}


def missing_or_other(expected: Mapping[str, str]) -> str:
    """What is wrong here with the files of which `file_digests` told elsewhere; empty if nothing is."""
    for path, sha256 in expected.items():
        found = file_digest(Path(path))
        if sha256 and found != sha256:
            return f"{path} is another file there" if found else f"{path} is missing there"
    return ""
