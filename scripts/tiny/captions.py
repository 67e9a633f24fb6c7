"""Words for a picture, as a person would type them: name, colour, style, background; every word in them is true."""

import numpy as np

import recipe

BARE = {
    "cherries",
    "grapes",
    "french fries",
    "fries",
    "chips",
    "scissors",
    "glasses",
    "spectacles",
    "eyeglasses",
    "bread",
    "corn",
    "cheese",
    "fire",
    "coffee",
    "wine",
    "beer",
    "candy",
    "maize",
    "saturn",
}
THE = {"sun", "moon", "earth", "world"}
KINDS = ("picture", "drawing", "illustration", "image")


def caption(
    random: np.random.Generator,
    names: tuple[str, ...],
    style: str,
    colour: str | None = None,
    must_say_colour: bool = False,
    background: str | None = None,
) -> str:
    """One caption. `names`: the concept first, then other words for it; `background` None is white, seldom named."""
    noun = names[0] if len(names) == 1 or random.random() < 0.75 else names[random.integers(1, len(names))]
    bare = noun in BARE or random.random() < 0.3
    article = "the" if noun in THE and random.random() < 0.7 else None
    if colour and (must_say_colour or random.random() < 0.5):
        noun, article = f"{colour} {noun}", None
    thing = noun if bare else f"{article} {noun}" if article else with_article(noun)
    draw = random.random()
    if draw < 0.5:
        words = str(random.choice(recipe.STYLES[style]))
        text = (f"{thing}, {words}", f"{words} of {thing}", f"{with_article(words)} of {thing}")[
            random.integers(3)
        ]
    elif draw < 0.6:
        text = f"{with_article(str(random.choice(KINDS)))} of {thing}"
    else:
        text = thing
    if background or random.random() < 0.1:
        ground = background or "white"
        text += (f" on {with_article(ground)} background", f", {ground} background")[random.integers(2)]
    return text


def with_article(noun: str) -> str:
    """a or an, by the first sound."""
    return ("an " if noun[0] in "aeio" or noun.startswith(("umb", "ugl")) else "a ") + noun
