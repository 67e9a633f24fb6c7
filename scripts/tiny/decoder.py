"""The decoder once more, from whole pictures, the encoder (and so the bank) as it is; it goes on from `decoder.pt`.

    python decoder.py [MINUTES]

A third of the pictures are any (`vae.Crops`), through clean latents. The others are some that the UNet was taught,
through latents as it leaves them: noised up to somewhere in the middle of the times and taken back in a few guided
steps. So the decoder learns what the UNet's errors look like (blots, wavering edges) and what belongs there instead;
and, from whole pictures, that white is white, since group norms see all of a picture's colours.
"""

import sys

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor

import bank
import recipe
import sample
import tokens
from norm import hasten
from vae import Crops, as_tensor, finish, learn, off


class Left:
    """Taught pictures, and latents of them as the UNet leaves them."""

    def __init__(self, vae: AutoencoderKL, seed: int):
        self.vae, self.text = vae, sample.encoder(recipe.WORK)
        unet = UNet2DConditionModel.from_pretrained(recipe.WORK / "unet")
        self.unet = hasten(unet).eval().requires_grad_(False)
        self.share = DDIMScheduler(
            **recipe.SCHEDULE
        ).alphas_cumprod  # of the variance that is signal, by time
        self.empty = torch.tensor(tokens.encode([""]))
        self.random = np.random.default_rng(seed)

    @torch.no_grad()
    def some(self, count: int) -> tuple[Tensor, Tensor]:  # (count, 4, h, w), (count, 3, 8 h, 8 w) in -1..1
        made = [self._one() for _ in range(count)]
        x = as_tensor(np.stack([np.asarray(picture, np.float32) / 127.5 - 1 for picture, _ in made]))
        words = tokens.encode([texts[self.random.integers(len(texts))] for _, texts in made])
        times = torch.from_numpy(self.random.integers(*recipe.DECODER_TIMES, count))
        return self._redrawn(self.vae.encode(x).latent_dist.mode(), torch.tensor(words), times), x

    def _one(self) -> bank.Made:
        kinds, shares = zip(*recipe.DECODER_MIX.items(), strict=True)
        while True:  # not every kind can be made of every sprite
            kind = str(self.random.choice(kinds, p=shares))
            dress, place = (int(self.random.integers(n)) for n in (recipe.DRESSES[kind], len(bank.things())))
            if made := bank.make((kind, dress, place)):
                return made

    def _redrawn(self, z: Tensor, words: Tensor, times: Tensor) -> Tensor:
        """z with noise up to `times` (n,), then without, by guided steps of DDIM (2010.02502, its equation 12 without
        noise) on predictions of v (2202.00512, its appendix D)."""
        told = self.text(torch.cat([self.empty.expand(len(z), -1), words])).last_hidden_state
        steps = recipe.DECODER_STEPS
        share = self.share[times][:, None, None, None]
        x = share.sqrt() * z + (1 - share).sqrt() * torch.randn_like(z)
        for step in range(steps, 0, -1):
            now, then = times * step // steps, times * (step - 1) // steps
            both = torch.cat([x, x]).contiguous(memory_format=torch.channels_last)
            plain, asked = self.unet(both, torch.cat([now, now]), encoder_hidden_states=told).sample.chunk(2)
            v = plain + sample.family.cfg * (asked - plain)
            signal, sigma = (
                part[:, None, None, None].sqrt() for part in (self.share[now], 1 - self.share[now])
            )
            clean, noise = signal * x - sigma * v, sigma * x + signal * v
            share = self.share[then][:, None, None, None] if step > 1 else torch.ones(())
            x = share.sqrt() * clean + (1 - share).sqrt() * noise
        return x


def main(minutes: float = recipe.DECODER_MINUTES) -> None:
    torch.manual_seed(recipe.SEED)
    vae, crops = hasten(AutoencoderKL.from_pretrained(recipe.WORK / "vae")).eval(), Crops(recipe.SEED)
    vae.requires_grad_(False)
    vae.decoder.requires_grad_()
    vae.post_quant_conv.requires_grad_()
    left, waiting = Left(vae, recipe.SEED), []

    def one(done: float, step: int) -> Tensor:
        if step % 3 == 0:
            x = crops.whole(2, recipe.SIZE)
            with torch.no_grad():
                z = vae.encode(x).latent_dist.mode()
            z = z + recipe.DECODER_NOISE * torch.randn_like(z)
        else:
            if not waiting:
                waiting.extend(zip(*(part.split(2) for part in left.some(8)), strict=True))
            z, x = waiting.pop()
        return off(vae.decode(z).sample, x)

    learn(vae, recipe.WORK / "decoder.pt", crops, minutes, recipe.DECODER_RATE, 50, one)
    finish(vae, crops.held_out(16))


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
