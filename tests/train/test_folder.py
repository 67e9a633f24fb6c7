"""The folder of pictures: captions, and what is told of it."""

import pytest
from PIL import Image

from sdcli.errors import ImageError, UsageError
from sdcli.notes import telling
from sdcli.train.folder import in_buckets, read_folder, words_of
from tests.train.folders import write_pictures


def picture(path, size=(64, 64)):
    Image.new("RGB", size, "red").save(path)


def told(call):
    lines = []
    with telling(lines.append):
        call()
    return lines


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("red-apple_02", "red apple"),
        ("IMG_1234", "IMG"),
        ("a cat", "a cat"),
        ("001", ""),
        ("Größe (2)", "Größe"),
    ],
)
def test_a_files_name_is_a_caption_in_words(stem, words):
    assert words_of(stem) == words


def test_a_caption_is_the_text_beside_the_picture_on_one_line(tmp_path):
    picture(tmp_path / "x.png")
    (tmp_path / "x.txt").write_text("\ufeff a cat,\n  sitting \n", encoding="utf-8")
    (example,) = read_folder(tmp_path)
    assert (example.caption, example.is_named) == ("a cat, sitting", False)


def test_an_empty_caption_is_no_words_and_not_the_name(tmp_path):
    picture(tmp_path / "x.png")
    (tmp_path / "x.txt").write_text("")
    assert read_folder(tmp_path)[0].caption == ""


def test_captions_without_a_picture_and_other_files_are_told(tmp_path):
    picture(tmp_path / "red-apple.png")
    (tmp_path / "lost.txt").write_text("x")
    (tmp_path / "notes.md").write_text("x")
    assert told(lambda: read_folder(tmp_path)) == [
        "1 of 1 captions are the files' names, such as 'red apple'",
        f"{tmp_path}: 1 captions have no picture and are not used, such as lost.txt",
        f"{tmp_path}: 1 files are neither pictures nor captions and are not used, such as notes.md",
    ]


def test_pictures_that_are_enlarged_or_lose_much_are_told(tmp_path):
    picture(tmp_path / "small.png", (32, 32))
    picture(tmp_path / "wide.png", (640, 64))
    examples = read_folder(tmp_path)
    lines = told(lambda: in_buckets(examples, [(64, 64), (96, 40)]))
    assert lines == [
        "1 pictures are smaller than they are trained at and are enlarged, such as small.png",
        "1 pictures lose more than a quarter at their edges, such as wide.png",
    ]


def test_what_is_wrong_with_a_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        read_folder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        read_folder(tmp_path / "file")
    with pytest.raises(UsageError, match="has no pictures"):
        read_folder(tmp_path)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    with pytest.raises(ImageError, match=r"broken\.png: is a damaged"):
        read_folder(tmp_path)


def test_a_caption_that_is_not_utf_8_is_named(tmp_path):
    picture(tmp_path / "x.png")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match=r"x\.txt: is not UTF-8"):
        read_folder(tmp_path)
