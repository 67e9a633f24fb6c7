"""Stable Diffusion for the terminal, and as a library: `from sdcli import Request, generate`.

`import sdcli` imports nothing heavy: each public name is imported when it is first used.
"""

import importlib

TYPE_CHECKING = False  # as in typing, which takes time to import

__version__ = "0.1.0"
__all__ = ["ModelCache", "Picture", "Request", "SdError", "generate", "load", "save"]

if TYPE_CHECKING:
    from sdcli.engine import generate
    from sdcli.errors import SdError
    from sdcli.models.cache import ModelCache
    from sdcli.models.load import load
    from sdcli.request.picture import Picture
    from sdcli.request.request import Request
    from sdcli.store import save
else:  # hidden from type checkers, for which a module with __getattr__ has every attribute
    _MODULES = {
        "ModelCache": "sdcli.models.cache",
        "Picture": "sdcli.request.picture",
        "Request": "sdcli.request.request",
        "SdError": "sdcli.errors",
        "generate": "sdcli.engine",
        "load": "sdcli.models.load",
        "save": "sdcli.store",
    }

    def __getattr__(name):
        """Import a public name from its module on first use (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module 'sdcli' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)
