"""Sources: the bytes and the text of job files."""

from __future__ import annotations

import os

from sdcli.errors import UsageError
from sdcli.settings import expand_home

MAX_BYTES = 200_000_000
"""As many as a file of OpenAI's batches may have."""


def read_bytes(file: str) -> bytes:
    """The bytes of a file; raises UsageError if it cannot be read, is a folder, or is larger than 200 MB."""
    path = expand_home(file)
    try:
        if os.path.isdir(path):
            raise UsageError("is a folder; name the job files or pictures in it")
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError("there is no such file; check the path") from None
    except (OSError, ValueError) as error:  # the latter for a path with a NUL
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"cannot be read: {reason}; check the path") from None
    check_size(data)
    return data


def check_size(data: bytes) -> None:
    """Raise UsageError if a job file is larger than 200 MB."""
    if len(data) > MAX_BYTES:
        raise UsageError(f"is larger than {MAX_BYTES // 1_000_000} MB; split it")


def text_of(data: bytes) -> str:
    """The text of a job file, in UTF-8 or, with its mark, in UTF-16; raises UsageError."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"is not UTF-8, first on line {line}; save the file as that") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
