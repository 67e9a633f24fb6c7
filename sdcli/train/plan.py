"""Plan: a training that was checked: its model by the headers alone, its pictures, and where it stands."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdcli.checkpoints import hashes
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.embedding_file import NO_TRIGGERS
from sdcli.errors import UsageError, WriteError
from sdcli.models.cache import ModelCache
from sdcli.notes import tell
from sdcli.request.request import Loading
from sdcli.train import folder, state
from sdcli.train.buckets import Size, buckets, step_of
from sdcli.train.folder import Example
from sdcli.train.settings import EmbeddingTraining, LoraTraining, Training
from sdcli.train.trainable import check_trainable

NOT_RECORDED = ("data", "model", "revision", "out", "steps", "save_every", "sample", "sample_every")
"""Settings that a training which goes on may have changed; what they name is recorded by its content."""


LORA_RATE, TINY_LORA_RATE, EMBEDDING_RATE = 1e-4, 1e-3, 5e-3
"""Learning rates where none is given."""


@dataclass(frozen=True)
class Plan:
    """A training that can begin. `done` is how many steps an earlier run has gone."""

    settings: Training
    loading: Loading
    found: Checkpoint
    examples: Sequence[Example]
    buckets: Sequence[Size]  # of each example
    record: Mapping[str, Any]  # what another run must have in common to go on
    done: int

    @property
    def family(self) -> str:
        """The name of the model's family."""
        return self.found.family.name

    @property
    def state_path(self) -> Path:
        """The file that says where the training stands."""
        return self.settings.folder / state.NAME


def make_plan(settings: Training, models: ModelCache) -> Plan:
    """Check all that can be checked before a network is loaded; no torch is imported.

    Raises UsageError, ModelError, ImageError and WriteError.
    """
    _check_output(settings.path)
    loading = Loading(
        model=settings.model,
        revision=settings.revision,
        vae=settings.vae,
        prediction=settings.prediction,
        ztsnr=settings.ztsnr,
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
    )
    found = models.checkpoint(loading)
    check_trainable(found)
    settings = _filled_in(settings, found)
    if isinstance(settings, EmbeddingTraining):
        _check_word(settings, found)
    assert settings.data is not None and settings.resolution is not None
    examples = folder.read_folder(Path(settings.data))
    in_buckets = folder.in_buckets(examples, buckets(settings.resolution, step_of(settings.resolution)))
    record = _record(settings, found, examples)
    done = state.check_same(settings.folder / state.NAME, record)
    if done > settings.steps:
        raise UsageError(f"--steps {settings.steps}: {settings.folder} has gone {done} already; ask for more")
    if done:
        tell(f"goes on after step {done}, from {settings.folder}")
    return Plan(settings, loading, found, examples, in_buckets, record, done)


def _check_output(path: Path) -> None:
    """Raise UsageError if the file exists, WriteError if it cannot be written."""
    if path.exists():
        raise UsageError(f"{path}: exists, and nothing is overwritten; name another -o")
    existing = next((each for each in path.absolute().parents if each.exists()), path)
    if not existing.is_dir():
        raise WriteError(f"{existing}: is a file, not a folder; choose another place with -o")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise WriteError(f"{existing}: permission denied; choose another folder with -o")


def _filled_in(settings: Training, found: Checkpoint) -> Training:
    """The settings with what the model decides."""
    settings = replace(settings, resolution=settings.resolution or found.size)
    if settings.sample and not settings.sample_every:
        settings = replace(settings, sample_every=max(settings.steps // 4, 1))
    if not isinstance(settings, LoraTraining):
        return replace(settings, lr=EMBEDDING_RATE if settings.lr is None else settings.lr)
    is_tiny = found.family.name == "tiny"
    if settings.lr is None:
        settings = replace(settings, lr=TINY_LORA_RATE if is_tiny else LORA_RATE)
    conv_rank = settings.conv_rank
    if conv_rank is None:  # tiny has transformers only at 16x16 and below: a style is not in them
        conv_rank = settings.rank if is_tiny else 0
    return replace(settings, alpha=settings.alpha or float(settings.rank), conv_rank=conv_rank)


def _check_word(settings: EmbeddingTraining, found: Checkpoint) -> None:
    """Raise UsageError for a word that no prompt could name afterwards."""
    word, stem = str(settings.word), settings.path.stem
    by_name = word.lower() in (stem.lower(), f"<{stem.lower()}>")
    if len(found.tokenizers) > 1 and not by_name:
        raise UsageError(
            f"--word {word}: an embedding for two text encoders is typed by its file's name; name it "
            f"-o {word.strip('<>')}.safetensors"
        )
    if not by_name and ("." in word or word in NO_TRIGGERS):
        raise UsageError(f"--word {word} cannot be told by the file; choose a word such as <{stem}>")


def _record(settings: Training, found: Checkpoint, examples: Sequence[Example]) -> dict[str, Any]:
    """All that decides what is learned, as JSON values."""
    names = [each.name for each in dataclasses.fields(settings) if each.name not in NOT_RECORDED]
    own = {name: getattr(settings, name) for name in names}
    if settings.lr_schedule != "constant":
        own["steps"] = settings.steps
    own["pictures"] = folder.digest(examples)[:16]
    own["model"] = hashes.digest(found.paths)[:16] if found.paths else found.name
    own["kind"] = type(settings).__name__
    found_again: dict[str, Any] = json.loads(json.dumps(own))
    return found_again
