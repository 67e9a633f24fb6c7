"""Measure how much bfloat16 changes a picture: draw it in float32 and in bfloat16 and compare the two.

    python scripts/bench/dtypes.py [MODEL ...] [--steps 20] [--size PIXELS] [--seeds 7,8,9]

Prints the PSNR in dB of each pair: at 30 dB the two are hard to tell apart side by side, at 40 dB the difference cannot
be seen. Rounding errors accumulate over the steps, so now and then they grow into another picture of the same thing.
"""

import argparse
from dataclasses import replace

import numpy as np
from PIL import Image

from sdcli import Request, generate


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio of two images of one size, in dB; higher is more alike."""
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["tiny"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int)
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--prompt", default="a red apple")
    options = parser.parse_args()
    for model in options.models:
        request = Request(
            options.prompt, model=model, steps=options.steps, width=options.size, height=options.size
        )
        seeds = [int(seed) for seed in options.seeds.split(",")]
        images = {
            dtype: [generate(replace(request, seed=seed, dtype=dtype)).picture.image for seed in seeds]
            for dtype in ("float32", "bfloat16")
        }
        pairs = zip(images["float32"], images["bfloat16"], strict=True)
        print(model, ", ".join(f"seed {s}: {psnr(*p):.1f} dB" for s, p in zip(seeds, pairs, strict=True)))


if __name__ == "__main__":
    main()
