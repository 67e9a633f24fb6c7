from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdcli.errors import ModelError, UsageError
from sdcli.models.engine_cache import kept
from sdcli.models.engine_types import Engine, EngineNetwork, TensorFunction, positional

FORMAT = 1
"""Counted up when networks are converted in another way, so that those that were kept are converted anew."""


def openvino(*, int8: bool = False) -> Engine:
    """OpenVINO on a CPU: converts the networks once and keeps them; the picture differs by rounding.

    Options: int8 stores the weights of the U-Net in 8 bits, which takes a quarter of the memory and changes pictures.
    """
    return OpenVINO(int8)


class OpenVINO:
    """Runs networks that OpenVINO converted from torch modules."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8

    def versions(self) -> Mapping[str, str]:
        """Those of openvino, and of nncf for 8 bits."""
        packages = ("openvino", "nncf") if self.int8 else ("openvino",)
        for package in packages:
            found = importlib.util.find_spec(package)
            if (
                found is None or found.origin is None
            ):  # a folder of that name in the current one is no package
                option = "openvino:int8=true" if self.int8 else "openvino"
                raise UsageError(
                    f"--engine {option}: {package} is not installed; pip install 'sdcli[openvino]'"
                )
        return {package: version(package) for package in packages}

    def check(self, network: EngineNetwork, size: tuple[int, int], folder: Path) -> None:
        """Every size can be run on a CPU."""
        if network.placement.device.type != "cpu":
            raise UsageError("--engine openvino runs on a CPU; give --device cpu")

    def function(
        self, network: EngineNetwork, arguments: Mapping[str, Tensor], folder: Path
    ) -> TensorFunction:
        """The network for these shapes; it is converted first if it was not yet."""
        place = folder / self._key(network, arguments)
        path = kept(place, partial(self._convert, network, arguments)) / "network.xml"
        return _compiled(path, network, arguments)

    def _key(self, network: EngineNetwork, arguments: Mapping[str, Tensor]) -> str:
        """What a converted network depends on, as a name: it takes any number of rows and tokens."""
        height, width = arguments["x"].shape[-2:]
        is_any = height % network.multiple == width % network.multiple == 0
        versions = "-".join(self.versions().values())
        weights = "int8" if self._compresses(network) else "float32"
        size = "any" if is_any else f"{height}x{width}"
        names = "-".join(tuple(arguments)[3:])
        key = network.weights_key()[:32]
        return "-".join(filter(None, (network.name, key, size, weights, versions, str(FORMAT), names)))

    def _compresses(self, network: EngineNetwork) -> bool:
        return self.int8 and network.name == "unet"

    def _convert(self, network: EngineNetwork, arguments: Mapping[str, Tensor], folder: Path) -> None:
        import openvino as ov

        module = positional(network.name, network.load(torch.float32), arguments)
        examples = tuple(each.float() if each.is_floating_point() else each for each in arguments.values())
        with warnings.catch_warnings(), torch.inference_mode(), _failures(network, "convert"):
            warnings.simplefilter("ignore")  # of the tracer: which path is taken is part of the key
            converted = ov.convert_model(module, example_input=examples)
            if self._compresses(network):
                converted = _in_8_bits(converted)
        ov.save_model(converted, str(folder / "network.xml"), compress_to_fp16=False)


@contextlib.contextmanager
def _failures(network: EngineNetwork, doing: str) -> Iterator[None]:
    """Turn what OpenVINO raises into one ModelError that says what it cannot do, such as `convert`."""
    from openvino.frontend import GeneralFailure, OpConversionFailure, OpValidationFailure

    try:
        yield
    except (RuntimeError, GeneralFailure, OpConversionFailure, OpValidationFailure) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        part = network.name.replace("_", " ")
        raise ModelError(
            f"{network.model}: OpenVINO cannot {doing} its {part}: {reason}; use --engine torch"
        ) from error


def _in_8_bits(network: Any) -> Any:
    """The network with the weights of its matrices in 8 bits, one scale for each row."""
    import nncf

    return nncf.compress_weights(network)


def _sides(shape: torch.Size) -> list[int]:
    """The sides of an argument, with any number of rows: OpenVINO 2026.4 crashes on `tiny` if it is fixed."""
    return [-1, *shape[1:]] if shape else []


def _compiled(path: Path, network: EngineNetwork, arguments: Mapping[str, Tensor]) -> TensorFunction:
    import openvino as ov

    dtype = network.placement.dtype
    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    with _failures(network, "run"):
        read = core.read_model(str(path))
        read.reshape({i: _sides(each.shape) for i, each in enumerate(arguments.values())})
        compiled = core.compile_model(read, "CPU", settings)
    request = compiled.create_infer_request()

    def run(values: list[Tensor]) -> Tensor:
        arrays = [
            (each.float() if each.is_floating_point() else each).contiguous().numpy() for each in values
        ]
        out = request.infer(arrays)[0]
        return torch.from_numpy(out.copy()).to(dtype)

    return run
