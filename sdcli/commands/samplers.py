from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sdcli import registry, store
from sdcli.errors import UsageError

_KINDS = {"samplers": "--sampler", "schedules": "--schedule", "guidance": "--guidance"}


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a plugin.")
@click.option("--plot", default=None, help="Draw the noise levels of all schedules into this PNG.")
@click.option(
    "--steps", "-s", type=click.IntRange(2, 1000), default=20, help="Of how many steps; for --plot."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def samplers(name: str | None, as_json: bool, plot: str | None, steps: int, debug: bool) -> None:
    """List the samplers, schedules and guidances there are, or tell all about one.

    Options are set behind a colon: --sampler euler_a:eta=0.5,s_noise=1.02
    """
    if plot is not None:
        from sdcli.commands import _plot

        print(store.save(_plot.plot(steps), Path(plot)))
        return
    plugins = [registry.describe(kind, each) for kind in _KINDS for each in registry.names(kind)]
    if name is not None:
        known = [plugin.name for plugin in plugins]
        plugins = [plugin for plugin in plugins if plugin.name == name]
        if not plugins:
            raise UsageError(
                f"no sampler, schedule or guidance is called {name!r}; {registry.nearest(name, known)}"
            )
    if as_json:
        for plugin in plugins:
            print(json.dumps(_told(plugin)))
    elif name is not None:
        for plugin in plugins:
            _print_whole(plugin)
    else:
        _print_list(plugins)


def _told(plugin: registry.Plugin) -> dict[str, Any]:
    about = {"kind": plugin.kind, "name": plugin.name, "summary": plugin.summary, "details": plugin.details}
    facts = {name: int(fact) if fact.isdecimal() else fact for name, fact in plugin.facts.items()}
    return {**about, **facts, "options": dict(plugin.options)}


def _print_whole(plugin: registry.Plugin) -> None:
    print(f"{_KINDS[plugin.kind]} {plugin.name}")
    print(f"  {plugin.summary}")
    for line in plugin.details.splitlines():
        print(f"  {line}".rstrip())
    for name, fact in plugin.facts.items():
        print(f"  {name}: {fact}")
    for option, default in plugin.options.items():
        print(f"  {plugin.name}:{option}={default}")


def _print_list(plugins: list[registry.Plugin]) -> None:
    widest = max(len(plugin.name) for plugin in plugins)
    for kind, flag in _KINDS.items():
        print(flag)
        for plugin in plugins:
            if plugin.kind == kind:
                options = (
                    f" [{', '.join(f'{k}={v}' for k, v in plugin.options.items())}]" if plugin.options else ""
                )
                print(f"  {plugin.name:{widest}}  {plugin.summary}{options}")
