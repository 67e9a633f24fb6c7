"""The UNet's training set, called the bank: latents of composed pictures with true captions, one file per kind.

    python bank.py [KIND ...]

Writes `bank/KIND.pt`: latents (n, 4, h, w) half, rows (n, 2), what each was made of, captions (n, k), which are indices
into `texts`. Pictures of several things are not in it: several.py composes them of its small things while training.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import islice

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

import recipe
from captions import grounded, named, styled, with_article
from compose import HUES, SCENES, blocky, lay, plain, recolour
from concepts import COLOURS, CONCEPTS
from norm import hasten, mixed
from sprites import path, sprite

Random = np.random.Generator
Made = tuple[Image.Image, list[str]]
Row = tuple[int, int]  # dress, and index into `things()`: what a row of the bank was made of


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


def hue_of(row: Row) -> str:
    """The colour that a small thing is given in this row of the bank: not its own, another one in each dress."""
    hues = [hue for hue in HUES if hue != COLOURS.get(things()[row[1]][2])]
    return hues[(3 * row[0] + 5 * row[1]) % len(hues)]


def small_recoloured(row: Row, names: tuple[str, ...], style: str, emoji: str) -> Made | None:
    """A small thing in another colour: a piece of the pictures that several.py composes."""
    turned = None if style == recipe.LINES else recolour(sprite(style, emoji), hue_of(row))
    if turned is None:
        return None
    picture, (words, part) = plain(recipe.SIZE), recipe.SIZES["small"]
    lay(picture, turned, part)
    return picture, [with_article(f"{words[i % len(words)]} {hue_of(row)} {names[0]}") for i in range(recipe.CAPTIONS)]


KINDS: dict[str, Callable[[Random, tuple[str, ...], str, str], Made | None]] = {
    "white": on_white,
    "colour": on_colour,
    "recoloured": recoloured,
    "small": small,
    "large": large,
    "scene": in_scene,
    "pixels": in_pixels,
}


def make(job: tuple[str, int, int]) -> Made | None:
    """The picture of (kind, dress, index into `things()`), the same each time."""
    kind, dress, place = job
    if kind == "small_recoloured":
        return small_recoloured((dress, place), *things()[place])
    return KINDS[kind](np.random.default_rng([recipe.SEED, *kind.encode(), dress, place]), *things()[place])


def compose(kind: str) -> Iterator[tuple[Row, Made]]:
    """Every trained sprite, recipe.DRESSES[kind] times, if this kind of picture can be made of it."""
    jobs = [(kind, dress, place) for dress in range(recipe.DRESSES[kind]) for place in range(len(things()))]
    with ProcessPoolExecutor() as pool:
        for start in range(0, len(jobs), 256):  # in parts, because finished pictures wait in memory
            part = jobs[start : start + 256]
            made = pool.map(make, part, chunksize=8)
            yield from ((job[1:], each) for job, each in zip(part, made, strict=True) if each)


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: list[Image.Image]) -> Tensor:
    x = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    x = x.permute(0, 3, 1, 2).to(vae.device).float() / 127.5 - 1
    with mixed(vae.device.type):
        return vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mode().half().cpu()


def encoded(kind: str) -> Iterator[tuple[Tensor, Row, list[str]]]:
    """Latents (4, h, w), origin and captions of every picture of this kind."""
    vae = AutoencoderKL.from_pretrained(recipe.WORK / "vae").eval()
    vae = vae.cuda() if torch.cuda.is_available() else hasten(vae)
    made = compose(kind)
    while held := list(islice(made, 8)):
        latents = encode(vae, [picture for _, (picture, _) in held])
        yield from ((z, row, texts) for z, (row, (_, texts)) in zip(latents, held, strict=True))


def main(kinds: list[str]) -> None:
    (recipe.WORK / "bank").mkdir(exist_ok=True)
    for kind in kinds:
        target = recipe.WORK / "bank" / f"{kind}.pt"
        if target.exists():
            continue
        latents, rows, captions, unique = [], [], [], {}
        for each, row, texts in encoded(kind):
            latents.append(each)
            rows.append(row)
            captions.append([unique.setdefault(text, len(unique)) for text in texts])
        z, origins, said = torch.stack(latents), torch.tensor(rows), torch.tensor(captions)
        torch.save({"latents": z, "rows": origins, "captions": said, "texts": list(unique)}, target)
        deviation = z.float().std((0, 2, 3)).tolist()
        print(kind, len(z), "pictures,", len(unique), "captions; deviation of latents", deviation, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(recipe.DRESSES))
