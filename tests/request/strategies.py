"""Random requests for property tests, made from the declarations of the request's fields."""

import dataclasses

from hypothesis import assume
from hypothesis import strategies as st

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.request.fields import Option, option_of
from sdcli.request.request import Request

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
MULTIPLES_OF_8 = st.integers(8, 1024).map(lambda n: 8 * n)
LEVELS = st.lists(st.floats(1e-3, 100), min_size=1, max_size=6, unique=True)
SPELLED = {  # fields whose values have a spelling of their own
    "width": MULTIPLES_OF_8,
    "height": MULTIPLES_OF_8,
    "window": MULTIPLES_OF_8,
    "seed_size": st.tuples(MULTIPLES_OF_8, MULTIPLES_OF_8).map("{0[0]}x{0[1]}".format),
    "sigmas": LEVELS.map(lambda levels: ",".join(map(repr, sorted(levels, reverse=True)))),
    "margins": st.tuples(*[st.integers(1, 999)] * 4).map(lambda sides: ",".join(map(str, sides))),
    "control": st.lists(
        st.sampled_from(["net.safetensors:image=a.png", "net:image=a.png:weight=0.5:annotate=canny:low=50"]),
        max_size=2,
    ),
    "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:1"]),
    "background": st.sampled_from(["white", "black", "#8080ff"]),
    "sampler": st.sampled_from([*registry.names("samplers"), "euler_a:eta=0.5", "dpmpp_2m_sde:heun=true"]),
}


def values(name: str, option: Option) -> st.SearchStrategy:
    """Values that the field takes."""
    if name in SPELLED:
        return SPELLED[name]
    if option.plugin:
        return st.sampled_from(registry.names(option.plugin))
    if option.choices:
        return st.sampled_from(option.choices)
    if option.many:
        return st.lists(values(name, dataclasses.replace(option, many=False)), max_size=3)
    if option.type is bool:
        return st.booleans()
    if option.type is str:
        return TEXT
    bounds = {"min_value": option.low, "max_value": option.high}
    return st.integers(**bounds) if option.type is int else st.floats(**bounds)


FIELDS = {each.name: values(each.name, option_of(each)) for each in dataclasses.fields(Request)}


@st.composite
def requests(draw) -> Request:
    """A request with some of its fields set, and what those need."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=8, unique=True))
    asked = {name: draw(FIELDS[name]) for name in names}
    if "variation_seed" in asked or "variation_strength" in asked:
        asked["variation_seed"] = asked.get("variation_seed", 3)
        asked["variation_strength"] = asked.get("variation_strength") or 0.25
    if {"mask", "alpha_mask", "margins"} & asked.keys():
        asked.setdefault("image", "a.png")
    try:
        return Request(**asked)
    except UsageError:  # fields that exclude each other
        assume(False)
        raise
