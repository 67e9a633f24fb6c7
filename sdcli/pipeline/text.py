"""Text: prompt and negative prompt -> what the U-Net is told at each noise level of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from sdcli.checkpoints.hashes import file_version
from sdcli.diffusion.conditioning import Composed, Cond, Part
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.spans import Span, spans, steps_apart
from sdcli.models.model import Model
from sdcli.pipeline.compel import chunk_count, encode_compel
from sdcli.pipeline.embeddings import learned
from sdcli.pipeline.encode import encode_prompt
from sdcli.pipeline.regions import areas
from sdcli.request.job import Job
from sdcli.request.prompt import reading
from sdcli.request.prompt.chunks import Chunk
from sdcli.request.prompts import parts_of

Texts = tuple[str, ...]
"""A text for each of the model's text encoders."""

MAX_KEPT = 64
"""Encoded texts that a model keeps for its next pictures: the last ones."""

Encode = Callable[[Texts, int], Cond]
"""(texts, number of chunks) -> their condition."""


def encode_prompts(
    model: Model, job: Job, levels: Sequence[float] = (), region_masks: Sequence[Image | None] = ()
) -> tuple[Composed, Composed]:
    """(prompt, negative prompt) of a run that visits these noise levels, which fall.

    Each distinct text is encoded once. All have as many chunks as the longest one, so that one U-Net call takes them;
    under the conventions of a tool that pads no prompts, those that count at the same level have. Without `levels`, a
    prompt whose words change is what it is at the start.
    """
    language = reading.dialect(job.emphasis, job.like)
    seen = _seen(job, language, levels)
    positive = _with_regions(model, job, language, seen, region_masks)
    negative = _lanes(model, job, language, seen, "negative")
    encoder = (_CompelEncoder if job.emphasis == "compel" else _Encoder)(model, job, language)
    if CONVENTIONS[job.like].pads_prompts:
        encoder.count = max(
            map(encoder.length, {texts for lane in (*positive, *negative) for texts in lane.texts})
        )
    base = Composed(tuple(encoder.parts(negative, seen, encoder.negative)))
    if len(negative) > 1 or negative[0].weight != 1:
        base = replace(base, base=Composed.plain(encoder.empty(encoder.count)))
    return Composed(tuple(encoder.parts(positive, seen, encoder.positive)), base), base


@dataclass(frozen=True)
class _Lane:
    """A part of a prompt, and its texts in each span of the run."""

    weight: float
    texts: tuple[Texts, ...]
    area: Tensor | None = None  # (1, 1, h/8, w/8): how much it counts at each latent; None: everywhere


def _seen(job: Job, language: reading.Dialect, levels: Sequence[float]) -> list[Span]:
    """The noise levels of each step of the run; of each evaluation, if the language counts those."""
    if job.sampler.name in CONVENTIONS[job.like].ends_only:
        levels = steps_apart(levels, job.steps)
    found = spans(levels, language.evaluations.get(job.sampler.name, 1))
    return found or [Span(math.inf, -math.inf)]


def _lanes(model: Model, job: Job, language: reading.Dialect, seen: Sequence[Span], name: str) -> list[_Lane]:
    steps = len(seen) // language.evaluations.get(job.sampler.name, 1)
    lanes = []
    for each in parts_of(job, language, steps, name):
        texts = (tuple(part.at(i, language.from_zero) for part in each) for i in range(len(seen)))
        lanes.append(_Lane(each[0].weight, tuple(pair[: len(model.tokenizers)] for pair in texts)))
    return lanes


def _with_regions(
    model: Model, job: Job, language: reading.Dialect, seen: Sequence[Span], masks: Sequence[Image | None]
) -> list[_Lane]:
    """The parts of the prompt, and behind them those of each region's."""
    whole = _lanes(model, job, language, seen, "prompt")
    if not job.regions:
        return whole
    size = (job.height // model.factor, job.width // model.factor)
    rest, places = areas(job.regions, masks, size)
    found = [replace(lane, area=rest.to(model.placement.device)) for lane in whole]
    for region, area in zip(job.regions, places, strict=True):
        own = _lanes(
            model, replace(job, prompt=region.prompt, prompt_2=region.prompt), language, seen, "prompt"
        )
        found += [replace(lane, area=area.to(model.placement.device)) for lane in own]
    return found


class _Encoder:
    """The conditions of texts, each encoded once."""

    def __init__(self, model: Model, job: Job, language: reading.Dialect) -> None:
        self.model, self.job, self.language = model, job, language
        self.learned = learned(model, job.embedding, [lora.path for lora in job.lora])
        self.count = 1  # chunks that each text has at least
        self.positive = cache(self._positive)
        self.negative = cache(self._negative)
        self.empty = cache(self._empty)
        self._chunks = cache(self._chunked)
        self._size = (float(job.height), float(job.width))
        self._altered = _altered(job)

    def parts(self, lanes: Sequence[_Lane], seen: Sequence[Span], encode: Encode) -> Iterator[Part]:
        """The parts of a composed prompt; a text that stays the same over several spans is one part."""
        counts = [max(self.count, *(self.length(lane.texts[i]) for lane in lanes)) for i in range(len(seen))]
        for lane in lanes:
            conds = map(encode, lane.texts, counts)
            for cond, same in groupby(zip(conds, seen, strict=True), key=lambda pair: pair[0]):
                own = [span for _, span in same]
                yield Part(cond, lane.weight, own[0].start, own[-1].end, lane.area)

    def length(self, texts: Texts) -> int:
        """The number of chunks that the longest of the texts takes up."""
        return max(len(own) for own in self._chunks(texts).values())

    def _chunked(self, texts: Texts) -> Mapping[str, tuple[Chunk, ...]]:
        """The chunks for each text encoder; they differ if one tokenizer has words that the other lacks."""
        return {
            part: self.language.chunked(self.language.pieces(text), tokenizer, self.learned.counts)
            for (part, tokenizer), text in zip(self.model.tokenizers.items(), texts, strict=True)
        }

    def _positive(self, texts: Texts, count: int) -> Cond:
        return self._scored(self._encoded(texts, count), 0)

    def _negative(self, texts: Texts, count: int) -> Cond:
        """The condition of a negative prompt. An empty one is all zeros for families trained that way.

        One that is not empty knows how to make the empty one, for guidances that compare with it.
        """
        cond = replace(self._scored(self._encoded(texts, count), 1), is_negative=True)
        if any(texts):
            return replace(cond, make_empty=lambda: self.empty(count))
        if not self.model.family.zero_empty:
            return cond
        pooled = None if cond.pooled is None else cond.pooled * 0
        return replace(cond, context=cond.context * 0, pooled=pooled)

    def _empty(self, count: int) -> Cond:
        cond = self._encoded(("",) * len(self.model.tokenizers), count)
        return replace(self._scored(cond, 1), is_negative=True)

    def _encoded(self, texts: Texts, count: int) -> Cond:
        """The condition of the texts in `count` chunks, with empty ones or the last row again behind their own."""
        own = self.length(texts)
        padded = max(count, own) if CONVENTIONS[self.job.like].pads_prompts else own
        chunks = {part: (*each, *[()] * (padded - len(each))) for part, each in self._chunks(texts).items()}
        job = self.job
        key = (tuple(chunks.items()), job.clip_skip, self._size, job.emphasis, self._altered)
        cond = _once(
            self.model,
            key,
            lambda: encode_prompt(
                self.model, chunks, job.clip_skip, self._size, job.emphasis, self.learned.vectors
            ),
        )
        if count <= padded:
            return cond
        last = cond.context[:, -1:].expand(-1, 77 * (count - padded), -1)
        return replace(cond, context=torch.cat([cond.context, last], 1))

    def _scored(self, cond: Cond, which: int) -> Cond:
        """The condition for a family that is told an aesthetic score in place of the target size (SDXL refiner)."""
        scores = self.model.family.aesthetic
        return replace(cond, time_ids=(*cond.time_ids[:4], scores[which])) if scores else cond


def _once(model: Model, key: Hashable, encode: Callable[[], Cond]) -> Cond:
    """What `encode` gives, or what it gave for an earlier picture; a Cond of its own, for they go by identity."""
    kept = model.encoded
    if key not in kept:
        kept[key] = encode()
        while len(kept) > MAX_KEPT:
            del kept[next(iter(kept))]
    kept[key] = kept.pop(key)  # the latest
    return replace(kept[key])


def _altered(job: Job) -> Hashable:
    """What of a job alters its text encoders or their vocabulary, with the state of each file."""
    paths = [*(lora.path for lora in job.lora), *job.embedding]
    return (repr(job.lora), job.embedding, tuple(file_version(Path(path)) for path in paths))


class _CompelEncoder(_Encoder):
    """The conditions of texts in compel's language."""

    def length(self, texts: Texts) -> int:
        return chunk_count(self.model, texts[0], self.learned.vectors)

    def _encoded(self, texts: Texts, count: int) -> Cond:
        key = ("compel", texts, count, self.job.clip_skip, self._size, self._altered)
        return _once(
            self.model,
            key,
            lambda: encode_compel(
                self.model, texts[0], self.job.clip_skip, self._size, count, self.learned.vectors
            ),
        )
