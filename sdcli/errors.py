"""Errors that a user can cause or meet. Each message is one line: the thing, the reason, a next step."""


class SdError(Exception):
    """An expected failure. `code` is the exit code of `sd`, and `kind` the word for it that never changes."""

    code = 1
    kind = "failed"


class UsageError(SdError):
    """An option, a prompt or a job file that makes no sense."""

    code = 2
    kind = "usage"


class ModelError(SdError):
    """A model file that is bad, missing or of another family."""

    code = 3
    kind = "model"


class ImageError(SdError):
    """A picture, mask or latents file that is bad or does not fit."""

    code = 4
    kind = "image"


class OutOfMemory(SdError):
    """Not enough memory, even after the fall-backs."""

    code = 5
    kind = "memory"


class WriteError(SdError):
    """A result that cannot be written."""

    code = 6
    kind = "write"


class NotFinite(SdError):
    """A result with infinite or NaN values, even after the fall-backs; nothing is written."""

    code = 7
    kind = "not_finite"
