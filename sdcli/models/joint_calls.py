"""Joint calls: the U-Net calls of several pictures that are drawn at once, as one call."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdcli.models.architectures.packed import separate_rows
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
    `facts` say so from then on. The decoder runs for one thread at a time.
    """

    name = "torch"  # of the engine, for messages

    def __init__(self, model: Model, threads: int) -> None:
        self.facts = dict(model.facts)
        self._model, self._unet = model, model.unet
        self._threads = threads
        self._waiting: list[_Call] = []
        self._changed = threading.Condition()
        self._decoding = threading.Lock()
        self._is_stopped = False
        self._tested: set[object] = set()

    def unet(self, x: Tensor, t: Tensor, context: Tensor, **more: Any) -> Tensor:
        """What the U-Net predicts for one picture, called as a UNet is; returns when all threads have called."""
        more = {name: value for name, value in more.items() if value is not None}
        call = _Call({"x": x, "t": t.expand(x.shape[0]), "context": context, **more})
        with self._changed:
            self._waiting.append(call)
            self._run_if_all_wait()
            self._changed.wait_for(lambda: call.out is not None or call.error or self._is_stopped)
        if call.error is not None:
            raise call.error
        if call.out is None:
            raise Stopped
        return call.out

    def decode(self, z: Tensor) -> Tensor:
        """The VAE's decoder called with these latents."""
        with self._decoding:
            return self._model.vae.decode(z)

    def leave(self) -> None:
        """A thread will call no more."""
        with self._changed:
            self._threads -= 1
            self._run_if_all_wait()

    def stop(self) -> None:
        """Let all threads raise Stopped where they wait."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _run_if_all_wait(self) -> None:
        if not self._waiting or len(self._waiting) < self._threads:
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
        self._changed.notify_all()

    @torch.inference_mode()
    def _run(self, calls: Sequence[_Call]) -> None:
        rows = calls[0].arguments["x"].shape[0]
        if len(calls) == 1:
            calls[0].out = self._predicted(calls[0].arguments)
            return
        joined = {name: torch.cat([call.arguments[name] for call in calls]) for name in calls[0].arguments}
        separate_rows(self._unet, rows)
        try:
            out = self._predicted(joined)
        finally:
            separate_rows(self._unet, 0)
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
    return replace(model, networks=networks, by_engine=calls, facts=calls.facts, encoded={})
