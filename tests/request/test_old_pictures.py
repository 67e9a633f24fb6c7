"""Pictures of earlier versions are drawn again. tests/golden/README.md has the commands that made them."""

from pathlib import Path

import numpy as np
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden" / "pictures"


def test_a_picture_of_version_0_1_0_is_drawn_again(sd):
    """To a few levels: another machine's last bits may differ, another request's picture differs by far more."""
    old = GOLDEN / "sd-0.1.0.png"
    ran = sd("again", old)
    assert ran.code == 0, ran.err
    one, other = (np.asarray(Image.open(path), int) for path in (old, ran.lines[0]))
    assert abs(one - other).max() <= 3


def test_a_picture_of_version_0_1_0_tells_every_setting_it_was_made_with(sd):
    ran = sd("info", GOLDEN / "sd-0.1.0.png")
    for line in ("prompt: a red apple", "negative: a dog, (blue:1.2)", "seed: 7", "sampler: euler_a:eta=0.5",
                 "schedule: karras", "rng: philox", "variation_seed: 3", "like: a1111", "clip_skip: 2"):  # fmt: skip
        assert f"  {line}" in ran.out.decode().splitlines()
