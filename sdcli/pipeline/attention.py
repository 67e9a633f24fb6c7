"""Attention: which rows of the prompts' contexts are the words whose attention is recorded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from sdcli.adapters.attention_maps import Rows
from sdcli.checkpoints import embeddings
from sdcli.diffusion.conditioning import Composed, Cond
from sdcli.errors import UsageError
from sdcli.request.job import Job
from sdcli.request.prompt import reading
from sdcli.request.prompt.chunks import Chunk
from sdcli.request.prompt.pieces import Piece
from sdcli.request.prompt.words import by_encoder, unknown
from sdcli.tokenizer import Tokenizer


def check_attention(words: Sequence[str], job: Job, tokenizers: Mapping[str, Tokenizer]) -> None:
    """Raise UsageError for words whose attention cannot be shown, or that are in no prompt of the job."""
    if not words:
        return
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
    """The words of each text that a prompt is in the course of the run, and its chunks for an encoder that reads it."""
    first = (job.prompt, *(region.prompt for region in job.regions))
    second = (job.prompt_2, *first[1:])
    for (encoder, tokenizer), prompts in zip(tokenizers.items(), (first, second), strict=False):
        for pieces, chunks in _texts(job, prompts, tokenizer):
            yield " ".join(piece.text for piece in pieces), {encoder: chunks}


def _texts(
    job: Job, prompts: Sequence[str], tokenizer: Tokenizer
) -> Iterator[tuple[Sequence[Piece], Sequence[Chunk]]]:
    """The pieces and chunks of each text that these prompts are, in both passes of `--hires`."""
    language = reading.dialect(job.emphasis, job.like)
    learned = embeddings.counts(embeddings.spelled(job.embedding, [lora.path for lora in job.lora]))
    passes = (0, job.steps) if job.hires.hires > 1 else (0,)
    timelines = [language.timeline(job.sampler.name, job.steps, first_pass) for first_pass in passes]
    for prompt, timeline in itertools.product(prompts, timelines):
        for part in reading.read(prompt, language, timeline):
            for text in dict.fromkeys(entry.text for entry in part.entries):
                pieces = language.pieces(text)
                yield pieces, language.chunked(pieces, tokenizer, learned)
