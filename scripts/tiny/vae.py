"""The autoencoder: pictures <-> latents of mean 0 and deviation 1, an eighth of their size. Writes `vae/` and `vae.pt`.

python vae.py          trains both halves on small crops, which is fast
python vae.py decoder  then trains the decoder alone on whole pictures: group norms see a whole picture's colours, so
                       white comes out white. The encoder, and so the bank, stays as it is. Writes `vae-decoder.pt`.
"""

import math
import sys
import time
from collections.abc import Callable
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
from compose import lay, place, plain
from norm import hasten
from sprites import drawn, sprite


class Crops:
    """Random crops of recoloured sprites on random plain or graded backgrounds; one emoji in 20 is held out."""

    def __init__(self, seed: int):
        pairs = drawn()
        names = sorted({emoji for _, emoji in pairs})
        held = set(np.random.default_rng(1).permutation(names)[: len(names) // 20].tolist())
        self.train = [pair for pair in pairs if pair[1] not in held]
        self.test = [pair for pair in pairs if pair[1] in held]
        self.random = np.random.default_rng(seed)

    def batch(self, count: int, crop: int) -> Tensor:  # (count, 3, crop, crop) in -1..1
        random, out = self.random, np.empty((count, crop, crop, 3), np.float32)
        pictures = [self.picture(recipe.VAE_SIZE) for _ in range(-(-count // 2))]
        for i in range(count):
            edge = 16 if random.random() < 0.8 else 0
            y, x = random.integers(edge, recipe.VAE_SIZE - edge - crop + 1, 2)
            out[i] = pictures[i % len(pictures)][y : y + crop, x : x + crop]
        return _tensor(out)

    def whole(self, count: int, size: int) -> Tensor:  # (count, 3, size, size) in -1..1
        return _tensor(np.stack([self.picture(size) for _ in range(count)]))

    def picture(self, size: int) -> np.ndarray:
        """A sprite or two on white or any colour, sometimes with its colours jittered; (size, size, 3) in -1..1."""
        random = self.random
        ground = (255,) * 3 if random.random() < 0.5 else tuple(int(v) for v in random.integers(0, 256, 3))
        picture = plain(size, ground)
        for _ in range(1 + int(random.random() < 0.2)):
            pair = self.train[random.integers(len(self.train))]
            middle = 0.5 + random.uniform(-0.1, 0.1, 2)
            lay(picture, sprite(*pair), random.uniform(0.5, 1.1), tuple(middle), random.random() < 0.5)
        x = np.asarray(picture, np.float32) / 127.5 - 1
        if random.random() < 0.3:  # swap and scale channels, brighten, darken
            x = x[..., random.permutation(3)] * random.uniform(0.6, 1.0) + random.uniform(-0.3, 0.3)
        return x.clip(-1, 1)

    def held_out(self, count: int) -> Tensor:
        chosen = np.random.default_rng(2).permutation(len(self.test))[:count]
        pictures = [place(sprite(*self.test[i]), recipe.SIZE, 0.8) for i in chosen]
        return _tensor(np.stack(pictures).astype(np.float32) / 127.5 - 1)


def _tensor(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def begin() -> AutoencoderKL:
    """A new autoencoder that passes colours through from the first step: plain resampling, small residuals.

    With the usual random initialisation, the colour of flat areas takes long to get through the group norms. For the
    same reason there are only two groups: groups of two channels cannot represent how bright a flat picture is.
    """
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
    """The reconstruction error, plus a very small KL term that keeps the latents near a Gaussian."""
    posterior = vae.encode(x).latent_dist
    return off(vae.decode(posterior.sample()).sample, x) + 1e-6 * posterior.kl().mean()


def off(y: Tensor, x: Tensor) -> Tensor:
    """L1 and L2, and L1 of the gradients."""
    edges = sum((torch.diff(y, dim=d) - torch.diff(x, dim=d)).abs().mean() for d in (2, 3))
    return (y - x).abs().mean() + (y - x).square().mean() + 0.5 * edges


@torch.no_grad()
def psnr(vae: AutoencoderKL, x: Tensor) -> float:
    y = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample for part in x.split(2)]).clamp(
        -1, 1
    )
    return float((10 * torch.log10(4 / (y - x).square().mean((1, 2, 3)))).mean())


@torch.no_grad()
def normalise(vae: AutoencoderKL, x: Tensor) -> None:
    """Fold (latent - mean) / deviation, measured per channel over x, into quant_conv and back into post_quant_conv."""
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in x.split(2)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:4] /= deviation[:, None, None, None]
    quant.bias[:4] = (quant.bias[:4] - mean) / deviation
    quant.bias[4:] -= 2 * deviation.log()  # the log-variance shrinks with the mean
    post.bias += post.weight[..., 0, 0] @ mean
    post.weight *= deviation[None, :, None, None]


Part = Callable[[float, int], Tensor]  # (fraction of the time that is over, step) -> the loss of one step


def learn(
    vae: AutoencoderKL, path: Path, crops: Crops, minutes: float, rate: float, warm: int, loss_of: Part
) -> None:
    """Train the trainable weights of `vae` in place, continuing from `path` if it exists, for `minutes` in all."""
    weights = [weight for weight in vae.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    test, spent, step, average = crops.held_out(16), 0.0, 0, None
    if path.exists():
        saved = torch.load(path)
        vae.load_state_dict(saved["vae"])
        optimizer.load_state_dict(saved["optimizer"])
        spent, step = saved["progress"]
        crops.random = np.random.default_rng([recipe.SEED, step])
    clock = told = time.time()
    while (done := spent / minutes) < 1:
        fall = 0.5 * (1 + math.cos(math.pi * done)) * 0.98 + 0.02
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / warm) * fall
        loss = loss_of(done, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step, average = step + 1, loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        spent, clock = spent + (time.time() - clock) / 60, time.time()
        if clock - told > 180 or spent >= minutes:
            print(f"step {step} {done:.0%} loss {average:.4f} psnr {psnr(vae, test):.2f}", flush=True)
            state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "progress": (spent, step)}
            torch.save(state, path)
            clock = told = time.time()


def train(vae: AutoencoderKL, crops: Crops, minutes: float) -> None:
    """Train both halves on crops."""

    def one(done: float, step: int) -> Tensor:
        return loss_of(vae, crops.batch(*(recipe.VAE_CROPS if done < 0.55 else recipe.VAE_LATE_CROPS)))

    learn(vae, recipe.WORK / "vae.pt", crops, minutes, recipe.VAE_RATE, 200, one)


def train_decoder(vae: AutoencoderKL, crops: Crops, minutes: float) -> None:
    """Train the decoder alone, on whole pictures, half of them small."""
    vae.requires_grad_(False)
    vae.decoder.requires_grad_()
    vae.post_quant_conv.requires_grad_()

    def one(done: float, step: int) -> Tensor:
        x = crops.whole(4, recipe.SIZE // 2) if step % 2 and done < 0.6 else crops.whole(1, recipe.SIZE)
        with torch.no_grad():
            z = vae.encode(x).latent_dist.mode()
        return off(vae.decode(z + recipe.DECODER_NOISE * torch.randn_like(z)).sample, x)

    learn(vae, recipe.WORK / "vae-decoder.pt", crops, minutes, recipe.DECODER_RATE, 50, one)


@torch.no_grad()
def sheet(vae: AutoencoderKL, x: Tensor, path: Path) -> None:
    """A sheet of sixteen pictures, each above its reconstruction."""
    y = vae.decode(vae.encode(x[:16]).latent_dist.mode()).sample.clamp(-1, 1)
    rows = torch.cat([x[:8], y[:8], x[8:16], y[8:16]]).reshape(4, 8, 3, recipe.SIZE, recipe.SIZE)
    page = rows.permute(0, 3, 1, 4, 2).reshape(4 * recipe.SIZE, 8 * recipe.SIZE, 3)
    Image.fromarray(((page + 1) * 127.5).round().byte().numpy()).save(path)


def finish(vae: AutoencoderKL, test: Tensor) -> None:
    """Write `vae/` and its sheet."""
    final = AutoencoderKL(**recipe.VAE)
    final.load_state_dict(vae.state_dict())
    final.save_pretrained(recipe.WORK / "vae")
    sheet(final, test, recipe.WORK / "sheets" / "vae.png")


def main(stage: str = "both", minutes: str | None = None) -> None:
    torch.manual_seed(recipe.SEED)
    crops = Crops(recipe.SEED)
    if stage == "decoder":
        vae = hasten(AutoencoderKL.from_pretrained(recipe.WORK / "vae")).eval()
        train_decoder(vae, crops, float(minutes or recipe.DECODER_MINUTES))
        return finish(vae, crops.held_out(16))
    vae = hasten(begin()).eval()
    train(vae, crops, float(minutes or recipe.VAE_MINUTES))
    test = crops.held_out(48)
    before = psnr(vae, test)
    normalise(vae, test)
    print(f"held-out psnr {before:.2f}, after folding {psnr(vae, test):.2f}")
    finish(vae, test)


if __name__ == "__main__":
    main(*sys.argv[1:])
