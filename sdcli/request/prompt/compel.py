"""Compel: prompts in the language of the compel library, `word++`, `(phrase)1.3`, `("a", "b").blend(1, 0.5)`.

    prompt   = "(" text ("," text)* ")" (".and" | ".blend") "(" weights ")"
             | (weighted | swap | quoted | group | words)*
    text     = quoted | group | word
    weighted = (quoted | group) (signs | number)  |  word signs  |  text ".attend" "(" (signs | number) ")"
    swap     = text ".swap" "(" … ")"
    group    = "(" (weighted | swap | group | quoted | word | "," | ".")* ")"
    quoted   = '"' (what stands in a group) '"'
    signs    = "+"+ | "-"+

Each + is 1.1 times and each - 0.9 times, and weights multiply. No blank stands before signs or a number. What cannot be
read so are words, up to the next blank. A backslash takes one of ( ) " as a character.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Union

from sdcli.errors import UsageError
from sdcli.request.prompt.pieces import Piece

PLUS, MINUS = 1.1, 0.9
MAX_DEPTH = 100  # brackets inside each other; deeper ones are words
MAX_SIGNS = 1000  # more would overflow a float

_BLANKS = " \t\n\r\v\f"
_WORD = re.compile(rf'(?:\\[()",.+=-]|[+-](?=[^{_BLANKS}()",.+=-])|[^{_BLANKS}()",.+=-])+')
_FREE_WORDS = re.compile(rf"[^{_BLANKS}]+")
_QUOTED = re.compile(r'"((?:\\"|[^"\n\r])*)"')
_SIGNS = re.compile(r"\++|-+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)|-?[0-9]+")
_KEYWORD = re.compile(r"[A-Za-z0-9_-]+")
_OPERATOR = re.compile(rf"\)[{_BLANKS}]*(\.and|\.add|\.blend)")
_LORA = re.compile(rf"(?:useLora|withLora)\s*\(\s*[A-Za-z0-9_-]+\s*(?:,\s*(?:{_NUMBER.pattern})\s*)?\)")


@dataclass(frozen=True)
class Blend:
    """Texts, as their pieces, whose encodings are added up with these weights. A plain text is a blend of one."""

    texts: tuple[tuple[Piece, ...], ...]
    weights: tuple[float, ...] = (1.0,)
    is_normalised: bool = True
    """The weights are divided by their sum."""


@dataclass(frozen=True)
class Conjunction:
    """Blends whose encodings follow each other, each with a weight. A prompt without `.and()` has one."""

    parts: tuple[Blend, ...]
    weights: tuple[float, ...] = (1.0,)
    swaps: tuple[str, ...] = ()
    """The `.swap(…)` in it, which compel reads but ignores: the picture is that of the words in front."""


def parse(prompt: str) -> Conjunction:
    """What a prompt means in compel's language; an empty one is one empty piece.

    Raises UsageError for `.blend` or `.and` with weights that are no numbers or of another count than the texts, or
    with words behind it, for a `.swap` in a blend, and for `withLora`.
    """
    reader = _Reader(re.sub(r",([^\s])", r", \1", prompt))
    if found := reader.operation():
        return _operation(*found)
    nodes = reader.prompt()
    _refuse_loras(nodes)
    return Conjunction((Blend((_joined(nodes) or (Piece(""),),)),), swaps=tuple(_swaps(nodes)))


def _operation(operator: str, texts: Sequence[Nodes], options: Sequence[str]) -> Conjunction:
    """The meaning of `(texts).and(options)` or `(texts).blend(options)`."""
    is_blend = operator == ".blend"
    is_normalised = not (is_blend and options[-1:] == ["no_normalize"])
    weights = tuple(_weight(operator, option) for option in (options if is_normalised else options[:-1]))
    weights = weights or (1.0,) * len(texts)
    if len(weights) != len(texts):
        raise UsageError(
            f"{operator}(…) has {len(weights)} weights for {len(texts)} texts; give one for each text"
        )
    for nodes in texts:
        _refuse_loras(nodes)
    if is_blend and is_normalised and math.fsum(weights) == 0:
        raise UsageError(f"the weights of {operator}(…) add up to 0; give others, or add no_normalize")
    swaps = tuple(swap for nodes in texts for swap in _swaps(nodes))
    if is_blend and swaps:
        raise UsageError(f"{swaps[0]} cannot stand in a .blend(…); leave it out")
    read = [
        (pieces, weight) for nodes, weight in zip(texts, weights, strict=True) if (pieces := _joined(nodes))
    ]
    if len(read) < len(texts):
        raise UsageError(f"{operator}(…) has a text without words; leave it out")
    if is_blend:
        return Conjunction((Blend(tuple(pieces for pieces, _ in read), weights, is_normalised),))
    return Conjunction(tuple(Blend((pieces,)) for pieces, _ in read), weights, swaps)


def _weight(operator: str, typed: str) -> float:
    try:
        weight = float(typed)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise UsageError(f"{operator}(… {typed} …): {typed} is no weight; give a number")
    return weight


# --- what is read


@dataclass(frozen=True)
class _Weighted:
    nodes: Nodes
    weight: float


@dataclass(frozen=True)
class _Swap:
    original: Nodes
    typed: str


@dataclass(frozen=True)
class _Lora:
    typed: str


Node = Union[Piece, "_Weighted", _Swap, _Lora]
Nodes = tuple[Node, ...]


def _joined(nodes: Nodes) -> tuple[Piece, ...]:
    """The pieces of nodes, neighbours of equal weight joined by a blank; what a swap replaces stays by itself."""
    pieces: list[Piece] = []
    is_apart = True
    for piece in _pieces(nodes, 1.0):
        if piece is None:
            is_apart = True
        elif not is_apart and pieces[-1].weight == piece.weight:
            pieces[-1] = Piece(f"{pieces[-1].text} {piece.text}", piece.weight)
        else:
            pieces.append(piece)
            is_apart = False
    return tuple(pieces)


def _pieces(nodes: Nodes, weight: float) -> Iterator[Piece | None]:
    """The pieces in nodes of this weight, with None where a swap begins and ends."""
    for node in nodes:
        if isinstance(node, Piece):
            yield Piece(node.text, node.weight * weight)
        elif isinstance(node, _Weighted):
            yield from _pieces(node.nodes, weight * node.weight)
        elif isinstance(node, _Swap):
            yield None
            yield from _pieces(node.original or (Piece(""),), weight)
            yield None


def _swaps(nodes: Nodes) -> Iterator[str]:
    return (node.typed for node in _all(nodes) if isinstance(node, _Swap))


def _refuse_loras(nodes: Nodes) -> None:
    for node in _all(nodes):
        if isinstance(node, _Lora):
            raise UsageError(f"{node.typed}: a LoRA cannot be named so in a prompt; leave it out")


def _all(nodes: Nodes) -> Iterator[Node]:
    """The nodes and those inside of them."""
    for node in nodes:
        yield node
        if isinstance(node, _Weighted):
            yield from _all(node.nodes)
        elif isinstance(node, _Swap):
            yield from _all(node.original)


# --- reading


def _piece(word: str) -> Piece:
    return Piece(re.sub(r'\\+([()"])', r"\1", word))


class _Reader:
    """Reads a text. Each method gives what it finds at a position and where that ends, or None."""

    def __init__(self, text: str, depth: int = 0) -> None:
        self.text = text
        self.depth = depth
        self.known: dict[tuple[int, bool], tuple[Nodes, int]] = {}

    def operation(self) -> tuple[str, list[Nodes], list[str]] | None:
        """(.and or .blend, its texts, its options), of a prompt that is one; raises UsageError if words follow it."""
        position = self._after("(", 0)
        texts: list[Nodes] = []
        while position is not None:
            if (text := self._text(position) or self._quoted_prompt(position)) is None:
                return None
            texts.append(text[0])
            end, position = text[1], self._after(",", text[1])
        operator = _OPERATOR.match(self.text, self._skip(end)) if texts else None
        if operator is None or (found := self._arguments(operator.end())) is None:
            return None
        options, end = found
        name = ".blend" if operator[1] == ".blend" else ".and"
        if behind := self.text[end:].strip():
            raise UsageError(f"{name}(…) must be the end of the prompt; {behind!r} stands behind it")
        return name, texts, options

    def prompt(self) -> Nodes:
        """All of the text; what has no other meaning are words."""
        nodes: list[Node] = []
        position = self._skip(0)
        while position < len(self.text):
            found = self._lora(position) or self._item(position, takes_words=False)
            if found is None:
                words = _FREE_WORDS.match(self.text, position)
                assert words is not None, "blanks were skipped"
                found = (_piece(words[0]),), words.end()
            nodes.extend(found[0])
            position = self._skip(found[1])
        return tuple(nodes)

    def items(self, position: int, punctuation: bool = True) -> tuple[Nodes, int]:
        """As much as may stand in a group, and where it ends."""
        nodes: list[Node] = []
        while True:
            found = self._lora(position) or self._item(position)
            if found is None and punctuation:
                found = self._punctuation(position)
            if found is None:
                return tuple(nodes), position
            nodes.extend(found[0])
            position = found[1]

    def _item(self, position: int, takes_words: bool = True) -> tuple[Nodes, int] | None:
        """A text, with its weight or its swap if it has one; a word without them only if `takes_words`."""
        position = self._skip(position)
        if (found := self._text(position)) is None:
            return None
        nodes, end = found
        is_word = self.text[position] not in '("'
        if weight := self._sign_or_number(end, signs_only=is_word):
            return (_Weighted(nodes, weight[0]),), weight[1]
        operated = None
        if (start := self._after(".attend", end)) is not None:
            operated = self._attended(nodes, start)
        elif (start := self._after(".swap", end)) is not None:
            operated = self._swapped(nodes, position, start)
        return operated or (None if is_word and not takes_words else found)

    def _attended(self, nodes: Nodes, position: int) -> tuple[Nodes, int] | None:
        if (inside := self._after("(", position)) is None:
            return None
        if (weight := self._sign_or_number(self._skip(inside))) is None:
            return None
        end = self._after(")", weight[1])
        return None if end is None else ((_Weighted(nodes, weight[0]),), end)

    def _swapped(self, nodes: Nodes, start: int, position: int) -> tuple[Nodes, int] | None:
        if (found := self._in_brackets(position, punctuation=False)) is None:
            return None
        _, end = found
        if (more := self._after(",", end)) is not None:
            end = self._options(more)[1]
        if (closed := self._after(")", end)) is None:
            return None
        return (_Swap(nodes, self.text[start:closed]),), closed

    def _sign_or_number(self, position: int, signs_only: bool = False) -> tuple[float, int] | None:
        if signs := _SIGNS.match(self.text, position):
            count = min(len(signs[0]), MAX_SIGNS)
            return (PLUS if signs[0][0] == "+" else MINUS) ** count, signs.end()
        number = None if signs_only else _NUMBER.match(self.text, position)
        return (float(number[0]), number.end()) if number else None

    def _text(self, position: int) -> tuple[Nodes, int] | None:
        return self._quoted(position) or self._group(position) or self._word(position)

    def _word(self, position: int) -> tuple[Nodes, int] | None:
        word = _WORD.match(self.text, self._skip(position))
        return ((_piece(word[0]),), word.end()) if word else None

    def _punctuation(self, position: int) -> tuple[Nodes, int] | None:
        position = self._skip(position)
        mark = self.text[position : position + 1]
        return ((Piece(mark),), position + 1) if mark in (",", ".") else None

    def _group(self, position: int) -> tuple[Nodes, int] | None:
        if (found := self._in_brackets(position)) is None:
            return None
        nodes, end = found
        closed = self._after(")", end)
        return None if closed is None else (nodes, closed)

    def _in_brackets(self, position: int, punctuation: bool = True) -> tuple[Nodes, int] | None:
        """What stands behind a round bracket. It is read only once: nested ones would be read 2^depth times."""
        if (inside := self._after("(", position)) is None:
            return None
        if (inside, punctuation) not in self.known:
            if self.depth == MAX_DEPTH:
                return None
            self.depth += 1
            self.known[inside, punctuation] = self.items(inside, punctuation)
            self.depth -= 1
        return self.known[inside, punctuation]

    def _quoted(self, position: int) -> tuple[Nodes, int] | None:
        if (quoted := self._quotes(position)) is None:
            return None
        text, end = quoted
        reader = _Reader(text, self.depth)
        nodes, read = reader.items(0)
        if text[read:].strip(_BLANKS):
            return None
        return (nodes if text.strip(_BLANKS) else (Piece(""),)), end

    def _quoted_prompt(self, position: int) -> tuple[Nodes, int] | None:
        """Quotes in which any words stand."""
        quoted = self._quotes(position)
        return None if quoted is None else (_Reader(quoted[0], self.depth).prompt(), quoted[1])

    def _quotes(self, position: int) -> tuple[str, int] | None:
        """What stands in quotes. In compel, \\n and the like are blanks there."""
        quoted = _QUOTED.match(self.text, self._skip(position))
        return (re.sub(r"\\[tnfr]", " ", quoted[1]), quoted.end()) if quoted else None

    def _arguments(self, position: int) -> tuple[list[str], int] | None:
        """The options in round brackets."""
        if (inside := self._after("(", position)) is None:
            return None
        options, end = self._options(inside)
        closed = self._after(")", end)
        return None if closed is None else (options, closed)

    def _options(self, position: int) -> tuple[list[str], int]:
        """The numbers and names of options, without the values of names."""
        options: list[str] = []
        end, start = position, position
        while found := self._option(start):
            name, end = found
            options.append(name)
            behind = self._after(",", end)
            if behind is None:
                break
            start = behind
        return options, end

    def _option(self, position: int) -> tuple[str, int] | None:
        position = self._skip(position)
        name, number = _KEYWORD.match(self.text, position), _NUMBER.match(self.text, position)
        if name and (value := self._after("=", name.end())) is not None:
            value = self._skip(value)
            typed = _NUMBER.match(self.text, value) or _KEYWORD.match(self.text, value)
            if typed:
                return name[0], typed.end()
        chosen = number or name
        return (chosen[0], chosen.end()) if chosen else None

    def _lora(self, position: int) -> tuple[Nodes, int] | None:
        lora = _LORA.match(self.text, self._skip(position))
        return ((_Lora(lora[0]),), lora.end()) if lora else None

    def _after(self, mark: str, position: int) -> int | None:
        """The position behind a mark that comes next; None if something else does."""
        position = self._skip(position)
        return position + len(mark) if self.text.startswith(mark, position) else None

    def _skip(self, position: int) -> int:
        """The position of the next character that is no blank."""
        while position < len(self.text) and self.text[position] in _BLANKS:
            position += 1
        return position
