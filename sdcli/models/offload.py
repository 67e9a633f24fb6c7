"""Offload: a model's networks, loaded when they are used; one at a time where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import Tensor, nn

from sdcli.errors import OutOfMemory
from sdcli.models import layers, memory
from sdcli.models.device import Placement

WORKING_MEMORY = 2 * 2**30
"""Bytes that a step or a decode at 512x512 takes besides the weights of a large network."""

LEAST_WORKING_MEMORY = 2**30
"""Bytes beside a large network without which its layers are streamed."""

LoadWeights = Callable[[str, nn.Module, bool], object]
"""(part, network on the meta device, streams) fills the network with its weights, in place, or layer by layer."""

ReadWeights = Callable[[str, Collection[str]], Iterator[tuple[str, Tensor]]]
"""(part, names of tensors) -> each of them, as the part's file stores it, in whatever dtype."""

Adapter = Callable[[str, nn.Module], AbstractContextManager[object]]
"""(part, loaded network) -> a context manager that alters the network while inside, and restores it bit for bit."""


class Networks(Mapping[str, nn.Module]):
    """Networks by the name of their part (unet, vae, text_encoder, …); `networks["unet"]` loads it if it is empty.

    An empty network is on the meta device: it has shapes but no memory. If `one_at_a_time`, loading one empties all
    others; if `streams`, their large layers hold weights only while they run. `adapted` alters networks for a while:
    each adapter is entered again whenever a network is loaded again.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        load_weights: LoadWeights,
        one_at_a_time: bool,
        read_weights: ReadWeights | None = None,
        streams: bool = False,
    ) -> None:
        self.streams = streams
        self.modules = modules  # loaded or empty
        self._read_weights = read_weights
        self.one_at_a_time = one_at_a_time
        self._load_weights = load_weights
        self._adapters: Sequence[Adapter] = ()
        self._entered: dict[str, ExitStack] = {}  # the adapters that each loaded network is in

    def __getitem__(self, part: str) -> nn.Module:
        module = self.modules[part]
        if _is_empty(module):
            if self.one_at_a_time:
                self._empty_all()
            self._load_weights(part, module, self.streams)
            self._enter(part)
        return module

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)

    def stored(self, part: str, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Tensors of a part as its file stores them, for an adapter that changes weights and puts them back."""
        if self._read_weights is None:
            raise RuntimeError("these networks cannot read their weights again")
        return self._read_weights(part, names)

    @property
    def how(self) -> str:
        """How many of them are in memory, as a user reads it."""
        if self.streams:
            return "layer by layer"
        return "one at a time" if self.one_at_a_time else "all at once"

    @contextmanager
    def adapted(self, adapters: Sequence[Adapter]) -> Iterator[None]:
        """While inside, every network is altered by these adapters, in their order."""
        if self._adapters:
            raise RuntimeError("these networks are adapted already; leave that context first")
        self._adapters = tuple(adapters)
        try:
            for part, module in self.modules.items():
                if not _is_empty(module):
                    self._enter(part)
            yield
        finally:
            self._adapters = ()
            self._leave_all()

    def _enter(self, part: str) -> None:
        with ExitStack() as stack:
            for adapter in self._adapters:
                stack.enter_context(adapter(part, self.modules[part]))
            self._entered[part] = stack.pop_all()

    def _empty_all(self) -> None:
        self._leave_all()
        for module in self.modules.values():
            if (weights := layers.of(module)) is not None:
                weights.remove()
            module.to("meta")

    def _leave_all(self) -> None:
        with ExitStack() as stack:
            for entered in self._entered.values():
                stack.push(entered)
            self._entered = {}


def offloaded(
    name: str,
    modules: Mapping[str, nn.Module],
    load_weights: LoadWeights,
    placement: Placement,
    read_weights: ReadWeights | None = None,
    later: Collection[str] = (),
    store: str = "auto",
    stream: bool = False,
) -> Networks:
    """The networks of a model, from empty ones: loaded now if the free memory holds them all, else one at a time.

    Those of the parts in `later` are loaded only if they are used. If it does not hold the largest of them, or if
    `stream` asks for it, weights are read layer by layer. Raises OutOfMemory if the memory does not hold the largest
    layer.
    """
    sizes = {part: _size(part, module, placement, store) for part, module in modules.items()}
    needed, largest, free = sum(sizes.values()), max(sizes.values()), memory.free(placement.device)
    streams = stream or free < largest + min(largest // 4, LEAST_WORKING_MEMORY)
    if streams:
        _check_layers(name, modules, sizes, free, placement)
    one_at_a_time = not streams and free < needed + min(needed, WORKING_MEMORY)
    networks = Networks(modules, load_weights, one_at_a_time, read_weights, streams)
    if not networks.one_at_a_time:
        for part in networks:
            if part not in later:
                networks[part]
    return networks


def _check_layers(
    name: str, modules: Mapping[str, nn.Module], sizes: Mapping[str, int], free: float, placement: Placement
) -> None:
    """Raise OutOfMemory if a layer and its result do not fit, however the weights are loaded."""
    layer = max(_parameters(each) for module in modules.values() for _, each in layers.large_layers(module))
    layer *= placement.dtype.itemsize
    if 2 * layer <= free + (memory.swap() if placement.device.type == "cpu" else 0):
        return
    part, largest = max(sizes.items(), key=lambda item: item[1])
    what = (
        f"its {part.replace('_', ' ')} takes {largest / 1e9:.1f} GB of memory, or {2 * layer / 1e9:.1f} GB with "
        f"--stream, {free / 1e9:.1f} GB are free"
    )
    advice = "--dtype bfloat16 takes half" if placement.dtype == torch.float32 else "choose a smaller model"
    raise OutOfMemory(f"{name}: {what}; {advice}")


def _size(part: str, module: nn.Module, placement: Placement, store: str) -> int:
    """Bytes of a network's weights as they are kept."""
    if store == "auto":
        return _parameters(module) * placement.dtype.itemsize
    narrow = 1 if store == "fp8" and part != "vae" else 2
    return sum(p.numel() * (narrow if p.dim() > 1 else placement.dtype.itemsize) for p in module.parameters())


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _is_empty(module: nn.Module) -> bool:
    return layers.of(module) is None and any(p.is_meta for p in module.parameters())
