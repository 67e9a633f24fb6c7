"""Options: the check that a plugin's number is one that its formula can take."""

from sdcli.errors import UsageError


def check_range(option: str, value: float, low: float, high: float) -> None:
    """Raises UsageError, with the range, for a value outside it; not a number is outside."""
    if not low <= value <= high:
        raise UsageError(
            f"the option {option}={value:g} is outside {low:g}...{high:g}; try {option}={max(low, 1):g}"
        )
