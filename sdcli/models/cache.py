"""ModelCache: the models that are loaded, owned by whoever runs jobs. Imports no torch until a model is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.request.request import Loading

if TYPE_CHECKING:
    from sdcli.models.model import Model


class ModelCache:
    """Keeps the last model loaded, so that pictures by the same model share it; memory never holds two.

    Threads may share a cache: while one uses its model, the others wait.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._loaded: tuple[Loading, Model] | None = None
        self._headers: tuple[Loading, Checkpoint] | None = None  # read, but not loaded yet

    def checkpoint(self, loading: Loading) -> Checkpoint:
        """What the model's files are, by their headers; `use` loads from what was read here, not again.

        Raises ModelError if a file is missing, bad, or of no known family.
        """
        with self._lock:
            if self._headers is None or self._headers[0] != loading:
                self._headers = (loading, checkpoint.read_for(loading))
            return self._headers[1]

    @contextmanager
    def use(self, loading: Loading) -> Iterator[Model]:
        """The model, loaded if it is not yet, for this thread alone while inside.

        Raises ModelError as `checkpoint` does, and OutOfMemory if the model does not fit into memory.
        """
        with self._lock:
            if self._loaded is None or self._loaded[0] != loading:
                from sdcli.models.load import load_model

                found = self.checkpoint(loading)
                self._headers = None  # used once, so that a file that changes later is read anew
                self.unload()  # first, so that memory never holds two
                self._loaded = (loading, load_model(found, loading))
            yield self._loaded[1]

    def has(self, loading: Loading) -> bool:
        """True if the model is loaded."""
        with self._lock:
            return self._loaded is not None and self._loaded[0] == loading

    def unload(self) -> None:
        """Drop the loaded model and return its memory to the system."""
        with self._lock:
            if self._loaded is not None:
                from sdcli.models.memory import return_memory

                self._loaded = None
                return_memory()
