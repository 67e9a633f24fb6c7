"""The range check for the options of samplers, schedules and guidance."""

from sdcli.errors import UsageError


def check_range(option: str, value: float, low: float, high: float) -> None:
    """Raise UsageError, with the range, unless low <= value <= high. NaN is outside every range."""
    if not low <= value <= high:
        raise UsageError(
            f"the option {option}={value:g} is outside {low:g}...{high:g}; try {option}={max(low, 1):g}"
        )
