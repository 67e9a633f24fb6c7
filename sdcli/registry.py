"""The registry of plugins: samplers, schedules, guidance, model families, annotators and commands, by name.

The one rule: the file `x.py` in a plugin folder holds one object called `x`; a package joins with an entry point
`x` in the group `sdcli.<folder>`. Names, one-line summaries, facts and options are read from the source text, so
listing and checking import no plugin.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, overload

from sdcli.errors import UsageError

if TYPE_CHECKING:  # types only: the registry itself imports no plugin and no torch
    from importlib.metadata import EntryPoint

    import click
    from PIL.Image import Image

    from sdcli.batch.executor import Executor
    from sdcli.checkpoints.family import Family
    from sdcli.diffusion.types import Guidance, Sampler, Schedule
    from sdcli.models.engine_types import Engine
    from sdcli.models.offload import Adapter

FOLDERS = {
    "samplers": "diffusion/samplers",
    "schedules": "diffusion/schedules",
    "guidance": "diffusion/guidance",
    "families": "checkpoints/families",
    "annotators": "pipeline/annotators",
    "adapters": "adapters",
    "engines": "models/engines",
    "executors": "batch/executors",
    "commands": "commands",
}
"""Plugin kind -> its folder inside the package. A new kind needs an overload of `find` as well."""

FACTS = ("order", "evaluations", "paper")
"""The words of docstring lines such as `order: 2`, which are facts of the plugin and no part of its description."""

Option = bool | int | float | str
"""The value of a plugin's option."""

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_FACT = re.compile(rf"^({'|'.join(FACTS)}): (.+)\n?", re.MULTILINE)


@dataclass(frozen=True)
class Plugin:
    """One plugin as its source text describes it."""

    kind: str
    name: str
    module: str
    summary: str = ""  # the first line of the docstring
    details: str = ""  # the rest of it, without the facts
    options: Mapping[str, Option] = field(default_factory=dict)  # name -> default
    facts: Mapping[str, str] = field(default_factory=dict)  # see FACTS


@dataclass(frozen=True)
class Spec:
    """The name of a plugin and the options given with it, as in `euler_a:eta=0.5`. `parse` makes it."""

    name: str
    options: tuple[tuple[str, Option], ...] = ()

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}:{options}" if options else self.name


def names(kind: str) -> tuple[str, ...]:
    """All names of a plugin kind, from its folder and from installed packages, sorted; imports no plugin."""
    return tuple(sorted({*_built_in(kind), *_installed(kind)}))


@overload
def find(kind: Literal["samplers"], spec: str | Spec) -> Sampler: ...
@overload
def find(kind: Literal["schedules"], spec: str | Spec) -> Schedule: ...
@overload
def find(kind: Literal["guidance"], spec: str | Spec) -> Guidance: ...
@overload
def find(kind: Literal["families"], spec: str | Spec) -> Family: ...
@overload
def find(kind: Literal["annotators"], spec: str | Spec) -> Callable[[Image, str, str], Image]: ...
@overload
def find(kind: Literal["adapters"], spec: str | Spec) -> Callable[[str], Adapter]: ...
@overload
def find(kind: Literal["engines"], spec: str | Spec) -> Callable[[], Engine | None]: ...
@overload
def find(kind: Literal["executors"], spec: str | Spec) -> Callable[[str], Executor]: ...
@overload
def find(kind: Literal["commands"], spec: str | Spec) -> click.Command: ...
def find(kind: str, spec: str | Spec) -> object:
    """Import the plugin that a Spec, or the text that `parse` reads, stands for, with its options bound.

    Raises UsageError as `parse` does.
    """
    spec = parse(kind, spec) if isinstance(spec, str) else spec
    if spec.name in _built_in(kind):
        module, attribute, _ = _locate(kind, spec.name)
        found = getattr(importlib.import_module(module), attribute)
    else:
        found = _installed(kind)[spec.name].load()
    return functools.partial(found, **dict(spec.options)) if spec.options else found


def parse(kind: str, text: str) -> Spec:
    """`name` or `name:option=value,option=value` as a Spec, without importing the plugin.

    Raises UsageError for an unknown name, an unknown option or a value of the wrong type.
    """
    name, _, options = text.partition(":")
    check_name(kind, name)
    values = dict(_parse_option(describe(kind, name), item) for item in options.split(",") if item)
    return Spec(name, tuple(values.items()))


def check_name(kind: str, name: str) -> None:
    """Raise UsageError, with the nearest name, if no plugin of this kind has this name."""
    if name not in _built_in(kind) and name not in _installed(kind):
        raise UsageError(f"no {_singular(kind)} is called {name!r}; {nearest(name, names(kind))}")


MAX_LISTED = 100
"""Characters of known words that an error lists; `sd samplers` and `--help` list all."""


def nearest(word: str, known: Sequence[str]) -> str:
    """The next step for an unknown word: `did you mean x?`, or all known words if none is similar."""
    import difflib

    similar = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.55)
    if similar:
        return f"did you mean {similar[0]!r}?"
    listed = ", ".join(known)
    return (
        f"there are: {listed}"
        if len(listed) <= MAX_LISTED
        else f"there are: {_cut(listed)}, … ({len(known)})"
    )


def _cut(listed: str) -> str:
    """The first words of a list that is too long for a line."""
    return listed[:MAX_LISTED].rpartition(", ")[0]


@functools.cache
def describe(kind: str, name: str) -> Plugin:
    """The plugin `name`, read from its source text; one without source text has a name only."""
    module, attribute, path = _locate(kind, name)
    if not path or not path.endswith(".py"):
        return Plugin(kind, name, module)
    with open(path, encoding="utf-8") as f:
        tree = ast.parse(f.read())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == attribute:
            docstring = ast.get_docstring(node) or ast.get_docstring(tree) or ""
            facts = dict(_FACT.findall(docstring))
            return Plugin(kind, name, module, *_split_docstring(docstring), _option_defaults(node), facts)
    return Plugin(kind, name, module, *_split_docstring(ast.get_docstring(tree) or ""))


def _locate(kind: str, name: str) -> tuple[str, str, str | None]:
    """(module, name of the object in it, path of its source) of a plugin, without importing it."""
    if name in _built_in(kind):
        module = f"sdcli.{FOLDERS[kind].replace('/', '.')}.{name}"
        return module, name, os.path.join(_PACKAGE, FOLDERS[kind], f"{name}.py")
    entry_point = _installed(kind)[name]
    spec = importlib.util.find_spec(entry_point.module)
    return entry_point.module, entry_point.attr, spec.origin if spec else None


def _split_docstring(docstring: str) -> tuple[str, str]:
    """(summary, details) of a docstring, without the facts."""
    summary, _, details = _FACT.sub("", docstring).partition("\n")
    return summary, details.strip()


def _option_defaults(function: ast.FunctionDef) -> dict[str, Option]:
    """The keyword-only parameters of a function that have a default."""
    pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {arg.arg: ast.literal_eval(default) for arg, default in pairs if default is not None}


def _parse_option(plugin: Plugin, item: str) -> tuple[str, Option]:
    """(name, value) of `name=value`; the value takes the type of the option's default."""
    name, _, text = item.partition("=")
    name = name.strip()
    if name not in plugin.options:
        hint = nearest(name, list(plugin.options)) if plugin.options else "it has no options"
        raise UsageError(f"{plugin.name} has no option {name!r}; {hint}")
    default = plugin.options[name]
    try:
        if isinstance(default, bool):
            return name, {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        return name, type(default)(text.strip())
    except (KeyError, ValueError):
        example = f"{plugin.name}:{name}={default}"
        raise UsageError(
            f"{plugin.name}: {name}={text!r} is not a {type(default).__name__}; try {example}"
        ) from None


@functools.cache
def _built_in(kind: str) -> frozenset[str]:
    """The names of the plugins in the kind's folder."""
    files = os.listdir(os.path.join(_PACKAGE, FOLDERS[kind]))
    return frozenset(f.removesuffix(".py") for f in files if f.endswith(".py") and not f.startswith("_"))


@functools.cache
def _installed(kind: str) -> dict[str, EntryPoint]:
    """The plugins that installed packages add, by name."""
    group = f"sdcli.{kind}"
    if not any(_may_add(folder, group) for folder in sys.path):
        return {}

    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=group)}


def _may_add(folder: str, group: str) -> bool:
    """False if no package that is installed in a folder of sys.path has entry points in the group.

    This looks at the files that importlib.metadata reads, in a hundredth of the time that importing it takes. For a
    path that is no folder, such as a zip file, the answer is True.
    """
    try:
        names = os.listdir(folder or os.curdir)
    except OSError:
        return os.path.exists(folder)
    packages = [name for name in names if name.lower().endswith(("dist-info", "egg-info"))]
    return any(_mentions(os.path.join(folder, name, "entry_points.txt"), group) for name in packages)


def _mentions(path: str, group: str) -> bool:
    """True if the file is there and holds the name of the group."""
    try:
        with open(path, "rb") as file:
            return group.encode() in file.read()
    except OSError:
        return False


def _singular(kind: str) -> str:
    return {"families": "family", "guidance": "guidance"}.get(kind, kind.removesuffix("s"))
