"""Known answers of words.json: what A1111, ComfyUI, compel and dynamicprompts themselves read in a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import pytest

ANSWERS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))


def answers(section: str, name: str = "prompt"):
    """The answers of a section as a test's parameters, each called by the prompt that was read."""
    return [pytest.param(known, id=repr(known[name])[:50]) for known in ANSWERS[section]]


def run_lengths(values: Iterable[object]) -> list[list[object]]:
    """Each value with how often it comes in a row: a a b -> [[a, 2], [b, 1]]."""
    return [[value, len(list(group))] for value, group in groupby(values)]
