"""The gallery page: what it knows, that no text in it can do anything, and how it behaves in a real browser."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from PIL import Image

from sdcli.batch.reports import gallery as gallery_module
from sdcli.batch.reports.gallery import gallery, json_in_html
from sdcli.request.fields import MAX_TEXT
from tests import browser
from tests.batch.reports.outcomes import HOSTILE, failed, outcome, saved, sweep
from tests.request.strategies import TEXT


class Elements(HTMLParser):
    """The tags of a page, and the text of each script and style."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] in ("script", "style", "title"):
            self.texts.append((*self.tags[-1], data))


def elements(page):
    read = Elements()
    read.feed(page.decode("utf-8"))
    return read


def data_of(page):
    return json.loads(next(text for _, given, text in elements(page).texts if given.get("id") == "data"))


def only_page(outcomes, title="t", **options):
    ((_, page),) = gallery(outcomes, title, **options)
    return page


def write(folder, outcomes, title="t", **options):
    """Write the pages into a folder; returns the first one's path."""
    first = folder / "gallery.html"
    for name, page in gallery(outcomes, title, page=first, **options):
        (folder / name).write_bytes(page)
    return first


# --- what the page knows


def test_the_page_knows_every_picture_with_its_settings_and_commands(tmp_path):
    page = data_of(only_page(sweep(tmp_path), page=tmp_path / "gallery.html"))
    assert (len(page["pictures"]), page["axes"]) == (12, ["cfg", "seed"])
    first = page["pictures"][0]
    assert (first["href"], first["state"], first["reason"]) == ("apple-4-1.png", "done", "")
    fields = {
        key: first["fields"][key] for key in ("name", "state", "entry", "cfg", "seed", "prompt", "seconds")
    }
    assert list(fields.values()) == ["apple-4-1.png", "done", "apple", 4.0, 1, "a red apple", 1.75]
    assert first["commands"] == [
        f"sd again {tmp_path}/apple-4-1.png",
        "sd txt2img 'a red apple' --seed 1 --cfg 4",
    ]
    assert page["pictures"][4]["reason"] == "the disk is full; free some space"


def test_a_small_picture_is_webp_of_256_pixels(tmp_path):
    page = data_of(only_page([outcome(path=saved(tmp_path / "a.png", 0.3, (600, 300)))]))
    thumb = page["pictures"][0]["thumb"]
    image = Image.open(io.BytesIO(base64.b64decode(thumb["src"].removeprefix("data:image/webp;base64,"))))
    assert (image.format, image.size, thumb["size"], thumb["full"]) == (
        "WEBP",
        (256, 128),
        [256, 128],
        [600, 300],
    )


def test_a_link_starts_at_the_page_and_is_quoted(tmp_path):
    path = saved(tmp_path / "out" / "50% #1? ü.png")
    page = data_of(only_page([outcome(path=path)], page=tmp_path / "pages" / "gallery.html"))
    assert page["pictures"][0]["href"] == "../out/50%25%20%231%3F%20%C3%BC.png"


def test_an_embedded_picture_is_the_file_itself(tmp_path):
    path = saved(tmp_path / "a.png")
    page = data_of(only_page([outcome(path=path)], embed=True))
    assert (
        base64.b64decode(page["pictures"][0]["full"].removeprefix("data:image/png;base64,"))
        == path.read_bytes()
    )


def test_a_picture_whose_file_is_gone_has_no_small_picture(tmp_path):
    page = data_of(only_page([outcome(path=tmp_path / "no.png")], embed=True))
    assert (page["pictures"][0]["thumb"], page["pictures"][0]["full"]) == (None, "")


def test_a_page_that_would_be_too_large_is_several_that_link_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery_module, "MAX_BYTES", 5000)
    pages = list(gallery(sweep(tmp_path), "t", page=tmp_path / "index.html"))
    assert [name for name, _ in pages][:2] == ["index.html", "index-2.html"] and len(pages) > 2
    assert all(data_of(page)["pages"] == [name for name, _ in pages] for _, page in pages)
    told = [picture["fields"]["name"] for _, page in pages for picture in data_of(page)["pictures"]]
    assert len(told) == len(sweep(tmp_path))


def test_a_batch_of_nothing_is_a_page():
    assert data_of(only_page([]))["pictures"] == []


# --- that nothing in it does anything


@given(TEXT)
def test_any_text_comes_back_from_the_page(text):
    assert data_of(only_page([failed(text, prompt=text, name=text or "x")], text))["title"] == text


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800 lone", "a" * MAX_TEXT])
def test_a_hostile_text_adds_no_element_to_the_page(text):
    prompt = text.encode("utf-8", "replace").decode()
    hostile = elements(
        only_page([failed(text, prompt=prompt, name=text, entry=text, axes={text: text})], text)
    )
    assert hostile.tags == elements(only_page([failed("x", name="x")], "x")).tags


@pytest.mark.parametrize("text", HOSTILE)
def test_json_in_a_page_holds_nothing_that_html_reads(text):
    written = json_in_html({"text": text})
    assert re.search("[<>&\u2028\u2029]|[^ -~]", written) is None
    assert json.loads(written) == {"text": text}


def test_the_policy_allows_the_pages_own_style_and_script_alone():
    page = elements(only_page([]))
    policy = next(given["content"] for tag, given in page.tags if given.get("http-equiv"))
    for tag in ("style", "script"):
        body = next(text for name, given, text in page.texts if name == tag and not given)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_the_page_asks_nothing_of_the_network_and_writes_no_html():
    template = gallery_module.TEMPLATE.read_text(encoding="utf-8")
    assert (
        re.findall(r"https?://|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(", template)
        == []
    )


# --- in a browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    with browser.Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened
        assert opened.errors == []


def texts_of(tab, selector):
    return tab.value_of(
        f"[...document.querySelectorAll({json.dumps(selector)})].map(each => each.textContent)"
    )


def show_grid(tab):
    tab.value_of("[...document.querySelectorAll('#arrangement button')][0]?.click()")


@pytest.mark.slow
def test_hostile_texts_are_seen_as_they_are_and_run_nothing(tab, tmp_path):
    made = [outcome(path=saved(tmp_path / "a.png"), prompt=text, name=text) for text in HOSTILE]
    tab.open(
        write(
            tmp_path, made + [failed(text) for text in HOSTILE], "</title><script>document.title=1</script>"
        )
    )
    assert tab.value_of("document.scripts.length") == 2
    assert tab.value_of("document.querySelectorAll('main script, main a, [onerror]').length") == 0
    assert texts_of(tab, ".card .name")[: len(HOSTILE)] == list(HOSTILE)
    assert texts_of(tab, "h1") == ["</title><script>document.title=1</script>"]


@pytest.mark.slow
def test_a_sweep_is_a_table_whose_axes_can_be_swapped(tab, tmp_path):
    tab.open(write(tmp_path, sweep(tmp_path)))
    assert texts_of(tab, "thead th") == ["seed 1", "seed 2", "seed 3", "seed 4"]
    across = "document.querySelector('#arrangement select')"
    tab.value_of(f"{across}.value = 'cfg', {across}.dispatchEvent(new Event('change'))")
    assert texts_of(tab, "thead th") == ["cfg 4", "cfg 7", "cfg 10"]
    assert texts_of(tab, "tbody th") == ["seed 1", "seed 2", "seed 3", "seed 4"]


@pytest.mark.slow
def test_the_headings_of_a_large_table_stay_in_sight(tab, tmp_path):
    path = saved(tmp_path / "a.png")
    made = [outcome(path=path, axes={"cfg": cfg, "seed": seed}) for cfg in range(12) for seed in range(12)]
    tab.open(write(tmp_path, made))
    tab.value_of("scrollTo(0, 10000), document.querySelector('.scroll').scrollTo(10000, 10000)")
    tops = "[...document.querySelectorAll('thead th')].map(each => each.getBoundingClientRect().top)"
    lefts = "[...document.querySelectorAll('tbody th')].map(each => each.getBoundingClientRect().left)"
    assert min(tab.value_of(tops)) >= 0 and min(tab.value_of(lefts)) >= 0


@pytest.mark.slow
def test_pictures_are_searched_filtered_and_sorted(tab, tmp_path):
    tab.open(write(tmp_path, sweep(tmp_path)))
    show_grid(tab)
    tab.value_of(
        "byId('field').value = 'cfg', byId('relation').value = '≥', byId('value').value = '7', byId('add').click()"
    )
    tab.value_of("byId('sort').value = 'seed', byId('sort').dispatchEvent(new Event('change'))")
    tab.value_of("byId('search').value = 'apple-', byId('search').dispatchEvent(new Event('input'))")
    tab.click("#direction")
    assert texts_of(tab, ".card .about")[:3] == ["seed 4  ·  cfg 10", "seed 4  ·  cfg 7", "seed 3  ·  cfg 10"]
    assert texts_of(tab, "#count") == ["7 of 12"]
    tab.click("#filters button")
    assert texts_of(tab, "#count") == ["11 of 12"]


@pytest.mark.slow
def test_a_state_is_filtered_by_its_button_and_told_by_a_word(tab, tmp_path):
    tab.open(write(tmp_path, sweep(tmp_path)))
    show_grid(tab)
    tab.value_of("[...document.querySelectorAll('#states button')][1].click()")
    assert texts_of(tab, ".card .state") == ["failed"]
    assert texts_of(tab, ".none p") == ["the disk is full; free some space"]


@pytest.mark.slow
def test_arrow_keys_walk_through_the_large_view(tab, tmp_path):
    tab.open(write(tmp_path, sweep(tmp_path)))
    show_grid(tab)
    for key in ("ArrowDown", "ArrowRight", "Enter", "ArrowRight"):
        tab.press(key)
    assert texts_of(tab, "#large h2") == ["apple-4-3.png"]
    tab.wait_for("document.querySelector('#large img').complete")
    assert tab.value_of("document.querySelector('#large img').naturalWidth") == 96
    assert texts_of(tab, "#large code")[1] == "sd txt2img 'a red apple' --seed 3 --cfg 4"
    tab.press("Escape")
    tab.wait_for("!byId('large').open")


@pytest.mark.slow
def test_a_file_that_is_gone_leaves_the_small_picture_in_the_large_view(tab, tmp_path):
    made = sweep(tmp_path)
    page = write(tmp_path, made)
    made[0].path.unlink()
    tab.open(page)
    tab.errors.clear()
    tab.click(".open")
    tab.wait_for(
        "document.querySelector('#large img').src.startsWith('data:') && document.querySelector('#large img').complete"
    )
    tab.errors.clear()  # the browser tells of the missing file


@pytest.mark.slow
def test_two_pictures_are_compared_with_a_slider(tab, tmp_path):
    tab.open(write(tmp_path, sweep(tmp_path), embed=True))
    for i in (0, 5):
        tab.value_of(f"document.querySelectorAll('.pick')[{i}].click()")
    tab.click("#tray .main")
    assert texts_of(tab, ".differs th") == ["name", "cfg", "seed", "file", "sha256"]
    tab.press("ArrowRight")
    assert float(tab.value_of("document.querySelector('#compare input').value")) > 50
    clip = tab.value_of("document.querySelector('.both img + img').style.clipPath")
    assert re.fullmatch(r"inset\(0(px)? 49\.9% 0(px)? 0(px)?\)", clip)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(tab, tmp_path, dark):
    made = [outcome(path=saved(tmp_path / "a.png"), prompt=text, name=text) for text in HOSTILE]
    tab.open(write(tmp_path, made, HOSTILE[10]), width=390, height=844, dark=dark, phone=True)
    assert tab.value_of("document.documentElement.scrollWidth") == 390
    tab.click(".open")
    assert tab.value_of("document.querySelector('#large .view').scrollWidth") == 390
    colour = tab.value_of("getComputedStyle(document.documentElement).backgroundColor")
    assert colour == ("rgb(18, 20, 23)" if dark else "rgb(255, 255, 255)")
