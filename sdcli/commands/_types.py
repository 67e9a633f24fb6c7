"""Types: the kinds of text that options and arguments take; each says how a shell completes it. None may be empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from sdcli import registry
from sdcli.home import expand_home
from sdcli.request.fields import check_not_empty


class Text(click.types.StringParamType):
    """A text that is not empty."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text; raises UsageError if it is empty."""
        if isinstance(value, str) and param is not None:
            name = param.opts[-1] if isinstance(param, click.Option) else str(param.name).upper()
            check_not_empty(name, value)
        return super().convert(value, param, ctx)


class PathType(Text):
    """The name of a file or folder; a ~ that it begins with is expanded."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path with the home folder in place of ~."""
        return expand_home(super().convert(value, param, ctx))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete file names."""
        return [CompletionItem(incomplete, type="file")]


class Word(Text):
    """One of some words."""

    name = "word"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The words that begin like this."""
        return _beginning(incomplete, self.words)


class PluginName(Text):
    """The name of a plugin of one of some kinds; where it takes options, as `euler_a:eta=1.0`."""

    name = "name"

    def __init__(self, *kinds: str, options: bool = True) -> None:
        self.kinds, self.options = kinds, options

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin like this, each with its summary; behind a colon, the options with their defaults."""
        name, colon, options = incomplete.partition(":")
        found = [registry.describe(kind, each) for kind in self.kinds for each in registry.names(kind)]
        if not colon:
            return [
                CompletionItem(each.name, help=each.summary) for each in found if each.name.startswith(name)
            ]
        before, comma, last = options.rpartition(",")
        start = f"{name}:{before}{comma}"
        return [
            CompletionItem(f"{start}{option}={default}")
            for each in found
            if self.options and each.name == name
            for option, default in each.options.items()
            if option.startswith(last)
        ]


class ModelName(PathType):
    """What -m takes: the name of a model, or a path."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names of models that begin like this, and file names. Test models only where they are begun."""
        from sdcli.checkpoints import hub, toy

        names = ["tiny", *_names_in_folders(), *hub.cached_names()]
        names += toy.MODELS if incomplete.startswith("test") else []
        return [*_beginning(incomplete, names), *super().shell_complete(ctx, param, incomplete)]


class NetworkName(PathType):
    """A LoRA, hypernetwork, control network or embedding: its name in the user's folders, or a path."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names in the folders of this kind that begin like this, and file names; nothing is opened."""
        from sdcli import settings
        from sdcli.checkpoints.named_files import files_in

        names = files_in(settings.network_folders(self.kind))
        return [*_beginning(incomplete, names), *super().shell_complete(ctx, param, incomplete)]


class SweepText(Text):
    """A field and its values, as `cfg=4..10 by 2`."""

    name = "sweep"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The fields that begin like this; behind =, names of plugins or words, each after a comma."""
        from sdcli.request.jobfile.keys import OPTIONS

        field, equals, values = incomplete.partition("=")
        if not equals:
            return _beginning(incomplete, (f"{name}=" for name in OPTIONS))
        before, comma, last = values.rpartition(",")
        option = OPTIONS.get(field)
        known = (
            registry.names(option.plugin) if option and option.plugin else option.choices if option else ()
        )
        return [CompletionItem(f"{field}={before}{comma}{each}") for each in known if each.startswith(last)]


def _beginning(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(word) for word in dict.fromkeys(words) if word.startswith(incomplete)]


def _names_in_folders() -> list[str]:
    """The names of what looks like a model in the model folders; nothing is opened."""
    from sdcli import settings

    folders = [folder for folder in settings.model_folders() if folder.is_dir()]
    paths = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    files = [path.stem for path in paths if path.suffix == ".safetensors" and path.is_file()]
    return [*files, *(path.name for path in paths if path.is_dir())]


PATH = PathType()
