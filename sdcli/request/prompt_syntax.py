"""Prompt syntax: what in a prompt other tools read as more than words, and is read as plain words here."""

from __future__ import annotations

import re

_SHOWN = 40  # characters of one find
_SYNTAX = re.compile(
    r"""
      <\w+:[^<>\n]*>                 # <lora:name:0.8>, <hypernet:name>: networks, A1111
    | \bembedding:[\w./\\-]+         # a textual inversion, ComfyUI
    | \bBREAK\b | \bAND\b            # chunks and composed prompts, A1111
    | \\[()\[\]{}]                   # escaped brackets
    | \([^()\n]*\)(?:[+-]+|\d+(?:\.\d+)?)?   # (word:1.3), (word)++: weights
    | \[[^\[\]\n]*\]                 # [word], [a:b:0.5], [a|b]: less weight, scheduled and alternating words
    | \{[^{}\n]*\}                   # {a|b}: one at random; {word}: weight in NovelAI
    | __[\w*/-]+__                   # a wildcard file
    | (?<![\w+])[A-Za-z]{2,}\+{1,3}(?=[\s,.]|$)   # word++: weight in InvokeAI
    """,
    re.VERBOSE,
)


def syntax_in(*prompts: str) -> list[str]:
    """Each piece of other tools' prompt syntax in the prompts, once, in the order of appearance."""
    found = (match[0] for prompt in prompts for match in _SYNTAX.finditer(prompt))
    return list(dict.fromkeys(each if len(each) <= _SHOWN else f"{each[:_SHOWN]}…" for each in found))
