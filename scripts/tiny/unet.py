"""The UNet: learns to take the noise off the bank's latents, told by the caption.

Writes `unet/` (the running average of the weights), `unet.pt` (everything needed to go on) and, now and then, a
sheet of samples and the loss curve. Stopped (SIGTERM, Ctrl-C) it saves; run again, it goes on.
"""

import json
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


class Training:
    """The network, its running average, the optimizer, and how far they have come."""

    def __init__(self) -> None:
        torch.manual_seed(recipe.SEED)
        self.unet = hasten(UNet2DConditionModel(**recipe.UNET)).eval()
        self.unet.set_attn_processor(AttnProcessor())  # plain matrix products: as fast at these sizes
        self.average = deepcopy(self.unet).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), lr=recipe.UNET_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.minutes, self.step, self.seen, self.curve = 0.0, 0, 0, []
        self.share = DDIMScheduler(
            **recipe.SCHEDULE
        ).alphas_cumprod  # of the variance that is signal, by time
        self.path = recipe.WORK / "unet.pt"
        if self.path.exists():
            saved = torch.load(self.path)
            for name in ("unet", "average", "optimizer"):
                getattr(self, name).load_state_dict(saved[name])
            self.minutes, self.step, self.seen, self.curve = saved["progress"]
        self.bank = Bank(recipe.SEED + self.step)
        self.random = torch.Generator().manual_seed(recipe.SEED + self.step)

    def learn(self, done: float) -> float:
        """One step at `done` of the whole time; the loss."""
        fall = min(1.0, (1 - done) / recipe.UNET_FALL)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.UNET_RATE * min(1.0, (self.step + 1) / 200) * max(fall, 0.02)
        x, words = self.bank.batch(recipe.UNET_BATCH, plain=done < recipe.UNET_EARLY)
        loss = self.loss_of(x, words)
        self.optimizer.zero_grad()
        loss.backward()
        if torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0).isfinite():
            self.optimizer.step()
        self.step, self.seen = self.step + 1, self.seen + len(x)
        if self.step % 4 == 0:
            keep = min(recipe.UNET_AVERAGE, self.step / (self.step + 20)) ** 4
            torch._foreach_lerp_(list(self.average.parameters()), list(self.unet.parameters()), 1 - keep)
        return loss.item()

    def loss_of(self, x: Tensor, words: Tensor) -> Tensor:
        """Plain v-prediction error: min-SNR and its kin would weigh down the noisiest times."""
        times = times_of(len(x), self.random)
        noise = torch.randn(x.shape, generator=self.random)
        share = self.share[times][:, None, None, None]
        signal, sigma = share.sqrt(), (1 - share).sqrt()
        noisy = (signal * x + sigma * noise).contiguous(memory_format=torch.channels_last)
        v = self.unet(noisy, times, encoder_hidden_states=words).sample
        return (v - (signal * noise - sigma * x)).square().mean()

    def save(self) -> None:
        state = {name: getattr(self, name).state_dict() for name in ("unet", "average", "optimizer")}
        torch.save({**state, "progress": (self.minutes, self.step, self.seen, self.curve)}, self.path)
        plain = UNet2DConditionModel(**recipe.UNET)
        plain.load_state_dict(self.average.state_dict())
        plain.save_pretrained(recipe.WORK / "unet")
        facts = {"steps": self.step, "pictures": self.seen, "minutes": round(self.minutes)}
        (recipe.WORK / "unet.json").write_text(json.dumps(facts))
        plot(self.curve, recipe.WORK / "sheets" / "unet-loss.png")

    def sheet(self) -> None:
        sample.sheet(self.average, recipe.WORK / "sheets" / f"unet-{self.step:06d}.png")


def times_of(count: int, random: torch.Generator) -> Tensor:
    """Times of a batch, evenly spread, more of them in the noisiest part: there the shape is decided, by the words
    alone, and that takes longest to learn (below it the noise already shows the shape)."""
    spread = (torch.arange(count) + torch.rand(count, generator=random)) / count
    low, part = recipe.UNET_NOISIEST, recipe.UNET_NOISY
    noisiest = low + spread / part * (1 - low)
    return (torch.where(spread < part, noisiest, (spread - part) / (1 - part)) * 1000).long().clamp(max=999)


def main(minutes: float = recipe.UNET_MINUTES) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; run again to go on"))
    training = Training()
    recent = None
    clock = told = drawn = time.time()
    try:
        while (done := training.minutes / minutes) < 1:
            loss = training.learn(done)
            recent = loss if recent is None else 0.99 * recent + 0.01 * loss
            training.minutes, clock = training.minutes + (time.time() - clock) / 60, time.time()
            if training.step % 100 == 0:
                training.curve.append((training.step, recent))
            if clock - told > 60:
                print(f"{done:.1%} step {training.step} seen {training.seen} loss {recent:.4f}", flush=True)
                told = clock
            if clock - drawn > 60 * recipe.UNET_SHEET:
                training.save()
                training.sheet()
                drawn = clock = time.time()
    finally:
        training.save()
    training.sheet()


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
