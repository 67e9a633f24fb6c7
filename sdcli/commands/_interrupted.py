"""Interrupted: what Ctrl-C ends a command with. Apart from `_interrupts.py`, which imports nothing of sdcli."""

from __future__ import annotations

from sdcli.errors import SdError


class Interrupted(SdError):
    """Ctrl-C."""

    code = 130
    kind = "interrupted"
