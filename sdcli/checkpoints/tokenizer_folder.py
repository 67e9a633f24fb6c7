"""Tokenizer folder: what the tokenizer of a diffusers folder adds to CLIP's, and the files of such a folder.

transformers has written these settings into five files over the years: vocab.json, merges.txt, added_tokens.json,
special_tokens_map.json and tokenizer_config.json, or into tokenizer.json and tokenizer_config.json. Whatever is there
is read. What it says of the padding and of added words is used; any other vocabulary is refused, as are two files that
contradict each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sdcli.checkpoints.component import read_config
from sdcli.errors import ModelError
from sdcli.tokenizer import (
    BEGIN_WORD,
    CHUNK,
    END_WORD,
    AddedWord,
    Tokenizer,
    merges,
    vocabulary,
)

CONFIG, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
VOCABULARY, MERGES, WHOLE = "vocab.json", "merges.txt", "tokenizer.json"
FILES = (CONFIG, SPECIAL, ADDED, VOCABULARY, MERGES, WHOLE)
"""The files of a tokenizer's folder that are read."""

MAX_BYTES = 50_000_000  # of one of them; the published ones have up to 4 MB
MAX_WORD = 1000  # letters of an added word
_CLASSES = (None, "CLIPTokenizer", "CLIPTokenizerFast")
_ADVICE = "only CLIP's vocabulary with words added to it is known here"

_ONLY: Mapping[str, tuple[Any, ...]] = {
    "tokenizer_class": _CLASSES,
    "padding_side": (None, "right"),
    "truncation_side": (None, "left", "right"),  # nothing is ever cut here
    "bos_token": (None, BEGIN_WORD),
    "eos_token": (None, END_WORD),
    "cls_token": (None, BEGIN_WORD),
    "sep_token": (None, END_WORD),
    "mask_token": (None,),
}
"""Settings -> the values that mean what is done here."""
_USED = ("pad_token", "added_tokens_decoder", "model_max_length")
_HARMLESS = frozenset(
    [
        # CLIP's tokenizer reads none of these: it always writes small letters, and knows every byte
        "add_prefix_space",
        "do_lower_case",
        "errors",
        "unk_token",
        # about the files, and about other tasks
        "additional_special_tokens",  # they are among the added words, or in the vocabulary; that is checked
        "extra_special_tokens",
        "backend",
        "chat_template",
        "clean_up_tokenization_spaces",
        "is_local",
        "local_files_only",
        "name_or_path",
        "pad_to_multiple_of",
        "pad_token_type_id",
        "processor_class",
        "return_token_type_ids",
        "special_tokens_map_file",
        "tokenizer_file",
        "trim_offsets",
        "truncation",
        "max_length",
        "stride",
        "truncation_strategy",
        "use_fast",
        "split_special_tokens",
        "token",
        "trust_remote_code",
        "model_input_names",
    ]
)


def read(folder: Path, pad: int) -> Tokenizer:
    """The tokenizer of this folder; without such a folder, CLIP's that pads with the token `pad`.

    Raises ModelError for another vocabulary than CLIP's, a setting that is not known, or files that contradict each
    other.
    """
    if not folder.is_dir():
        return Tokenizer(pad=pad)
    config, special, whole = (_read_if_there(folder / name) for name in (CONFIG, SPECIAL, WHOLE))
    for path, settings in ((folder / CONFIG, config), (folder / SPECIAL, special)):
        _check_settings(path, settings)
    _check_length(folder / CONFIG, config.get("model_max_length"))
    _check_vocabulary(folder, whole)
    pad_word = _pad_word(folder, config, special)
    words = _added_words(folder, config, whole, pad_word)
    known = vocabulary() | {word.text: word.id for word in words}
    _check_special_words(folder, config, special, known)
    if pad_word not in known:
        raise ModelError(
            f"{folder}: its pad_token {pad_word[:60]!r} has no token id; name a token of its vocabulary"
        )
    return Tokenizer(known[pad_word], tuple(words))


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_config(path, MAX_BYTES) if path.is_file() else {}


# --- settings


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if key in _ONLY:
            if _word_of(value) not in _ONLY[key]:
                raise ModelError(f"{path}: {key} {_shown(value)}; {_ADVICE}")
        elif key not in _USED and key not in _HARMLESS and not key.startswith("_"):
            raise ModelError(
                f"{path}: the setting {key[:60]!r} is not known here; get another copy of the model"
            )


def _word_of(value: Any) -> Any:
    """The text of a special token, which is written by itself or with flags."""
    return value.get("content") if isinstance(value, Mapping) else value


def _shown(value: Any) -> str:
    return repr(_word_of(value))[:80]


def _check_length(path: Path, length: Any) -> None:
    """A text is always read in passes of 77 tokens; transformers writes a huge number for a length that is not set."""
    if length is not None and not (isinstance(length, int | float) and (length == CHUNK + 2 or length > 1e6)):
        raise ModelError(
            f"{path}: model_max_length {_shown(length)}, and texts are read {CHUNK + 2} tokens at once"
        )


def _check_special_words(
    folder: Path, config: Mapping[str, Any], special: Mapping[str, Any], known: Mapping[str, int]
) -> None:
    for name, settings in ((CONFIG, config), (SPECIAL, special)):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            words = settings.get(key) or []
            words = list(words.values()) if isinstance(words, Mapping) else words
            for word in map(_word_of, words if isinstance(words, list) else [words]):
                if not isinstance(word, str) or word not in known:
                    raise ModelError(f"{folder / name}: {key} has {_shown(word)}, which has no token id")


def _pad_word(folder: Path, config: Mapping[str, Any], special: Mapping[str, Any]) -> str:
    """The word of the padding; CLIP's end token if no file names one.

    Where two files differ, as those of the published Stable Diffusion 2 do, the one that transformers goes by counts:
    special_tokens_map.json, unless tokenizer_config.json was written by a version that has added_tokens_decoder.
    """
    stated = _word_of(config.get("pad_token"))
    if "added_tokens_decoder" not in config:
        stated = _word_of(special.get("pad_token")) or stated
    if stated is not None and not isinstance(stated, str):
        raise ModelError(
            f"{folder}: its pad_token {_shown(stated)} is no text; name a token of its vocabulary"
        )
    return stated or END_WORD


# --- the vocabulary


def _check_vocabulary(folder: Path, whole: Mapping[str, Any]) -> None:
    """Raise ModelError unless each file that holds a vocabulary holds CLIP's."""
    model = whole.get("model", {})
    if whole and (not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE"):
        raise ModelError(f"{folder / WHOLE}: no byte-pair vocabulary in it; {_ADVICE}")
    for name, kinds in (
        ("normalizer", ["NFC", "Replace", "Lowercase"]),
        ("pre_tokenizer", ["Split", "ByteLevel"]),
    ):
        if whole and _kinds(whole.get(name)) != kinds:
            raise ModelError(f"{folder / WHOLE}: its {name} is not that of CLIP; {_ADVICE}")
    if "vocab" in model:
        _check_words(folder / WHOLE, model["vocab"])
    if "merges" in model:
        _check_merges(folder / WHOLE, model["merges"])
    if (folder / VOCABULARY).is_file():
        _check_words(folder / VOCABULARY, read_config(folder / VOCABULARY, MAX_BYTES))
    if (folder / MERGES).is_file():
        _check_merges(folder / MERGES, _merges_of(folder / MERGES))


def _kinds(stage: Any) -> list[Any]:
    """The types of the steps of a stage of tokenizer.json."""
    if not isinstance(stage, Mapping):
        return []
    steps = stage.get("normalizers") or stage.get("pretokenizers") or [stage]
    return [step.get("type") for step in steps if isinstance(step, Mapping)]


def _check_words(path: Path, stored: Any) -> None:
    """Raise ModelError unless these are CLIP's tokens; ids behind them may be those of added words."""
    own = vocabulary()
    if not isinstance(stored, Mapping):
        raise ModelError(f"{path}: its vocabulary is no JSON object; fetch it again")
    for word, number in own.items():
        if stored.get(word) != number:
            found = "missing" if word not in stored else f"token {stored[word]!r}"[:40]
            raise ModelError(
                f"{path}: another vocabulary than CLIP's ({word!r} is {found}, not token {number}); {_ADVICE}"
            )


def _merges_of(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); fetch it again") from None
    return lines[lines[0].startswith("#version") :]


def _check_merges(path: Path, stored: Any) -> None:
    pairs = stored if isinstance(stored, list) else []
    for i, pair in enumerate(merges()):
        found = pairs[i] if i < len(pairs) else "missing"
        if found != " ".join(pair) and found != list(pair):
            raise ModelError(
                f"{path}: other merges than CLIP's (number {i + 1} is {_shown(found)}); {_ADVICE}"
            )


# --- added words


def _added_words(
    folder: Path, config: Mapping[str, Any], whole: Mapping[str, Any], pad_word: str
) -> list[AddedWord]:
    """The words that the files add to the vocabulary, by id; the first file that names a word has its flags."""
    words: dict[str, AddedWord] = {}
    numbers: dict[int, str] = {number: word for word, number in vocabulary().items()}
    for path, word in _stated_words(folder, config, whole):
        other = words.get(word.text)
        number = other.id if other else vocabulary().get(word.text, word.id)
        if number != word.id:
            raise ModelError(
                f"{path}: {word.text!r} is token {word.id} there, and {number} elsewhere; make them equal"
            )
        if numbers.setdefault(word.id, word.text) != word.text:
            raise ModelError(
                f"{path}: token {word.id} is {word.text!r} there, and {numbers[word.id]!r} elsewhere; make them equal"
            )
        if other is None:
            words[word.text] = word
    # transformers lists the special tokens too. A `!` that pads stays an ordinary `!` in a text, as it was in training.
    usual = {BEGIN_WORD, END_WORD, *([pad_word] if pad_word in vocabulary() else [])}
    return sorted((word for word in words.values() if word.text not in usual), key=lambda word: word.id)


def _stated_words(
    folder: Path, config: Mapping[str, Any], whole: Mapping[str, Any]
) -> Iterator[tuple[Path, AddedWord]]:
    """(file, word) for each word that one of the files lists as added."""
    for entry in _list_of(folder / WHOLE, whole.get("added_tokens", [])):
        yield folder / WHOLE, _word(folder / WHOLE, entry, entry.get("id"))
    decoder = config.get("added_tokens_decoder", {})
    if not isinstance(decoder, Mapping):
        raise ModelError(f"{folder / CONFIG}: added_tokens_decoder is no JSON object; fetch it again")
    for number, entry in decoder.items():
        text = entry if isinstance(entry, Mapping) else {}
        yield (
            folder / CONFIG,
            _word(folder / CONFIG, text, int(number) if re.fullmatch(r"\d{1,9}", number) else None),
        )
    for word, number in _read_if_there(folder / ADDED).items():
        yield folder / ADDED, _word(folder / ADDED, {"content": word}, number)


def _list_of(path: Path, value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise ModelError(f"{path}: added_tokens is no list of JSON objects; fetch it again")
    return value


def _word(path: Path, entry: Mapping[str, Any], number: Any) -> AddedWord:
    text = entry.get("content")
    if not isinstance(text, str) or not 0 < len(text) <= MAX_WORD or type(number) is not int or number < 0:
        raise ModelError(f"{path}: an added token without a text or an id ({_shown(text)}, {_shown(number)})")
    flags = {flag: entry[flag] is True for flag in ("single_word", "lstrip", "rstrip") if flag in entry}
    return AddedWord(text, number, normalized=entry.get("normalized", True) is not False, **flags)


# --- writing


def contents(tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files of a tokenizer's folder, by name, from which transformers loads this tokenizer."""
    words = {number: word for word, number in vocabulary().items()} | {
        word.id: word.text for word in tokenizer.added
    }
    special = {
        "bos_token": BEGIN_WORD,
        "eos_token": END_WORD,
        "unk_token": END_WORD,
        "pad_token": words[tokenizer.pad],
    }
    config: dict[str, Any] = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CHUNK + 2, **special}
    made = {
        MERGES: "\n".join(["#version: 0.2", *map(" ".join, merges()), ""]).encode(),
        SPECIAL: _json(special),
        VOCABULARY: json.dumps(vocabulary(), ensure_ascii=False).encode(),
    }
    if tokenizer.added:
        config["added_tokens_decoder"] = {str(word.id): _entry(word) for word in tokenizer.added}
        made[ADDED] = json.dumps({word.text: word.id for word in tokenizer.added}, indent=2).encode()
    return {**made, CONFIG: _json(config)}


def _entry(word: AddedWord) -> dict[str, Any]:
    return {
        "content": word.text,
        "lstrip": word.lstrip,
        "normalized": word.normalized,
        "rstrip": word.rstrip,
        "single_word": word.single_word,
        "special": False,
    }


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()
