"""Load: a model's name -> Model. Headers were read first; here come the weights, each tensor accounted for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.component import Component, listing
from sdcli.checkpoints.hashes import digest
from sdcli.checkpoints.keys.ldm import OPTIONAL
from sdcli.diffusion.levels import SD_BETAS, TIMESTEPS, Levels
from sdcli.errors import ModelError
from sdcli.models import classes, device
from sdcli.models.device import choose_device, keep_memory, return_memory
from sdcli.models.model import Model
from sdcli.models.offload import shelf

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
MOST = 100_000  # noise levels that a network may have been trained on
WINDOW = 256 * 2**20  # bytes read through one mapping of a file before its pages are given back


_kept: dict[tuple[str | None, ...], Model] = {}


def load(
    name: str = "tiny",
    device: str = "auto",
    dtype: str = "auto",
    prediction: str = "auto",
    vae: str | None = None,
    revision: str | None = None,
) -> Model:
    """The model of this name, as `checkpoint.find` understands it, with another VAE if one is named.

    The last one stays loaded. Raises ModelError if a file is missing, bad, or of a family that is not known, and
    OutOfMemory if it does not fit.
    """
    asked = (name, device, dtype, prediction, vae, revision)
    if asked not in _kept:
        unload()  # first, so that memory never holds two
        _kept[asked] = _loaded(checkpoint.read(name, prediction, vae, revision), device, dtype)
    return _kept[asked]


def unload() -> None:
    """Give back the memory of the model that stays loaded."""
    if _kept:
        _kept.clear()
        return_memory()


def _loaded(found: Checkpoint, device: str, dtype: str) -> Model:
    with ThreadPoolExecutor(1) as pool:  # hashing leaves the interpreter free, so it hides behind the imports
        hashed = pool.submit(digest, found.paths)
        nets = {
            part: classes.build_on_meta(part, net.config, _where(found, part))
            for part, net in found.networks.items()
            if part not in OPTIONAL
        }
        for part, net in nets.items():
            check_tensors(found.networks[part], net)
        where = choose_device(
            device, dtype, sum(p.numel() for net in nets.values() for p in net.parameters())
        )
        filled = shelf(
            found.name, nets, lambda part, net: load_weights(part, net, found.networks[part], where), where
        )
        if where.device.type == "cpu" and not filled.alone:
            keep_memory()
        facts = {"model": {"family": found.family.name, "sha256": hashed.result()}, **where.facts}
    return Model(
        name=found.name,
        family=found.family,
        nets=filled,
        levels=_levels(found),
        prediction=found.prediction,
        size=found.size,
        placement=where,
        facts={**facts, **classes.versions()},
        depth=_later(found, "depth_estimator", where) if "depth_estimator" in found.networks else None,
    )


def alone(found: Checkpoint, part: str, device: str = "auto") -> nn.Module:
    """One network of a checkpoint, in float32, and no other."""
    net: nn.Module = _later(found, part, choose_device(device, "float32", 0))()
    return net


def _where(found: Checkpoint, part: str) -> str:
    """The folder with a network's config."""
    head = found.networks[part].header
    return str(found.path if head is None else head.path.parent)


def _later(found: Checkpoint, part: str, where: device.Placement) -> Callable[[], nn.Module]:
    """What loads a network, once and in float32, when it is asked to; its tensors are accounted for here and now."""
    network = found.networks[part]
    net = classes.build_on_meta(part, network.config, _where(found, part))
    if network.header is not None:
        check_tensors(network, net)
    return functools.cache(
        partial(load_weights, part, net, network, device.Placement(where.device, torch.float32))
    )


def load_weights(part: str, net: nn.Module, network: Component, where: device.Placement) -> nn.Module:
    """Give the network `part`, on the meta device, its weights: those of its file, or a test model's random ones.

    Raises ModelError if the file cannot be read or holds a number that is not finite.
    """
    weights = _seeded(part, network, where) if network.header is None else _stored(net, network, where)
    net.load_state_dict(weights, assign=True)
    classes.restore_buffers(net)
    return net.eval().requires_grad_(False).to(where.device)


def _stored(net: nn.Module, network: Component, where: device.Placement) -> dict[str, Tensor]:
    assert network.header is not None
    prefix = classes.prefix(net)
    need = _need(net)
    weights, bad = {}, []
    for name, tensor in tensors(network):
        tensor = tensor.reshape(need[name].shape)
        tensor = tensor.to(where.device, where.dtype, copy=True, memory_format=_layout(tensor))
        if not finite(tensor):
            bad.append(name)
        weights[classes.own_name(name, prefix)] = tensor
    if bad:
        reason = f"the file is damaged, or {where.dtype} too narrow for it"
        raise ModelError(f"{network.path(bad[0])}: {listing(bad)} not finite; {reason}")
    return weights


def finite(tensor: Tensor) -> bool:
    """Whether all its numbers are. Their sum tells so in a tenth of the time; it can but be too large itself."""
    tensor = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # torch does not add up 8-bit floats
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _seeded(part: str, network: Component, where: device.Placement) -> dict[str, Tensor]:
    made = classes.build_random(part, network.config).state_dict()
    return {
        name: tensor.to(where.device, where.dtype, memory_format=_layout(tensor))
        for name, tensor in made.items()
    }


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.preserve_format


def _need(net: nn.Module) -> dict[str, Tensor]:
    """What the network needs, by the names of a folder."""
    prefix = classes.prefix(net)
    return {name.removeprefix(prefix): tensor for name, tensor in net.state_dict().items()}


def tensors(network: Component) -> Iterator[tuple[str, Tensor]]:
    """A network's tensors by their names in it, as they are stored, in the order of the files.

    They come through mappings that are closed in time, for a file's mapped pages count as memory used.
    """
    head = network.header
    assert head is not None
    places = {name: head.tensors[source.key] for name, source in network.sources.items()}
    todo = sorted(places, key=lambda name: (places[name].path, places[name].start))
    while todo:
        first = places[todo[0]]
        now = [
            name
            for name in todo
            if places[name].path == first.path and places[name].start < first.start + WINDOW
        ]
        todo = todo[len(now) :]
        try:
            with safe_open(first.path, framework="pt") as file:
                for name in now:
                    yield name, _taken(file.get_tensor(places[name].name), network.sources[name].take)
        except (SafetensorError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{first.path}: cannot be read ({reason}); fetch it again") from None


def tensor(network: Component, name: str) -> Tensor:
    """One of a network's tensors, as it is stored; read, not mapped, so that it costs its own size and no more."""
    assert network.header is not None
    source = network.sources[name]
    entry = network.header.tensors[source.key]
    with open(entry.path, "rb") as file:
        file.seek(entry.start)
        data = bytearray(file.read(entry.end - entry.start))
    whole = (
        torch.frombuffer(data, dtype=DTYPES[entry.dtype])
        if data
        else torch.empty(0, dtype=DTYPES[entry.dtype])
    )
    return _taken(whole.reshape(entry.shape), source.take)


def _taken(tensor: Tensor, take: str) -> Tensor:
    if take == "all":
        return tensor
    return tensor.T if take == "transpose" else tensor.chunk(3)[int(take[-1])]


def check_tensors(network: Component, net: nn.Module) -> None:
    """Check by the header alone that every tensor the network needs is there, of its shape, and no other is."""
    if network.header is None:
        return
    path, have, need = network.header.path, network.sources, _need(net)
    missing = [name for name in need if name not in have]
    surplus = [name for name in have if name not in need]
    if missing:
        raise ModelError(
            f"{path}: {listing(missing)} missing; it is not the network that its shapes or config say"
        )
    if surplus:
        raise ModelError(
            f"{path}: {listing(surplus)} too many; it is not the network that its shapes or config say"
        )
    entries = network.header.tensors
    whole = [name for name in need if entries[have[name].key].dtype not in DTYPES]
    if whole:
        kind = entries[have[whole[0]].key].dtype
        raise ModelError(
            f"{network.path(whole[0])}: {listing(whole)} stored as {kind}, which no network here computes with"
        )
    misshapen = [name for name, tensor in need.items() if not _fits(network.shape(name), list(tensor.shape))]
    if misshapen:
        name = misshapen[0]
        shapes = f"{name} is {network.shape(name)}, not {list(need[name].shape)}"
        raise ModelError(
            f"{network.path(name)}: {listing(misshapen)} of another shape ({shapes}); config and weights differ"
        )


def _fits(have: list[int], need: list[int]) -> bool:
    """Equal, but for a 1x1 convolution where a linear layer is wanted, or the other way round."""
    return have == need or have == [*need, 1, 1] or [*have, 1, 1] == need


def _levels(found: Checkpoint) -> Levels:
    kinds: dict[Any, Any] = {"scaled_linear": Levels.scaled_linear, "linear": Levels.linear}
    config = found.schedule
    kind = config.get("beta_schedule", "scaled_linear")
    try:
        start, end = config.get("beta_start", SD_BETAS[0]), config.get("beta_end", SD_BETAS[1])
        start, end = float(start), float(end)
        count = int(config.get("num_train_timesteps", TIMESTEPS))
        levels: Levels = kinds[kind](start, end, min(count, MOST))
        levels = levels.rescaled() if config.get("rescale_betas_zero_snr") else levels
        if not 0 < count <= MOST or not all(0 < a < b < math.inf for a, b in pairwise(levels.table)):
            raise ValueError
        return levels
    except (LookupError, TypeError, ValueError, ArithmeticError):
        raise ModelError(
            f"{found.name}: scheduler_config.json describes no noise levels known here ({kind})"
        ) from None
