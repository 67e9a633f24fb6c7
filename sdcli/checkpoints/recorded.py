"""Recorded: the request that a picture records, in which all that the prompts name is found."""

from __future__ import annotations

from pathlib import Path

from sdcli.checkpoints.embeddings import with_embeddings
from sdcli.checkpoints.networks import with_networks
from sdcli.checkpoints.upscaler_file import with_hires_upscaler
from sdcli.request.prepare import prepared
from sdcli.request.request import Request


def recorded(request: Request, embeddings: Path | None = None) -> Request:
    """The request with its styles added, its variants drawn, and the networks and embeddings in its prompts found.

    Networks are found in the user's folders, embeddings in the folder that is given.
    The upscaler of --hires-by is found too. The request has a seed. What is recorded already stays as it is. Raises
    UsageError and ModelError as `prepared`, `with_networks`, `with_embeddings` and `with_hires_upscaler` do.
    """
    return with_hires_upscaler(with_embeddings(with_networks(prepared(request)), embeddings))
