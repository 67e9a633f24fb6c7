from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sdcli import registry, store
from sdcli.commands._options import PATH
from sdcli.commands._streams import print_result
from sdcli.errors import UsageError

FLAGS = {"samplers": "--sampler", "schedules": "--schedule", "guidance": "--guidance"}
"""The plugin kinds that this command lists, and the flag that takes each."""


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per plugin.")
@click.option(
    "--plot", type=PATH, default=None, help="Save a chart of the noise levels of all schedules in this PNG."
)
@click.option(
    "--steps", "-s", type=click.IntRange(2, 1000), default=20, help="Number of steps in the chart of --plot."
)
def samplers(name: str | None, as_json: bool, plot: str | None, steps: int) -> None:
    """List the samplers, schedules and guidances, or show all about the one called NAME.

    Options are set behind a colon: --sampler euler_a:eta=0.5,s_noise=1.02
    """
    if plot is not None:
        from sdcli.commands._schedule_plot import plot_schedules

        saved = store.save(plot_schedules(steps), Path(plot))
        print_result(str(saved), saved)
        return
    plugins = [registry.describe(kind, plugin) for kind in FLAGS for plugin in registry.names(kind)]
    if name is not None:
        known = [plugin.name for plugin in plugins]
        plugins = [plugin for plugin in plugins if plugin.name == name]
        if not plugins:
            raise UsageError(
                f"no sampler, schedule or guidance is called {name!r}; {registry.nearest(name, known)}"
            )
    if as_json:
        for plugin in plugins:
            print_result(json.dumps(_as_dict(plugin)))
    elif name is not None:
        for plugin in plugins:
            _print_details(plugin)
    else:
        _print_list(plugins)


def _as_dict(plugin: registry.Plugin) -> dict[str, Any]:
    facts = {key: int(fact) if fact.isdecimal() else fact for key, fact in plugin.facts.items()}
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "summary": plugin.summary,
        "details": plugin.details,
        **facts,
        "options": dict(plugin.options),
    }


def _print_details(plugin: registry.Plugin) -> None:
    print_result(f"{FLAGS[plugin.kind]} {plugin.name}")
    print_result(f"  {plugin.summary}")
    for line in plugin.details.splitlines():
        print_result(f"  {line}".rstrip())
    for key, fact in plugin.facts.items():
        print_result(f"  {key}: {fact}")
    for option, default in plugin.options.items():
        print_result(f"  {plugin.name}:{option}={default}")


def _print_list(plugins: list[registry.Plugin]) -> None:
    width = max(len(plugin.name) for plugin in plugins)
    for kind, flag in FLAGS.items():
        print_result(flag)
        for plugin in plugins:
            if plugin.kind == kind:
                print_result(f"  {plugin.name:{width}}  {plugin.summary}{_options(plugin)}")


def _options(plugin: registry.Plugin) -> str:
    """The options as ` [eta=1.0, s_noise=1.0]`, or an empty string."""
    return f" [{', '.join(f'{k}={v}' for k, v in plugin.options.items())}]" if plugin.options else ""
