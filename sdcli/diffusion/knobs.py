"""Knobs: the check that a plug's number is one that its formula can take."""

from sdcli.errors import UsageError


def within(knob: str, value: float, low: float, high: float) -> None:
    """Raises UsageError, with the range, for a value outside it; not a number is outside."""
    if not low <= value <= high:
        raise UsageError(
            f"the knob {knob}={value:g} is outside {low:g}...{high:g}; try {knob}={max(low, 1):g}"
        )
