from __future__ import annotations

import json
import sys

import click

from sdcli.request import picture


@click.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def info(file: str, as_json: bool, debug: bool) -> None:
    """Tell how a picture was made, from its header alone.

    FILE is a PNG, or - for one on standard input. Pictures of other tools tell what those wrote into them.
    """
    told = picture.read(sys.stdin.buffer, "standard input") if file == "-" else picture.read(file)
    facts = told.facts(file) if "sd" in told.texts else {}
    if as_json:
        texts = {key: text for key, text in told.texts.items() if key != "sd"}
        print(json.dumps({"path": file, "width": told.width, "height": told.height, **facts, "texts": texts}))
        return
    print(f"{file}: PNG, {told.width}x{told.height}")
    if facts:
        request = told.request(file)
        for key, value in {**request.as_dict(), **{k: v for k, v in facts.items() if k != "request"}}.items():
            print(f"  {key}: {' '.join(map(str, value.values())) if isinstance(value, dict) else value}")
    elif told.texts:
        for key, text in told.texts.items():
            print(f"  {key}: {text}")
    else:
        print("  it tells nothing of how it was made")
