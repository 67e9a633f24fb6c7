"""Measure what each way to spare work costs: draw with and without it, and compare the pictures and the CPU time.

    python scripts/bench/shortcuts.py [MODEL] [--steps 20] [--size PIXELS] [--seeds 7,8,9] [--vae FILE] [--sheet OUT]
                                      [--only OPTION ...]

Prints a Markdown table: for each option the CPU seconds of a picture and their ratio to those without it, and the PSNR
in dB between the two pictures, each as the median over the seeds. At 30 dB two pictures are hard to tell apart side by
side; at 20 dB one sees other details. An option that leads to another picture of the same thing is not worse for its
low PSNR, so look at the sheet: the first seed with each option. --vae names a tiny autoencoder to try.
"""

import argparse
import time
from statistics import median

from dtypes import psnr
from PIL import Image, ImageDraw

from sdcli import Request, generate
from sdcli.models.cache import ModelCache

SHORTCUTS: dict[str, dict[str, object]] = {
    "": {},
    "--deepcache 2": {"deepcache": 2},
    "--deepcache 3": {"deepcache": 3},
    "--deepcache 5": {"deepcache": 5},
    "--tome 0.5": {"tome": 0.5},
    "--guidance cfg_interval": {"guidance": "cfg_interval"},
    "--guidance cfg_interval:high=5.42,low=1": {"guidance": "cfg_interval:high=5.42,low=1"},
    "half the steps": {"steps": 0.5},
    "--dtype bfloat16": {"dtype": "bfloat16"},
    "--store bf16": {"store": "bf16"},
    "--store fp8": {"store": "fp8"},
}
"""How it is typed -> the fields of a request; a share of the steps as `steps`."""


def drawn(request: Request, models: ModelCache) -> tuple[Image.Image, float]:
    """(the picture, the CPU seconds that it took without loading the model)."""
    with models.use(request.loading):
        pass
    start = time.process_time()
    image = generate(request, models).picture.image
    return image, time.process_time() - start


def sheet(pictures: dict[str, Image.Image], columns: int = 4, side: int = 256) -> Image.Image:
    """A picture for each option, with its name above it."""
    rows = -(-len(pictures) // columns)
    out = Image.new("RGB", (columns * side, rows * (side + 18)), "white")
    for number, (name, image) in enumerate(pictures.items()):
        left, top = number % columns * side, number // columns * (side + 18)
        ImageDraw.Draw(out).text((left + 6, top + 3), name.removeprefix("--guidance ") or "plain", fill="black")
        out.paste(image.resize((side, side)), (left, top + 18))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int)
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--prompt", default="a red apple")
    parser.add_argument("--vae")
    parser.add_argument("--sheet")
    parser.add_argument("--only", nargs="*", choices=[name for name in SHORTCUTS if name], metavar="OPTION")
    options = parser.parse_args()
    plain = Request(
        options.prompt, model=options.model, steps=options.steps, width=options.size, height=options.size
    )
    seeds = [int(seed) for seed in options.seeds.split(",")]
    asked = {name: each for name, each in SHORTCUTS.items() if not name or name in (options.only or SHORTCUTS)}
    shortcuts = asked | ({f"--vae {options.vae}": {"vae": options.vae}} if options.vae else {})
    found: dict[str, list[Image.Image]] = {}
    print("| option | CPU seconds | ratio | PSNR |\n|---|---|---|---|")
    base = 0.0
    for name, changes in shortcuts.items():
        changes = changes | ({"steps": round(options.steps * 0.5)} if "steps" in changes else {})
        models = ModelCache()
        pairs = [drawn(plain.replace(seed=seed, **changes), models) for seed in seeds]
        found[name] = [image for image, _ in pairs]
        seconds = median(each for _, each in pairs)
        base = base or seconds
        alike = median(psnr(*pair) for pair in zip(found[""], found[name], strict=True))
        quality = f"{alike:.1f} dB" if name else ""
        print(f"| {f'`{name}`' if name.startswith('--') else name or 'none'} | {seconds:.2f} | "
              f"{seconds / base:.2f} | {quality} |", flush=True)  # fmt: skip
    if options.sheet:
        sheet({name: images[0] for name, images in found.items()}).save(options.sheet)


if __name__ == "__main__":
    main()
