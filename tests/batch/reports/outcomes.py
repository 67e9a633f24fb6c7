"""Outcomes for the tests of reports: toy pictures, no model."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

from PIL import Image

from sdcli.batch.outcome import Failure, Outcome
from sdcli.request.jobfile.batch_job import BatchJob, Source
from sdcli.request.request import Request

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!-- <script> -->",
    "<img src=x onerror=alert(1)>",
    "\"quoted\" 'single' `back` $HOME \\",
    "a | b\nnew line\r\n| c | d |",
    "תפוח אדום על שולחן",
    "\u202eright to left override",
    "🍎 a red apple 👩‍🚀 é ﷽",
    "line\u2028separator\u2029paragraph",
    '=HYPERLINK("http://example.com","click")',
    "long " * 2000,
    "{{title}} %s {0} $x",
)


def saved(path: Path, hue: float = 0.0, size: tuple[int, int] = (96, 64)) -> Path:
    """A picture with a gradient of this hue, 0 … 1, in a file."""
    colours = [
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, x / 8 + 0.1)) for x in range(8)
    ]
    image = Image.new("RGB", (8, 1))
    image.putdata(colours) if not hasattr(image, "im") else [
        image.putpixel((x, 0), c) for x, c in enumerate(colours)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def outcome(state: str = "done", **values: Any) -> Outcome:
    """An outcome; `values` are fields of it, of its job and of its request."""
    job_fields = {key: values.pop(key) for key in ("name", "entry", "axes", "source") if key in values}
    own = {
        key: values.pop(key)
        for key in ("path", "facts", "seconds", "sha256", "failure", "comparison")
        if key in values
    }
    request = Request(**{"prompt": "a red apple", "seed": 7, **values})
    job = BatchJob(request, **{"source": Source("jobs.yaml", 3), **job_fields})
    return Outcome(job, state, request=request if state in ("done", "skipped") else None, **own)  # type: ignore[arg-type]


def failed(message: str = "the disk is full; free some space", kind: str = "write", **values: Any) -> Outcome:
    """An outcome of a job that failed."""
    return outcome("failed", failure=Failure(kind, 4, message), **values)


def sweep(folder: Path, fails: int | None = 4) -> list[Outcome]:
    """Three cfgs by four seeds of one entry; one of the twelve failed."""
    made = []
    for i, (cfg, seed) in enumerate((cfg, seed) for cfg in (4.0, 7.0, 10.0) for seed in (1, 2, 3, 4)):
        values: dict[str, Any] = {
            "cfg": cfg,
            "seed": seed,
            "entry": "apple",
            "axes": {"cfg": cfg, "seed": seed},
        }
        if i == fails:
            made.append(failed(**values))
            continue
        path = saved(folder / f"apple-{cfg:g}-{seed}.png", i / 12)
        made.append(outcome(path=path, seconds={"load": 0.5, "steps": 1.25}, sha256=f"{i:064x}", **values))
    return made
