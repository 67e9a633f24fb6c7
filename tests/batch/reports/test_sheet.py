"""Contact sheets: where each picture is, what is said of those that failed, and how large a sheet may be."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from sdcli.batch.reports import strips
from sdcli.batch.reports.cells import HATCHED, HATCHING, cell
from sdcli.batch.reports.difference_sheet import difference, difference_sheet
from sdcli.batch.reports.labels import drawable, fitted, in_middle, told_apart, width_of, wrapped
from sdcli.batch.reports.sheet import sheets
from sdcli.batch.reports.tables import axes, tables
from tests.batch.reports.outcomes import HOSTILE, failed, outcome, saved, sweep
from tests.request.strategies import TEXT

COLOURS = {(cfg, seed): (40 * cfg, 50 * seed, 200) for cfg in (1, 2, 3) for seed in (1, 2, 3, 4)}


@pytest.fixture
def coloured(tmp_path):
    """Twelve pictures of one colour each, by cfg and seed."""
    made = []
    for (cfg, seed), colour in COLOURS.items():
        path = tmp_path / f"{cfg}-{seed}.png"
        Image.new("RGB", (128, 128), colour).save(path)
        made.append(outcome(path=path, cfg=cfg, seed=seed, entry="e", axes={"cfg": cfg, "seed": seed}))
    return made


def places(sheet):
    """Each colour of `COLOURS` that fills a cell of the sheet -> the column and row of its first pixel."""
    pixels = np.asarray(sheet).astype(int)
    found = {}
    for key, colour in COLOURS.items():
        ys, xs = np.nonzero((pixels == colour).all(axis=2))
        if len(xs) >= 128 * 128:
            found[key] = (int(xs.min()), int(ys.min()))
    return found


def holds(sheet, colour):
    wanted = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
    return bool((np.asarray(sheet) == wanted).all(axis=2).any())


def test_the_last_axis_goes_across_and_the_one_before_it_down(coloured):
    (sheet,) = sheets(coloured)
    found = places(sheet)
    assert len(found) == 12
    assert (
        len({found[cfg, 1][0] for cfg in (1, 2, 3)}) == len({found[1, seed][1] for seed in (1, 2, 3, 4)}) == 1
    )
    assert found[1, 1][0] < found[1, 2][0] < found[1, 3][0] < found[1, 4][0]
    assert found[1, 1][1] < found[2, 1][1] < found[3, 1][1]


def test_a_job_that_is_left_out_leaves_its_place_empty(coloured):
    whole, found = places(next(sheets(coloured))), places(next(sheets(coloured[:5] + coloured[6:])))
    assert found == {key: place for key, place in whole.items() if key != (2, 2)}


def test_a_failed_picture_is_hatched_in_its_place(tmp_path):
    (sheet,) = sheets(sweep(tmp_path))
    assert holds(sheet, HATCHED) and holds(sheet, HATCHING)
    assert not holds(next(sheets(sweep(tmp_path, fails=None))), HATCHED)


def test_a_picture_whose_file_is_gone_is_hatched(tmp_path):
    (sheet,) = sheets([outcome(path=tmp_path / "no.png"), outcome(path=saved(tmp_path / "a.png"))])
    assert holds(sheet, HATCHED)


def test_each_entry_of_the_job_file_has_a_sheet(coloured):
    others = [
        dataclasses.replace(each, job=dataclasses.replace(each.job, entry="f")) for each in coloured[:3]
    ]
    assert [len(places(sheet)) for sheet in sheets(coloured + others)] == [12, 3]


def test_a_sheet_is_split_below_the_limits_with_its_headings(coloured, monkeypatch):
    (whole,) = sheets(coloured)
    monkeypatch.setattr(strips, "MAX_PIXELS", whole.width * (whole.height - 10))
    found = list(sheets(coloured))
    assert [len(places(sheet)) for sheet in found] == [8, 4]
    assert all(sheet.width * sheet.height < strips.MAX_PIXELS for sheet in found)
    first, second = (places(sheet) for sheet in found)
    assert second[3, 1] == first[1, 1]


def test_a_row_that_is_too_wide_is_several(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png")
    many = [
        outcome(path=path, seed=seed, axes={"cfg": cfg, "seed": seed})
        for cfg in (1, 2)
        for seed in range(130)
    ]
    found = list(sheets(many))
    assert all(sheet.width <= strips.MAX_SIDE and sheet.height <= strips.MAX_SIDE for sheet in found)
    assert sum(sheet.width * sheet.height for sheet in found) > 260 * 128 * 128


def test_a_third_axis_gives_a_table_for_each_of_its_values():
    jobs = [
        outcome(axes={"prompt": prompt, "cfg": cfg, "seed": seed})
        for prompt in ("a", "b")
        for cfg in (4, 7)
        for seed in (1, 2, 3)
    ]
    made = tables(jobs, axes(jobs))
    assert [table.heading for table in made] == ["prompt a", "prompt b"]
    assert [(len(table.cells), len(table.cells[0])) for table in made] == [(2, 3), (2, 3)]
    assert made[1].cells[1][2] == (jobs[11],)


def test_axes_that_step_together_are_one():
    jobs = [
        outcome(axes={"prompt": prompt, "image": image, "seed": seed})
        for prompt, image in (("a", "a.png"), ("b", "b.png"))
        for seed in (1, 2, 3)
    ]
    assert [(axis.name, len(axis.values)) for axis in axes(jobs)] == [("prompt · image", 2), ("seed", 3)]


def test_pictures_without_axes_stand_in_rows(tmp_path):
    made = [
        outcome(path=saved(tmp_path / f"{i}.png", i / 7, (128, 128)), name=f"picture {i}") for i in range(7)
    ]
    (sheet,) = sheets(made)
    assert sheet.width > 4 * 128 and sheet.height > 2 * 128


def test_a_batch_of_nothing_has_no_sheet():
    assert list(sheets([])) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_reasons_are_drawn(text, tmp_path):
    jobs = [failed(text, prompt=text, axes={text[:50]: text, "seed": i}, entry=text) for i in range(3)]
    jobs.append(outcome(path=saved(tmp_path / "a.png"), axes={text[:50]: "x", "seed": 1}, entry=text))
    assert len(list(sheets(jobs))) == 1


def test_a_changed_picture_is_named_in_its_corner(tmp_path):
    path = saved(tmp_path / "a.png", size=(256, 256))
    plain, tagged = (np.asarray(cell(outcome(state, path=path), (256, 256))) for state in ("done", "changed"))
    differs = np.nonzero((plain != tagged).any(axis=2))
    assert 0 < differs[0].max() < 40 and differs[1].max() < 160


# --- labels


@given(TEXT)
def test_a_fitted_label_is_no_wider_than_its_room(text):
    assert width_of(fitted(text, 120, 16), 16) <= 120
    assert all(width_of(line, 16) <= 120 for line in wrapped(text, 120, 16, 3))


def test_a_short_label_stays_whole():
    assert fitted("a red apple", 400, 16) == "a red apple"


def test_characters_that_the_font_lacks_are_replaced():
    assert drawable("café × 2 – 中文 and 🍎") == "cafe x 2 - ? and ?"


def test_long_labels_are_cut_where_they_are_alike():
    start, end = (
        "a photo of a very detailed and quite ",
        " on a wooden table in the morning light of an autumn",
    )
    assert told_apart([f"{start}red apple{end}", f"{start}green pear{end}"], 60) == [
        "…and quite red apple on a…",
        "…and quite green pear on a…",
    ]


def test_a_text_is_cut_in_its_middle():
    assert in_middle("0123456789", 7) == "012…789"


# --- differences


def test_a_difference_is_sixteen_times_as_bright():
    before, after = Image.new("RGB", (2, 2), (10, 10, 10)), Image.new("RGB", (2, 2), (12, 7, 200))
    assert difference(before, after).getpixel((0, 0)) == (32, 48, 255)


def test_a_difference_sheet_has_a_row_for_each_pair():
    pair = (Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue"))
    heights = [difference_sheet([("a", *pair)] * number).height for number in (1, 2, 3)]
    assert heights[1] - heights[0] == heights[2] - heights[1] > 64
    assert holds(difference_sheet([("a", *pair)]), (255, 0, 255))


def test_pictures_of_different_sizes_have_no_difference():
    sheet = difference_sheet(
        [("a", Image.new("RGB", (300, 200), "red"), Image.new("RGB", (200, 300), "red"))]
    )
    assert holds(sheet, HATCHED)


def test_a_difference_sheet_stays_below_the_limits():
    pair = (Image.new("RGB", (1, 900)), Image.new("RGB", (900, 1)))
    sheet = difference_sheet([("a", *pair)] * 60)
    assert sheet.height <= strips.MAX_SIDE and sheet.width * sheet.height <= strips.MAX_PIXELS


def test_small_pictures_are_enlarged_by_whole_pixels_where_differences_are_shown():
    from sdcli.batch.reports.cells import shown

    small = Image.new("RGB", (64, 32))
    small.putpixel((3, 5), (255, 0, 0))
    large = shown(small, (384, 384))
    assert large.size == (384, 192)
    assert {large.getpixel((x, y)) for x in range(18, 24) for y in range(30, 36)} == {(255, 0, 0)}
    assert large.getpixel((17, 30)) == (0, 0, 0)
