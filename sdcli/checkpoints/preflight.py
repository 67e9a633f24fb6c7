"""Preflight: a request is checked against the headers of its model, before anything heavy is imported or loaded."""

from __future__ import annotations

from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.defaults import job_by
from sdcli.checkpoints.distilled import model_notes
from sdcli.request.encode import Encoding
from sdcli.request.inputs import InputImages
from sdcli.request.job import Job
from sdcli.request.prompt import notes, reading
from sdcli.request.prompt.pieces import BREAK
from sdcli.request.prompts import check_prompts
from sdcli.request.request import Request
from sdcli.tiny.words import EXAMPLES, untaught

LONGEST_WORD = 30
"""Characters of a word that a note shows."""


def preflight(
    found: Checkpoint, request: Request, inputs: InputImages, encoding: Encoding
) -> tuple[Job, list[str]]:
    """The job of a recorded request, and notes for the user on what it may not mean.

    Raises the SdError that drawing would end with, as far as headers and the opened input pictures tell.
    """
    job, told = check_settings(found, request, inputs, encoding)
    return job, [*told, *check_words(found, job, request.emphasis)]


def check_settings(
    found: Checkpoint, request: Request, inputs: InputImages, encoding: Encoding
) -> tuple[Job, list[str]]:
    """Preflight without the words of the prompts."""
    if inputs.picture is not None and inputs.mask is not None:
        encoding.check_size(*inputs.mask.size)
    told = [*inputs.notes, *_losses(inputs, encoding)]
    job = job_by(found.family, found.size, inputs.fill_in_size(request))
    if job.lora or job.embedding or job.controls or job.hypernet or job.ip_adapter:
        from sdcli.checkpoints.adapters_fit import check_adapters  # they take long to import

        told += check_adapters(found, job, request)
    told += model_notes(found, request)
    return job, told


def check_words(found: Checkpoint, job: Job, emphasis: str | None) -> list[str]:
    """Preflight of the words of a job's prompts alone: notes on them, unless the emphasis that was asked for is none.

    Raises UsageError for what cannot be read, or told to the model.
    """
    check_prompts(found.name, found.family.text_encoders, job)
    told = [] if emphasis == "none" else _notes_on_prompts(job)
    return [*told, *_untaught_words(job)]


def _losses(inputs: InputImages, encoding: Encoding) -> list[str]:
    """What a file cannot keep of the picture that is repainted, as notes."""
    if inputs.picture is None or inputs.mask is None or encoding.is_lossless:
        return []
    told = [f"a .{encoding.format} keeps no pixel exactly, those outside the mask neither; a .png does"]
    if inputs.picture.alpha is not None and encoding.format == "jpg":
        told.append("a .jpg has no transparency; the picture is saved over the colour of --background")
    return told


def _notes_on_prompts(job: Job) -> list[str]:
    """What in the prompts may not mean what their writer thinks."""
    language = reading.dialect(job.emphasis, job.like)
    timeline = language.timeline(job.sampler.name, job.steps)
    own = (job.prompt, job.negative, job.prompt_2, job.negative_2)
    prompts = list(dict.fromkeys([*filter(None, own), *(region.prompt for region in job.regions)]))
    told = [note for prompt in prompts for note in notes.notes(prompt, language, timeline)]
    return [*notes.taken_for_words(language, *prompts), *told]


def _untaught_words(job: Job) -> list[str]:
    """Which words of the prompt the embedded model was not taught, as it draws something else for them."""
    if job.request.model != "tiny":
        return []
    language = reading.dialect(job.emphasis, job.like)
    parts = reading.read(job.prompt, language, language.timeline(job.sampler.name, job.steps))
    pieces = [piece for part in parts for entry in part.entries for piece in language.pieces(entry.text)]
    words = untaught(" ".join(dict.fromkeys(piece.text for piece in pieces if piece != BREAK)))
    if not words:
        return []
    first = (word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}…" for word in words[:5])
    shown = ", ".join(first) + ", …" * (len(words) > 5)
    return [
        f"tiny was not taught: {shown}; it draws everyday things, such as {EXAMPLES}; "
        "`sd info tiny --words` lists them"
    ]
