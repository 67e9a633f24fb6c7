"""Captions as a person would type them, with name, colour, style and background; every word of them is true."""

import numpy as np

import recipe

BARE = {
    "beer",
    "blueberries",
    "bread",
    "broccoli",
    "candy",
    "cheese",
    "cherries",
    "chips",
    "chocolate",
    "coffee",
    "corn",
    "eyeglasses",
    "fire",
    "french fries",
    "fries",
    "glasses",
    "grapes",
    "lightning",
    "maize",
    "milk",
    "pancakes",
    "popcorn",
    "saturn",
    "scissors",
    "spectacles",
    "sushi",
    "wine",
}
THE = {"sun", "moon", "earth", "world"}
KINDS = ("picture", "drawing", "illustration", "image")
NUMBERS = ("", "one", "two", "three", "four")
PLURALS = {  # unless the plural is the last word with s or es
    "bunch of grapes": "bunches of grapes",
    "cactus": "cacti",
    "chocolate bar": "chocolate bars",
    "coffee": "cups of coffee",
    "cup of coffee": "cups of coffee",
    "deer": "deer",
    "fish": "fish",
    "maple leaf": "maple leaves",
    "mouse": "mice",
    "sheep": "sheep",
    "wolf": "wolves",
}


def named(random: np.random.Generator, names: tuple[str, ...], colour: str | None = None) -> str:
    """The thing in words: `an apple`, `apple`, `a red apple`, `the sun`. `names`: the concept, then synonyms."""
    noun = names[0] if len(names) == 1 or random.random() < 0.75 else names[random.integers(1, len(names))]
    bare = noun in BARE or random.random() < 0.3
    article = "the" if noun in THE and random.random() < 0.7 else None
    if colour:
        noun, article = f"{colour} {noun}", None
    return noun if bare else f"{article} {noun}" if article else with_article(noun)


def styled(random: np.random.Generator, thing: str, style: str) -> str:
    """The thing with words for its style. The default style may go unnamed, at times with `a picture of`."""
    draw = random.random() * (1 if style == recipe.UNSAID else 0.3)
    if draw < 0.3:
        words = str(random.choice(recipe.STYLES[style]))
        forms = (f"{thing}, {words}", f"{words} of {thing}", f"{with_article(words)} of {thing}")
        return forms[random.integers(3)]
    return f"{with_article(str(random.choice(KINDS)))} of {thing}" if draw < 0.4 else thing


def grounded(random: np.random.Generator, text: str, background: str | None) -> str:
    """Words for the background; None is white, which is seldom named."""
    if background or random.random() < 0.1:
        ground = background or "white"
        text += (f" on {with_article(ground)} background", f", {ground} background")[random.integers(2)]
    return text


def many(count: int, noun: str, colour: str | None = None) -> str:
    """`three apples`, `two red apples`."""
    if noun in PLURALS:
        plural = PLURALS[noun]
    elif noun.endswith(("s", "x", "ch", "sh")):
        plural = f"{noun}es"
    elif noun.endswith("y") and noun[-2] not in "aeiou":
        plural = f"{noun[:-1]}ies"
    else:
        plural = f"{noun}s"
    return f"{NUMBERS[count]} {colour} {plural}" if colour else f"{NUMBERS[count]} {plural}"


def doubled(noun: str, above: bool, colour: str | None = None) -> str:
    """Two of one thing beside each other, or one above the other: `two red apples`, `a red apple above a red apple`."""
    if noun not in BARE | THE and not above:
        return many(2, noun, colour)
    one = with_article(f"{colour} {noun}" if colour else noun)
    return f"{one} {'above' if above else 'next to'} {one}"


def placed(thing: str, side: str) -> str:
    """A thing on one side of the picture: left, right, top or bottom."""
    return f"{thing} {'at' if side in ('top', 'bottom') else 'on'} the {side}"


def paired(random: np.random.Generator, first: str, second: str, above: bool) -> str:
    """Two things and how they are placed, the first on the left or above. Each caption has one picture only."""
    if random.random() < 0.06:  # seldom: a causal encoder cannot know it when it reads the first name
        return f"{second} below {first}" if above else f"{second} to the right of {first}"
    if above:
        return f"{first} above {second}"
    return f"{first} {('next to', 'next to', 'and', 'to the left of')[random.integers(4)]} {second}"


def with_article(noun: str) -> str:
    """`a` or `an`, whichever the first sound needs."""
    return ("an " if noun[0] in "aeio" or noun.startswith(("umb", "ugl", "hour")) else "a ") + noun
