"""A cheap measure of what a UNet has understood: its error on fixed pictures, told the right words and others.

At noise that hides the picture, the error with the right words is low only if they are understood. `single` is the
error on one large thing, `pair` on two small ones; `swapped` on the same pairs if the two things change places in the
words, and `others` if other things are named. Where `swapped` and `others` are no higher than `pair`, the UNet does not
know from the words which thing stands where, or which things they are.

    python exam.py [FOLDER]
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

import recipe
import sample
import tokens
from captions import paired
from norm import hasten, mixed
from several import PLACES, Pieces

COUNT, TIMES, SEED = 32, (960, 800), 404


@cache
def papers() -> dict[str, tuple[Tensor, Tensor]]:
    """Latents (COUNT, 4, h, w) and token ids (COUNT, 77) of each question."""
    random, pieces = np.random.default_rng(SEED), Pieces()
    concepts = list(pieces.of[recipe.UNSAID])
    pairs, right, swapped = [], [], []
    for _ in range(COUNT):
        a, b = (pieces.of[recipe.UNSAID][str(c)][0] for c in random.choice(concepts, 2, replace=False))
        pairs.append(pieces.picture(tuple(zip((a, b), PLACES[2], strict=True))))
        state = random.bit_generator.state
        for first, second, into in ((a, b, right), (b, a, swapped)):
            random.bit_generator.state = state
            names = (f"a {first.concept}", f"a {second.concept}")
            into.append(paired(random, *names, above=False))
    white, small = (recipe.WORK / "bank" / f"{kind}.pt" for kind in ("white", "small"))
    held = torch.load(white if white.exists() else small, mmap=True)
    rows = torch.from_numpy(random.choice(len(held["latents"]), COUNT, replace=False))
    single = [held["texts"][i] for i in held["captions"][rows, 0].tolist()]
    z = torch.stack(pairs).float()
    texts = {"single": single, "pair": right, "swapped": swapped, "others": right[1:] + right[:1]}
    shown = {"single": held["latents"][rows].float()}
    return {name: (shown.get(name, z), torch.tensor(tokens.encode(said))) for name, said in texts.items()}


@torch.no_grad()
def mark(unet: nn.Module, text: nn.Module, device: torch.device) -> dict[str, float]:
    """question -> the mean error."""
    signals = DDIMScheduler(**recipe.SCHEDULE).alphas_cumprod
    marks = {}
    for name, (z, words) in papers().items():
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED))
        told, errors = text(words.to(device)).last_hidden_state, []
        for time in TIMES:
            signal, sigma = signals[time].sqrt(), (1 - signals[time]).sqrt()
            noisy = (signal * z + sigma * noise).to(device).contiguous(memory_format=torch.channels_last)
            with mixed(device.type):
                v = torch.cat([
                    unet(x, time, encoder_hidden_states=said).sample
                    for x, said in zip(noisy.split(16), told.split(16), strict=True)
                ])
            errors.append((v.float().cpu() - (signal * noise - sigma * z)).square().mean())
        marks[name] = float(torch.stack(errors).mean())
    return marks


def main(folder: Path = recipe.WORK) -> None:
    unet = hasten(UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)).eval()
    for name, error in mark(unet, sample.encoder(folder), torch.device("cpu")).items():
        print(f"{name:8} {error:.4f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
