"""Places: the file that a value stands in, and the paths that are relative to that file's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from sdcli.errors import UsageError
from sdcli.home import expand_home
from sdcli.request import loras, regions
from sdcli.request.file_options import SETTING
from sdcli.request.jobfile.batch_job import Source
from sdcli.request.jobfile.keys import OPTIONS
from sdcli.request.jobfile.nodes import Node
from sdcli.request.jobfile.ranges import MAX_VALUES
from sdcli.request.request import HIRES_BY
from sdcli.request.weighted_file import parse_weighted_file

STANDARD_INPUT = "standard input"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_HAS_NAMES = ("model", "vae", "embedding", "lora", "hypernet", "control", "ip_adapter", "hires_by")
"""Fields that may hold a name, of a model folder or a hub, which is no path."""
_FILE = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|png|jpe?g|webp)$", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A job file. `texts`: its values are all texts, which a field's type converts, as in CSV.

    A field may have `max_values`, written out or as a range.
    """

    file: str
    texts: bool = False
    known: set[str] = field(default_factory=set, compare=False, repr=False)  # pictures that exist
    max_values: int = MAX_VALUES

    def source(self, node: Node) -> Source:
        """The place of a node in it."""
        return Source(self.file, node.line)

    def path(self, path: str) -> str:
        """A path in the file as the program opens it: relative to the file's folder."""
        folder = "" if self.file == STANDARD_INPUT else os.path.dirname(self.file)
        return path if path.startswith("~") else os.path.join(folder, path)

    def value(self, name: str, value: str) -> str:
        """A field's text with the paths in it as the program opens them.

        Raises UsageError for a picture that does not exist, or that is standard input.
        """
        option = OPTIONS[name]
        if name == "region":
            return self._region(value)
        if option.picture:
            return self._picture(name, value)
        if name == "reference":
            path, *settings = SETTING.split(value)
            return ":".join([self._picture(name, path), *settings])
        if option.many and option.path:
            return self._adapter(name, value)
        return self._file(name, value) if option.path else value

    def _file(self, name: str, path: str) -> str:
        """A path; where a name may stand, a text that looks like one and is no file stays."""
        joined = self.path(path)
        if name == "model" and (path == "tiny" or path.startswith("test:")):
            return path
        if name == "hires_by" and path in HIRES_BY:
            return path
        is_name = name in _HAS_NAMES and not (
            _FILE.search(path) or path.startswith(".") or os.path.exists(joined)
        )
        return path if is_name else joined

    def _picture(self, name: str, path: str) -> str:
        if path == "-":
            raise UsageError(f"{name}: a job's picture cannot be standard input; name a file")
        joined = self.path(path)
        if joined not in self.known:
            if not os.path.isfile(expand_home(joined)):
                reason = "is a folder" if os.path.isdir(joined) else "there is no such file"
                raise UsageError(f"{name}: {joined}: {reason}; check the path, from the job file's folder on")
            self.known.add(joined)
        return joined

    def _adapter(self, name: str, text: str) -> str:
        """`FILE@0.8:image=…:encoder=…` with its files."""
        whole, *settings = SETTING.split(text)
        typed = _typed_path(name, whole)
        parts = [self._file(name, typed) + whole[len(typed) :]]
        for setting in settings:
            key, _, value = setting.partition("=")
            change: dict[str, Callable[[str], str]] = {
                "image": lambda path: self._picture(name, path),
                "encoder": lambda path: self._file(name, path),
            }
            is_path = key in change and value.strip() and name in ("control", "ip_adapter")
            parts.append(f"{key}={change[key](value)}" if is_path else setting)
        return ":".join(parts)

    def _region(self, text: str) -> str:
        mask = regions.parse(text).mask
        if not mask:
            return text
        prompt, _, place = text.rpartition("@")
        strength = "" if expand_home(place) == mask else f",{place.rpartition(',')[2]}"
        typed = place[: len(place) - len(strength)]
        return f"{prompt}@{self._picture('region', typed)}{strength}"


def _typed_path(name: str, text: str) -> str:
    """The file in `FILE@0.8`, as it is typed."""
    if name == "lora":
        return loras.path_of(text)
    if name == "hypernet" and parse_weighted_file("--hypernet", text).path != expand_home(text):
        return text.rpartition("@")[0]
    return text
