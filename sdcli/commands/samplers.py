from __future__ import annotations

import json
from typing import Any

import click

from sdcli import registry
from sdcli.commands._streams import print_result
from sdcli.commands._types import PATH, PluginName
from sdcli.errors import UsageError

MAX_WIDTH = 110  # columns of a list; fewer on a narrower terminal, and 80 where there is none
FLAGS = {"samplers": "--sampler", "schedules": "--schedule", "guidance": "--guidance"}
"""The plugin kinds that this command lists, and the flag that takes each."""


@click.command()
@click.argument("name", required=False, type=PluginName(*FLAGS, options=False))
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
        from pathlib import Path

        from sdcli import store
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
    page = click.HelpFormatter(max_width=MAX_WIDTH)
    page.write(f"{FLAGS[plugin.kind]} {plugin.name}\n")
    with page.indentation():
        page.write_text(plugin.summary)
        if plugin.details:
            page.write_text(plugin.details)
        for key, fact in plugin.facts.items():
            page.write(f"  {key}: {fact}\n")
        for option, default in plugin.options.items():
            page.write(f"  {plugin.name}:{option}={default}\n")
    print_result(page.getvalue().rstrip())


def _print_list(plugins: list[registry.Plugin]) -> None:
    page = click.HelpFormatter(max_width=MAX_WIDTH)
    for kind, flag in FLAGS.items():
        page.write(f"{flag}\n")
        with page.indentation():
            rows = [(each.name, f"{each.summary}{_options(each)}") for each in plugins if each.kind == kind]
            page.write_dl(rows, col_max=20)
    print_result(page.getvalue().rstrip())


def _options(plugin: registry.Plugin) -> str:
    """The options as ` [eta=1.0, s_noise=1.0]`, or an empty string."""
    return f" [{', '.join(f'{k}={v}' for k, v in plugin.options.items())}]" if plugin.options else ""
