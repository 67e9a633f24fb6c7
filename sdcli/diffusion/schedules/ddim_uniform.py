from sdcli.diffusion.levels import Levels


def ddim_uniform(steps: int, levels: Levels, *, all_levels: bool = False) -> tuple[float, ...]:
    """Whole timesteps, one more than multiples of 1000 // steps: ComfyUI's, A1111's "DDIM" and CompVis' own.

    If steps does not divide 1000, those tools visit more levels than asked for, down to t = 1; this schedule keeps the
    highest ones, as many as asked for (`leading` keeps the lowest). One step starts at the highest trained level.
    Option: all_levels, visit all of them as those tools do: 31 for 30 steps, and one step starts at t = 1.
    """
    stride = max((levels.last + 1) // steps, 1)
    highest = (levels.last - 1) // stride
    if all_levels:
        return (*(levels.sigma(1 + stride * i) for i in range(highest, -1, -1)), 0.0)
    if steps == 1:
        return (levels.sigma_max, 0.0)
    return (*(levels.sigma(1 + stride * (highest - i)) for i in range(steps)), 0.0)
