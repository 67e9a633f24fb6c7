"""Measure every sampler and write docs/samplers.md. Run: python scripts/docs_samplers.py"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sdcli import registry  # noqa: E402
from sdcli.diffusion.levels import Levels  # noqa: E402
from tests.diffusion import test_samplers as tests  # noqa: E402
from tests.diffusion.truth import MEAN, SPREAD, gaussian  # noqa: E402

HEAD = """# Samplers, schedules, guidance

Written by `scripts/docs_samplers.py`, which measured the numbers; `sd samplers NAME` shows more about one of them.

## Samplers

Options follow the name after a colon: `--sampler euler_a:eta=0.5`.

| name | what it is | order | evaluations | in 20 steps |
|---|---|---|---|---|
"""
ORDERS = """
### Order of convergence

From noise level 10 to 0.1 in equal ratios, in float64, on data whose denoiser and probability flow are known exactly:
Gaussian, N(0.7, 0.5²), where the denoiser is linear, and an even mixture of N(-1, 0.4²) and N(1.5, 0.4²), where it is
not. The error is the largest over 41 starts. The order is measured between 150 and 300 steps, for the mixture between
600 and 1200. A multistep method starts without past slopes, which limits its order. Stochastic samplers are measured
without their noise.

| sampler | claims | Gaussian | mixture | mixture: error in 20 steps | in 40 |
|---|---|---|---|---|---|
"""
VARIANCES = """
### Mean and variance of stochastic samplers

From pure noise to 0 on the `karras` schedule; the data has mean 0.7 and variance 0.25. A run over Gaussian data is
linear in its noise, so both are computed exactly, without random numbers. The order is that of the variance from level
10 to 0.1, between 200 and 400 steps. `lcm` is for networks that predict the end of the probability flow, and gets one.

| sampler | steps | mean | variance | off by | order |
|---|---|---|---|---|---|
"""
SCHEDULES = """
## Schedules

`--schedule karras`, or `--sigmas 14.6,7,2.1,0` for your own levels. The levels of 5 steps for Stable Diffusion:

| name | what it is | levels |
|---|---|---|
"""
GUIDANCE = """
## Guidance

| name | what it is |
|---|---|
"""


def evaluations(sampler: str) -> int:
    """The evaluations of 20 steps on the `karras` schedule."""
    evaluated = []
    sigmas = registry.find("schedules", "karras")(20, tests.LEVELS)
    x = tests.torch.randn(1, 4, 8, 8, generator=tests.torch.Generator().manual_seed(0)) * sigmas[0]

    def denoise(x, sigma):
        evaluated.append(sigma)
        return gaussian()(x, sigma)

    tests.final_x(sampler, denoise, x, sigmas, tests.Stream(0, (1, 4, 8, 8)))
    return len(evaluated)


def line(*cells: object) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |\n"


def main() -> None:
    text = HEAD
    for name in tests.ALL:
        plugin = registry.describe("samplers", name)
        order, formula = plugin.facts.get("order", "-"), plugin.facts["evaluations"]
        text += line(f"`{name}`", plugin.summary, order, formula, evaluations(name))
    text += ORDERS
    for spec, claim in tests.ORDER.items():
        orders = [f"{tests.measured_order(spec, data):.2f}" for data in tests.TRUTHS]
        errors = [f"{tests.error(spec, steps, 'mixture'):.1e}" for steps in (20, 40)]
        text += line(f"`{spec}`", claim, *orders, *errors)
    text += VARIANCES
    for spec, steps in [*tests.STOCHASTIC.items(), *((name, 4) for name in tests.CONSISTENCY)]:
        mean, variance = tests.exact_moments(spec, registry.find("schedules", "karras")(steps, tests.LEVELS))
        off = max(abs(mean - MEAN) / SPREAD, abs(variance / SPREAD**2 - 1))
        order = "-" if spec in tests.CONSISTENCY else f"{tests.weak_order(spec):.2f}"
        text += line(f"`{spec}`", steps, f"{mean:.3f}", f"{variance:.4f}", f"{off:.1%}", order)
    text += SCHEDULES
    for name in registry.names("schedules"):
        levels = registry.find("schedules", name)(5, Levels.scaled_linear())
        numbers = " ".join(f"{level:.3g}" for level in levels)
        text += line(f"`{name}`", registry.describe("schedules", name).summary, numbers)
    text += GUIDANCE
    for name in registry.names("guidance"):
        text += line(f"`{name}`", registry.describe("guidance", name).summary)
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "samplers.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
