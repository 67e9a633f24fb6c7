"""Folder: the pictures to learn from, with their captions; everything is checked before a network is loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdcli.errors import UsageError
from sdcli.notes import tell
from sdcli.request.images import open_image
from sdcli.train.buckets import Size, bucket_of, scale_to

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".avif")
"""What the names of pictures end in."""


@dataclass(frozen=True)
class Example:
    """A picture to learn from, and what it shows in words. `digest` is the sha256 of the file."""

    path: Path
    caption: str
    size: Size
    digest: str
    is_named: bool = False  # the caption is the file's name


def read_folder(folder: Path) -> list[Example]:
    """The pictures of a folder by name, each opened once to see that it can be, and their captions.

    Raises UsageError if the folder is missing or has no pictures, ImageError for a picture that cannot be read, and
    UsageError for a caption that cannot.
    """
    if not folder.is_dir():
        reason = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise UsageError(f"--data {folder}: {reason}; name one with pictures")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise UsageError(f"--data {folder}: has no pictures; put some .png, .jpg or .webp files there")
    examples = [_read(path) for path in pictures]
    _tell_of(folder, files, examples)
    return examples


def _read(path: Path) -> Example:
    opened = open_image(path)
    caption = caption_beside(path)
    text = words_of(path.stem) if caption is None else caption
    return Example(path, text, opened.image.size, opened.sha256, caption is None)


def caption_beside(path: Path) -> str | None:
    """The text of the .txt of the picture's name, on one line; None if there is none. Raises UsageError."""
    file = path.with_suffix(".txt")
    try:
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8; save the caption as that") from None
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise UsageError(f"{file}: cannot be read: {reason}; check its permissions") from None


def words_of(stem: str) -> str:
    """A file's name as a caption: `red-apple_02` is "red apple"."""
    return " ".join(re.sub(r"[\W_]+", " ", re.sub(r"[\W_]*\d*[\W_]*$", "", stem)).split())


def _tell_of(folder: Path, files: Sequence[Path], examples: Sequence[Example]) -> None:
    """Say what a user may not expect of the folder."""
    named = [each for each in examples if each.is_named]
    if named:
        first = f"such as {named[0].caption!r}" if named[0].caption else "of which the first has no words"
        tell(f"{len(named)} of {len(examples)} captions are the files' names, {first}")
    stems = {path.stem for path in files if path.suffix.lower() in SUFFIXES}
    if lost := [path.name for path in files if path.suffix.lower() == ".txt" and path.stem not in stems]:
        tell(f"{folder}: {len(lost)} captions have no picture and are not used, such as {lost[0]}")
    if others := [each.name for each in files if each.suffix.lower() not in (*SUFFIXES, ".txt")]:
        tell(
            f"{folder}: {len(others)} files are neither pictures nor captions and are not used, such as {others[0]}"
        )


def in_buckets(examples: Sequence[Example], sizes: Sequence[Size]) -> list[Size]:
    """The bucket of each picture; says if some are enlarged, or lose much when they are cut to its proportions."""
    found = [bucket_of(each.size, sizes) for each in examples]
    pairs = list(zip(examples, found, strict=True))
    if enlarged := [each.path.name for each, bucket in pairs if scale_to(each.size, bucket) > 1]:
        tell(
            f"{len(enlarged)} pictures are smaller than they are trained at and are enlarged, such as {enlarged[0]}"
        )
    if cut := [each.path.name for each, bucket in pairs if _kept(each.size, bucket) < 0.75]:
        tell(f"{len(cut)} pictures lose more than a quarter at their edges, such as {cut[0]}")
    return found


def _kept(size: Size, bucket: Size) -> float:
    """The share of a picture's area that is left of it in a bucket."""
    return bucket[0] * bucket[1] / (size[0] * size[1] * scale_to(size, bucket) ** 2)


def digest(examples: Sequence[Example]) -> str:
    """The sha256 of all pictures and captions."""
    lines = (f"{each.path.name}\0{each.digest}\0{each.caption}" for each in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
