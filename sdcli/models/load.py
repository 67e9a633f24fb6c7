"""Load: a checkpoint becomes a Model. Its headers are read already; here every tensor is checked and loaded."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.checkpoints import checkpoint, network_config
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.completeness import check_tensors
from sdcli.checkpoints.component import OPTIONAL, Component
from sdcli.checkpoints.hashes import digest
from sdcli.models import build, library, memory
from sdcli.models.architectures.packed import pack
from sdcli.models.control import ControlNetworks
from sdcli.models.device import Placement, choose_device
from sdcli.models.engine_networks import PARTS, engine_networks
from sdcli.models.memory import keep_memory, keep_no_memory, memory_errors
from sdcli.models.model import Model
from sdcli.models.offload import WORKING_MEMORY, offloaded
from sdcli.models.tensors import read_tensor
from sdcli.models.weights import load_layers, load_weights
from sdcli.request.request import Loading


def load(model: str = "tiny", device: str = "auto", dtype: str = "auto", **more: Any) -> Model:
    """The model of this name, as `-m` takes it; the further arguments are the fields of `Loading`.

    Raises ModelError if a file is missing, bad, or of no known family, and OutOfMemory if it does not fit.
    """
    loading = Loading(model=model, device=device, dtype=dtype, **more)
    return load_model(checkpoint.read_for(loading), loading)


def load_model(found: Checkpoint, loading: Loading) -> Model:
    """The model of a checkpoint whose headers are read; raises ModelError and OutOfMemory as `load` does."""
    by_library = loading.networks == "diffusers"
    with memory_errors("loading the model"), ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(digest, found.paths)  # in a thread, beside the imports
        modules = {
            part: _empty_network(found, part, by_library) for part in found.components if part not in OPTIONAL
        }
        placement = choose_device(loading.device, loading.dtype, _parameters(modules), loading.threads)
        by_engine = engine_networks(found, loading.engine, placement, partial(load_own_network, found))
        networks = offloaded(
            found.name,
            modules,
            partial(_fill, found, loading.store, placement),
            placement,
            lambda part, names: read_weights(part, names, found.components[part]),
            PARTS if by_engine else (),
            loading.store,
            loading.stream,
        )
        if placement.device.type == "cpu" and networks.how == "all at once":
            keep_memory()
            if by_engine is None and _has_room_to_pack(modules["unet"], placement):
                pack(modules["unet"])
        elif placement.device.type == "cpu" and networks.streams:
            keep_no_memory()
        facts = {"model": {"family": found.family.name, "sha256": hashing.result()}, **placement.facts}
        facts |= by_engine.engine.versions() if by_engine else {}
    return Model(
        name=found.name,
        family=found.family,
        networks=networks,
        configs={part: network_config.settings(part, found.components[part].config) for part in modules},
        tokenizers=found.tokenizers,
        levels=found.levels,
        threshold=found.threshold,
        prediction=found.prediction,
        size=found.size,
        placement=placement,
        control_networks=ControlNetworks(placement),
        by_engine=by_engine,
        facts=facts | _library_versions(found, by_library),
        load_depth_network=(
            _load_later(found, "depth_estimator", placement)
            if "depth_estimator" in found.components
            else None
        ),
    )


def _has_room_to_pack(unet: nn.Module, placement: Placement) -> bool:
    needed = sum(p.numel() for p in unet.parameters()) * placement.dtype.itemsize
    return placement.dtype == torch.bfloat16 and memory.free(placement.device) > needed + WORKING_MEMORY


def _fill(
    found: Checkpoint, store: str, placement: Placement, part: str, module: nn.Module, streams: bool
) -> nn.Module:
    component = found.components[part]
    if streams or store != "auto":
        return load_layers(part, module, component, placement, store, streams)
    return load_weights(part, module, component, placement)


def _library_versions(found: Checkpoint, by_library: bool) -> dict[str, str]:
    """The versions of the libraries whose networks may have a part in a picture; ours depend on torch alone."""
    if by_library:
        return library.versions("diffusers", "transformers")
    return library.versions("transformers") if "depth_estimator" in found.components else {}


def load_network(found: Checkpoint, part: str, device: str = "auto") -> nn.Module:
    """One network of a checkpoint, in float32, and no other."""
    return _load_later(found, part, choose_device(device, "float32", 0))()


def _empty_network(found: Checkpoint, part: str, by_library: bool = False) -> nn.Module:
    """A network of the checkpoint on the meta device, with its tensors checked against the headers."""
    component = found.components[part]
    module = build.build_on_meta(part, component.config, component.folder(found.path), by_library)
    check_tensors(component, {name: list(tensor.shape) for name, tensor in module.state_dict().items()})
    return module


def parameters(found: Checkpoint) -> int:
    """How many weights the headers of a checkpoint list; 0 for a test model, which has none."""
    components = [each for part, each in found.components.items() if part not in OPTIONAL and each.header]
    return sum(math.prod(each.shape(name)) for each in components for name in each.sources)


def _parameters(modules: dict[str, nn.Module]) -> int:
    return sum(p.numel() for module in modules.values() for p in module.parameters())


def _load_later(found: Checkpoint, part: str, placement: Placement) -> Callable[[], nn.Module]:
    """A function that loads a network in float32 when it is first called; its tensors are checked now."""
    module = _empty_network(found, part)
    placement = Placement(placement.device, torch.float32)
    return functools.cache(partial(load_weights, part, module, found.components[part], placement))


def load_own_network(found: Checkpoint, part: str, placement: Placement) -> nn.Module:
    """A network of its own, which no other part of the program holds."""
    return load_weights(part, _empty_network(found, part), found.components[part], placement)


def read_weights(part: str, names: Collection[str], component: Component) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a network by their names in it, as its file stores them, or a test model's random ones."""
    random = build.build_random(part, component.config).state_dict() if component.header is None else {}
    for name in names:
        yield name, random[name] if component.header is None else read_tensor(component, name)
