"""Pictures: a picture as a job, which makes it again from its metadata, with what was typed for the batch on top."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sdcli.errors import UsageError
from sdcli.home import expand_home
from sdcli.request.jobfile.batch_job import BatchJob, Source
from sdcli.request.prepare import retyped, with_what_follows

if TYPE_CHECKING:
    from sdcli.request.other_tools.reading import FindModel

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def is_picture(data: bytes) -> bool:
    """True if a file is a PNG, JPEG or WebP by its first bytes."""
    return data.startswith(SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def picture_job(
    path: str, source: Source, number: int, given: Mapping[str, Any], find_model: FindModel
) -> BatchJob:
    """The job that makes a picture again; raises SdError if its metadata do not tell how."""
    from sdcli.request.other_tools.recognise import recognise  # they take long to import
    from sdcli.request.png_metadata import read_png_metadata

    metadata = read_png_metadata(expand_home(path), path)
    name = os.path.splitext(os.path.basename(path))[0]
    other = (
        recognise(metadata.texts, (metadata.width, metadata.height)) if "sd" not in metadata.texts else None
    )
    if other is not None:
        notes = tuple(
            f"{path}: not taken over from {other.tool}: {key}: {value}" for key, value in other.left.items()
        )
        request = other.again(path, given, find_model)
        return BatchJob(request, name, None, name or str(number), {}, source, notes=notes)
    if "upscaler" in metadata.facts(path):
        raise UsageError(f"{path} was enlarged by an upscaler and not drawn; sd again makes it again")
    request = retyped(metadata.request(path), with_what_follows(given))
    return BatchJob(
        request, name, None, name or str(number), {}, source,
        finds_embeddings="prompt" in given, sheds_embeddings="embedding" not in given,
    )  # fmt: skip
