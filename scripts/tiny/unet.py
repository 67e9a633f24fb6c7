"""The UNet: trained to remove noise from the bank's latents, given the caption. The text encoder is trained with it.

    python unet.py [MINUTES]

Writes `unet/` and `text_encoder/` (the running average of the weights), `unet.pt` (everything needed to continue) and
regularly `curve.csv`, a sheet of samples and the loss curve. It saves when it is stopped (SIGTERM, Ctrl-C), and
continues when it is run again.
"""

import json
import os
import signal
import sys
import time
from copy import deepcopy

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

import exam
import recipe
import recognise
import sample
from curve import plot
from lessons import Bank, Batch
from listening import Features, Looks, Pooled, Teacher, difference
from norm import hasten, mixed
from text import free
from together import MEET, Party

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
PAUSE = 60.0  # seconds: what a step takes beyond that, it was paused, and does not count as time of training
LEVELS = 20  # bins of the timesteps, each with its own usual error
BATCH = recipe.UNET_BATCH_CUDA if CUDA else recipe.UNET_BATCH


class Training:
    """The networks, their running average, the optimizer, and the progress of the training."""

    def __init__(self, rank: int = 0) -> None:
        torch.manual_seed(recipe.SEED)
        unet = UNet2DConditionModel(**recipe.UNET).eval().to(memory_format=torch.channels_last)
        unet.set_attn_processor(AttnProcessor())  # plain matrix products: as fast on a CPU, and Looks reads them
        if not CUDA:
            hasten(unet)
        text = free(deepcopy(sample.encoder(recipe.WORK)))
        self.networks = nn.ModuleDict({"unet": unet, "text_encoder": text}).to(DEVICE)
        self.learned = [p for p in self.networks.parameters() if p.requires_grad]
        self.average = deepcopy(self.networks)
        attention = [p for name, p in unet.named_parameters() if ".attentions." in name]
        known = {id(p) for p in attention}
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.learned if id(p) not in known], "rate": recipe.UNET_RATE},
                {"params": attention, "rate": recipe.UNET_ATTENTION_RATE},
            ],
            betas=(0.9, 0.99),
            weight_decay=0.01,
            fused=True,
        )
        self.minutes, self.step, self.seen, self.fresh = 0.0, 0, 0, 0
        self.curve, self.judged = [], []
        self.looked = 1.0  # running mean of how little is looked at the right words (listening.Looks)
        self.share = DDIMScheduler(
            **recipe.SCHEDULE
        ).alphas_cumprod  # fraction of the variance that is signal, by timestep
        self.levels = torch.full((LEVELS,), 0.1)  # running mean of the error, by timestep
        self.path = recipe.WORK / "unet.pt"
        if self.path.exists():
            self._go_on(torch.load(self.path, map_location=DEVICE))
        seed = recipe.SEED + self.step + 1_000_003 * rank
        self.bank = Bank(seed)
        self.random = torch.Generator().manual_seed(seed)
        self.looks, self.features, self.pooled = Looks(unet), Features(unet), Pooled(unet)
        self.teacher = Teacher(recipe.TEACHER, DEVICE) if recipe.TEACHER.exists() else None
        if self.teacher:
            self.anything, self.nothing = self.teacher.anything(), self.teacher.pooled([""])
        else:
            width = unet.time_embedding.linear_2.out_features
            self.anything = torch.zeros(len(recipe.STYLES), 2, width, device=DEVICE)
            self.nothing = torch.zeros(width, device=DEVICE)

    def _go_on(self, saved: dict) -> None:
        for of, states in ((self.networks, saved["networks"]), (self.average, saved["average"])):
            for name, state in states.items():  # after grow.py there is only a UNet
                of[name].load_state_dict(state)
        if "optimizer" in saved:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.minutes, self.step, self.seen, self.curve = saved["progress"]
        self.judged = saved.get("judged", [])
        self.fresh = saved.get("fresh", 0)  # the step at which the optimizer started; its warm-up begins there

    def learn(self, done: float) -> float:
        """Train one step, when the fraction `done` of the time is over; returns the loss."""
        fall = min(1.0, (1 - done) / recipe.UNET_FALL)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (self.step - self.fresh + 1) / 200) * max(fall, 0.02)
        batch = self.bank.batch(BATCH)
        with mixed(DEVICE.type):
            errors, times, taught = self.errors_of(batch)
        self.optimizer.zero_grad()
        (self.weighed(errors, times) + taught).backward()
        if torch.nn.utils.clip_grad_norm_(self.learned, 1.0).isfinite():
            self.optimizer.step()
        self.step, self.seen = self.step + 1, self.seen + len(errors)
        if self.step % 4 == 0:
            keep = min(recipe.UNET_AVERAGE, self.step / (self.step + 20)) ** 4
            average = [p for p in self.average.parameters() if p.requires_grad]
            with torch.no_grad():
                torch._foreach_lerp_(average, self.learned, 1 - keep)
        return errors.mean().item()

    def weighed(self, errors: Tensor, times: Tensor) -> Tensor:
        """The mean error, each divided by the usual error at its timestep.

        Without that, the noisiest timesteps, where five times as much is uncertain, make up three quarters of each
        step, and outlines stay wavering.
        """
        bins = times * LEVELS // len(self.share)
        usual = self.levels[bins]
        self.levels.index_add_(0, bins, (errors.detach().cpu() - usual) * 0.02)
        return (errors * (self.levels.mean() / usual).to(errors.device)).mean()

    def taught(self) -> float:
        """The share of the help that is left (listening.py): from 1 to 0; 0 without a teacher."""
        return max(0.0, 1 - self.seen / recipe.UNET_TAUGHT) if self.teacher else 0.0

    def errors_of(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:  # (batch,), (batch,), ()
        """The v-prediction error of each picture, each at its own timestep; the timesteps; and what else is to be
        learned, weighted (listening.py)."""
        x, words = batch.latents.to(DEVICE), batch.words.to(DEVICE)
        told = self.networks["text_encoder"](words).last_hidden_state
        times = times_of(len(x), self.random)
        noise = torch.randn(x.shape, generator=self.random).to(DEVICE)
        share = self.share[times][:, None, None, None].to(DEVICE)
        signal, sigma = share.sqrt(), (1 - share).sqrt()
        noisy = (signal * x + sigma * noise).contiguous(memory_format=torch.channels_last)
        two = batch.look[:, 0] >= 0
        others = self._pool(batch, two)
        v = self.networks["unet"](noisy, times.to(DEVICE), encoder_hidden_states=told).sample
        errors = (v.float() - (signal * noise - sigma * x)).square().mean((1, 2, 3))
        maps = self.looks.loss(batch.masks.to(DEVICE), batch.spans.to(DEVICE))
        self.looked += 0.02 * (maps.item() - self.looked)
        more = recipe.UNET_MAPS * maps
        if not self.taught():
            return errors, times, 0 * maps
        if two.any():
            apart = (self.pooled.own[two].float() - others[two]).square().mean() / self.anything.var()
            more = more + recipe.UNET_POOLED * apart
        if (rows := (two & (times >= recipe.UNET_TAUGHT_FROM)).nonzero()[:, 0]).numel():
            shown = self.teacher.show(noisy[rows], times[rows].to(DEVICE), batch.half_words[rows].to(DEVICE))
            where = batch.where[rows, None].to(DEVICE)
            more = more + recipe.UNET_FEATURES * difference(self.features.noted, shown, rows.to(DEVICE), where)
        return errors, times, self.taught() * more

    def _pool(self, batch: Batch, two: Tensor) -> Tensor:  # (n, width)
        """Have the next pooled vectors replaced: of two things by that of anything, as often as there is help left; of
        some others partly by that of no words, so that cross-attention is needed there too."""
        dice = torch.rand(2, len(two), generator=self.random)
        forced = (dice[0] < self.taught()) & two
        hidden = (dice[0] < recipe.UNET_MUTED) & ~two
        share = torch.where(forced, 0.0, torch.where(hidden, dice[1], 1.0))
        style, above = batch.look.clamp(min=0).to(DEVICE).unbind(1)
        others = torch.where(two.to(DEVICE)[:, None], self.anything[style, above], self.nothing)
        self.pooled.share, self.pooled.others = share[:, None].to(DEVICE), others
        return others

    def save(self) -> None:
        states = {
            which: {name: network.state_dict() for name, network in getattr(self, which).items()}
            for which in ("networks", "average")
        }
        states["optimizer"] = self.optimizer.state_dict()
        progress = (self.minutes, self.step, self.seen, self.curve)
        more = {"progress": progress, "judged": self.judged, "fresh": self.fresh}
        torch.save({**states, **more}, self.path.with_suffix(".new"))
        self.path.with_suffix(".new").replace(self.path)
        plain = UNet2DConditionModel(**recipe.UNET)
        plain.load_state_dict(self.average["unet"].state_dict())
        plain.save_pretrained(recipe.WORK / "unet")
        self.average["text_encoder"].save_pretrained(recipe.WORK / "text_encoder")
        facts = {"steps": self.step, "pictures": self.seen, "minutes": round(self.minutes)}
        (recipe.WORK / "unet.json").write_text(json.dumps(facts))
        plot(self.curve, self.judged, recipe.WORK / "sheets" / "unet-loss.png")

    def log(self) -> None:
        """Add a line to `curve.csv`: the progress, and what the running average makes of the exam."""
        path, first = recipe.WORK / "curve.csv", not (recipe.WORK / "curve.csv").exists()
        marks = exam.mark(self.average["unet"], self.average["text_encoder"], DEVICE)
        loss = self.curve[-1][1] if self.curve else float("nan")
        row = {"minutes": self.minutes, "seen": self.seen, "taught": self.taught(), "loss": loss, **marks}
        with path.open("a") as file:
            print(*([",".join(row)] if first else []), ",".join(f"{v:.5g}" for v in row.values()), sep="\n", file=file)

    def look(self) -> None:
        """Save a contact sheet, and note the judge's score of some concepts; both are drawn in few steps."""
        self.save()
        sample.encoder.cache_clear()  # reads the prompts with the text encoder just saved
        drawer = deepcopy(self.average["unet"]).cpu()
        sample.sheet(drawer, recipe.WORK / "sheets" / f"unet-{self.step:06d}.png", steps=10)
        if recognise.there():
            self.judged.append((self.step, recognise.quick(drawer)))
            print(f"judge: {self.judged[-1][1]:.3f} in the first five", flush=True)


def times_of(count: int, random: torch.Generator) -> Tensor:
    """Timesteps of a batch, evenly spread, with more of them among the noisiest.

    There the words alone decide the shape, which takes longest to learn; at lower noise the shape is already visible.
    """
    spread = (torch.arange(count) + torch.rand(count, generator=random)) / count
    low, part = recipe.UNET_NOISIEST, recipe.UNET_NOISY
    noisiest = low + spread / part * (1 - low)
    return (torch.where(spread < part, noisiest, (spread - part) / (1 - part)) * 1000).long().clamp(max=999)


def main(minutes: float = recipe.UNET_MINUTES) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; run again to go on"))
    workers = 1 if CUDA else min(recipe.UNET_WORKERS, len(os.sched_getaffinity(0)))
    training = Training()
    party = Party(training.networks, workers) if workers > 1 else None
    if party:
        party.done[0] = training.minutes / minutes
        party.start(follow)
    recent, alone = None, 0  # steps since the last meeting
    clock = told = drawn = saved = time.time()
    try:
        while (done := training.minutes / minutes) < 1:
            loss, alone = training.learn(done), alone + 1
            recent = loss if recent is None else 0.99 * recent + 0.01 * loss
            if party and alone >= MEET:
                party.done[0] = done
                others = party.meet(0, training.networks, alone) - alone
                training.step, training.seen = training.step + others, training.seen + others * BATCH
                alone = 0
            now = time.time()
            training.minutes += min(now - clock, PAUSE) / 60
            clock = now
            if clock - told > 60:
                told_of = f"loss {recent:.4f} maps {training.looked:.3f}"
                print(f"{done:.1%} step {training.step} seen {training.seen} {told_of}", flush=True)
                training.curve.append((training.step, recent))
                told = clock
            if clock - saved > 60 * recipe.UNET_SAVE:
                training.log()
                training.save()
                saved = clock = time.time()
            if clock - drawn > 60 * recipe.UNET_LOOK:
                training.look()
                drawn = clock = time.time()
    finally:
        training.save()
    training.look()
    training.save()  # with the judge's score


def follow(rank: int, party: Party) -> None:
    """The loop of the other processes of a party: train, and meet when asked to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    party.sit(rank)
    training = Training(rank)
    while True:
        alone = 0
        while not party.called.is_set():
            training.learn(float(party.done))
            alone += 1
        others = party.meet(rank, training.networks, alone) - alone
        training.step, training.seen = training.step + others, training.seen + others * BATCH


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
