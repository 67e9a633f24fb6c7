"""Schedule: A1111's own answers, and what must hold for any text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcli.request.prompt import schedule
from sdcli.request.prompt.schedule import Entry, Timeline
from tests.request.prompt.known import answers, run_lengths
from tests.request.prompt.strategies import PROMPTS, WORDS
from tests.speed import allowed

STEPS = st.integers(1, 30)


def texts(prompt: str, steps: int) -> list[str]:
    """The text that counts in each step."""
    found = schedule.entries(prompt, Timeline(steps))
    return [schedule.active(found, i) for i in range(steps)]


@pytest.mark.parametrize("known", answers("schedule"))
def test_the_entries_are_those_of_a1111(known):
    found = schedule.entries(known["prompt"], Timeline(known["steps"]))
    assert [list(entry) for entry in found] == known["schedule"]


@pytest.mark.parametrize("known", answers("schedule"))
def test_counted_from_0_the_text_of_each_evaluation_is_that_of_a1111(known):
    found = schedule.entries(known["prompt"], Timeline(known["steps"]))
    active = [schedule.active(found, i, from_zero=True) for i in range(known["steps"])]
    assert run_lengths(active) == known["active"]


@pytest.mark.parametrize("known", answers("hires"))
def test_both_passes_of_hires_have_the_entries_of_a1111(known):
    first = second = Timeline(known["steps"], fractions_below_1=known["old_timelines"])
    if not known["old_timelines"]:
        second = Timeline(known["hires_steps"], earlier=known["steps"])
    found = [[list(entry) for entry in schedule.entries(known["prompt"], line)] for line in (first, second)]
    assert found == [known["first"], known["second"]]


@given(PROMPTS)
def test_the_items_of_any_text_print_back_to_it(text):
    assert schedule.to_text(schedule.parse(text)) == text


@given(PROMPTS)
def test_a_printed_tree_is_read_as_an_equal_tree(text):
    items = schedule.parse(text)
    assert schedule.parse(schedule.to_text(items)) == items


@given(PROMPTS, STEPS)
def test_the_entries_of_any_text_rise_and_end_with_the_steps(text, steps):
    ends = [entry.until for entry in schedule.entries(text, Timeline(steps))]
    assert ends == sorted(set(ends)) and ends[0] >= 1 and ends[-1] == steps


@given(WORDS, STEPS)
def test_a_text_without_brackets_stays_what_it_is(text, steps):
    assert schedule.entries(text, Timeline(steps)) == (Entry(steps, text),)
    assert not schedule.is_scheduled(schedule.parse(text))


@given(WORDS, WORDS, STEPS)
def test_a_change_at_0_has_come_before_the_first_step(before, after, steps):
    assert texts(f"x [{before}:{after}:0]", steps) == [f"x {after}"] * steps


@given(WORDS, WORDS, STEPS, st.data())
def test_a_change_at_a_step_comes_after_it(before, after, steps, data):
    when = data.draw(st.integers(0, steps))
    assert texts(f"[{before}:{after}:{when}]", steps) == [before] * when + [after] * (steps - when)


@given(WORDS, WORDS)
def test_a_change_at_a_fraction_comes_after_that_part_of_the_steps(before, after):
    assert texts(f"[{before}:{after}:0.25]", 20) == texts(f"[{before}:{after}:5]", 20)


@given(WORDS, STEPS)
def test_alternating_between_equal_texts_changes_nothing(text, steps):
    assert texts(f"[{text}|{text}]", steps) == [text] * steps


@given(WORDS, WORDS, WORDS)
def test_alternation_takes_its_choices_in_turn(a, b, c):
    assert texts(f"[{a}|{b}|{c}]", 7) == [a, b, c, a, b, c, a]


@given(WORDS, WORDS)
def test_in_the_second_pass_numbers_go_on_from_the_first(before, after):
    second = Timeline(8, earlier=20)
    middle = schedule.entries(f"[{before}:{after}:4]", Timeline(8))
    assert schedule.entries(f"[{before}:{after}:24]", second) == middle
    assert schedule.entries(f"[{before}:{after}:1.5]", second) == middle


def test_the_evaluation_behind_the_last_is_the_first_entry_in_a1111_and_the_last_in_ours():
    found = schedule.entries("[a:b:2]", Timeline(4))
    assert [schedule.active(found, 9, from_zero=counted) for counted in (True, False)] == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        "[" * 10_000 + "a" + "]" * 10_000,
        "(" * 10_000 + "a" + ")" * 10_000,
        "[a:" * 5_000 + ":3]" * 5_000,
        "[a|" * 5_000 + "]" * 5_000,
        "[a:b:" + "1" * 10_000,
    ],
)
def test_deep_brackets_and_long_numbers_are_read_in_under_a_second(text):
    start = time.process_time()
    assert schedule.entries(text, Timeline(20))
    assert time.process_time() - start < allowed(1)
