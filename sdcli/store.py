"""The store: names for results, and writes that are whole or absent and never overwrite.

On Linux a result is written into a file without a name, which then gets one: a process killed at any moment
leaves nothing behind. Where that is not to be had, a hidden temporary file is linked into place and removed.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import string
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sdcli.errors import UsageError, WriteError
from sdcli.registry import nearest
from sdcli.request.request import Request

LONGEST_NAME = 200  # bytes of UTF-8
LONGEST_PROMPT = 80  # of them for a prompt in a name, so that the seed behind it stays
ADVICE = "choose another folder with -o"
DEFAULT_NAME = "{prompt}-{seed}.png"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+')


def output_path(out: str | None, request: Request, suffix: str = ".png") -> Path:
    """Where a result should go: `out` is a folder, or a file name that may hold {prompt}, {seed} and other fields.

    A folder is a path that exists as one, ends in a slash, or has no suffix. Raises UsageError for an unknown
    field or a suffix that is not `suffix`.
    """
    out = out or ""
    name = os.path.basename(out)
    if not name or os.path.isdir(out) or not _suffix(name):
        folder, name = out, DEFAULT_NAME
    else:
        folder = os.path.dirname(out)
    if _suffix(name) != suffix:
        raise UsageError(
            f"{out}: results are written as {suffix}; name it {name[: -len(_suffix(name))]}{suffix}"
        )
    return Path(folder) / safe(_filled(name[: -len(suffix)], request), suffix)


def safe(stem: str, suffix: str) -> str:
    """A file name that is valid on every system, has its suffix, and is at most 200 bytes long."""
    stem = _FORBIDDEN.sub("-", stem)
    stem = re.sub(r"\s+", "-", stem).strip("-. ")
    if not stem or _RESERVED.match(stem):
        stem = f"sd-{stem}".rstrip("-")
    return _shortened(stem, LONGEST_NAME - len(suffix)) + suffix


def save(data: bytes | Iterable[bytes], path: Path, advice: str = ADVICE) -> Path:
    """Write `data`, whole or in pieces, under `path`, or path-2, path-3, … if that is taken; returns the name it got.

    The folder is made if it is missing. Raises WriteError with the reason and `advice` if nothing could be written.
    """
    try:
        return _save(data, path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {_reason(error, advice)}") from error


def save_folder(
    files: Iterable[tuple[str, bytes | Iterable[bytes]]], path: Path, advice: str = ADVICE
) -> Path:
    """Write files, by their names in it, as the folder `path`, which must not be there: all of them or none.

    Raises WriteError as `save` does.
    """
    beside = path.with_name(f".sd-{uuid.uuid4().hex}.tmp")
    try:
        for name, data in files:
            _save(data, beside / name)
        beside.rename(path)
        _flush_folder(path.parent)
        return path
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {_reason(error, advice)}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _save(data: bytes | Iterable[bytes], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _written(data, path.parent) as written:
        for candidate in _numbered(path):
            if written.publish(candidate):
                _flush_folder(path.parent)
                return candidate
    raise AssertionError("unreachable: there is always a next number")


def _suffix(name: str) -> str:
    """The suffix of a name or template; a dot inside {braces} is none."""
    return os.path.splitext(re.sub(r"\{[^}]*\}", "x", name))[1]


def _filled(template: str, request: Request) -> str:
    fields = _fields(request)
    try:
        asked = [key for _, key, _, _ in string.Formatter().parse(template) if key is not None]
    except ValueError as error:
        raise UsageError(f"{template}: not a file name: {error}; double a brace to mean it") from None
    for key in asked:
        if key not in fields:
            raise UsageError(f"{template}: no field is called {key!r}; {nearest(key, list(fields))}")
    try:
        return template.format_map(fields)
    except (ValueError, IndexError, AttributeError):
        raise UsageError(f"{template}: fields are written plainly, like {{seed}}") from None


def _fields(request: Request) -> dict[str, str]:
    values: Mapping[str, Any] = {
        "prompt": _shortened(re.sub(r"\W+", "-", _words(request).lower()).strip("-"), LONGEST_PROMPT),
        "seed": request.seed,
        "variation_seed": request.variation_seed,
        "steps": request.steps,
        "cfg": request.cfg,
        "sampler": request.sampler,
        "schedule": request.schedule,
        "width": request.width,
        "height": request.height,
        "model": os.path.basename(os.path.normpath(request.model)),
    }
    return {
        key: re.sub(r"\s+", "-", _FORBIDDEN.sub("-", str(value)).strip()) for key, value in values.items()
    }


def _words(request: Request) -> str:
    """The prompt; without one the name of the picture that is started from."""
    return request.prompt or os.path.splitext(os.path.basename(request.image or ""))[0]


def _shortened(text: str, most: int) -> str:
    return text.encode("utf-8")[:most].decode("utf-8", errors="ignore").rstrip("-. ")


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in range(2, 1_000_000):
        tail = f"-{number}"
        yield path.with_name(
            _shortened(path.stem, LONGEST_NAME - len(tail + path.suffix)) + tail + path.suffix
        )
    raise OSError(errno.EEXIST, "every number is taken")


class _Nameless:
    """A written file without a name yet (Linux: O_TMPFILE)."""

    def __init__(self, folder: Path) -> None:
        self.fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)

    def publish(self, path: Path) -> bool:
        """Give the file its name; False if the name is taken."""
        try:  # naming a folder's descriptor makes Python use linkat, which follows /proc's link to the file
            os.link(f"/proc/self/fd/{self.fd}", path, src_dir_fd=self.fd, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def close(self) -> None:
        os.close(self.fd)


class _Hidden:
    """A written file under a hidden temporary name."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f".sd-{uuid.uuid4().hex}.tmp"
        self.fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)

    def publish(self, path: Path) -> bool:
        try:
            os.link(self.path, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            return self._publish_without_links(path)
        return True

    def _publish_without_links(self, path: Path) -> bool:
        try:  # reserve the name, then move the whole file over the empty one
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        try:
            os.replace(self.path, path)
        except OSError:
            path.unlink()
            raise
        return True

    def close(self) -> None:
        os.close(self.fd)
        self.path.unlink(missing_ok=True)


class _written:
    """`with _written(data, folder) as w`: data on the disk under no final name; `w.publish(path)` names it."""

    def __init__(self, data: bytes | Iterable[bytes], folder: Path) -> None:
        try:
            self.file: _Nameless | _Hidden = _Nameless(folder)
        except (OSError, AttributeError):  # another system, or a file system without nameless files
            self.file = _Hidden(folder)
        try:
            for piece in [data] if isinstance(data, bytes) else data:
                view = memoryview(piece)
                while view:
                    view = view[os.write(self.file.fd, view) :]
            os.fsync(self.file.fd)
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> _Nameless | _Hidden:
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _flush_folder(folder: Path) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # a folder that cannot be opened cannot be flushed; the file itself is safe
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def _reason(error: OSError, advice: str) -> str:
    steps = {
        errno.ENOSPC: f"the disk is full; free some space or {advice}",
        errno.EDQUOT: f"the disk quota is used up; free some space or {advice}",
        errno.EACCES: f"permission denied; {advice}",
        errno.EPERM: f"not permitted; {advice}",
        errno.EROFS: f"the file system is read-only; {advice}",
        errno.ENOTDIR: f"a part of its path is a file; {advice}",
        errno.EEXIST: f"a part of its path is a file; {advice}",
        errno.EFBIG: "the file would be larger than is allowed; raise the limit or choose another folder",
    }
    fallback = f"{(error.strerror or 'unknown reason').lower()}; {advice}"
    return steps.get(error.errno or 0, fallback)
