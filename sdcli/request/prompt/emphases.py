"""Emphases: the ways in which the weights of a prompt act, by name."""

from __future__ import annotations

EMPHASES = ("none", "a1111", "no_norm", "comfyui", "compel")
"""What `--emphasis` may say: how weights act on the text encoder's output, and so the language they are typed in."""

EMPHASIS_OF = {"a1111": "a1111", "comfyui": "comfyui", "diffusers": "none", "compvis": "none"}
"""The emphasis of each tool of `--like`; our own is that of the model's family."""
