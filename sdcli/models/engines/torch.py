from __future__ import annotations


def torch() -> None:
    """torch, step by step: the reference of all engines, and the default.

    Every option works with it. It needs no conversion, so it has nothing to give in place of a network.
    """
    return None
