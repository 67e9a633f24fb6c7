"""DeepCache of a job: what needs the whole U-Net at every step is refused by name."""

from __future__ import annotations

from collections.abc import Sequence

from sdcli.errors import UsageError
from sdcli.request.job import Job


def check_deepcache(job: Job, networks: str, attention: Sequence[str]) -> None:
    """Raise UsageError if a job skips deep layers and asks for something that needs them at every step.

    `networks` is whose network code is asked for, `attention` the words of the heat maps.
    """
    if job.deepcache == 1:
        return
    asked = {
        "--reference": bool(job.reference),
        "--guidance sag": job.guidance.name == "sag",
        "--stop-after": bool(job.stop_after),
        "--attention": bool(attention),
        "--networks diffusers": networks != "sdcli",
    }
    refused = [option for option, is_asked in asked.items() if is_asked]
    if refused:
        needs = "needs" if len(refused) == 1 else "need"
        raise UsageError(
            f"--deepcache {job.deepcache} leaves layers of the U-Net out, and {' and '.join(refused)} {needs} all of "
            "them; leave one of them out"
        )
