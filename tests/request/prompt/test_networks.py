"""Networks in a prompt: A1111's own answers, and what must hold for any text."""

import time

import pytest
from hypothesis import given

from sdcli.request.prompt.networks import Network, take_networks
from tests.request.prompt.known import answers
from tests.request.prompt.strategies import PROMPTS
from tests.speed import allowed


@pytest.mark.parametrize("known", answers("networks"))
def test_the_networks_are_those_of_a1111(known):
    text, networks = take_networks(known["prompt"])
    assert text == known["text"]
    items = {
        kind: [sorted([*each.args, *map("=".join, each.named)]) for each in networks if each.kind == kind]
        for kind in dict.fromkeys(network.kind for network in networks)
    }
    assert items == {kind: [sorted(each) for each in lists] for kind, lists in known["networks"]}


def test_an_argument_with_an_equals_sign_is_a_named_one():
    assert take_networks("<lora:foo:0.8:te=0.5:lbw=IN02,OUT03>")[1] == (
        Network("lora", ("foo", "0.8"), (("te", "0.5"), ("lbw", "IN02,OUT03"))),
    )


def test_networks_keep_their_order():
    _, networks = take_networks("<lora:b:1> x <hypernet:a:1> <lora:a>")
    assert [(each.kind, each.args[0]) for each in networks] == [
        ("lora", "b"),
        ("hypernet", "a"),
        ("lora", "a"),
    ]


@given(PROMPTS)
def test_a_text_without_networks_is_itself(text):
    words = text.replace("<", "")
    assert take_networks(words) == (words, ())


@given(PROMPTS, PROMPTS)
def test_what_is_around_a_network_stays(before, behind):
    words = before.replace("<", "") + behind.replace("<", "")
    around = before.replace("<", "") + "<lora:x:1>" + behind.replace("<", "")
    assert take_networks(around) == (words, (Network("lora", ("x", "1")),))


def test_networks_without_an_end_are_read_in_under_a_second():
    start = time.process_time()
    text = "<lora:" * 3000
    assert take_networks(text) == (text, ())
    assert time.process_time() - start < allowed(1)
