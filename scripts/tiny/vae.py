"""The autoencoder: 256 px pictures <-> 4 x 32 x 32 latents of mean 0 and deviation 1. Writes `vae/` and `vae.pt`."""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from PIL import Image
from torch import Tensor

import recipe
from compose import place
from norm import hasten


class Crops:
    """Random crops of recoloured sprites on random plain or graded backgrounds; a twentieth of the emoji held out."""

    def __init__(self, seed: int):
        self.sprites = np.load(recipe.WORK / "sprites.npy", mmap_mode="r")
        pairs = json.loads((recipe.WORK / "sprites.json").read_text())
        names = sorted({emoji for _, emoji in pairs})
        held = set(np.random.default_rng(1).permutation(names)[: len(names) // 20].tolist())
        self.train = [i for i, (_, emoji) in enumerate(pairs) if emoji not in held]
        self.test = [i for i, (_, emoji) in enumerate(pairs) if emoji in held]
        self.random = np.random.default_rng(seed)

    def batch(self, count: int, crop: int) -> Tensor:  # (count, 3, crop, crop) in -1..1
        random, out = self.random, np.empty((count, crop, crop, 3), np.float32)
        pictures = []
        for _ in range(-(-count // 2)):
            ground = (
                (255, 255, 255)
                if random.random() < 0.5
                else tuple(int(v) for v in random.integers(0, 256, 3))
            )
            sprite = np.ascontiguousarray(self.sprites[random.choice(self.train)])
            shift = (int(random.integers(-24, 25)), int(random.integers(-24, 25)))
            picture = place(
                sprite, recipe.SIZE, random.uniform(0.5, 1.1), shift, random.random() < 0.5, ground
            )
            picture = picture.astype(np.float32) / 127.5 - 1
            if random.random() < 0.3:  # colour jitter: swap and scale channels, brighten, darken
                picture = picture[..., random.permutation(3)] * random.uniform(0.6, 1.0) + random.uniform(
                    -0.3, 0.3
                )
                picture = picture.clip(-1, 1)
            pictures.append(picture)
        for i in range(count):
            y, x = (
                random.integers(16, recipe.SIZE - 16 - crop, 2)
                if random.random() < 0.8
                else random.integers(0, recipe.SIZE - crop + 1, 2)
            )
            out[i] = pictures[i % len(pictures)][y : y + crop, x : x + crop]
        return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def held_out(self, count: int) -> Tensor:
        chosen = np.random.default_rng(2).permutation(self.test)[:count]
        pictures = np.stack([place(np.ascontiguousarray(self.sprites[i]), recipe.SIZE, 0.8) for i in chosen])
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def begin() -> AutoencoderKL:
    """A new autoencoder that passes colours through from the first step: straight resampling, quiet residuals.

    With the usual random start the colour of flat parts takes long to come through the group norms. For the same
    reason there are two groups only: groups of two channels cannot say how bright a flat picture is."""
    vae = AutoencoderKL(**recipe.VAE)
    for module in vae.modules():
        if isinstance(module, Downsample2D | Upsample2D):
            torch.nn.init.dirac_(module.conv.weight)
        elif isinstance(module, ResnetBlock2D):
            module.conv2.weight.data *= 0.2
            if module.conv_shortcut is not None:
                torch.nn.init.orthogonal_(module.conv_shortcut.weight)
    return vae


def loss_of(vae: AutoencoderKL, x: Tensor) -> Tensor:
    """L1 and L2, L1 of the gradients, and a breath of KL to keep latents near a Gaussian."""
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample()).sample
    error = (y - x).abs().mean()
    edges = sum((torch.diff(y, dim=d) - torch.diff(x, dim=d)).abs().mean() for d in (2, 3))
    return error + (y - x).square().mean() + 0.5 * edges + 1e-6 * posterior.kl().mean()


@torch.no_grad()
def psnr(vae: AutoencoderKL, x: Tensor) -> float:
    y = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample for part in x.split(8)]).clamp(
        -1, 1
    )
    return float((10 * torch.log10(4 / (y - x).square().mean((1, 2, 3)))).mean())


@torch.no_grad()
def normalise(vae: AutoencoderKL, x: Tensor) -> None:
    """Fold (latent - mean) / deviation, measured per channel over x, into quant_conv and back into post_quant_conv."""
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in x.split(8)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:4] /= deviation[:, None, None, None]
    quant.bias[:4] = (quant.bias[:4] - mean) / deviation
    quant.bias[4:] -= 2 * deviation.log()  # the log-variance shrinks with the mean
    post.bias += post.weight[..., 0, 0] @ mean
    post.weight *= deviation[None, :, None, None]


def train(vae: AutoencoderKL, crops: Crops, minutes: float) -> None:
    """Train in place, from `vae.pt` where there is one, until `minutes` in all are spent."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    path, test = recipe.WORK / "vae.pt", crops.held_out(16)
    spent, step, average = 0.0, 0, None
    if path.exists():
        saved = torch.load(path)
        vae.load_state_dict(saved["vae"])
        optimizer.load_state_dict(saved["optimizer"])
        spent, step = saved["progress"]
    clock = told = time.time()
    while (done := spent / minutes) < 1:
        fall = 0.5 * (1 + math.cos(math.pi * done)) * 0.98 + 0.02
        for group in optimizer.param_groups:
            group["lr"] = recipe.VAE_RATE * min(1, (step + 1) / 200) * fall
        loss = loss_of(vae, crops.batch(*(recipe.VAE_CROPS if done < 0.55 else recipe.VAE_LATE_CROPS)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step, average = step + 1, loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        spent, clock = spent + (time.time() - clock) / 60, time.time()
        if clock - told > 120 or spent >= minutes:
            told = clock
            print(f"step {step} {done:.0%} loss {average:.4f} psnr {psnr(vae, test):.2f}", flush=True)
            state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "progress": (spent, step)}
            torch.save(state, path)


@torch.no_grad()
def sheet(vae: AutoencoderKL, x: Tensor, path: Path) -> None:
    """Sixteen pictures, each above what becomes of it."""
    y = vae.decode(vae.encode(x[:16]).latent_dist.mode()).sample.clamp(-1, 1)
    rows = torch.cat([x[:8], y[:8], x[8:16], y[8:16]]).reshape(4, 8, 3, recipe.SIZE, recipe.SIZE)
    page = rows.permute(0, 3, 1, 4, 2).reshape(4 * recipe.SIZE, 8 * recipe.SIZE, 3)
    Image.fromarray(((page + 1) * 127.5).round().byte().numpy()).save(path)


def main(minutes: float = recipe.VAE_MINUTES) -> None:
    torch.manual_seed(recipe.SEED)
    vae, crops = hasten(begin()).eval(), Crops(recipe.SEED)
    train(vae, crops, minutes)
    test = crops.held_out(48)
    before = psnr(vae, test)
    normalise(vae, test)
    print(f"held-out psnr {before:.2f}, after folding {psnr(vae, test):.2f}")
    final = AutoencoderKL(**recipe.VAE)
    final.load_state_dict(vae.state_dict())
    final.save_pretrained(recipe.WORK / "vae")
    sheet(final, test, recipe.WORK / "sheets" / "vae.png")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
