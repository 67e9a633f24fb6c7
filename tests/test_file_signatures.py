"""The kind of a file is told by its first bytes; pictures and models are refused by the same table."""

import pytest

from sdcli.checkpoints import header
from sdcli.errors import ImageError, ModelError
from sdcli.file_signatures import HEAD_BYTES, PICTURES, kind_of
from sdcli.request import image_formats

HEADS = [  # kind, first bytes
    ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ("JPEG", b"\xff\xd8\xff\xe0\0\x10JFIF"),
    ("WEBP", b"RIFF\x99\0\0\0WEBPVP8 "),
    ("GIF", b"GIF89a\1\0\1\0"),
    ("BMP", b"BM\x36\0\0\0\0\0\0\0"),
    ("HEIC", b"\0\0\0\x18ftypheic"),
    ("AVIF", b"\0\0\0\x18ftypavif"),
    ("JPEG XL", b"\xff\x0a\xfa\x1f"),
    ("JPEG 2000", b"\xff\x4f\xff\x51\0\x2f"),
    ("TIFF", b"II*\0\x08\0\0\0"),
    ("PSD", b"8BPS\0\1"),
    ("PDF", b"%PDF-1.7\n"),
    ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'>"),
    ("SVG", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<svg>"),
    ("HTML", b"\r\n  <!DOCTYPE html><html>"),
    ("XML", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
    ("git-lfs", b"version https://git-lfs.github.com/spec/v1\noid"),
    ("safetensors", b"\x40\0\0\0\0\0\0\0" + b'{"__metadata__":{}}'),
    ("zip", b"PK\x03\x04\x14\0"),
    ("pickle", b"\x80\x02}q\0."),
    ("tar", b"sys_info".ljust(257, b"\0") + b"ustar"),
    ("GGUF", b"GGUF\3\0\0\0"),
    ("HDF5", b"\x89HDF\r\n\x1a\n"),
    ("gzip", b"\x1f\x8b\x08"),
    ("7z", b"7z\xbc\xaf\x27\x1c"),
    ("RAR", b"Rar!\x1a\7"),
    ("text", "Bäume\n".encode()),
    (None, b""),
    (None, bytes(HEAD_BYTES)),
]


@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_the_kind_of_a_file_is_told_by_its_first_bytes(kind, head):
    assert kind_of(head) == kind


@pytest.mark.parametrize("length", [b"BM", b"\x1f\x8b", b"\x80\x02", b"PK"])
def test_a_safetensors_file_is_known_whatever_its_length_looks_like(length):
    assert kind_of(length + bytes(6) + b'{"a":{}}') == "safetensors"


@pytest.mark.parametrize("kind", image_formats.READ)
def test_the_formats_that_are_read_are_pictures(kind):
    assert kind in PICTURES


@pytest.mark.parametrize(
    ("kind", "head"), [(kind, head) for kind, head in HEADS if kind not in image_formats.READ]
)
def test_what_is_no_picture_that_is_read_is_refused_by_name(kind, head):
    with pytest.raises(ImageError, match=r"^x: is "):
        image_formats.recognise(head, "x")


@pytest.mark.parametrize(("kind", "head"), [(kind, head) for kind, head in HEADS if kind != "safetensors"])
def test_what_is_no_safetensors_file_is_refused_as_a_model(tmp_path, kind, head):
    path = tmp_path / "x.safetensors"
    path.write_bytes(head)
    with pytest.raises(ModelError) as refused:
        header.read(path)
    assert ("a picture, not a model" in str(refused.value)) == (kind in (*PICTURES, "SVG"))
