from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from sdcli import settings
from sdcli.checkpoints import checkpoint, embeddings
from sdcli.checkpoints.recorded import recorded
from sdcli.commands._options import options_given, options_of, prompt_argument
from sdcli.commands._streams import print_note, print_result, shows_colours
from sdcli.request import loras
from sdcli.request.prompt import chunks, notes, reading
from sdcli.request.prompt.chunks import Chunk, Token
from sdcli.request.prompt.emphases import EMPHASIS_OF
from sdcli.request.prompt.pieces import Piece
from sdcli.request.request import Request
from sdcli.tokenizer import CHUNK, Tokenizer

MAX_WIDTH = 110  # columns; fewer on a narrower terminal
MAX_SPANS = 5  # spans of steps that are shown of one text


@click.command()
@prompt_argument
@options_of(
    "model",
    "steps",
    "sampler",
    "like",
    "emphasis",
    "embedding",
    "seed",
    "style",
    "styles_file",
    "wildcards",
    "variants",
    "revision",
)
@click.option("--unconditional", is_flag=True, help="Show the tokens of an empty prompt.")
@click.option("--negative", "negative", is_flag=True, help="Read PROMPT as a negative prompt.")
@click.option(
    "--first-pass", type=click.IntRange(1, 1000), default=None,
    help="Steps of the first pass, to see what the prompt is in the second pass of --hires.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def tokens(negative: bool, first_pass: int | None, as_json: bool, **values: Any) -> None:
    """Show what PROMPT is to the text encoder: its parts, steps, weights and tokens.

    PROMPT - reads it from standard input. Nothing is loaded but the header of the model. A chunk holds 75 tokens; a
    longer prompt takes several. Of {red|blue} and wildcards, it shows what --seed draws, or else seed 0.
    """
    asked = Request(**options_given(values))
    seeded = asked if asked.seed is not None else asked.replace(seed=0)
    request = recorded(seeded, settings.network_folders("embeddings"))
    bundles = list(map(loras.path_of, request.lora))
    learned = embeddings.counts(embeddings.spelled(request.embedding, bundles))
    found = checkpoint.read_for(request.loading)
    embeddings.check_fit(found, request.embedding, bundles)
    family = found.family
    emphasis = request.emphasis or EMPHASIS_OF.get(request.like, family.emphasis)
    language = reading.dialect(emphasis, request.like)
    sampler = (request.sampler or family.sampler).partition(":")[0]
    timeline = language.timeline(sampler, request.steps or family.steps, first_pass or 0)
    tokenizer = next(iter(found.tokenizers.values()))
    parts = [
        _part(part, language, tokenizer, learned)
        for part in reading.read(request.prompt, language, timeline, negative)
    ]
    told = [
        *_counted_otherwise(language, sampler, any(len(part["schedule"]) > 1 for part in parts)),
        *notes.taken_for_words(language, request.prompt),
        *notes.notes(request.prompt, language, timeline, tokenizer, learned),
    ]
    if as_json:
        facts = {
            "emphasis": emphasis,
            "like": request.like,
            "steps": timeline.steps,
            "lora": request.lora,
            "hypernet": request.hypernet,
            "parts": parts,
            "notes": told,
        }
        print_result(json.dumps(facts))
        return
    is_coloured = shows_colours()
    for kind in ("lora", "hypernet"):
        for file in getattr(request, kind):
            print_result(f"{kind}: {file}")
    for line in _lines(parts):
        print_result(line if is_coloured else click.unstyle(line))
    for note in told:
        print_note(note)


def _part(
    part: reading.Part, language: reading.Dialect, tokenizer: Tokenizer, learned: Mapping[str, int]
) -> dict[str, Any]:
    """A part as JSON: its weight, and for each of its texts the last step, the pieces and the chunks."""
    entries = [(entry.until, entry.text, language.pieces(entry.text)) for entry in part.entries]
    return {
        "text": part.text,
        "weight": part.weight,
        "schedule": [
            {
                "until": until,
                "text": text,
                "pieces": pieces,
                **_chunks(language.chunked(pieces, tokenizer, learned), pieces, tokenizer),
            }
            for until, text, pieces in entries
        ],
    }


def _chunks(found: Sequence[Chunk], pieces: Sequence[Piece], tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "count": chunks.count(pieces, found),
        "chunks": [
            {
                "ids": chunks.ids(chunk, tokenizer.pad),
                "weights": chunks.weights(chunk),
                "words": _words(chunk, tokenizer),
            }
            for chunk in found
        ],
    }


def _words(chunk: Chunk, tokenizer: Tokenizer) -> list[str]:
    """What each token of a chunk stands for."""
    return [_word(token, tokenizer) for token in chunk]


def _word(token: Token, tokenizer: Tokenizer) -> str:
    return f"{token.embedding}[{token.vector + 1}]" if token.embedding else tokenizer.word(token.id)


# --- for people


def _lines(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The parts, a line for each chunk and for what it belongs to."""
    for number, part in enumerate(parts, 1):
        if len(parts) > 1 or part["weight"] != 1:
            yield f"part {number} of {len(parts)}, weight {part['weight']:g}"
        for entry, steps in _distinct(part["schedule"]):
            if len(part["schedule"]) > 1:
                yield f"{steps}: {' '.join(entry['text'].split()) or '(empty)'}"
            yield from _chunk_lines(entry)


def _counted_otherwise(language: reading.Dialect, sampler: str, changes: bool) -> Iterator[str]:
    """How the steps of changing words are counted, where that is not a step each from the first on."""
    if changes and sampler in language.evaluations:
        yield f"A1111 counts the evaluations of the network, two for each step of {sampler}; these are shown as steps"
    if changes and language.from_zero:
        yield "A1111 takes its first step for step 0, so each change comes one step later than shown"


def _distinct(schedule: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each text of a schedule once, with the steps in which it counts, such as `steps 1-8, 12`."""
    first, spans = 1, dict[str, list[str]]()
    for entry in schedule:
        until = entry["until"]
        spans.setdefault(entry["text"], []).append(f"{first}-{until}" if until > first else str(until))
        first = until + 1
    for text, found in spans.items():
        shown = [*found[:MAX_SPANS], "…"] if len(found) > MAX_SPANS + 1 else found
        yield next(entry for entry in schedule if entry["text"] == text), f"steps {', '.join(shown)}"


def _chunk_lines(entry: Mapping[str, Any]) -> Iterator[str]:
    for number, chunk in enumerate(entry["chunks"], 1):
        count = len(chunk["words"])
        name = f"chunk {number} of {len(entry['chunks'])}" if len(entry["chunks"]) > 1 else "chunk"
        yield click.style(f"{name}: {count} of {CHUNK} tokens", bold=True)
        texts = zip(chunk["words"], chunk["ids"][1:], chunk["weights"][1:], strict=False)
        width = min(shutil.get_terminal_size((MAX_WIDTH, 20)).columns, MAX_WIDTH)
        line = " ".join(_token(*text).replace(" ", "\0") for text in texts)
        for wrapped in textwrap.wrap(
            line, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        ):
            yield _coloured(wrapped.replace("\0", " "))


def _token(word: str, id: int, weight: float) -> str:
    return f"{word}·{id}" + (f"·x{weight:.4g}" if weight != 1 else "")


def _coloured(line: str) -> str:
    """The line, with the weights above 1 in yellow and those below in blue."""

    def colour(text: str) -> str:
        _, is_weighted, weight = text.rpartition("·x")
        if not is_weighted:
            return text
        return click.style(text, fg="yellow" if float(weight) > 1 else "blue")

    return " ".join(map(colour, line.split(" ")))
