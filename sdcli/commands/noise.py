from __future__ import annotations

import json

import click

from sdcli import store
from sdcli.commands._options import with_settings
from sdcli.commands._output import path_of_made
from sdcli.commands._streams import check_result_can_be_written, print_result, standard_input, write_result
from sdcli.commands._types import PATH, ModelName
from sdcli.errors import UsageError


@click.command()
@click.argument("picture", type=PATH)
@click.option(
    "--filmstrip", is_flag=True, help="Show several noise levels side by side, and the network's estimates."
)
@click.option(
    "--levels", type=click.IntRange(1, 60), default=8, show_default=True, help="How many noise levels."
)
@click.option(
    "--timestep", type=click.IntRange(0, 999), default=None, help="Show this one alone, without --filmstrip."
)
@click.option("--prompt", default="", help="What the network is told that the picture shows.")
@click.option(
    "-m", "--model", type=ModelName(), default=None, help="The model whose VAE, levels and U-Net are used."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the noise."
)
@click.option(
    "-o", "--out", type=PATH, default=None, help="The name of a PNG, or a folder; - is standard output."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def noise(
    picture: str,
    filmstrip: bool,
    levels: int,
    timestep: int | None,
    prompt: str,
    model: str | None,
    seed: int,
    out: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Show how a PICTURE drowns in noise, level by level, and what the network makes of each level.

    This is what training shows the network: latents, sqrt(a) z + sqrt(1 - a) noise, decoded by the VAE. Below each is
    the network's one-step estimate of the clean picture. Without --filmstrip it is the noised picture at --timestep
    alone. PICTURE - reads it from standard input. Prints the path; nothing is ever overwritten.
    """
    if filmstrip == (timestep is not None):
        raise UsageError("say what to show: --filmstrip for several noise levels, or --timestep N for one")
    if out == "-" and as_json:
        raise UsageError("-o - writes a PNG to standard output; it does not go with --json")
    path = path_of_made(out, picture, "noise")
    if out == "-":
        check_result_can_be_written()
    from sdcli.models.cache import ModelCache
    from sdcli.request.images import open_image
    from sdcli.request.request import Loading
    from sdcli.train.trainable import check_trainable

    typed = {
        name: value for name, value in (("model", model), ("device", device)) if value not in (None, "auto")
    }
    loading = Loading(**with_settings(typed, ("model", "device")))
    opened = (
        open_image(standard_input("the picture"), "standard input") if picture == "-" else open_image(picture)
    )
    models = ModelCache()
    check_trainable(models.checkpoint(loading), "shown noise")

    from sdcli.models.memory import memory_errors
    from sdcli.pipeline import vae
    from sdcli.request.png import encode_png
    from sdcli.train.noise import at_levels, latents_of, timesteps
    from sdcli.train.noise import filmstrip as strip_of

    with memory_errors("noising the picture", "choose a smaller model"), models.use(loading) as loaded:
        steps = timesteps(loaded.levels, levels) if timestep is None else [timestep]
        found = list(at_levels(loaded, latents_of(loaded, opened.image), steps, prompt, seed))
        image = strip_of(loaded, found) if filmstrip else vae.decode(loaded, found[0].x)[0]
    png = encode_png(image)
    if out == "-":
        write_result(png)
        return
    saved = str(store.save(png, path))
    report = {
        "path": saved,
        "sigmas": [each.sigma for each in found],
        "timesteps": [each.timestep for each in found],
    }
    print_result(json.dumps(report) if as_json else saved, saved)
