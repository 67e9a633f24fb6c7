"""The store: names for result files, and writes that are whole or absent and never overwrite.

On Linux a result is written into a file that has no name yet (O_TMPFILE) and gets one when it is complete, so a
process killed at any moment leaves nothing behind. Where such files are not supported, a hidden temporary file is
written, linked to the final name and removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import string
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from sdcli.errors import UsageError, WriteError
from sdcli.home import expand_home
from sdcli.registry import nearest
from sdcli.request.request import Request

MAX_NAME_BYTES = 200  # of UTF-8, the suffix included
MAX_PROMPT_BYTES = 80  # of the prompt in a name, so that the seed behind it is never cut off
DEFAULT_ADVICE = "choose another folder with -o"
DEFAULT_NAME = "{prompt}-{seed}"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+')


def output_path(
    out: str | None,
    request: Request,
    *suffixes: str,
    default_name: str = DEFAULT_NAME,
    more: Mapping[str, Any] = {},
) -> Path:
    """The path of a result file. `out` is a folder, or a file name; both may contain {prompt}, {seed} and other fields.

    `suffixes` are those that the file may have, .png if there are none. `out` is taken for a folder if it is an
    existing one, ends in a slash, or has no suffix; the file is then called `default_name`, with the first of them.
    What a field adds to a folder's name never leads out of it. `more` are fields beside those of the request.
    Raises UsageError for an unknown field or another suffix.
    """
    suffixes = suffixes or (".png",)
    out = expand_home(out or "")
    name = os.path.basename(out)
    if not name or os.path.isdir(out) or not _suffix(name):
        folder, name = out, default_name + suffixes[0]
    else:
        folder = os.path.dirname(out)
    suffix = _suffix(name)
    stem = name[: -len(suffix)]
    if suffix.lower() not in suffixes:
        raise UsageError(
            f"{out}: results are written as {' or '.join(suffixes)}; name it {stem}{suffixes[0]}"
        )
    fields = _template_fields(request, more)
    return _folder(folder, fields) / safe_name(_fill_template(stem, fields), suffix)


def output_folder(out: str, request: Request) -> Path:
    """The path of a folder for results, whose names may contain {prompt}, {seed} and other fields.

    A folder that exists and has braces in its name that are no fields is taken as it is. Raises UsageError as
    `output_path`.
    """
    return _folder(out, _template_fields(request))


def _folder(out: str, fields: Mapping[str, str]) -> Path:
    folder = Path(expand_home(out))
    try:
        return Path(*(_fill_folder(name, fields) for name in folder.parts))
    except UsageError:
        if os.path.isdir(folder):
            return folder
        raise


def _fill_folder(name: str, fields: Mapping[str, str]) -> str:
    """A folder's name with its fields filled in; valid on every system if it has any."""
    filled = _fill_template(name, fields)
    return safe_name(filled, "") if _used(name) else filled


def safe_name(stem: str, suffix: str) -> str:
    """The stem and suffix as a file name that is valid on every system and at most 200 bytes long."""
    stem = _FORBIDDEN.sub("-", stem)
    stem = re.sub(r"\s+", "-", stem).strip("-. ")
    if not stem or _RESERVED.match(stem):
        stem = f"sd-{stem}".rstrip("-")
    return _shorten(stem, MAX_NAME_BYTES - len(suffix)) + suffix


def save(
    data: bytes | Iterable[bytes],
    path: Path,
    advice: str = DEFAULT_ADVICE,
    before_naming: Callable[[Path], None] | None = None,
) -> Path:
    """Write `data`, whole or in pieces, to `path`, or to path-2, path-3, … if that exists; returns the path written.

    The folder is made if it is missing. `before_naming` is called with each free path that is tried, when the data are
    on the disk and have no name yet. Raises WriteError with the reason and `advice` if the file cannot be written.
    """
    try:
        return _save(data, path, before_naming)
    except OSError as error:
        raise write_error(path, error, advice) from error


def replace(data: bytes | Iterable[bytes], path: Path, advice: str = DEFAULT_ADVICE) -> Path:
    """Write `data` to `path`, also if that exists: it then changes from the old content to the new one at once.

    The one exception from never overwriting. It is for goldens, which are replaced only when `--update` asks for it: a
    number in the name would leave the old golden in force. Raises WriteError as `save` does, and `path` is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(HiddenFile(path.parent)) as file:
            _write(data, file)
            file.publish_over(path)
        _flush_folder(path.parent)
        return path
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {_reason(error, advice)}") from error


def save_folder(
    files: Iterable[tuple[str, bytes | Iterable[bytes]]], path: Path, advice: str = DEFAULT_ADVICE
) -> Path:
    """Write (name, data) pairs as the files of a new folder `path`: all of them or none.

    Raises WriteError as `save` does, also if `path` is a file or a folder that is not empty.
    """
    temporary = path.with_name(f".sd-{uuid.uuid4().hex}.tmp")
    try:
        for name, data in files:
            _save(data, temporary / name)
        temporary.rename(path)
        _flush_folder(path.parent)
        return path
    except OSError as error:
        raise write_error(path, error, advice) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(hidden: Path, path: Path, advice: str = DEFAULT_ADVICE) -> Path:
    """Give a finished hidden file beside `path` that name, or path-2, … if that is taken; returns the path.

    Raises WriteError as `save` does.
    """
    try:
        for candidate in _numbered(path):
            if _publish(hidden, candidate):
                hidden.unlink(missing_ok=True)
                _flush_folder(path.parent)
                return candidate
    except OSError as error:
        raise write_error(path, error, advice) from error
    raise AssertionError("unreachable: _numbered ends with an error")


@contextlib.contextmanager
def filled_by_another(path: Path, advice: str = DEFAULT_ADVICE) -> Iterator[HiddenFile]:
    """A hidden file beside `path` for another process to fill, which can be given that name; it is gone afterwards.

    Raises WriteError as `save` does.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = HiddenFile(path.parent)
    except OSError as error:
        raise write_error(path, error, advice) from error
    try:
        yield file
        _flush_folder(path.parent)
    except OSError as error:
        raise write_error(path, error, advice) from error
    finally:
        file.close()


def _save(
    data: bytes | Iterable[bytes], path: Path, before_naming: Callable[[Path], None] | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _unpublished(data, path.parent) as file:
        for candidate in _numbered(path):
            if before_naming and not candidate.exists():
                before_naming(candidate)
            if file.publish(candidate):
                _flush_folder(path.parent)
                return candidate
    raise AssertionError("unreachable: _numbered ends with an error")


# --- names


@lru_cache(maxsize=64)
def _suffix(name: str) -> str:
    """The suffix of a name or template; a dot inside {braces} does not begin one."""
    return os.path.splitext(re.sub(r"\{[^}]*\}", "x", name))[1]


def _fill_template(template: str, fields: Mapping[str, str]) -> str:
    """The template with its {fields} replaced; raises UsageError for an unknown field or a format specification."""
    for key in _used(template):
        if key not in fields:
            raise UsageError(f"{template}: no field is called {key!r}; {nearest(key, list(fields))}")
    try:
        return template.format_map(fields)
    except (ValueError, IndexError, AttributeError):
        raise UsageError(
            f"{template}: a field takes no format or attribute; write it like {{seed}}"
        ) from None


@lru_cache(maxsize=64)  # for all pictures of a batch may have one template
def _used(template: str) -> tuple[str, ...]:
    """The names of the fields in a template; raises UsageError for one that cannot be read."""
    try:
        return tuple(key for _, key, _, _ in string.Formatter().parse(template) if key is not None)
    except ValueError as error:
        raise UsageError(
            f"{template}: not a file name: {error}; write {{{{ or }}}} for a brace itself"
        ) from None


class _TemplateFields(dict[str, Any]):
    """Field -> its text, without whitespace or characters that a file name cannot hold; made when it is asked for."""

    def __getitem__(self, key: str) -> str:
        """The text of a field."""
        value = super().__getitem__(key)
        text = str(value() if callable(value) else value)
        return re.sub(r"\s+", "-", _FORBIDDEN.sub("-", text).strip())


def _template_fields(request: Request, more: Mapping[str, Any] = {}) -> Mapping[str, str]:
    """Field -> its text, without whitespace or characters that a file name cannot hold."""
    values: Mapping[str, Any] = {
        "prompt": partial(_prompt_slug, request),
        "seed": request.seed,
        "variation_seed": request.variation_seed,
        "steps": request.steps,
        "cfg": request.cfg,
        "sampler": request.sampler,
        "schedule": request.schedule,
        "width": request.width,
        "height": request.height,
        "model": os.path.basename(os.path.normpath(request.model)),
        **more,
    }
    return _TemplateFields(values)


def _prompt_slug(request: Request) -> str:
    """The prompt (or without one, the input picture's name) in lower case, with hyphens between its words."""
    picture = request.image if isinstance(request.image, str) else ""
    text = request.prompt or os.path.splitext(os.path.basename(picture))[0]
    return _shorten(re.sub(r"\W+", "-", text.lower()).strip("-"), MAX_PROMPT_BYTES)


def _shorten(text: str, max_bytes: int) -> str:
    """The text cut to at most so many bytes of UTF-8, between characters; no dot, space or hyphen at its end."""
    return text.encode("utf-8")[:max_bytes].decode("utf-8", errors="ignore").rstrip("-. ")


def _numbered(path: Path) -> Iterator[Path]:
    """The path itself, then path-2, path-3 and so on, each at most 200 bytes long."""
    yield path
    for number in range(2, 1_000_000):
        ending = f"-{number}{path.suffix}"
        yield path.with_name(_shorten(path.stem, MAX_NAME_BYTES - len(ending)) + ending)
    raise OSError(errno.EEXIST, "every number is taken")


# --- files


class _UnnamedFile:
    """An open file that has no name until it is published (Linux's O_TMPFILE)."""

    def __init__(self, folder: Path) -> None:
        self.fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)

    def publish(self, path: Path) -> bool:
        """Give the file its name; False if the name is taken."""
        try:  # src_dir_fd makes Python call linkat, which can follow the link in /proc; link itself would not
            os.link(f"/proc/self/fd/{self.fd}", path, src_dir_fd=self.fd, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def close(self) -> None:
        os.close(self.fd)


class HiddenFile:
    """An open file with a hidden temporary name, which it has until it is published."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f".sd-{uuid.uuid4().hex}.tmp"
        binary = getattr(os, "O_BINARY", 0)  # Windows would write CR LF for each LF without it
        self.fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | binary, 0o666)

    def publish(self, path: Path) -> bool:
        """Give the file its name; False if the name is taken."""
        return _publish(self.path, path)

    def publish_over(self, path: Path) -> None:
        """Give the file its name, also if that is taken: the other file is gone then. It can be written no more."""
        os.close(self.fd)  # first, for Windows renames no open file
        self.fd = -1
        os.replace(self.path, path)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.path.unlink(missing_ok=True)


def _publish(hidden: Path, path: Path) -> bool:
    """Give a file a second name, or where links are not supported another one; False if that is taken."""
    try:
        os.link(hidden, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        return _publish_without_links(hidden, path)
    return True


def _publish_without_links(hidden: Path, path: Path) -> bool:
    try:  # reserve the name with an empty file, then replace that by the complete one
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    try:
        os.replace(hidden, path)
    except OSError:
        path.unlink()
        raise
    return True


@contextlib.contextmanager
def _unpublished(data: bytes | Iterable[bytes], folder: Path) -> Iterator[_UnnamedFile | HiddenFile]:
    """A file in `folder` that holds `data`, flushed to the disk; it is gone afterwards unless it was published."""
    file = _open_unpublished(folder)
    try:
        _write(data, file)
        yield file
    finally:
        file.close()


def _write(data: bytes | Iterable[bytes], file: _UnnamedFile | HiddenFile) -> None:
    """Write all of `data` into the file, and flush it to the disk."""
    for piece in [data] if isinstance(data, bytes) else data:
        unwritten = memoryview(piece)
        while unwritten:
            unwritten = unwritten[os.write(file.fd, unwritten) :]
    os.fsync(file.fd)


def _open_unpublished(folder: Path) -> _UnnamedFile | HiddenFile:
    try:
        return _UnnamedFile(folder)
    except (OSError, AttributeError):  # not Linux, or a file system without O_TMPFILE
        return HiddenFile(folder)


def _flush_folder(folder: Path) -> None:
    """Flush the folder's entries to the disk, where the system can; the file itself is flushed already."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows cannot open a folder
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def write_error(path: Path, error: OSError, advice: str = DEFAULT_ADVICE) -> WriteError:
    """The error of a file that cannot be written, with the reason and `advice`."""
    return WriteError(f"{path}: cannot be written: {_reason(error, advice)}")


def _reason(error: OSError, advice: str) -> str:
    """Why the file cannot be written, and what to do about it."""
    reasons = {
        errno.ENOSPC: f"the disk is full; free some space or {advice}",
        errno.EDQUOT: f"the disk quota is used up; free some space or {advice}",
        errno.EACCES: f"permission denied; {advice}",
        errno.EPERM: f"not permitted; {advice}",
        errno.EROFS: f"the file system is read-only; {advice}",
        errno.ENOTDIR: f"part of its path is a file; {advice}",
        errno.EEXIST: f"part of its path is a file; {advice}",
        errno.EFBIG: "the file would be larger than is allowed; raise the limit or choose another folder",
    }
    other = f"{(error.strerror or 'unknown reason').lower()}; {advice}"
    return reasons.get(error.errno or 0, other)
