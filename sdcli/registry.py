"""The plugins: which samplers, families, annotators, commands and other such there are, and one of them by name.

The one rule: the file `x.py` in a plugin folder holds one object called `x`; a package joins with an entry point
`x` in the group `sdcli.<folder>`. Names, one-line summaries, facts and options are read from the source text, so
listing and checking import nothing.
"""

import ast
import difflib
import functools
import importlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sdcli.errors import UsageError

_HERE = os.path.dirname(os.path.abspath(__file__))
FOLDERS = {
    "samplers": "diffusion/samplers",
    "schedules": "diffusion/schedules",
    "guidance": "diffusion/guidance",
    "families": "checkpoints/families",
    "annotators": "pipeline/annotators",
    "commands": "commands",
}

FACTS = ("order", "evaluations", "paper")
_FACT = re.compile(rf"^({'|'.join(FACTS)}): (.+)\n?", re.MULTILINE)


@dataclass(frozen=True)
class Plugin:
    """One plugin as its source tells it: first line of the docstring, the rest of it, option -> default, and facts.

    The facts are the docstring's lines of the form `order: 2`; FACTS are their words.
    """

    kind: str
    name: str
    module: str
    summary: str = ""
    details: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def names(kind: str) -> tuple[str, ...]:
    """All names in a plugin folder and in the installed packages that join it, sorted; imports none of them."""
    return tuple(sorted({*_own(kind), *_joined(kind)}))


def find(kind: str, spec: str) -> Any:
    """The object that `name` or `name:option=value,option=value` stands for, its options bound.

    Raises UsageError for an unknown name, an unknown option or a value of the wrong type.
    """
    plugin, values = check(kind, spec)
    joined = {} if plugin.name in _own(kind) else _joined(kind)
    thing = (
        joined[plugin.name].load() if joined else getattr(importlib.import_module(plugin.module), plugin.name)
    )
    return functools.partial(thing, **values) if values else thing


def check(kind: str, spec: str) -> tuple[Plugin, dict[str, Any]]:
    """What `spec` names and its options' values, without importing it; raises like `find`."""
    name, _, options = spec.partition(":")
    if name not in _own(kind) and name not in _joined(kind):
        raise UsageError(f"no {_noun(kind)} is called {name!r}; {nearest(name, names(kind))}")
    plugin = describe(kind, name)
    return plugin, dict(_option(plugin, item) for item in options.split(",") if item)


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """The next step for a near miss: `did you mean x?`, or the whole list when nothing is near."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.55)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"


@functools.cache
def describe(kind: str, name: str) -> Plugin:
    """The plugin `name`, read from its source text."""
    own = name in _own(kind)
    module = f"sdcli.{FOLDERS[kind].replace('/', '.')}.{name}" if own else _joined(kind)[name].module
    attribute = name if own else _joined(kind)[name].attr
    plugin = Plugin(kind, name, module)
    if own:
        path: str | None = os.path.join(_HERE, FOLDERS[kind], f"{name}.py")
    else:
        spec = importlib.util.find_spec(module)
        path = spec.origin if spec else None
    if not path or not path.endswith(".py"):
        return plugin
    with open(path, encoding="utf-8") as f:
        tree = ast.parse(f.read())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == attribute:
            doc = ast.get_docstring(node) or ast.get_docstring(tree) or ""
            return Plugin(kind, name, module, *_told(doc), _defaults(node), dict(_FACT.findall(doc)))
    return Plugin(kind, name, module, *_told(ast.get_docstring(tree) or ""))


def _told(doc: str) -> tuple[str, str]:
    summary, _, details = _FACT.sub("", doc).partition("\n")
    return summary, details.strip()


def _defaults(node: ast.FunctionDef) -> dict[str, Any]:
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {arg.arg: ast.literal_eval(default) for arg, default in pairs if default is not None}


def _option(plugin: Plugin, item: str) -> tuple[str, Any]:
    key, _, text = item.partition("=")
    key = key.strip()
    if key not in plugin.options:
        has = nearest(key, list(plugin.options)) if plugin.options else "it has no options"
        raise UsageError(f"{plugin.name} has no option {key!r}; {has}")
    default = plugin.options[key]
    try:
        if isinstance(default, bool):
            return key, {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        return key, type(default)(text.strip())
    except (KeyError, ValueError):
        like = f"{plugin.name}:{key}={default}"
        raise UsageError(
            f"{plugin.name}: {key}={text!r} is not a {type(default).__name__}; try {like}"
        ) from None


@functools.cache
def _own(kind: str) -> frozenset[str]:
    files = os.listdir(os.path.join(_HERE, FOLDERS[kind]))
    return frozenset(f[:-3] for f in files if f.endswith(".py") and not f.startswith("_"))


@functools.cache
def _joined(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"sdcli.{kind}")}


def _noun(kind: str) -> str:
    return {"families": "family", "guidance": "guidance"}.get(kind, kind.removesuffix("s"))
