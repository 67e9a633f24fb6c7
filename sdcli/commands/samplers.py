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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a plug.")
@click.option("--plot", default=None, help="Draw the noise levels of all schedules into this PNG.")
@click.option(
    "--steps", "-s", type=click.IntRange(2, 1000), default=20, help="Of how many steps; for --plot."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def samplers(name: str | None, as_json: bool, plot: str | None, steps: int, debug: bool) -> None:
    """List the samplers, schedules and guidances there are, or tell all about one.

    Knobs are set behind a colon: --sampler euler_a:eta=0.5,s_noise=1.02
    """
    if plot is not None:
        from sdcli.commands import _plot

        print(store.save(_plot.plot(steps), Path(plot)))
        return
    plugs = [registry.describe(kind, each) for kind in _KINDS for each in registry.names(kind)]
    if name is not None:
        known = [plug.name for plug in plugs]
        plugs = [plug for plug in plugs if plug.name == name]
        if not plugs:
            raise UsageError(
                f"no sampler, schedule or guidance is called {name!r}; {registry.nearest(name, known)}"
            )
    if as_json:
        for plug in plugs:
            print(json.dumps(_told(plug)))
    elif name is not None:
        for plug in plugs:
            _print_whole(plug)
    else:
        _print_list(plugs)


def _told(plug: registry.Plug) -> dict[str, Any]:
    about = {"kind": plug.kind, "name": plug.name, "summary": plug.summary, "details": plug.details}
    facts = {name: int(fact) if fact.isdecimal() else fact for name, fact in plug.facts.items()}
    return {**about, **facts, "knobs": dict(plug.knobs)}


def _print_whole(plug: registry.Plug) -> None:
    print(f"{_KINDS[plug.kind]} {plug.name}")
    print(f"  {plug.summary}")
    for line in plug.details.splitlines():
        print(f"  {line}".rstrip())
    for name, fact in plug.facts.items():
        print(f"  {name}: {fact}")
    for knob, default in plug.knobs.items():
        print(f"  {plug.name}:{knob}={default}")


def _print_list(plugs: list[registry.Plug]) -> None:
    widest = max(len(plug.name) for plug in plugs)
    for kind, flag in _KINDS.items():
        print(flag)
        for plug in plugs:
            if plug.kind == kind:
                knobs = f" [{', '.join(f'{k}={v}' for k, v in plug.knobs.items())}]" if plug.knobs else ""
                print(f"  {plug.name:{widest}}  {plug.summary}{knobs}")
