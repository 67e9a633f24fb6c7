"""Compel: a prompt in compel's language -> the condition that the compel library makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from sdcli.diffusion.conditioning import Cond
from sdcli.models.model import Model
from sdcli.pipeline import emphasis
from sdcli.pipeline.encode import NO_VECTORS, Vectors, encoder_states, side_by_side
from sdcli.request.prompt import compel
from sdcli.request.prompt.chunks import Chunk, Token, chunked, weights
from sdcli.request.prompt.pieces import Piece
from sdcli.request.prompt.sentences import chunked_by_sentences
from sdcli.tokenizer import CHUNK, Tokenizer

ROWS = CHUNK + 2
"""Rows of context for each chunk."""
LEAST = 1e-5
"""A weight of less counts as this much where a text is blended with the one that lacks its words."""


@torch.inference_mode()
def encode_compel(
    model: Model,
    text: str,
    clip_skip: int,
    size: tuple[float, float],
    count: int = 1,
    vectors: Mapping[str, Vectors] = {},
) -> Cond:
    """The condition of a prompt in compel's language, with empty chunks behind it up to `count` chunks.

    `size` is (height, width) in pixels; `vectors` are the learned embeddings for each text encoder.

    Words whose weight is not 1 are weighted by their distance from the empty prompt. Each piece whose weight w is below
    1 then draws the context towards that of the text whose piece is masked: z = sum(v z_k) / sum(v), v = 1 for the
    text itself and tan((1 - w) pi / 2) for each such piece. Texts of `.and` follow each other. A text of more than 75
    tokens is read in chunks that end with a sentence; the END of each chunk is its own. The pooled state is that of the
    first 75 tokens of the prompt as it is typed, operators and all, as in compel.
    Raises UsageError for what compel cannot read, and for weights that make a state infinite.
    """
    conjunction = compel.parse(text)
    encoders = [_Encoder(model, part, clip_skip, vectors.get(part, NO_VECTORS)) for part in model.tokenizers]
    encoded = [encoder.conjunction(conjunction) for encoder in encoders]
    count = max(count, *(len(each) for each in encoded))
    padded = [encoder.padded(each, count) for encoder, each in zip(encoders, encoded, strict=True)]
    contexts = [each.reshape(1, count * ROWS, -1) for each in padded]
    pooled = [encoder.pooled(text) for encoder in encoders]
    return side_by_side(list(zip(contexts, pooled, strict=True)), size)


def chunk_count(model: Model, text: str, vectors: Mapping[str, Vectors] = {}) -> int:
    """The chunks of a prompt in compel's language: those of its texts, added up where they follow each other."""
    conjunction = compel.parse(text)
    return max(
        sum(
            max(
                len(_Text.of(pieces, tokenizer, vectors.get(part, NO_VECTORS)).chunks)
                for pieces in blend.texts
            )
            for blend in conjunction.parts
        )
        for part, tokenizer in model.tokenizers.items()
    )


@dataclass(frozen=True)
class _Text:
    """A text in chunks, and the tokens of each of its pieces, as a slice of all the tokens."""

    chunks: tuple[Chunk, ...]
    pieces: tuple[Piece, ...]
    slices: tuple[slice, ...]

    @classmethod
    def of(cls, pieces: Sequence[Piece], tokenizer: Tokenizer, vectors: Vectors) -> _Text:
        """Each piece is tokenised by itself."""
        tokens: list[Token] = []
        slices = []
        for piece in pieces:
            own = [replace(token, weight=piece.weight) for token in _tokens(piece.text, tokenizer, vectors)]
            slices.append(slice(len(tokens), len(tokens) + len(own)))
            tokens += own
        return cls(chunked_by_sentences(tokens), tuple(pieces), tuple(slices))

    def mask_without(self, tokens: slice) -> Tensor:
        """The mask (chunks, 77) that hides these tokens.

        Between the first and the last of them END and padding are hidden too, but not BEGIN and the last of the 77.
        """
        places = [ROWS * i + 1 + j for i, chunk in enumerate(self.chunks) for j in range(len(chunk))]
        mask = torch.ones(len(self.chunks) * ROWS, dtype=torch.bool)
        mask[places[tokens.start] : places[tokens.stop - 1] + 1] = False
        mask = mask.reshape(len(self.chunks), ROWS)
        mask[:, [0, -1]] = True
        return mask


@dataclass(frozen=True, eq=False)
class _Encoder:
    """One text encoder of a model, as compel uses it. Its contexts are (chunks, 77, width)."""

    model: Model
    part: str
    clip_skip: int
    vectors: Vectors

    def conjunction(self, conjunction: compel.Conjunction) -> Tensor:
        """The texts one after the other, each weighted by its distance from the empty prompt."""
        contexts = []
        for blend, weight in zip(conjunction.parts, conjunction.weights, strict=True):
            context = self.blend(blend)
            contexts.append(context if weight == 1 else (context - self.empty) * weight + self.empty)
        return torch.cat(contexts)

    def blend(self, blend: compel.Blend) -> Tensor:
        """The texts added up with their weights, at the length of the longest."""
        contexts = [self.text(pieces) for pieces in blend.texts]
        count = max(map(len, contexts))
        contexts = [self.padded(context, count) for context in contexts]
        return _sum(contexts, blend.weights, blend.is_normalised)

    def text(self, pieces: Sequence[Piece]) -> Tensor:
        """A text, drawn towards the texts without the pieces whose weights are below 1."""
        text = _Text.of(pieces, self.model.tokenizers[self.part], self.vectors)
        contexts, shares = [self.weighted(text)], [1.0]
        for piece, tokens in zip(text.pieces, text.slices, strict=True):
            if piece.weight < 1 and tokens.start < tokens.stop:
                contexts.append(self.weighted(text, text.mask_without(tokens)))
                shares.append(math.tan((1 - max(piece.weight, LEAST)) * math.pi / 2))
        return _sum(contexts, shares)

    def weighted(self, text: _Text, mask: Tensor | None = None) -> Tensor:
        """A text with its weights, some of its tokens hidden by a mask."""
        context, _ = encoder_states(self.model, self.part, text.chunks, self.clip_skip, self.vectors, mask)
        typed = torch.tensor([weights(chunk) for chunk in text.chunks], device=context.device)
        return emphasis.apply("comfyui", context, typed, lambda: self.empty)

    @cached_property
    def empty(self) -> Tensor:
        """The empty prompt, (1, 77, width)."""
        return encoder_states(self.model, self.part, [()], self.clip_skip)[0]

    def padded(self, context: Tensor, count: int) -> Tensor:
        """A context with empty chunks behind it."""
        if len(context) == count:
            return context
        return torch.cat([context, *[self.empty] * (count - len(context))])

    def pooled(self, text: str) -> Tensor | None:
        """The pooled state of the text as it is typed."""
        if not self.model.family.text_encoders[self.part].pooled:
            return None
        tokens = _tokens(text, self.model.tokenizers[self.part], self.vectors)[:CHUNK]
        return encoder_states(self.model, self.part, [tokens], self.clip_skip, self.vectors)[1]


def _tokens(text: str, tokenizer: Tokenizer, vectors: Vectors) -> Chunk:
    counts = {name: len(vector) for name, vector in vectors.items()}
    return tuple(token for chunk in chunked([Piece(text)], tokenizer, counts) for token in chunk)


def _sum(contexts: Sequence[Tensor], weights: Sequence[float], is_normalised: bool = True) -> Tensor:
    """The contexts added up with these weights, which are divided by their sum if they are normalised."""
    if list(weights) == [1.0]:
        return contexts[0]
    total = math.fsum(weights) if is_normalised else 1.0
    shares = torch.tensor([weight / total for weight in weights], device=contexts[0].device)
    return (torch.stack(list(contexts)) * shares[:, None, None, None]).sum(0)
