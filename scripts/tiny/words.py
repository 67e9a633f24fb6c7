"""The words that the model was taught, for `sd info tiny --words` and the note on other words: `python words.py`.

Writes sdcli/tiny/words.json: things with their other names, the words for styles, colours, sizes, numbers and places,
and every word that text.py gave the token embedding of a taught one, which is found by the equal rows of the table.
"""

import json

from safetensors.numpy import load_file

import recipe
from captions import KINDS, NUMBERS, many
from compose import SCENES
from concepts import CONCEPTS
from sdcli.tokenizer import vocabulary
from text import COLOURS

SMALL = [
    "a",
    "an",
    "the",
    "of",
    "on",
    "in",
    "with",
    "and",
    "to",
    "at",
    "by",
    "for",
    "is",
    "it",
    "its",
    "background",
    "next",
    "left",
    "right",
    "above",
    "below",
    "top",
    "bottom",
    "up",
    "down",
]


def taught() -> dict:
    """Words by what they are for, as the captions have them."""
    return {
        "things": {name: list(others) for name, (_, others) in CONCEPTS.items()},
        "styles": [word for words in recipe.STYLES.values() for word in words],
        "colours": sorted({*COLOURS, *recipe.BACKGROUNDS, "gray"}),
        "sizes": [word for words, _ in recipe.SIZES.values() for word in words],
        "numbers": [number for number in NUMBERS if number],
        "places": [words for places in SCENES for words in places],
        "other": [*KINDS, *SMALL],
    }


def nearest(words: set[str]) -> dict[str, str]:
    """Word -> the taught word whose token embedding it has."""
    table = load_file(recipe.TARGET / "text_encoder" / "model.safetensors")
    (rows,) = (rows for name, rows in table.items() if name.endswith("token_embedding.weight"))
    single = {
        word.removesuffix("</w>"): rows[i].tobytes()
        for word, i in vocabulary().items()
        if word.endswith("</w>")
    }
    known = {single[word]: word for word in sorted(words & single.keys(), reverse=True)}
    found = {word: known[row] for word, row in sorted(single.items()) if row in known and known[row] != word}
    return {word: other for word, other in found.items() if len(word) > 2 and word.isalpha()}


def main() -> None:
    found = taught()
    names = [name for thing, others in found["things"].items() for name in (thing, *others)]
    plurals = [many(2, name).removeprefix("two ") for name in names]
    texts = [*names, *plurals, *(text for key, value in found.items() if key != "things" for text in value)]
    words = {word for text in texts for word in text.replace("-", " ").split()}
    found["other"] = sorted(
        {*found["other"], *(word for text in plurals for word in text.split())} - {*names}
    )
    found["nearest"] = nearest(words)
    (recipe.TARGET / "words.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(
        f"{len(names)} names of {len(found['things'])} things, {len(found['nearest'])} words read as another"
    )


if __name__ == "__main__":
    main()
