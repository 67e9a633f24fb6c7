"""What bfloat16 changes in a picture: the same picture in float32 and in bfloat16, and their likeness.

    python scripts/bench/dtypes.py [MODEL ...] [--steps 20] [--size PIXELS] [--seeds 7,8,9]

Prints the PSNR in dB of each pair: 30 is hard to tell apart side by side, 40 cannot be seen. A run is a long chain, so
that small differences may also grow into another picture of the same thing.
"""

import argparse
from dataclasses import replace

import numpy as np
from PIL import Image

from sdcli import Request, generate


def likeness(one: Image.Image, other: Image.Image) -> float:
    """PSNR in dB."""
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
    told = parser.parse_args()
    for model in told.models:
        asked = Request(told.prompt, model=model, steps=told.steps, width=told.size, height=told.size)
        seeds = [int(seed) for seed in told.seeds.split(",")]
        drawn = {
            dtype: [generate(replace(asked, seed=seed, dtype=dtype)).picture.image for seed in seeds]
            for dtype in ("float32", "bfloat16")
        }
        pairs = zip(drawn["float32"], drawn["bfloat16"], strict=True)
        print(model, ", ".join(f"seed {s}: {likeness(*p):.1f} dB" for s, p in zip(seeds, pairs, strict=True)))


if __name__ == "__main__":
    main()
