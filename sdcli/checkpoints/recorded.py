"""Recorded: the request that a picture records, in which all that it names is found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sdcli.checkpoints.embeddings import with_embeddings
from sdcli.checkpoints.named_options import with_named_files
from sdcli.checkpoints.networks import with_networks
from sdcli.request.prepare import prepared
from sdcli.request.request import HIRES_BY, Request


def recorded(request: Request, embeddings: Sequence[Path] = ()) -> Request:
    """The request with its styles added, its variants drawn, and the files found that its options and prompts name.

    Files are found in the user's folders, the embeddings that the prompts name in the folders that are given. The
    upscaler of --hires-by is found too. The request has a seed. What is recorded already stays as it is. Raises
    UsageError and ModelError as `prepared`, `with_named_files`, `with_networks`, `with_embeddings` and
    `with_hires_upscaler` do.
    """
    found = with_networks(with_named_files(prepared(request)))
    found = with_embeddings(found, embeddings)
    if found.hires_by in HIRES_BY:
        return found

    from sdcli.checkpoints.upscaler_file import with_hires_upscaler  # it takes long to import

    return with_hires_upscaler(found)
