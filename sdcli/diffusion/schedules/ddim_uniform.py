from sdcli.diffusion.levels import Levels


def ddim_uniform(steps: int, levels: Levels) -> tuple[float, ...]:
    """Whole timesteps, one more than multiples of 1000 // steps: ComfyUI's, A1111's "DDIM" and CompVis' own.

    Where steps does not divide 1000 they visit more levels than asked for, down to t = 1; here it is the highest of
    these, as many as asked for (`leading` takes the lowest). One step starts at the highest level of all.
    """
    if steps == 1:
        return (levels.sigma_max, 0.0)
    stride = max((levels.last + 1) // steps, 1)
    top = (levels.last - 1) // stride
    return (*(levels.sigma(1 + stride * (top - i)) for i in range(steps)), 0.0)
