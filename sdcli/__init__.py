"""Stable Diffusion for the terminal, and as a library.

    from sdcli import Request, generate

    result = generate(Request("a red apple", seed=7))
    print(result.save("apple.png"))

`generate` draws what a Request asks for; `help(Request)` lists its fields, which are the options of the command line.
A `ModelCache` keeps the model loaded from picture to picture. Every failure that a program can expect is an SdError
of one of its kinds. `import sdcli` imports nothing heavy: each name is imported when it is first used.
"""

import importlib

TYPE_CHECKING = False  # as in typing, which takes time to import

__version__ = "0.1.0"
__all__ = [
    "ImageError",
    "ModelCache",
    "ModelError",
    "NotFinite",
    "OutOfMemory",
    "Picture",
    "Request",
    "Result",
    "SdError",
    "Step",
    "UsageError",
    "WriteError",
    "generate",
    "load",
    "save",
]

if TYPE_CHECKING:
    from sdcli.engine import generate
    from sdcli.errors import ImageError, ModelError, NotFinite, OutOfMemory, SdError, UsageError, WriteError
    from sdcli.models.cache import ModelCache
    from sdcli.models.load import load
    from sdcli.request.picture import Picture
    from sdcli.request.request import Request
    from sdcli.result import Result, Step
    from sdcli.store import save
else:  # hidden from type checkers, for which a module with __getattr__ has every attribute
    _MODULES = {
        "generate": "sdcli.engine",
        "load": "sdcli.models.load",
        "ModelCache": "sdcli.models.cache",
        "Picture": "sdcli.request.picture",
        "Request": "sdcli.request.request",
        "Result": "sdcli.result",
        "save": "sdcli.store",
        "Step": "sdcli.result",
    }

    def __getattr__(name):
        """Import a public name from its module on first use (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'sdcli' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES.get(name, "sdcli.errors")), name)

    def __dir__():
        """The public names too, though most are not imported yet."""
        return sorted({*globals(), *__all__})
