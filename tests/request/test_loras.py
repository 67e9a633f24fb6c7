"""LoRAs as options and as words of a prompt."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.errors import UsageError
from sdcli.request.loras import LAYOUTS, PRESETS, Lora, option_of, parse, path_of
from sdcli.request.prompt.networks import take_networks


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("a.safetensors", Lora("a.safetensors")),
        ("a.safetensors@0.8", Lora("a.safetensors", 0.8, 0.8)),
        ("a.safetensors@-.5", Lora("a.safetensors", -0.5, -0.5)),
        ("a.safetensors@0.8:te=0.6", Lora("a.safetensors", 0.8, 0.6)),
        ("a.safetensors:te=0", Lora("a.safetensors", 1.0, 0.0)),
        ("a.safetensors:unet=0.3", Lora("a.safetensors", 0.3, 0.3)),
        ("a.safetensors@0.8:0-0.5", Lora("a.safetensors", 0.8, 0.8, 0.0, 0.5)),
        ("a.safetensors@0.8:start=0.25:te=1", Lora("a.safetensors", 0.8, 1.0, 0.25, 1.0)),
        ("me@home.safetensors", Lora("me@home.safetensors")),
        (r"C:\loras\me@home.safetensors@2", Lora(r"C:\loras\me@home.safetensors", 2, 2)),
        ("a.safetensors:dyn=4", Lora("a.safetensors", rank=4)),
    ],
)
def test_a_lora_is_a_file_with_its_strengths(text, lora):
    assert parse(text) == lora
    assert path_of(text) == lora.path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.safetensors:tee=1", "no setting is called 'tee'; did you mean 'te'?"),
        ("a.safetensors:te=x", "te='x' is not a number"),
        ("a.safetensors@1000", "unet=1000 is outside -100...100"),
        ("a.safetensors@1:0.5-0.5", "it would act in no step"),
        ("a.safetensors:blocks=1,2", "2 block weights; there are 12, 17, 20 or 26"),
        ("a.safetensors:blocks=" + "1," * 16 + "x", "the block weight 'x' is not a number"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(text, message):
    with pytest.raises(UsageError, match=r"^--lora ") as error:
        parse(text)
    assert message in str(error.value)


def test_block_weights_multiply_the_strength_by_block_and_the_rest_gets_none():
    weights = [1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, *[0] * 8, 0.9]
    lora = parse("a.safetensors@2:blocks=" + ",".join(map(str, weights)))
    assert lora.strength("unet", "IN01") == pytest.approx(0.2)
    assert lora.strength("unet", "MID") == pytest.approx(1.4)
    assert lora.strength("unet", "OUT11") == pytest.approx(1.8)
    assert lora.strength("unet", "IN00") == 0  # no place for it among 17
    assert lora.strength("unet", "") == 2  # the time embedding is in no block
    assert lora.strength("text_encoder") == 2


def test_presets_name_17_weights():
    assert {len(text.split(",")) for text in PRESETS.values()} == {17}
    assert all(len(names) == count for count, names in LAYOUTS.items())
    assert parse("a:blocks=midd").strength("unet", "MID") == 1
    assert parse("a:blocks=MIDD").strength("unet", "IN01") == 0


@pytest.mark.parametrize(
    ("typed", "option"),
    [
        ("<lora:x>", "x.safetensors@1"),
        ("<lora:x:0.8>", "x.safetensors@0.8:te=0.8"),
        ("<lora:x:0.8:0.5>", "x.safetensors@0.5:te=0.8"),
        ("<lora:x:te=0.3>", "x.safetensors@0.3:te=0.3"),
        ("<lora:x:unet=0.3:te=0.2>", "x.safetensors@0.3:te=0.2"),
        ("<lora:x:1:1:8>", "x.safetensors@1:te=1:dyn=8"),
        ("<lora:x:1:lbw=MIDD>", "x.safetensors@1:te=1:blocks=MIDD"),
        ("<lora:x:1:start=5>", "x.safetensors@1:te=1:start=0.25"),
        ("<lora:x:1:step=5-10>", "x.safetensors@1:te=1:start=0.25:end=0.5"),
    ],
)
def test_a_lora_in_a_prompt_says_what_a1111_understands(typed, option):
    _, (network,) = take_networks(typed)
    assert parse(option_of(network, "x.safetensors", 20)) == parse(option)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("<lora:x:0,8>", "'0,8' is not a number"),
        ("<lora:x:1:foo=2>", "foo means nothing here"),
        ("<lora:x:1:start=a>", "'a' is not a number of steps"),
    ],
)
def test_a_lora_in_a_prompt_that_cannot_be_meant_is_a_usage_error(typed, message):
    _, (network,) = take_networks(typed)
    with pytest.raises(UsageError) as error:
        option_of(network, "x.safetensors", 20)
    assert message in str(error.value)
    assert str(error.value).startswith("<lora:x")


@given(st.text(alphabet="ab@:=.,-01te", max_size=40))
def test_no_text_ends_in_anything_but_a_usage_error(text):
    with contextlib.suppress(UsageError):
        parse(text)
