"""The bank the UNet learns from: latents of composed pictures and captions true of each, a file for each kind.

    python bank.py [KIND ...]

Writes `bank/KIND.pt`: latents (n, 4, h, w) half, captions (n, k) -> places in `texts`.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

import recipe
from captions import BARE, THE, grounded, many, named, styled
from compose import HUES, SCENES, blocky, lay, plain, recolour
from concepts import COLOURS, CONCEPTS
from norm import hasten
from sprites import path, sprite

Random = np.random.Generator
Made = tuple[Image.Image, list[str]]
PLACES = {  # where so many things lie
    2: ((0.27, 0.5), (0.73, 0.5)),
    3: ((0.5, 0.27), (0.27, 0.72), (0.73, 0.72)),
    4: ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)),
}


@cache
def things() -> list[tuple[tuple[str, ...], str, str]]:
    """(names, style, emoji) of every sprite that is taught, some of them twice."""
    return [
        ((name, *others), style, emoji)
        for name, (emojis, others) in CONCEPTS.items()
        for emoji in emojis
        for style in (*recipe.STYLES, *recipe.TWICE)
        if style != recipe.PIXELS and path(style, emoji).exists()
    ]


def _say(one: Callable[[], str]) -> list[str]:
    return [one() for _ in range(recipe.CAPTIONS)]


def _pose(random: Random, part: tuple[float, float] = recipe.PART) -> dict[str, object]:
    middle = tuple(0.5 + random.uniform(-recipe.SHIFT, recipe.SHIFT, 2))
    return {"part": random.uniform(*part), "middle": middle, "flip": random.random() < recipe.FLIP}


def _maybe(random: Random, colour: str | None) -> str | None:
    return colour if random.random() < 0.5 else None


def _ground(random: Random, colour: str | None) -> str:
    return str(random.choice([name for name in recipe.BACKGROUNDS if str(colour) not in name.split()]))


def on_white(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made:
    picture = plain(recipe.SIZE)
    lay(picture, sprite(style, emoji), **_pose(random))
    colour = None if style == recipe.LINES else COLOURS.get(emoji)
    return picture, _say(
        lambda: grounded(
            random,
            styled(random, named(random, names, _maybe(random, colour)), style),
            None,
        ),
    )


def on_colour(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    if style == recipe.LINES:
        return None  # black lines would drown
    ground = _ground(random, COLOURS.get(emoji))
    picture = plain(recipe.SIZE, recipe.BACKGROUNDS[ground])
    lay(picture, sprite(style, emoji), **_pose(random))
    return picture, _say(
        lambda: grounded(
            random, styled(random, named(random, names, _maybe(random, COLOURS.get(emoji))), style), ground
        ),
    )


def recoloured(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    colour = str(random.choice([hue for hue in HUES if hue != COLOURS.get(emoji)]))
    turned = None if style == recipe.LINES else recolour(sprite(style, emoji), colour)
    if turned is None:
        return None
    ground = _ground(random, colour) if random.random() < 0.2 else None
    picture = plain(recipe.SIZE, recipe.BACKGROUNDS[ground] if ground else (255, 255, 255))
    lay(picture, turned, **_pose(random))
    return picture, _say(
        lambda: grounded(random, styled(random, named(random, names, colour), style), ground)
    )


def sized(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made:
    size = str(random.choice(list(recipe.SIZES)))
    words, part = recipe.SIZES[size]
    picture, colour = plain(recipe.SIZE), None if style == recipe.LINES else COLOURS.get(emoji)
    lay(picture, sprite(style, emoji), **_pose(random, part))

    def looks() -> str:
        return " ".join(filter(None, (str(random.choice(words)), _maybe(random, colour))))

    return picture, _say(lambda: styled(random, named(random, names, looks()), style))


def in_scene(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    if style == recipe.LINES:
        return None
    places = list(SCENES)[random.integers(len(SCENES))]
    picture = SCENES[places](recipe.SIZE, random)
    lay(picture, sprite(style, emoji), **_pose(random, recipe.SCENE_PART))
    return picture, _say(
        lambda: f"{styled(random, named(random, names), style)} {places[random.integers(len(places))]}"
    )


def in_pixels(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    if style == recipe.LINES:
        return None
    picture = plain(recipe.SIZE)
    lay(picture, sprite(style, emoji), **_pose(random))
    return blocky(picture), _say(
        lambda: styled(random, named(random, names, _maybe(random, COLOURS.get(emoji))), recipe.PIXELS)
    )


def two_things(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    others = [n for n, (emojis, _) in CONCEPTS.items() if n != names[0] and path(style, emojis[0]).exists()]
    other = str(random.choice(others))
    picture, above = plain(recipe.SIZE), random.random() < 0.3
    ends = (0.27, 0.73)
    for i, it in enumerate((emoji, CONCEPTS[other][0][0])):
        along, across = ends[i] + random.uniform(-0.02, 0.02), 0.5 + random.uniform(-0.06, 0.06)
        lay(
            picture,
            sprite(style, it),
            random.uniform(0.4, 0.46),
            (across, along) if above else (along, across),
        )

    def words() -> str:
        a, b = named(random, names), named(random, (other, *CONCEPTS[other][1]))
        if above:
            return (f"{a} above {b}", f"{b} below {a}")[random.integers(2)]
        return (f"{a} next to {b}", f"{a} and {b}", f"{b} next to {a}", f"{a} to the left of {b}")[
            random.integers(4)
        ]

    return picture, _say(lambda: styled(random, words(), style))


def counted(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    if names[0] in BARE | THE:
        return None
    count = int(random.integers(2, 5))
    picture, part, flip = plain(recipe.SIZE), random.uniform(0.36, 0.44), random.random() < recipe.FLIP
    for middle in PLACES[count]:
        lay(
            picture,
            sprite(style, emoji),
            part,
            tuple(np.array(middle) + random.uniform(-0.02, 0.02, 2)),
            flip,
        )
    return picture, _say(
        lambda: styled(random, many(count, str(random.choice(names[:2]))), style),
    )


KINDS: dict[str, Callable[[Random, tuple[str, ...], str, str], Made | None]] = {
    "white": on_white,
    "colour": on_colour,
    "recoloured": recoloured,
    "sized": sized,
    "scene": in_scene,
    "pixels": in_pixels,
    "two": two_things,
    "counted": counted,
}


def make(job: tuple[str, int, int]) -> Made | None:
    """The picture of (kind, dress, place in `things()`), the same each time."""
    kind, dress, place = job
    return KINDS[kind](np.random.default_rng([recipe.SEED, *kind.encode(), dress, place]), *things()[place])


def compose(kind: str) -> Iterator[Made]:
    """Every taught sprite, recipe.DRESSES[kind] times, where this kind of picture can be made of it."""
    jobs = [(kind, dress, place) for dress in range(recipe.DRESSES[kind]) for place in range(len(things()))]
    with ProcessPoolExecutor() as pool:
        for start in range(0, len(jobs), 256):  # a part at a time: finished pictures wait in memory
            yield from (made for made in pool.map(make, jobs[start : start + 256], chunksize=8) if made)


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: list[Image.Image]) -> Tensor:
    x = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    x = (x.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    return vae.encode(x).latent_dist.mode().half()


def main(kinds: list[str]) -> None:
    vae = hasten(AutoencoderKL.from_pretrained(recipe.WORK / "vae")).eval()
    (recipe.WORK / "bank").mkdir(exist_ok=True)
    for kind in kinds:
        target = recipe.WORK / "bank" / f"{kind}.pt"
        if target.exists():
            continue
        latents, rows, held, unique = [], [], [], {}
        for picture, texts in compose(kind):
            held.append(picture)
            rows.append([unique.setdefault(text, len(unique)) for text in texts])
            if len(held) == 8:
                latents.append(encode(vae, held))
                held = []
        if held:
            latents.append(encode(vae, held))
        z = torch.cat(latents)
        torch.save({"latents": z, "captions": torch.tensor(rows), "texts": list(unique)}, target)
        deviation = z.float().std((0, 2, 3)).tolist()
        print(kind, len(z), "pictures,", len(unique), "captions; deviation of latents", deviation, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(recipe.DRESSES))
