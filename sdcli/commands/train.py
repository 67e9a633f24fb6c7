from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import click

from sdcli.commands._help import UncutGroup
from sdcli.commands._options import options_of_class, with_settings
from sdcli.train.settings import EmbeddingTraining, LoraTraining, Training

T = TypeVar("T", bound=Training)

FROM_USER_SETTINGS = ("model", "device", "threads")
"""What the user's settings fill in; those of pictures, such as steps, mean other things here."""


@click.group(cls=UncutGroup)
def train() -> None:
    """Teach a style or a thing from a folder of pictures."""


@train.command()
@options_of_class(LoraTraining)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress on standard error.")
def lora(as_json: bool, quiet: bool, **values: Any) -> None:
    """Train a LoRA, for use with --lora: sd train lora --data pictures -o style.safetensors.

    The U-Net is adapted; the text encoders stay as they are. A training that was broken off goes on when the same
    command is given again. Prints the path of the file; nothing is ever overwritten.
    """
    _train(_settings(LoraTraining, values), as_json, quiet)


@train.command()
@options_of_class(EmbeddingTraining)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress on standard error.")
def embedding(as_json: bool, quiet: bool, **values: Any) -> None:
    """Train a word, for use with --embedding: sd train embedding --data pictures --word "<mine>" -o mine.safetensors.

    The word's vectors are learned (textual inversion); the model stays as it is. A caption that does not name the word
    gets it in front; without a caption, the picture is of the word alone. Goes on like sd train lora.
    """
    _train(_settings(EmbeddingTraining, values), as_json, quiet)


def _settings(kind: type[T], values: dict[str, Any]) -> T:
    """The settings that were typed, and the user's own where they were not; raises UsageError."""
    typed = {name: value for name, value in values.items() if value not in (None, ())}
    own = [name for name in FROM_USER_SETTINGS if name in {each.name for each in dataclasses.fields(kind)}]
    return kind(**with_settings(typed, own))


def _train(settings: Training, as_json: bool, quiet: bool) -> None:
    from sdcli.commands._train import train_and_report

    train_and_report(settings, as_json, quiet)
