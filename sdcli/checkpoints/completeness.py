"""Completeness: that a component's file holds every tensor its network needs, in its shape, and no other.

Decided by headers and configs alone. `sd info`, `sd models`, converting and drawing all ask here, so they agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sdcli.checkpoints import tensor_shapes
from sdcli.checkpoints.component import OPTIONAL, Component, listing
from sdcli.checkpoints.header import FLOATS
from sdcli.checkpoints.tensor_shapes import Shapes
from sdcli.errors import ModelError


def check_components(folder: Path, components: Mapping[str, Component]) -> None:
    """Raise ModelError for a component whose config describes no network, or whose tensors are not that network's.

    `folder` stands for a component that is in no file. The depth network, whose module is the library's, is checked
    when it is built.
    """
    for part, component in components.items():
        if part not in OPTIONAL:
            check_tensors(
                component, tensor_shapes.of_network(part, component.config, component.folder(folder))
            )


def check_tensors(component: Component, needed: Shapes) -> None:
    """Check that every tensor the network needs is there, in its shape, and no other.

    Raises ModelError that names the first three at fault.
    """
    if component.header is None:
        return
    path, stored = component.header.path, component.sources
    missing = [name for name in needed if name not in stored]
    surplus = [name for name in stored if name not in needed]
    for names, fault in ((missing, "missing"), (surplus, "too many")):
        if names:
            raise ModelError(
                f"{path}: {listing(names)} {fault}; it is not the network that its shapes or config say"
            )
    _check_dtypes(component, list(needed))
    _check_shapes(component, needed)


def _check_dtypes(component: Component, names: list[str]) -> None:
    assert component.header is not None
    dtypes = {name: component.header.tensors[component.sources[name].key].dtype for name in names}
    unusable = [name for name in names if dtypes[name] not in FLOATS]
    if unusable:
        raise ModelError(
            f"{component.path(unusable[0])}: {listing(unusable)} stored as {dtypes[unusable[0]]}, "
            "which no network here computes with"
        )


def _check_shapes(component: Component, needed: Shapes) -> None:
    wrong = [name for name, shape in needed.items() if not _same_shape(component.shape(name), shape)]
    if wrong:
        shapes = f"{wrong[0]} is {component.shape(wrong[0])}, not {needed[wrong[0]]}"
        raise ModelError(
            f"{component.path(wrong[0])}: {listing(wrong)} of another shape ({shapes}); config and weights differ"
        )


def _same_shape(stored: list[int], needed: list[int]) -> bool:
    """True for equal shapes, and for a 1x1 convolution in place of a linear layer or the other way round."""
    return stored == needed or stored == [*needed, 1, 1] or [*stored, 1, 1] == needed
