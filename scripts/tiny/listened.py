"""The judge's questions about the words of a picture: do its colour, its weights and its seed count?"""

import colorsys

import numpy as np
from PIL import Image

import recipe
from captions import BARE, THE, with_article
from compose import HUES, recolour
from concepts import COLOURS, CONCEPTS
from recognise import Draw, composed, features, number_of, prompt_of, ranks, shown
from sprites import sprite

WEIGHTS = (0.5, 1.5)


def colour(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the things asked for in another colour than their own whose most frequent colour that is."""
    asked = _coloured(names, seeds, 2)
    pictures = draw([with_article(f"{hue} {name}") for name, hue, _ in asked], [seed for *_, seed in asked])
    real_ones = [composed({name: (0.5, recipe.PART)}, hue=hue) for name, hue, _ in asked]
    for what, some in (("drawn", pictures), ("real", np.stack(real_ones))):
        shares = [hues_of(picture) for picture in some]
        right = [max(share, key=share.get) == hue for share, (_, hue, _) in zip(shares, asked, strict=True)]
        things = [rank < 5 for rank in ranks(features(some), [number_of(name) for name, *_ in asked])]
        both = np.mean(np.array(right) & np.array(things))
        print(
            f"colour: {what:6} right {np.mean(right):.3f}, thing in the first five {np.mean(things):.3f},"
            f" both {both:.3f}  ({len(asked)} pictures)"
        )
    print(f"colour: chance {1 / len(HUES):.3f}")


def weight(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the pictures in which `(blue:1.5) car` is bluer than `(blue:0.5) car`; by how much of the thing."""
    asked, blue = _coloured(names, seeds, 1), []
    for weight in WEIGHTS:
        prompts = [with_article(f"{hue} {name}").replace(hue, f"({hue}:{weight})") for name, hue, _ in asked]
        pictures = draw(prompts, [seed for *_, seed in asked])
        blue.append(np.array([hues_of(picture)[hue] for picture, (_, hue, _) in zip(pictures, asked, strict=True)]))
    more = blue[1] - blue[0]
    print(
        f"weight: {WEIGHTS[1]} shows the colour more than {WEIGHTS[0]} in {np.mean(more > 0.02):.3f}, less in"
        f" {np.mean(more < -0.02):.3f}; on {blue[0].mean():.3f} and {blue[1].mean():.3f} of the thing"
        f"  ({2 * len(asked)} pictures)"
    )


def pose(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the pictures at other seeds in which the thing is mirrored or stands elsewhere."""
    some, other = names[:: max(1, len(names) // 16)], []
    prompts = [prompt_of(name) for name in some]
    first, *rest = [draw(prompts, [seed] * len(prompts)) for seed in (*seeds, *(seed + 1000 for seed in seeds))]
    for pictures in rest:
        other += [_posed(a, b) for a, b in zip(first, pictures, strict=True)]
    mirrored, moved = np.array(other).T
    print(
        f"pose: mirrored {mirrored.mean():.3f}, moved {moved.mean():.3f}, either {(mirrored | moved).mean():.3f}"
        f"  ({len(other)} pictures)"
    )


def hues_of(picture: np.ndarray) -> dict[str, float]:
    """colour word -> the fraction of what is drawn on white that is nearest to it; grey is nearest to none."""
    small = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BOX))
    seen = [colorsys.rgb_to_hsv(*pixel) for pixel in small[shown(picture)] / 255]
    table = np.array(list(HUES.values()))
    nearest = [np.abs((hue - table + 0.5) % 1 - 0.5).argmin() for hue, vivid, value in seen if min(vivid, value) > 0.25]
    counts = np.bincount(np.array(nearest, int), minlength=len(HUES))
    return dict(zip(HUES, (counts / max(len(seen), 1)).tolist(), strict=True))


def _coloured(names: list[str], seeds: list[int], each: int) -> list[tuple[str, str, int]]:
    """(thing, a colour that is not its own, seed), of things that can be recoloured and have one drawing."""
    told = [
        name
        for name in names
        if name not in BARE | THE and recolour(sprite(recipe.UNSAID, CONCEPTS[name][0][0]), "red") is not None
    ]
    asked = []
    for seed in seeds:
        for i, hue in enumerate(HUES):
            others = [name for name in told if all(COLOURS.get(emoji) != hue for emoji in CONCEPTS[name][0])]
            asked += [(others[(7 * i + 13 * k + seed) % len(others)], hue, seed) for k in range(2 * each)]
    return asked


def _posed(first: np.ndarray, other: np.ndarray) -> tuple[bool, bool]:
    """(mirrored, moved): whether the mirror image is nearer; and whether it stands more than a sixteenth elsewhere."""
    a, b = (np.asarray(Image.fromarray(x).resize((64, 64)), float) for x in (first, other))
    mirrored = np.square(a[:, ::-1] - b).mean() < 0.8 * np.square(a - b).mean()
    middles = [np.argwhere(shown(x)).mean(0) for x in (first, other)]
    return bool(mirrored), bool(np.abs(middles[0] - middles[1]).max() > 4)
