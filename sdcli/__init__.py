"""Stable Diffusion for the terminal, as a library: `from sdcli import Request, generate`.

Importing this package imports nothing heavy; the names below arrive when they are first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Picture", "Request", "SdError", "generate", "load", "save"]

_HOMES = {
    "Picture": "sdcli.request.picture",
    "Request": "sdcli.request.request",
    "SdError": "sdcli.errors",
    "generate": "sdcli.engine",
    "load": "sdcli.models.load",
    "save": "sdcli.store",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sdcli' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
