from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdcli import machine
from sdcli.errors import ModelError, UsageError
from sdcli.models.engine_cache import is_whole, kept
from sdcli.models.engine_types import Engine, EngineNetwork, TensorFunction, positional

FORMAT = 2
"""Counted up when networks are compiled in another way, so that those that were kept are compiled anew."""
ROWS = ("x", "context", "pooled", "time_ids", "class_labels", "time_cond")
"""The arguments whose first side is the number of rows, which may be any."""


def compile() -> Engine:
    """torch.compile's code for this CPU, made ahead by `sd models compile`, for one size of picture.

    A package holds the code of one kind of network and no weights: all models of that kind share it.
    """
    return Compiled()


class Compiled:
    """Runs networks that torch's AOTInductor compiled into a package of C++ code."""

    def __init__(self) -> None:
        self._loaded: dict[Path, TensorFunction] = {}  # one takes any number of rows and tokens

    def versions(self) -> Mapping[str, str]:
        """None but torch's own."""
        return {}

    def check(self, network: EngineNetwork, size: tuple[int, int], folder: Path) -> None:
        """Raise UsageError if there is no package for this size."""
        if network.placement.device.type != "cpu":
            raise UsageError("--engine compile runs on a CPU; give --device cpu")
        if not is_whole(folder / _key(network, size)):
            raise UsageError(f"--engine compile: {_not_compiled(network, size)}")

    def function(
        self, network: EngineNetwork, arguments: Mapping[str, Tensor], folder: Path
    ) -> TensorFunction:
        """The network of a package, with the weights of the model."""
        height, width = arguments["x"].shape[-2:]
        package = folder / _key(network, (height, width)) / "network.pt2"
        if package not in self._loaded:
            module = positional(network.name, network.load(network.placement.dtype), arguments)
            self._loaded[package] = _load(package, network, module)
        return self._loaded[package]

    def make(self, network: EngineNetwork, arguments: Mapping[str, Tensor], folder: Path) -> Path:
        """Compile a network for latents of this size, with any number of rows and tokens; returns the package's folder.

        Raises UsageError if there is no C++ compiler.
        """
        require_compiler()
        height, width = arguments["x"].shape[-2:]
        return kept(folder / _key(network, (height, width)), partial(_compile, network, arguments))


def require_compiler() -> None:
    """Raise UsageError if there is no C++ compiler, as torch looks for one."""
    name = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if shutil.which(name) is None:
        raise UsageError(
            f"compiling needs a C++ compiler, and {name} is not installed; install one, or use --engine openvino"
        )


def _key(network: EngineNetwork, size: tuple[int, int]) -> str:
    """What a package depends on, as a name."""
    parts = (network.config_key, network.placement.dtype, machine.cpu_maker(), machine.instructions(), FORMAT)
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()
    return f"{network.name}-{digest[:32]}-{size[0]}x{size[1]}"


def _not_compiled(network: EngineNetwork, size: tuple[int, int]) -> str:
    height, width = (network.factor * side for side in size)
    part, dtype = network.name.replace("_", " "), str(network.placement.dtype).removeprefix("torch.")
    what = f"the {part} of {network.model} is not compiled for {width}x{height} pixels in {dtype} on this CPU"
    return f"{what}; run sd models compile {network.model} --width {width} --height {height} --dtype {dtype}"


def _compile(network: EngineNetwork, arguments: Mapping[str, Tensor], folder: Path) -> None:
    from torch import _inductor as inductor
    from torch.export import export

    module = positional(network.name, network.load(network.placement.dtype), arguments)
    options = {"aot_inductor.package_constants_in_so": False, "cpp.dynamic_threads": True}
    with warnings.catch_warnings(), torch.no_grad(), _failures(network):
        warnings.simplefilter("ignore")  # of torch about its own code
        program = export(module, tuple(arguments.values()), dynamic_shapes=_dynamic(arguments))
        inductor.aoti_compile_and_package(
            program, package_path=str(folder / "network.pt2"), inductor_configs=options
        )


@contextlib.contextmanager
def _failures(network: EngineNetwork) -> Iterator[None]:
    """Turn what torch's exporter and compiler raise into one ModelError."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError) as error:  # the exporter's own assertions too
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"{network.model}: torch cannot compile its {network.name}: {reason}; use --engine torch"
        ) from error


def _dynamic(arguments: Mapping[str, Tensor]) -> dict[str, Any]:
    """Which sides of the arguments may have other lengths: the rows, and the tokens of the context."""
    from torch.export import Dim

    rows, tokens = Dim("rows", min=1, max=1024), Dim.AUTO
    sides: dict[str, Any] = {name: {0: rows} if name in ROWS else None for name in arguments}
    if "context" in sides:
        sides["context"] = {0: rows, 1: tokens}
    shapes = {name: sides[name] for name in list(arguments)[:3]}
    more = tuple(sides[name] for name in list(arguments)[3:])
    return {**shapes, "more": more} if more else shapes


def _load(package: Path, network: EngineNetwork, module: nn.Module) -> TensorFunction:
    from torch import _inductor as inductor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = inductor.aoti_load_package(str(package))
    weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    try:
        needed = compiled.loader.get_constant_fqns()
        compiled.load_constants(
            {name: weights[name] for name in needed}, check_full_update=True, user_managed=True
        )
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"{network.model}: its weights do not fit the compiled {network.name}: {error}; use --engine torch"
        ) from None

    def run(values: list[Tensor]) -> Tensor:
        out: Tensor = compiled(*values)
        return out

    run.weights = weights  # type: ignore[attr-defined]  # they are used where they lie, so they must live on
    return run
