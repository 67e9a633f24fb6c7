"""Run: the loop of a training: batches, gradients, updates, and what is saved on the way."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sdcli import store
from sdcli.errors import NotFinite
from sdcli.models.cache import ModelCache
from sdcli.models.device import LARGE
from sdcli.models.memory import memory_errors
from sdcli.models.model import Model
from sdcli.models.offload import Adapter
from sdcli.pipeline import vae
from sdcli.request.images import open_image
from sdcli.request.resize import fit_image
from sdcli.train import samples, state
from sdcli.train.batches import Batches
from sdcli.train.loss import draw, loss_of, noised
from sdcli.train.network import gradient_checkpointing, predict, with_sizes
from sdcli.train.optimizers import optimizer_of, rate
from sdcli.train.plan import Plan
from sdcli.train.plot import as_table, plot_losses
from sdcli.train.state import State
from sdcli.train.trained import Trained, trained_of

STATE_SECONDS = 60.0
"""Seconds after which the state is saved again, so that so much work is lost at most."""


@dataclass(frozen=True)
class Progress:
    """How far a training is: what it is doing, `number` of `total` of that, and the loss of the last step.

    `path` is the file at the end.
    """

    doing: str
    number: int
    total: int
    loss: float | None = None
    path: Path | None = None


def with_training_dtype(plan: Plan) -> Plan:
    """The plan with bfloat16 on a GPU that has it, float32 on others; a CPU's default is right already."""
    on_cuda = plan.loading.device.startswith("cuda") or (
        plan.loading.device == "auto" and torch.cuda.is_available()
    )
    if plan.loading.dtype != "auto" or not on_cuda:
        return plan
    dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return replace(plan, loading=replace(plan.loading, dtype=dtype))


def run(plan: Plan, models: ModelCache) -> Generator[Progress, None, None]:
    """Train, and save what is learned; yields how far it is. Raises OutOfMemory, NotFinite, WriteError.

    A training that is broken off goes on from its last state when it is run again.
    """
    plan = with_training_dtype(plan)
    advice = "choose a smaller --batch or --resolution, or give --gradient-checkpointing"
    with memory_errors("training", advice), models.use(plan.loading) as model:
        latents: list[Tensor] = []
        for number in range(1, len(plan.examples) + 1):
            latents.append(encode_example(plan, model, number - 1))
            yield Progress("pictures", number, len(plan.examples))
        yield from Loop(plan, models, model, latents).run()


def encode_example(plan: Plan, model: Model, number: int) -> Tensor:
    """The latents (1, 4, h/8, w/8) of an example, scaled and cut to its bucket."""
    image = open_image(plan.examples[number].path).image
    pixels = vae.to_tensor(fit_image(image, *plan.buckets[number], "crop"))
    return vae.encode(model, pixels).clone()


class Loop:
    """A training while it runs."""

    def __init__(self, plan: Plan, models: ModelCache, model: Model, latents: Sequence[Tensor]) -> None:
        settings = plan.settings
        self.plan, self.settings, self.latents = plan, settings, latents
        self.models, self.model = models, model
        assert settings.lr is not None
        self.lr = settings.lr
        self.trained: Trained = trained_of(plan, model)
        self.parameters = list(self.trained.parameters.values())
        self.optimizer = optimizer_of(settings.optimizer, self.parameters, self.lr, self.trained.decays)
        self.batches = Batches(plan.buckets, settings.batch, settings.seed)
        self.losses: list[float] = []
        self.saved_at = time.monotonic()
        self._is_updating = False
        if plan.done:
            self._restore(state.read(plan.state_path))

    def run(self) -> Iterator[Progress]:
        """All steps that are left, and what is saved between them."""
        yield from self._draw_samples()
        while len(self.losses) < self.settings.steps:
            with self.model.networks.adapted(self._adapters()):
                for loss in self._steps_until_a_pause():
                    yield Progress("training", len(self.losses), self.settings.steps, loss)
            if self._is_due(self.settings.save_every):
                self._save_so_far()
            self._save_state()
            yield from self._draw_samples()
        path = store.save(self.trained.file(len(self.losses)), self.settings.path)
        self.plan.state_path.unlink(missing_ok=True)
        yield Progress("saved", len(self.losses), self.settings.steps, path=path)

    def _steps_until_a_pause(self) -> Iterator[float]:
        """Steps up to the next one after which something is saved or drawn; an interrupt loses the one it falls in."""
        try:
            while True:
                yield self._step()
                if len(self.losses) == self.settings.steps:
                    return
                if self._is_due(self.settings.save_every) or self._is_due(self.settings.sample_every):
                    return
                if time.monotonic() - self.saved_at > STATE_SECONDS:
                    self._save_state()
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            if self.losses and not self._is_updating:
                self._save_state()
            raise

    def _is_due(self, every: int | None) -> bool:
        return every is not None and len(self.losses) % every == 0

    def _step(self) -> float:
        """One update of the weights; returns the mean loss of its batches."""
        settings, done = self.settings, len(self.losses)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.lr, settings.lr_schedule, done, settings.steps)
        total = 0.0
        for number in range(done * settings.accumulate, (done + 1) * settings.accumulate):
            loss = self._loss(number) / settings.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if not torch.isfinite(torch.tensor(total)):
            raise NotFinite(
                f"the loss of step {done + 1} is {total}; choose a smaller --lr, or --dtype float32"
            )
        self._is_updating = True  # until then, the weights are between two steps
        self.optimizer.step()
        self.losses.append(total)
        self._is_updating = False
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _loss(self, number: int) -> Tensor:
        """The loss of a batch; batches count from 0."""
        examples, model, settings = self.batches[number], self.model, self.settings
        z = torch.cat([self.latents[i] for i in examples])
        noise, t = draw(settings.seed, number, tuple(z.shape), model.levels)
        seen = noised(z, noise.to(z.device), t, model.levels, model.prediction)
        conds = [
            with_sizes(cond, *self._sizes(i))
            for i, cond in zip(examples, self.trained.conds(examples), strict=True)
        ]
        out = predict(model, seen.x, seen.t, conds)
        return loss_of(out, seen, model.prediction, settings.min_snr)

    def _sizes(self, number: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """What SDXL is told of an example, (height, width) each: its own size, the crop's corner, the bucket."""
        (width, height), (own_width, own_height) = self.plan.buckets[number], self.plan.examples[number].size
        scale = max(width / own_width, height / own_height)
        top, left = (own_height * scale - height) / 2, (own_width * scale - width) / 2
        return (own_height, own_width), (round(top), round(left)), (height, width)

    def _adapters(self) -> Sequence[Adapter]:
        wanted = self.settings.gradient_checkpointing
        if wanted is None:
            wanted = sum(each.numel() for each in self.model.unet.parameters()) >= LARGE
        return (*self.trained.adapters, *([gradient_checkpointing] if wanted else []))

    # --- what is saved

    def _restore(self, found: State) -> None:
        self.losses = list(found.losses)
        with torch.no_grad():
            for name, parameter in self.trained.parameters.items():
                parameter.copy_(found.parameters[name])
        self.optimizer.load_state_dict({**found.optimizer})

    def _save_state(self) -> None:
        own = State(self.losses, self.trained.parameters, self.optimizer.state_dict())
        folder = self.settings.folder
        store.replace(plot_losses(self.losses), folder / "losses.png")
        store.replace(as_table(self.losses), folder / "losses.csv")
        state.save(own, self.plan.record, self.plan.state_path)
        self.saved_at = time.monotonic()

    def _save_so_far(self) -> Path:
        """Save what is learned so far in a folder of its own, under the name that it will have."""
        done = len(self.losses)
        path = self.settings.folder / f"step-{done:06}" / self.settings.path.name
        return store.replace(self.trained.file(done), path)

    def _draw_samples(self) -> Iterator[Progress]:
        """Draw the prompts, if it is time, with the file so far; before the first step without it."""
        step = len(self.losses)
        is_due = self._is_due(self.settings.sample_every) or step == self.settings.steps
        if not self.settings.sample or not is_due or samples.has_samples(self.plan, step):
            return
        fields = self.trained.drawn_with(str(self._save_so_far())) if step else {}
        samples.draw_samples(self.plan, self.models, step, fields)
        yield Progress("samples", step, self.settings.steps)
