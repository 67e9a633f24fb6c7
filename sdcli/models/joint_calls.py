"""Joint calls: the U-Net calls of several pictures that are drawn at once, as one call."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.models.model import Model
from sdcli.models.offload import Adapter, Networks


class Stopped(BaseException):
    """The pictures are no longer wanted; no fault of theirs."""


@dataclass(eq=False)
class _Call:
    """A call of the U-Net by one picture's thread, and what becomes of it."""

    arguments: Mapping[str, Tensor]  # each with a row for each text
    out: Tensor | None = None
    error: BaseException | None = None

    @property
    def shapes(self) -> tuple[object, ...]:
        return tuple((name, value.shape, value.dtype) for name, value in self.arguments.items())


class JointCalls:
    """Runs the U-Net for so many threads, each of which draws a picture: once for all that call it alike.

    A call waits until each thread has called or has left. Calls of the same shapes are one call of the network. The
    first time for each number of pictures and each shape, the first picture is computed alone too; if its bytes differ,
    `facts` say so from then on. Only one thread runs at a time, and the others wait, so they may share all else.
    """

    name = "torch"  # of the engine, for messages

    def __init__(self, model: Model, threads: int) -> None:
        self.facts = dict(model.facts)
        self._model, self._unet = model, model.unet
        self._threads = threads
        self._waiting: list[_Call] = []
        self._turn = threading.Condition()  # held by the thread that runs
        self._is_stopped = False
        self._tested: set[object] = set()
        self._rows = 0  # of one picture, while several are in a call

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        """While inside, a thread draws, in turns with the others."""
        with self._turn:
            try:
                yield
            finally:
                self._threads -= 1
                self._run_if_all_wait()
                if self._is_stopped:
                    self._turn.notify_all()

    @contextmanager
    def separate_rows(self) -> Iterator[None]:
        """While inside, linear layers that are given one row for each text multiply those of each picture alone.

        How a product is rounded depends on its number of rows. So several pictures in one call get the bytes that each
        gets alone, at least on a CPU.
        """
        layers = [layer for layer in self._unet.modules() if isinstance(layer, nn.Linear)]
        for layer in layers:
            vars(layer)["forward"] = self._by_picture(layer.forward)
        try:
            yield
        finally:
            for layer in layers:
                del vars(layer)["forward"]

    def _by_picture(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            if 0 < self._rows < x.shape[0] and x.numel() == x.shape[0] * x.shape[-1]:
                return torch.cat([forward(part) for part in torch.split(x, self._rows)])
            return forward(x)

        return call

    def unet(self, x: Tensor, t: Tensor, context: Tensor, **more: Any) -> Tensor:
        """What the U-Net predicts for one picture, called as a UNet is; returns when all threads have called."""
        more = {name: value for name, value in more.items() if value is not None}
        call = _Call({"x": x, "t": t.expand(x.shape[0]), "context": context, **more})
        if not self._is_stopped:
            self._waiting.append(call)
            self._run_if_all_wait()
            self._turn.wait_for(lambda: call.out is not None or call.error or self._is_stopped)
        if call.error is not None:
            raise call.error
        if call.out is None:
            raise Stopped
        return call.out

    def decode(self, z: Tensor) -> Tensor:
        """The VAE's decoder called with these latents."""
        return self._model.vae.decode(z)

    def stop(self) -> None:
        """Let all threads raise Stopped when they call next, or now if they wait. Does not wait itself."""
        self._is_stopped = True

    def _run_if_all_wait(self) -> None:
        if self._is_stopped or not self._waiting or len(self._waiting) < self._threads:
            return
        groups: dict[object, list[_Call]] = defaultdict(list)
        for call in self._waiting:
            groups[call.shapes].append(call)
        self._waiting = []
        for calls in groups.values():
            try:
                self._run(calls)
            except Exception as error:
                for call in calls:
                    call.error = error
        self._turn.notify_all()

    @torch.inference_mode()
    def _run(self, calls: Sequence[_Call]) -> None:
        rows = calls[0].arguments["x"].shape[0]
        if len(calls) == 1:
            calls[0].out = self._predicted(calls[0].arguments)
            return
        joined = {name: torch.cat([call.arguments[name] for call in calls]) for name in calls[0].arguments}
        self._rows = rows
        try:
            out = self._predicted(joined)
        finally:
            self._rows = 0
        for call, part in zip(calls, torch.split(out, rows), strict=True):
            call.out = part
        if (tested := (len(calls), calls[0].shapes)) not in self._tested:
            self._tested.add(tested)
            if not torch.equal(out[:rows], self._predicted(calls[0].arguments)):
                self.facts["batch"] = len(calls)

    def _predicted(self, arguments: Mapping[str, Tensor]) -> Tensor:
        values = dict(arguments)
        values["x"] = values["x"].contiguous(memory_format=torch.channels_last)
        out: Tensor = self._unet(values.pop("x"), values.pop("t"), values.pop("context"), **values)
        return out


class _Unaltered(Networks):
    """The networks of a model whose pictures alter none of them, for several threads at once."""

    def __init__(self, networks: Networks) -> None:
        def load(part: str, *_: object) -> None:
            raise RuntimeError(f"the {part} was to be in memory")

        super().__init__(networks.modules, load, one_at_a_time=False)

    @contextmanager
    def adapted(self, adapters: Sequence[Adapter]) -> Iterator[None]:
        """Nothing is altered."""
        yield


def shared(model: Model, calls: JointCalls) -> Model:
    """The model for one of the threads whose U-Net calls are joint."""
    networks = _Unaltered(model.networks)
    return replace(model, networks=networks, by_engine=calls, facts=calls.facts)
