"""An independent judge of whether a picture shows what was asked for.

Features of EfficientNet-Lite0 (trained on ImageNet photographs; no part of the training) are compared with those of
real pictures. Each question prints its score, that of real pictures if there are any, and that of chance.

    single      is the nearest concept, by its real pictures of other styles, the one asked for?
    background  does the colour along the edges have the name that was asked for?
    style       is the style, as the features tell it, the one asked for?
    pair        are both things recognised, each in its own half?
    size        is a small thing small, a large one large?
    count       are there as many things as asked for, two to four?
    untold      does a word from no caption draw the thing nearest in meaning?
    colour      has the thing itself the colour that was asked for, which is not its own?
    weight      is `(blue:1.5) car` bluer than `(blue:0.5) car`?
    pose        is a thing mirrored or moved at another seed?

    python judge.py [FOLDER] [--ask single,background,style,pair,size,count,untold,colour,weight,pose]
                    [--seeds 101,102] [--steps 20] [--cfg 4] [--sampler dpmpp_2m,euler] [--schedule leading] [--every 1]
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

import recipe
import sample
from captions import BARE, THE, many, with_article
from concepts import CONCEPTS, UNTOLD
from listened import colour, pose, weight
from norm import hasten
from recognise import Draw, composed, features, number_of, placed, prompt_of, ranks, real, shown
from several import PLACES


def single(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Top-1 and top-5 of single concepts, by the nearest real pictures, in two styles that the UNet never saw."""
    found = {name: [] for name in names}
    for seed in seeds:
        pictures = draw([prompt_of(name) for name in names], [seed] * len(names))
        for name, rank in zip(names, ranks(features(pictures), [number_of(n) for n in names]), strict=True):
            found[name].append(rank)
    every = [rank for ranks_of in found.values() for rank in ranks_of]
    ceilings = [
        rank
        for own in ("fluent-emoji", "fluent-emoji-flat", "noto")
        for rank in ranks(real()[own], list(range(len(CONCEPTS))))
    ]
    for what, some in (("drawn", every), ("real", ceilings)):
        top = [np.mean([rank < limit for rank in some]) for limit in (1, 5)]
        print(f"single: {what:6} top-1 {top[0]:.3f}  top-5 {top[1]:.3f}  ({len(some)} pictures)")
    print(f"single: chance top-1 {1 / len(CONCEPTS):.3f}  top-5 {5 / len(CONCEPTS):.3f}")
    bad = {name: some for name, some in found.items() if max(some) >= 5}
    print(f"single: {len(found) - len(bad)} of {len(found)} in the first five at every seed; not:", end=" ")
    print(", ".join(f"{name} {some}" for name, some in bad.items()))


def background(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the pictures whose edge is nearer to the named colour than to all others and white."""
    colours = {**recipe.BACKGROUNDS, "white": (255, 255, 255)}
    table = np.array(list(colours.values()), float)
    asked = [
        (name, ground, seed)
        for seed in seeds
        for i, ground in enumerate(recipe.BACKGROUNDS)
        for name in names[(i + seed) % 7 :: 7][:5]
    ]
    pictures = draw(
        [f"{prompt_of(n)} on {with_article(g)} background" for n, g, _ in asked], [s for *_, s in asked]
    )
    real_ones = [composed({name: (0.5, 0.82)}, recipe.BACKGROUNDS[ground]) for name, ground, _ in asked]
    for what, some in (("drawn", pictures), ("real", np.stack(real_ones))):
        edges = np.concatenate([some[:, :20], some[:, -20:]], 1).mean((1, 2))
        nearest = [list(colours)[np.square(table - edge).sum(1).argmin()] for edge in edges]
        right = np.mean([seen == ground for seen, (_, ground, _) in zip(nearest, asked, strict=True)])
        things = np.mean([rank < 5 for rank in ranks(features(some), [number_of(n) for n, *_ in asked])])
        print(f"background: {what:6} colour right {right:.3f}, thing in the first five {things:.3f}")
    print(f"background: chance {1 / len(colours):.3f}, {5 / len(CONCEPTS):.3f}  ({len(asked)} pictures)")


def style(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the pictures in the style asked for, by a linear classifier on the features; and of real pictures."""
    styles = list(recipe.STYLES)
    odd = torch.arange(len(CONCEPTS)) % 2 == 1

    def rows(which: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [(real()[name][which], i) for i, name in enumerate(styles)]
        x = torch.cat([row for row, _ in pairs])
        y = torch.cat([torch.full((len(row),), i) for row, i in pairs])
        kept = x.isfinite().all(1)
        return x[kept], y[kept]

    x, y = rows(~odd)
    mean = x.mean(0)
    solved = torch.linalg.solve(
        (x - mean).T @ (x - mean) + 30 * torch.eye(x.shape[1]),
        (x - mean).T @ (torch.nn.functional.one_hot(y).float() - 1 / len(styles)),
    )

    def read(features: Tensor) -> Tensor:
        return ((features - mean) @ solved).argmax(1)

    asked = [
        (name, i, seed)
        for seed in seeds
        for i in range(len(styles))
        for name in names[(2 * i + seed) % 9 :: 9][:8]
    ]
    pictures = draw([prompt_of(name, styles[i]) for name, i, _ in asked], [seed for *_, seed in asked])
    got, truth = read(features(pictures)), torch.tensor([i for _, i, _ in asked])
    x, y = rows(odd)
    for i, name in enumerate(styles):
        right = (got[truth == i] == i).float().mean()
        print(
            f"style: {recipe.STYLES[name][0]:26} {right:.3f}  real {(read(x)[y == i] == i).float().mean():.3f}"
        )
    print(
        f"style: all {(got == truth).float().mean():.3f}  chance {1 / len(styles):.3f}  ({len(asked)} pictures)"
    )


def pair(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the pictures of two things in which each is among the first five of its own half."""
    random = np.random.default_rng(5)
    asked = [(*map(str, random.choice(names, 2, replace=False)), seed) for seed in seeds for _ in range(30)]
    pictures = draw(
        [f"{prompt_of(a)} next to {prompt_of(b)}" for a, b, _ in asked], [seed for *_, seed in asked]
    )
    real_ones = [composed({a: (0.27, 0.43), b: (0.73, 0.43)}) for a, b, _ in asked]
    side = recipe.SIZE // 2
    for what, some in (("drawn", pictures), ("real", np.stack(real_ones))):
        halves = [features(some[:, side // 2 : side // 2 + side, x : x + side]) for x in (0, side)]
        seen = np.array(
            [
                [[rank < 5 for rank in ranks(half, [number_of(n) for n in names])] for half in halves]
                for names in ([a for a, *_ in asked], [b for _, b, _ in asked])
            ]
        )  # thing, half, picture
        both = (seen[0, 0] & seen[1, 1]) | (seen[0, 1] & seen[1, 0])
        print(
            f"pair: {what:6} both recognised {both.mean():.3f}, at least one {seen.any((0, 1)).mean():.3f}"
            f"  ({len(asked)} pictures)"
        )


def size(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the pictures whose thing is nearer to the size asked for than to the other or the usual size."""
    told = [name for name in names if name not in BARE | THE]
    parts = {size: part for size, (_, part) in recipe.SIZES.items()} | {"": recipe.PART}
    asked = [
        (name, size, seed)
        for seed in seeds
        for i, size in enumerate(recipe.SIZES)
        for name in told[(3 * i + seed) % 5 :: 5][:20]
    ]
    pictures = draw([with_article(f"{size} {name}") for name, size, _ in asked], [seed for *_, seed in asked])
    real_ones = [composed({name: (0.5, parts[size])}) for name, size, _ in asked]
    for what, some in (("drawn", pictures), ("real", np.stack(real_ones))):
        read = [
            min(parts, key=lambda size: abs(parts[size] - seen)) if seen else None
            for seen in map(_span, some)
        ]
        right = np.mean([seen == size for seen, (_, size, _) in zip(read, asked, strict=True)])
        things = np.mean([rank < 5 for rank in ranks(features(some), [number_of(n) for n, *_ in asked])])
        print(
            f"size: {what:6} right {right:.3f}, thing in the first five {things:.3f}  ({len(asked)} pictures)"
        )


def count(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the pictures with as many separate things on white as asked for."""
    told = [name for name in names if name not in BARE | THE]
    asked = [
        (name, number, seed)
        for seed in seeds
        for number in (2, 3, 4)
        for name in told[(2 * number + seed) % 7 :: 7][:12]
    ]
    pictures = draw([many(number, name) for name, number, _ in asked], [seed for *_, seed in asked])
    real_ones = [placed([(name, 0.4, place) for place in PLACES[number]]) for name, number, _ in asked]
    for what, some in (("drawn", pictures), ("real", np.stack(real_ones))):
        right = np.mean([_islands(each) == number for each, (_, number, _) in zip(some, asked, strict=True)])
        print(f"count: {what:6} right {right:.3f}  ({len(asked)} pictures)")


def _span(picture: np.ndarray) -> float:
    """The larger side of the box around what is drawn on white, as a fraction of the width."""
    box = Image.fromarray(shown(picture)).getbbox() or (0, 0, 0, 0)
    return max(box[2] - box[0], box[3] - box[1]) / 64


def _islands(picture: np.ndarray) -> int:
    """Number of separate things on white. Things close together count as one; specks are not counted."""
    seen = Image.fromarray(np.uint8(shown(picture) * 255)).filter(ImageFilter.MaxFilter(3))
    found = 0
    for y, x in np.argwhere(np.asarray(seen)):
        if seen.getpixel((int(x), int(y))) == 255:
            ImageDraw.floodfill(seen, (int(x), int(y)), 1)
            island = np.asarray(seen) == 1
            found += island.mean() > 0.015
            seen.paste(2, mask=Image.fromarray(np.uint8(island * 255)))
    return found


def untold(draw: Draw, names: list[str], seeds: list[int]) -> None:
    """Share of the words from no caption whose pictures show the nearest thing of the training."""
    asked = [(word, UNTOLD[word], seed) for seed in seeds for word in UNTOLD if UNTOLD[word] in names]
    pictures = draw([with_article(word) for word, *_ in asked], [seed for *_, seed in asked])
    found = ranks(features(pictures), [number_of(name) for _, name, _ in asked])
    top = [np.mean([rank < limit for rank in found]) for limit in (1, 5)]
    print(f"untold: top-1 {top[0]:.3f}  top-5 {top[1]:.3f}  ({len(found)} pictures)")


QUESTIONS = {
    "single": single,
    "background": background,
    "style": style,
    "pair": pair,
    "size": size,
    "count": count,
    "untold": untold,
    "colour": colour,
    "weight": weight,
    "pose": pose,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=recipe.WORK)
    parser.add_argument("--ask", default=",".join(QUESTIONS))
    parser.add_argument("--seeds", default="101,102")
    parser.add_argument("--steps", type=int, default=sample.family.steps)
    parser.add_argument("--cfg", type=float, default=sample.family.cfg)
    parser.add_argument("--sampler", default=sample.family.sampler)
    parser.add_argument("--schedule", default=sample.family.schedule)
    parser.add_argument("--every", type=int, default=1, help="judge every so-many-th concept only")
    given = parser.parse_args()
    unet = UNet2DConditionModel.from_pretrained(given.folder / "unet", torch_dtype=torch.float32)
    unet = hasten(unet).eval()
    how = {name: getattr(given, name) for name in ("steps", "cfg", "schedule", "folder")}
    names, seeds = list(CONCEPTS)[:: given.every], [int(seed) for seed in given.seeds.split(",")]

    def draw(sampler: str, prompts: list[str], seeds: list[int]) -> np.ndarray:
        parts = [
            sample.decode(
                sample.latents(
                    unet, prompts[start : start + 16], seeds[start : start + 16], sampler=sampler, **how
                ),
                given.folder,
            )
            for start in range(0, len(prompts), 16)
        ]
        return np.concatenate(parts)

    for sampler in given.sampler.split(","):
        for question in given.ask.split(","):
            print(f"-- {question}, {sampler}", flush=True)
            QUESTIONS[question](partial(draw, sampler), names, seeds)


if __name__ == "__main__":
    main()
