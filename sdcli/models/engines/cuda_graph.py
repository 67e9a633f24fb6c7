from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sdcli.errors import UsageError
from sdcli.models.engine_types import Engine, EngineNetwork, TensorFunction, positional

Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
"""A call on the GPU -> (what does its work again, the tensor in which that leaves its result)."""

WARM_UP = 3
"""Calls before one is captured, in which cuDNN and cuBLAS choose their ways and allocate what they need."""


def cuda_graph() -> Engine:
    """CUDA graphs on a GPU: a network's work is captured once for a size, and then started by one call of the CPU.

    The kernels are those that torch starts one by one, so the picture is the same; small pictures gain most.
    """
    return CudaGraph()


class CudaGraph:
    """Runs networks as graphs that torch captured, one for each combination of shapes."""

    def __init__(self, capture: Capture | None = None) -> None:
        self._capture = capture or captured
        self._loaded: dict[str, nn.Module] = {}  # the graphs of all shapes share the weights

    def versions(self) -> Mapping[str, str]:
        """None but torch's own."""
        return {}

    def check(self, network: EngineNetwork, size: tuple[int, int], folder: Path) -> None:
        """Every size can be captured, on a GPU."""
        if network.placement.device.type != "cuda":
            raise UsageError("--engine cuda_graph runs on a GPU; give --device cuda, or use --engine torch")

    def function(
        self, network: EngineNetwork, arguments: Mapping[str, Tensor], folder: Path
    ) -> TensorFunction:
        """The network for these shapes, captured with copies of the arguments that each call overwrites."""
        if network.name not in self._loaded:
            self._loaded[network.name] = network.load(network.placement.dtype)
        module = positional(network.name, self._loaded[network.name], arguments)
        held = [each.clone() for each in arguments.values()]
        replay, out = self._capture(lambda: module(*held))

        def run(values: list[Tensor]) -> Tensor:
            for place, value in zip(held, values, strict=True):
                place.copy_(value)
            replay()
            return out.clone()

        return run


@torch.inference_mode()
def captured(call: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """Capture a call as a CUDA graph; see https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()
    return graph.replay, out
