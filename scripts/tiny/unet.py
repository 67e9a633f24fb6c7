"""The UNet: learns to take the noise off the bank's latents, told by the caption.

Writes `unet/` (the running average of the weights), `unet.pt` (everything needed to go on) and, now and then, a
sheet of samples and the loss curve.
"""

import json
import math
import signal
import sys
import time
from copy import deepcopy

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

import recipe
import sample
from bank import is_plain
from curve import plot
from norm import hasten


class Bank:
    """Latents and captions, drawn in random order, every picture equally often; at first the plain ones only."""

    def __init__(self, seed: int):
        bank = torch.load(recipe.WORK / "bank.pt")
        self.latents, self.captions, self.embeddings = bank["latents"], bank["captions"], bank["embeddings"]
        self.plain = torch.tensor([row for row in range(len(self.latents)) if is_plain(row % recipe.DRESSES)])
        self.random = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.long)

    def batch(self, count: int, plain: bool) -> tuple[Tensor, Tensor]:  # (count, 4, h, w), (count, 77, width)
        while len(self.order) < count:
            rows = self.plain if plain else torch.arange(len(self.latents))
            self.order = torch.cat([self.order, rows[torch.randperm(len(rows), generator=self.random)]])
        rows, self.order = self.order[:count], self.order[count:]
        which = torch.randint(self.captions.shape[1], (count,), generator=self.random)
        words = self.captions[rows, which]
        words[torch.rand(count, generator=self.random) < recipe.UNET_EMPTY] = 0
        return self.latents[rows].float(), self.embeddings[words].float()


def alphas() -> Tensor:
    """The share of the signal's variance left at each of the 1000 times."""
    return DDIMScheduler(**recipe.SCHEDULE).alphas_cumprod


def times_of(count: int, random: torch.Generator) -> Tensor:
    """Times of a batch, half of them in the noisiest part: there the shape is decided, by the words alone, and that
    takes longest to learn (below it the noise already shows the shape)."""
    spread = (torch.arange(count) + torch.rand(count, generator=random)) / count
    low = recipe.UNET_NOISIEST
    spread = torch.where(spread < 0.5, low + 2 * spread * (1 - low), 2 * spread - 1)
    return (spread * 1000).long()


def loss_of(
    unet: UNet2DConditionModel,
    x: Tensor,
    words: Tensor,
    times: Tensor,
    share: Tensor,
    random: torch.Generator,
) -> Tensor:
    """Plain v-prediction error: min-SNR and its kin would weigh down the noisiest times."""
    count = len(x)
    noise = torch.randn(x.shape, generator=random)
    signal, sigma = (y.sqrt()[:, None, None, None] for y in (share[times], 1 - share[times]))
    noisy = (signal * x + sigma * noise).contiguous(memory_format=torch.channels_last)
    return (
        (unet(noisy, times, encoder_hidden_states=words).sample - (signal * noise - sigma * x))
        .square()
        .mean()
    )


def rate_at(done: float, step: int) -> float:
    """Warm up, hold, and fall to nothing over the last part."""
    fall = min(1.0, (1 - done) / recipe.UNET_FALL)
    return recipe.UNET_RATE * min(1.0, (step + 1) / 200) * max(fall, 0.02)


def main(minutes: float = recipe.UNET_MINUTES) -> None:
    torch.manual_seed(recipe.SEED)
    unet = hasten(UNet2DConditionModel(**recipe.UNET)).eval()
    unet.set_attn_processor(AttnProcessor())  # plain matrix products: faster backward at these sizes
    average = deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    bank, share, random = Bank(recipe.SEED), alphas(), torch.Generator().manual_seed(recipe.SEED)
    spent, step, seen, curve = 0.0, 0, 0, []
    checkpoint = recipe.WORK / "unet.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        unet.load_state_dict(saved["unet"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        spent, step, seen, curve = (saved[key] for key in ("spent", "step", "seen", "curve"))
        random.manual_seed(recipe.SEED + step)
        bank.random.manual_seed(recipe.SEED + step)

    def save() -> None:
        torch.save(
            {
                "unet": unet.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "spent": spent + time.time() - start,
                "step": step,
                "seen": seen,
                "curve": curve,
            },
            checkpoint,
        )
        plain = UNet2DConditionModel(**recipe.UNET)
        plain.load_state_dict(average.state_dict())
        plain.save_pretrained(recipe.WORK / "unet")
        plot(curve, recipe.WORK / "sheets" / "unet-loss.png")

    start = last = drawn = time.time()
    recent, since = None, seen
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; run again to go on"))
    try:
        while (done := (spent + time.time() - start) / 60 / minutes) < 1:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(done, step)
            early = done < recipe.UNET_EARLY
            x, words = bank.batch(recipe.UNET_BATCH, early)
            times = times_of(len(x), random)
            loss = loss_of(unet, x, words, times, share, random)
            optimizer.zero_grad()
            loss.backward()
            if torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0).isfinite():
                optimizer.step()
            step, seen = step + 1, seen + len(x)
            if step % 4 == 0:
                keep = min(recipe.UNET_AVERAGE, step / (step + 20)) ** 4
                torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - keep)
            recent = loss.item() if recent is None else 0.99 * recent + 0.01 * loss.item()
            if step % 100 == 0:
                curve.append((step, recent))
            if (now := time.time()) - last > 60:
                print(
                    f"{done:.1%} step {step} seen {seen} loss {recent:.4f} {(seen - since) / (now - last):.1f}/s",
                    flush=True,
                )
                last, since = now, seen
            if now - drawn > 60 * recipe.UNET_SHEET:
                sample.sheet(average, recipe.WORK / "sheets" / f"unet-{step:06d}.png")
                save()
                drawn = last = time.time()
                since = seen
    finally:
        save()
    sample.sheet(average, recipe.WORK / "sheets" / f"unet-{step:06d}.png")
    (recipe.WORK / "unet.json").write_text(
        json.dumps({"steps": step, "pictures": seen, "minutes": math.ceil(minutes)})
    )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
