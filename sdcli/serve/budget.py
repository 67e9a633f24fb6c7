"""Budget: how much one body may ask for, so that no client holds the server for hours or fills its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdcli.errors import UsageError
from sdcli.request.job import Job


@dataclass(frozen=True)
class Budget:
    """The largest side of a picture and of an input picture, and the pixels x steps of all pictures of one body."""

    max_side: int = 2048
    max_work: int = 2_000_000_000  # 1024 x 1024 pixels, 50 steps, 38 pictures
    max_input_pixels: int = 4096 * 4096
    max_pictures: int = 64

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise UsageError if these pictures, which one body asks for, are too many or too large."""
        if len(jobs) > self.max_pictures:
            raise UsageError(
                f"{len(jobs)} pictures are asked for at once, and at most {self.max_pictures} are drawn"
            )
        for job in jobs:
            side = max(job.width, job.height) * job.hires.hires
            if side > self.max_side:
                raise UsageError(
                    f"size: {side:g} pixels a side are more than the {self.max_side} that this server draws; "
                    "ask for a smaller picture"
                )
        work = sum(map(work_of, jobs))
        if work > self.max_work:
            raise UsageError(
                f"{work / 1e6:,.0f} million pixels x steps are more than the {self.max_work / 1e6:,.0f} million of one "
                "request; ask for fewer pictures, pixels or steps"
            )

    def check_input(self, name: str, width: int, height: int) -> None:
        """Raise UsageError for an input picture that is too large."""
        if width * height > self.max_input_pixels:
            raise UsageError(
                f"{name}: {width}x{height} pixels are more than the {self.max_input_pixels:,} that this server reads; "
                "make it smaller first"
            )


def work_of(job: Job) -> float:
    """The pixels x steps of a picture, of both passes if there are two."""
    return job.width * job.height * job.steps * (1 + (job.hires.hires**2 if job.hires.hires > 1 else 0))
