"""Names: models and networks as clients name them, for which no path is ever taken, and records without folders."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sdcli import settings
from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.named_files import SUFFIX, files_in
from sdcli.errors import ModelError, UsageError
from sdcli.registry import nearest
from sdcli.request.fields import option_of
from sdcli.request.prompt.networks import take_networks
from sdcli.request.request import HIRES_BY, Loading, Request

FOLDERS = {"lora": "loras", "hypernet": "hypernets", "control": "controls", "embedding": "embeddings",
           "hires_by": "upscalers", "ip_adapter": "ip_adapters", "encoder": "image_encoders"}  # fmt: skip
"""Field of a request, or a setting in one, -> the kind of folder in which the files are that it may name."""
_FOLDER = r"[^/\\:,;@'\"\s](?:[^/\\:,;@'\"\n]*[^/\\:,;@'\"\s])?[/\\]"
_FOLDERS_IN_TEXT = re.compile(rf"(?<![\w.~/\\])(?:~|[A-Za-z]:)?[/\\](?:{_FOLDER})+")


class UnknownModel(ModelError):
    """A model that is not served."""


@dataclass(frozen=True)
class ServedModel:
    """A model that is served: its name for clients, what -m takes, and what its headers say."""

    name: str
    model: str
    found: Checkpoint


class Served:
    """The models that are served, in the order in which they were named; the first is taken if none is asked for."""

    def __init__(self, models: list[str], loading: Loading) -> None:
        """Read the headers of these models; raises ModelError as `checkpoint.read_for`, UsageError for equal names."""
        self.models: dict[str, ServedModel] = {}
        for model in dict.fromkeys(models):
            name = model if model.startswith("test:") or _is_repo(model) else _plain_name(model)
            if name in self.models:
                raise UsageError(f"-m {model}: another model is called {name} too; rename one of them")
            found = checkpoint.read_for(dataclasses.replace(loading, model=model))
            self.models[name] = ServedModel(name, model, found)

    @property
    def default(self) -> ServedModel:
        """The model of a request that names none."""
        return next(iter(self.models.values()))

    def name_of(self, model: str | os.PathLike[str]) -> str:
        """The name for clients of what -m takes."""
        return next((each.name for each in self.models.values() if each.model == model), str(model))

    def find(self, name: str) -> ServedModel:
        """The model of this name; raises UnknownModel."""
        by_name = self.models.get(name) or self.models.get(_plain_name(name) if name.endswith(SUFFIX) else "")
        if by_name is None or os.sep in name.removeprefix(by_name.name):
            raise UnknownModel(
                f"model {name!r:.80} is not served here; {nearest(name[:80], list(self.models))}"
            )
        return by_name


def _is_repo(model: str) -> bool:
    return not os.path.exists(model) and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", model))


def _plain_name(model: str) -> str:
    return os.path.basename(os.path.normpath(model)).removesuffix(SUFFIX)


# --- networks


def listed(field: str) -> Mapping[str, Path]:
    """The files that a field may name, by their names without the ending; of two of one name, the first."""
    return {name: paths[0] for name, paths in files_in(settings.network_folders(FOLDERS[field])).items()}


def path_of(field: str, name: str) -> str:
    """The path of a listed file; raises UsageError for a name that is not listed."""
    if field == "hires_by" and name in HIRES_BY:
        return name
    files = listed(field)
    plain = name.removesuffix(SUFFIX)
    path = files.get(plain) or next(
        (path for each, path in files.items() if each.casefold() == plain.casefold()), None
    )
    if path is None:
        advice = nearest(plain[:80], list(files)) if files else "there are none"
        raise UsageError(f"{field}: {name!r:.80} is not the name of a file that is listed here; {advice}")
    return str(path)


def check_prompt_names(request: Request) -> None:
    """Raise UsageError for a network in a prompt that is named by a path: only listed names are taken."""
    for text in (request.prompt, request.prompt_2 or "", *request.region):
        for network in take_networks(text, ("lora", "lyco", "hypernet"))[1]:
            name = network.args[0].strip() if network.args else ""
            if name.lower().endswith(SUFFIX) or os.path.isabs(name) or ".." in name or name.startswith("~"):
                raise UsageError(
                    f"{network.text:.80}: names a path; write the listed name, without the ending"
                )


# --- what leaves the server


_PATH_FIELDS = tuple(each.name for each in dataclasses.fields(Request) if option_of(each).path)


def without_folders(request: Request) -> Request:
    """The request whose files are named without their folders."""
    changes: dict[str, object] = {}
    for name in _PATH_FIELDS:
        value = getattr(request, name)
        if isinstance(value, str) and not (name == "model" and _is_repo(value)):
            changes[name] = text_without_folders(value)
        elif isinstance(value, tuple):
            changes[name] = tuple(text_without_folders(each) for each in value)
    changes = {name: value for name, value in changes.items() if value != getattr(request, name)}
    return dataclasses.replace(request, **changes) if changes else request  # type: ignore[arg-type]


def text_without_folders(text: str) -> str:
    """The text in which absolute paths are file names."""
    return _FOLDERS_IN_TEXT.sub("", text)
