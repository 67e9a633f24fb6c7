"""The page of a server, used in a real browser: what is drawn on it, and that no text in it does anything."""

import base64
import hashlib
import io
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from sdcli.serve import page
from tests import browser
from tests.batch.reports.outcomes import HOSTILE
from tests.serve.running import LONG, start, stop

SMALL = {"steps": 4, "width": 64, "height": 64, "seed": 7}
TOKEN = "a-long-token"
_SHORT = [text for text in HOSTILE if len(text) < 1000]
PROMPTS = [*_SHORT[:3], *(pytest.param(text, marks=pytest.mark.slow) for text in _SHORT[3:])]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    with browser.Browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def tab(opened, server):
    """The page, freshly opened; nothing may have gone wrong on it, and nothing is drawn afterwards."""
    opened.open(server.url + "/")
    opened.wait_for("byId('model').options.length")
    yield opened
    opened.value_of("location.protocol === 'http:' && sessionStorage.clear()")
    opened.open("about:blank", awaits_page=False)
    assert opened.errors == []
    server.until(lambda: server.metric("sd_queue_length") == server.metric("sd_running") == 0)


def fill(tab, prompt, **values):
    for name, value in {"prompt": prompt, **values}.items():
        tab.value_of(f"byId({name!r}).focus(), byId({name!r}).value = ''")
        tab.type(str(value))


def draw(tab, prompt, **values):
    fill(tab, prompt, **values)
    tab.click("#draw")


def draw_to_the_end(tab, prompt, **values):
    before = tab.value_of("jobs.length")
    draw(tab, prompt, **values)
    tab.wait_for(
        f"jobs.length > {before} && jobs.every(job => job.hasEnded && (job.url || job.told.error))", 600
    )


def picture_of(tab, index=0):
    """The bytes that Download saves."""
    texts = "Array.from(new Uint8Array(data), each => String.fromCharCode(each)).join('')"
    return base64.b64decode(tab.value_of(f"jobs[{index}].blob.arrayBuffer().then(data => btoa({texts}))"))


def texts_of(tab, selector):
    return tab.value_of(f"[...document.querySelectorAll({selector!r})].map(each => each.textContent)")


def test_the_policy_allows_the_pages_own_style_and_script_alone(server):
    status, headers, data = server.ask("GET", "/")
    policy = headers["content-security-policy"]
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", data.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert status == 200 and policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_the_page_loads_nothing_from_elsewhere_and_writes_no_html():
    text = page.text()
    assert (
        re.findall(
            r"https?://|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(| on\w+=| style=", text
        )
        == []
    )
    assert "{{" not in text


def test_a_picture_is_drawn_its_steps_are_seen_and_its_command_draws_the_same_bytes(tab, sd, tmp_path):
    tab.value_of("window.seen = []")
    tab.value_of(
        "const look = () => [byId('now-told').textContent, document.querySelector('#cards img')?.src];"
        "new MutationObserver(() => seen.push(look()))"
        ".observe(byId('now'), { subtree: true, childList: true, characterData: true })"
    )
    draw_to_the_end(tab, "a red apple", negative="a leaf", cfg="5.5", **{**SMALL, "steps": 12})
    seen = tab.value_of("seen")
    assert any(words.startswith("Step ") and words.endswith(" of 12") for words, _ in seen)
    assert any((source or "").startswith("data:image/png") for _, source in seen)
    assert tab.value_of("document.querySelector('#cards img').naturalWidth") == 64
    tab.click("#cards .frame")
    program, *arguments = shlex.split(texts_of(tab, "#large code")[0])
    ran = sd(*arguments)
    assert program == "sd" and ran.code == 0, ran.err
    assert tab.value_of("document.querySelector('#large a').download") == "a-red-apple-7.png"
    assert (tmp_path / "a-red-apple-7.png").read_bytes() == picture_of(tab)


def test_a_picture_and_a_mask_are_sent_along_and_the_command_names_their_files(tab, sd, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "my photo.png")
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 32, axis=1).repeat(64, axis=0)).save(
        tmp_path / "mask.png"
    )
    tab.choose("#image", tmp_path / "my photo.png")
    tab.choose("#mask", tmp_path / "mask.png")
    draw_to_the_end(tab, "a lemon", steps=4, seed=3)
    drawn = np.asarray(Image.open(io.BytesIO(picture_of(tab))))
    assert drawn.shape == (64, 64, 3) and (drawn[:, :16] == pixels[:, :16]).all() and (drawn != pixels).any()
    command = tab.value_of("jobs[0].told.command")
    assert command.startswith("sd inpaint 'a lemon' --image 'my photo.png'") and "--mask mask.png" in command
    assert sd(*shlex.split(command)[1:]).code == 0
    assert (tmp_path / "a-lemon-3.png").read_bytes() == picture_of(tab)


def test_the_settings_of_a_picture_come_back_into_the_form(tab):
    draw_to_the_end(tab, "a cat", negative="a dog", cfg=3, **SMALL, count=2)
    fill(tab, "something else", negative="x", steps=9, seed="")
    tab.value_of("[...document.querySelectorAll('#cards li')][1].querySelector('.bar button').click()")
    names = ("prompt", "negative", "width", "steps", "cfg", "sampler", "seed", "count")
    assert [tab.value_of(f"byId('{name}').value") for name in names] == [
        "a cat", "a dog", "64", "4", "3", "dpmpp_2m", "8", "",
    ]  # fmt: skip


def test_a_waiting_picture_tells_how_many_are_before_it_and_each_can_be_cancelled(tab, server):
    draw(tab, "a bus", count=3, **{**LONG, "seed": 1})
    tab.wait_for("jobs.length === 3 && jobs[0].told.step > 0 && jobs[2].told.ahead === 2", 600)
    assert texts_of(tab, "#cards .frame p")[1:] == ["Waiting: 1 before it", "Waiting: 2 before it"]
    tab.value_of("[...document.querySelectorAll('#cards li')][1].querySelector('.bar button').click()")
    tab.wait_for("jobs[1].hasEnded")
    assert texts_of(tab, "#cancel") == ["Cancel all"]
    tab.click("#cancel")
    tab.wait_for("byId('now').hidden")
    assert tab.value_of("jobs.map(job => job.told.state)") == ["cancelled"] * 3


def test_who_leaves_the_page_cancels_what_it_waits_for(tab, server):
    draw(tab, "a tree", **{**LONG, "seed": 2})
    tab.wait_for("jobs[0]?.told.step > 0", 600)
    before = server.metric('sd_pictures_total{state="cancelled"}')
    tab.open("about:blank", awaits_page=False)
    server.until(lambda: server.metric('sd_pictures_total{state="cancelled"}') == before + 1)


def test_what_was_drawn_is_still_there_when_the_page_is_loaded_again(tab, server):
    draw_to_the_end(tab, "a plum", count=2, **SMALL)
    draw_to_the_end(tab, "a pear", count=1, **SMALL)
    server.json("POST", "/v1/jobs", {"prompt": "of somebody else", **SMALL})
    before = [picture_of(tab, index) for index in range(3)]
    tab.open(server.url + "/")
    tab.wait_for("jobs.length === 3 && jobs.every(job => job.url)", 600)
    assert texts_of(tab, "#cards .name") == ["a pear", "a plum", "a plum"]
    assert [picture_of(tab, index) for index in range(3)] == before


def test_the_settings_of_a_picture_from_before_ask_for_its_files_again(tab, server, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.png")
    tab.choose("#image", tmp_path / "photo.png")
    draw_to_the_end(tab, "a plum", steps=2, seed=4)
    tab.open(server.url + "/")
    tab.wait_for("jobs.length === 1 && jobs[0].url", 600)
    tab.value_of("document.querySelector('#cards .bar button').click()")
    assert texts_of(tab, "#status") == ["The settings are in the form; choose its files again: photo.png"]


def test_an_error_is_shown_as_the_server_tells_it(tab, server):
    draw(tab, "a cat", width=63)
    tab.wait_for("byId('error').textContent")
    told = server.json("POST", "/v1/jobs", {"prompt": "a cat", "width": 63})[1]["error"]["message"]
    assert texts_of(tab, "#error") == [told] and tab.value_of("jobs.length") == 0
    assert len(tab.errors) == 1  # the browser tells of the status 400
    tab.errors.clear()


@pytest.mark.parametrize("text", PROMPTS, ids=ascii)
def test_a_hostile_prompt_is_seen_as_it_is_and_runs_nothing(tab, text):
    tags = tab.value_of("document.querySelectorAll('script, [onerror], a[href^=http]').length")
    draw_to_the_end(tab, text, negative=text, **SMALL)
    drawn = tab.value_of("jobs[0].told.request.prompt")
    assert drawn == text or "{" in text or "\r" in text  # the prompt language reads these
    if tab.value_of("jobs[0].url"):
        tab.click("#cards .frame")
        assert texts_of(tab, "#large h2") == [drawn]
    assert texts_of(tab, "#cards .name") == [drawn]
    assert tab.value_of("document.querySelectorAll('script, [onerror], a[href^=http]').length") == tags


def test_the_page_is_used_by_keyboard_alone(tab):
    tab.type("a red apple")  # the prompt has the focus
    order = []
    for _ in range(14):
        tab.press("Tab")
        order.append(tab.value_of("document.activeElement.id"))
    assert order[:12] == [
        "negative", "model", "width", "height", "steps", "cfg", "sampler", "schedule", "seed", "dice", "count", "image",
    ]  # fmt: skip
    assert "draw" in order
    for name in ("width", "height", "steps"):
        fill(tab, "a red apple", **{name: SMALL[name]})
    tab.press("Enter", with_control=True)
    tab.wait_for("jobs[0]?.url", 600)
    tab.value_of("byId('draw').focus()")
    tab.press("Tab")
    tab.press("Enter")
    assert tab.value_of("byId('large').open && document.activeElement.textContent") == "Close"
    tab.press("Escape")
    tab.wait_for("!byId('large').open && document.activeElement.className === 'frame'")


def test_everything_that_is_asked_for_has_a_label(tab):
    fields = "[...document.querySelectorAll('input, select, textarea')]"
    without = f"{fields}.filter(each => !each.labels.length && !each.ariaLabel)"
    assert tab.value_of(f"{without}.map(each => each.id)") == []


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(tab, server, dark):
    tab.open(server.url + "/", width=360, height=780, dark=dark, phone=True)
    tab.wait_for("byId('model').options.length")
    draw_to_the_end(tab, "long" * 100, **SMALL)
    assert tab.value_of("document.documentElement.scrollWidth") == 360
    tab.click("#cards .frame")
    assert tab.value_of("byId('large').scrollWidth <= 360")
    colour = tab.value_of("getComputedStyle(document.documentElement).backgroundColor")
    assert colour == ("rgb(18, 20, 23)" if dark else "rgb(255, 255, 255)")


def test_the_token_is_asked_for_once_and_kept_in_the_tab(opened, tmp_path):
    (tmp_path / "token.txt").write_text(TOKEN, encoding="utf-8")
    served = start(tmp_path, "--token-file", str(tmp_path / "token.txt"))
    try:
        opened.open(served.url + "/")
        opened.wait_for("byId('ask').open")
        for token in ("wrong ✓", TOKEN):
            opened.wait_for("byId('ask').open && document.activeElement.id === 'token'")
            opened.type(token)
            opened.press("Enter")
            opened.wait_for("byId('ask-error').textContent || byId('model').options.length")
        opened.wait_for("byId('model').options.length")
        draw_to_the_end(opened, "a cat", **SMALL)
        opened.open(served.url + "/")
        opened.wait_for("byId('model').options.length")
        assert not opened.value_of("byId('ask').open")
        opened.open("about:blank", awaits_page=False)
    finally:
        stop(served)
    assert all("401" in error for error in opened.errors)
    opened.errors.clear()
