"""Entry: one entry of a job file, and the jobs that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sdcli.errors import SdError, UsageError
from sdcli.request.jobfile.alternatives import with_alternatives
from sdcli.request.jobfile.batch_job import BatchJob, Source
from sdcli.request.jobfile.combinations import (
    MAX_JOBS,
    Combination,
    excepted,
    product,
    with_additions,
    zipped,
)
from sdcli.request.jobfile.keys import COMBINING, SHARED, SIZE
from sdcli.request.jobfile.names import job_names, plain_name
from sdcli.request.jobfile.nodes import Faults
from sdcli.request.jobfile.requests import RequestBuilder, Settings, no_settings, pictures_of, seed_of
from sdcli.request.jobfile.shared import Shared, shared_of
from sdcli.request.jobfile.values import Asked, Axis, Stated, values_of
from sdcli.request.request import Request


@dataclass(frozen=True)
class Entry:
    """What one entry says, by our keys, with the defaults of its file; `number` counts the entries of a file from 1.

    `given` are fields of a Request that were typed for the whole batch, and win; `settings` fill what is left open.
    `build` is shared by the entries of a file, for most of them differ in their prompts alone.
    More than `max_jobs` are refused.
    """

    said: Mapping[str, Stated]
    source: Source
    number: int
    given: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = no_settings
    build: RequestBuilder = field(default_factory=RequestBuilder)
    max_jobs: int = MAX_JOBS

    def jobs(self, faults: Faults) -> list[BatchJob]:
        """The jobs in their order; none if there is a fault, which is noted."""
        before = faults.number
        shared = shared_of(self.said, faults)
        values, axes = self._values(faults)
        if faults.number > before:
            return []
        try:
            entry = self
            if shared.expand == "all":
                values, axes, given = with_alternatives(values, axes, self.given)
                entry = replace(self, given=given)
            entry._check_count(shared.count, values, axes)
            found = entry._combinations(axes, shared.count, faults)
            if faults.number > before:
                return []
            return entry._built(values, axes, found, shared, faults)
        except SdError as error:
            faults.add(self.source, error)
            return []

    def _values(self, faults: Faults) -> tuple[dict[str, Asked], list[Axis]]:
        """The fields with one value, and the axes in written order."""
        values: dict[str, Asked] = {}
        axes: list[Axis] = []
        for name, stated in self.said.items():
            if name in ("zip", SIZE):
                axes += zipped(stated, faults)
            elif name not in (*SHARED, *COMBINING) and stated.node.value is not None:
                found = values_of(name, stated, faults)
                if isinstance(found, Axis):
                    axes.append(found)
                elif found:
                    values[name] = found
        for axis in axes:
            for name in axis.names:
                self._check_axis(name, values, faults)
        names = [name for axis in axes for name in axis.names]
        for name in {name for name in names if names.count(name) > 1}:
            faults.add(self.source, f"{name} is an axis twice; keep one")
        return {name: asked for name, asked in values.items() if name not in self.given}, axes

    def _check_axis(self, name: str, values: Mapping[str, Asked], faults: Faults) -> None:
        if name in values:
            faults.add(self.source, f"{name} is given twice, as an axis and as one value; keep one")
        if name in self.given:
            reason = f"{name} is an axis here, and was given for the whole batch too"
            faults.add(self.source, f"{reason}; leave it out there, or give the job one value")

    def _combinations(self, axes: Sequence[Axis], count: int, faults: Faults) -> list[Combination]:
        names = [name for axis in axes for name in axis.names]
        found = product(axes, count, self.max_jobs) if axes or "also" not in self.said else []
        if "except" in self.said:
            found = excepted(found, self.said["except"], names, faults)
        if "also" in self.said:
            found = with_additions(found, self.said["also"], names, faults)
            for name in {name for each in found for name in each if name in self.given}:
                reason = f"{name} is in also, and was given for the whole batch too"
                faults.add(self.source, f"{reason}; leave it out there")
        if not found:
            faults.add(self.source, "no combination is left for a job; take an exception out")
        return found

    def _check_count(self, count: int, values: Mapping[str, Asked], axes: Sequence[Axis]) -> None:
        numbered = "variation_seed" if "variation_seed" in {*values, *self.given} else "seed"
        if count > 1 and any(numbered in axis.names for axis in axes):
            raise UsageError(f"count numbers the pictures by {numbered}, an axis here; write that as a range")

    def _built(
        self,
        values: Mapping[str, Asked],
        axes: Sequence[Axis],
        found: list[Combination],
        shared: Shared,
        faults: Faults,
    ) -> list[BatchJob]:
        """The jobs of the combinations, `count` for each."""
        fixed = {name: asked.value for name, asked in values.items()} | dict(self.given)
        if "seed" not in fixed:
            fixed["seed"] = self._own_seed()
        if "prompt" not in fixed and any("prompt" not in each for each in found):
            raise UsageError('no prompt: say what to draw, or write prompt: "" to draw without one')
        stated = {**fixed, **{name: asked.value for name, asked in found[0].items()}}
        fixed = {**self.settings(stated), **fixed}
        pairs: list[tuple[dict[str, Any], Request]] = []
        for combination in found:
            try:
                request = self.build.request(
                    {**fixed, **{name: asked.value for name, asked in combination.items()}}
                )
                typed = {name: asked.typed for name, asked in combination.items()}
                pairs += [(typed | more, each) for more, each in pictures_of(request, shared.count)]
            except SdError as error:
                faults.add(self.source, error)
        names = job_names(shared.name, [axes for axes, _ in pairs], [request for _, request in pairs])
        entry = plain_name(shared.name) or str(self.number)
        return [
            BatchJob(request, name, shared.out, entry, axes, self.source, shared.tolerance)
            for (axes, request), name in zip(pairs, names, strict=True)
        ]

    def _own_seed(self) -> int:
        """The seed of an entry that names none: from its own text, so that each run and each machine draws the same.

        What was typed for the whole batch has no part in it, nor what decides no pixel.
        """
        without = ("name", "out", "tolerance", "count")
        said = {name: each.node.plain() for name, each in self.said.items() if name not in without}
        return seed_of(said)
