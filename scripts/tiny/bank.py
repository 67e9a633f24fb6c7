"""The UNet's training set, called the bank: latents of composed pictures with true captions, one file per kind.

    python bank.py [KIND ...]

Writes `bank/KIND.pt`: latents (n, 4, h, w) half, captions (n, k), which are indices into `texts`.
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
from captions import BARE, THE, grounded, many, named, paired, styled
from compose import HUES, SCENES, blocky, lay, plain, recolour
from concepts import COLOURS, CONCEPTS
from norm import hasten, mixed
from sprites import path, sprite

Random = np.random.Generator
Made = tuple[Image.Image, list[str]]
PLACES = {  # the centres of so many small things, whole steps of the UNet's coarsest level apart
    2: ((0.25, 0.5), (0.75, 0.5)),
    3: ((0.5, 0.25), (0.25, 0.75), (0.75, 0.75)),
    4: ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)),
}


@cache
def things() -> list[tuple[tuple[str, ...], str, str]]:
    """(names, style, emoji) of every sprite that the UNet is trained on, some of them twice."""
    return [
        ((name, *others), style, emoji)
        for name, (emojis, others) in CONCEPTS.items()
        for emoji in emojis
        for style in (*recipe.STYLES, *recipe.TWICE)
        if style != recipe.PIXELS and path(style, emoji).exists()
    ]


def _say(one: Callable[[], str]) -> list[str]:
    return [one() for _ in range(recipe.CAPTIONS)]


def _maybe(random: Random, colour: str | None) -> str | None:
    return colour if random.random() < 0.5 else None


def _ground(random: Random, colour: str | None) -> str:
    return str(random.choice([name for name in recipe.BACKGROUNDS if str(colour) not in name.split()]))


def on_white(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made:
    picture = plain(recipe.SIZE)
    lay(picture, sprite(style, emoji), recipe.PART)
    colour = None if style == recipe.LINES else COLOURS.get(emoji)
    return picture, _say(
        lambda: grounded(random, styled(random, named(random, names, _maybe(random, colour)), style), None)
    )


def on_colour(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    if style == recipe.LINES:
        return None  # black lines would not be visible on it
    ground = _ground(random, COLOURS.get(emoji))
    picture = plain(recipe.SIZE, recipe.BACKGROUNDS[ground])
    lay(picture, sprite(style, emoji), recipe.PART)
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
    lay(picture, turned, recipe.PART)
    return picture, _say(
        lambda: grounded(random, styled(random, named(random, names, colour), style), ground)
    )


def small(random: Random, names: tuple[str, ...], style: str, emoji: str, size: str = "small") -> Made:
    words, part = recipe.SIZES[size]
    picture, colour = plain(recipe.SIZE), None if style == recipe.LINES else COLOURS.get(emoji)
    lay(picture, sprite(style, emoji), part)

    def looks() -> str:
        return " ".join(filter(None, (str(random.choice(words)), _maybe(random, colour))))

    return picture, _say(lambda: styled(random, named(random, names, looks()), style))


def large(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made:
    return small(random, names, style, emoji, "large")


def in_scene(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    if style == recipe.LINES:
        return None
    places = list(SCENES)[random.integers(len(SCENES))]
    picture = SCENES[places](recipe.SIZE, random)
    lay(picture, sprite(style, emoji), recipe.PART)
    return picture, _say(
        lambda: f"{styled(random, named(random, names), style)} {places[random.integers(len(places))]}"
    )


def in_pixels(random: Random, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    if style == recipe.LINES:
        return None
    picture = plain(recipe.SIZE)
    lay(picture, sprite(style, emoji), recipe.PART)
    return blocky(picture), _say(
        lambda: styled(random, named(random, names, _maybe(random, COLOURS.get(emoji))), recipe.PIXELS)
    )


Composed = tuple[list[tuple[str, tuple[float, float]]], list[str]]  # emoji and their positions, captions


def two(random: Random, name: str) -> Composed:
    other = str(random.choice([each for each in CONCEPTS if each != name]))
    above = random.random() < 0.3

    def words() -> str:
        a, b = (named(random, (each, *CONCEPTS[each][1])) for each in (name, other))
        return paired(random, a, b, above)

    places = [(y, x) for x, y in PLACES[2]] if above else PLACES[2]
    emojis = [CONCEPTS[each][0][0] for each in (name, other)]
    return list(zip(emojis, places, strict=True)), _say(lambda: styled(random, words(), recipe.UNSAID))


def several_of_one(random: Random, name: str) -> Composed | None:
    if name in BARE | THE:
        return None
    emojis, others = CONCEPTS[name]
    emoji, number = str(random.choice(emojis)), int(random.integers(2, 5))
    names = (name, *others)[:2]
    return [(emoji, place) for place in PLACES[number]], _say(
        lambda: styled(random, many(number, str(random.choice(names))), recipe.UNSAID)
    )


KINDS: dict[str, Callable[[Random, tuple[str, ...], str, str], Made | None]] = {
    "white": on_white,
    "colour": on_colour,
    "recoloured": recoloured,
    "small": small,
    "large": large,
    "scene": in_scene,
    "pixels": in_pixels,
}
SEVERAL: dict[str, Callable[[Random, str], Composed | None]] = {"two": two, "counted": several_of_one}


def make(job: tuple[str, int, int]) -> Made | None:
    """The picture of (kind, dress, index into `things()`), the same each time."""
    kind, dress, place = job
    return KINDS[kind](np.random.default_rng([recipe.SEED, *kind.encode(), dress, place]), *things()[place])


def compose(kind: str) -> Iterator[Made]:
    """Every trained sprite, recipe.DRESSES[kind] times, if this kind of picture can be made of it."""
    jobs = [(kind, dress, place) for dress in range(recipe.DRESSES[kind]) for place in range(len(things()))]
    with ProcessPoolExecutor() as pool:
        for start in range(0, len(jobs), 256):  # in parts, because finished pictures wait in memory
            yield from (made for made in pool.map(make, jobs[start : start + 256], chunksize=8) if made)


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: list[Image.Image]) -> Tensor:
    x = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    x = (x.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    with mixed():
        return vae.encode(x).latent_dist.mode().half()


def encoded(kind: str) -> Iterator[tuple[Tensor, list[str]]]:
    """Latents (4, h, w) and captions of every picture of this kind."""
    vae, held = hasten(AutoencoderKL.from_pretrained(recipe.WORK / "vae")).eval(), []
    for made in compose(kind):
        held.append(made)
        if len(held) == 8:
            yield from zip(encode(vae, [picture for picture, _ in held]), [t for _, t in held], strict=True)
            held = []
    if held:
        yield from zip(encode(vae, [picture for picture, _ in held]), [t for _, t in held], strict=True)


def pasted(kind: str) -> Iterator[tuple[Tensor, list[str]]]:
    """Latents and captions of several small things, composed of the latents of one each: what the autoencoder makes of
    a small thing depends little on its neighbours (squared error 0.003 of a variance of 0.55, mostly at the edges)."""
    latents = torch.load(recipe.WORK / "bank" / "small.pt")["latents"]
    places = {emoji: i for i, (_, style, emoji) in enumerate(things()) if style == recipe.UNSAID}
    side = latents.shape[-1]
    middle, near, white = (
        side // 2,
        side // 4 - 1,
        latents[0].clone(),
    )  # white but for its edge, which differs
    white[:, 8:-8, 8:-8] = white[:, 8, 8, None, None]
    for dress in range(recipe.DRESSES[kind]):
        for number, name in enumerate(CONCEPTS):
            made = SEVERAL[kind](np.random.default_rng([recipe.SEED, *kind.encode(), dress, number]), name)
            if made:
                picture = white.clone()
                for emoji, place in made[0]:
                    x, y = (round(side * part) for part in place)
                    thing = latents[
                        places[emoji], :, middle - near : middle + near, middle - near : middle + near
                    ]
                    picture[:, y - near : y + near, x - near : x + near] = thing
                yield picture, made[1]


def main(kinds: list[str]) -> None:
    (recipe.WORK / "bank").mkdir(exist_ok=True)
    for kind in kinds:
        target = recipe.WORK / "bank" / f"{kind}.pt"
        if target.exists():
            continue
        latents, rows, unique = [], [], {}
        for each, texts in (pasted if kind in SEVERAL else encoded)(kind):
            latents.append(each)
            rows.append([unique.setdefault(text, len(unique)) for text in texts])
        z = torch.stack(latents)
        torch.save({"latents": z, "captions": torch.tensor(rows), "texts": list(unique)}, target)
        deviation = z.float().std((0, 2, 3)).tolist()
        print(kind, len(z), "pictures,", len(unique), "captions; deviation of latents", deviation, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(recipe.DRESSES))
