"""Attention: which rows of the prompts' contexts are the words whose attention is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdcli.adapters.attention_maps import Rows
from sdcli.diffusion.conditioning import Composed, Cond
from sdcli.errors import UsageError
from sdcli.request.job import Job
from sdcli.request.prompt import reading
from sdcli.request.prompt.chunks import Chunk
from sdcli.request.prompt.words import by_encoder, unknown
from sdcli.tokenizer import Tokenizer


def check_attention(
    words: Sequence[str],
    job: Job,
    name: str,
    tokenizers: Mapping[str, Tokenizer],
    unet: Mapping[str, Any],
) -> None:
    """Raise UsageError for words whose attention a model cannot show, or that are in no prompt of the job.

    `name` and `unet` are the model's name and the complete config of its U-Net.
    """
    if not words:
        return
    if unet["addition_embed_type"] == "text":
        raise UsageError(
            f"--attention: {name} hears the prompt as one vector, not word by word, so there is no map of a word; "
            "choose another model with -m"
        )
    if job.emphasis == "compel":
        raise UsageError(
            "--attention: compel blends texts, so there is no one map of a word; leave --emphasis out"
        )
    prompts = list(_prompts(job, tokenizers))
    for word in words:
        if not any(by_encoder([word], chunks, tokenizers)[word] for _, chunks in prompts):
            raise unknown(word, [text for text, _ in prompts])


def rows_of(words: Sequence[str], prompt: Composed, tokenizers: Mapping[str, Tokenizer]) -> dict[Cond, Rows]:
    """The conds of a prompt's parts, and the rows of their contexts that each word is."""
    conds = [part.cond for part in prompt.parts] if words else []
    return {cond: by_encoder(words, cond.chunks, tokenizers) for cond in conds}


def check_recorded(words: Sequence[str], maps: Mapping[str, object]) -> None:
    """Raise UsageError for a word that has no map, because the run never asked the network for it."""
    for word in words:
        if word not in maps:
            raise UsageError(
                f"--attention {word!r}: no step of this run asked the network for a prompt with this word; "
                "take more steps, or a --cfg above 0"
            )


def _prompts(
    job: Job, tokenizers: Mapping[str, Tokenizer]
) -> Iterator[tuple[str, Mapping[str, Sequence[Chunk]]]]:
    """Each text that the prompt is in the course of the run, and its chunks for each text encoder."""
    language = reading.dialect(job.emphasis, job.like)
    timeline = language.timeline(job.sampler.name, job.steps, job.first_pass_steps)
    prompts = [job.prompt, *(region.prompt for region in job.regions)]
    parts = [part for prompt in prompts for part in reading.read(prompt, language, timeline)]
    for text in dict.fromkeys(entry.text for part in parts for entry in part.entries):
        pieces = language.pieces(text)
        yield text, {part: language.chunked(pieces, own, {}) for part, own in tokenizers.items()}
