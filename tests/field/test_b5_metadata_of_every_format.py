"""B5: metadata in JPEG and WebP, and hidden in the pixels (easydiffusion#966, Image-MetaHub#3, A1111#270).

`sd info` said "not a PNG that can be read". Each file here is built as the tool writes it; one reader gives the texts
that a PNG of the same tool has.
"""

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from sdcli.errors import ImageError
from sdcli.request.png_metadata import read_png_metadata
from tests.pictures import photo
from tests.request.image_files import encoded

A1111 = (
    "a cat, naïve ☃ 猫\nNegative prompt: bad\nSteps: 15, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
)
NOVELAI = {
    "Title": "AI generated image", "Description": "a cat", "Software": "NovelAI",
    "Source": "Stable Diffusion 1D44365E",
    "Comment": json.dumps({"steps": 28, "sampler": "k_euler_ancestral", "uc": "bad"}),
}  # fmt: skip
COMFYUI = {"prompt": json.dumps({"3": {"class_type": "KSampler"}}), "workflow": json.dumps({"nodes": []})}
SWARM = json.dumps({"sui_image_params": {"prompt": "a fox", "seed": 5}})
EASY = {"prompt": "a cat", "seed": 5, "num_inference_steps": 25, "guidance_scale": 7.5, "use_vae_model": None}
FOOOCUS = json.dumps({"prompt": "a cat", "full_prompt": ["a cat", "8k"], "metadata_scheme": "fooocus"})
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
FORMATS = ["JPEG", "WEBP", "PNG", *(["AVIF"] if features.check("avif") else [])]


def with_comment(format: str, comment: bytes | str, **tags: str) -> bytes:
    """A picture with an EXIF user comment, and with tags in the first directory."""
    exif = Image.Exif()
    if comment:
        exif.get_ifd(0x8769)[0x9286] = comment
    for tag, value in tags.items():
        exif[int(tag[1:], 16)] = value
    return encoded(photo(), format, exif=exif.tobytes())  # Pillow drops EXIF whose first directory is empty


def texts_of(data: bytes) -> dict[str, str]:
    return dict(read_png_metadata(io.BytesIO(data), "x").texts)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + A1111.encode("utf-16-be"),  # as piexif writes it, and so A1111
        b"UNICODE\0" + A1111.encode("utf-16-le"),
        b"UNICODE\0" + A1111.encode("utf-16"),  # with a byte order mark
        b"UNICODE\0" + A1111.encode("utf-8"),
        b"ASCII\0\0\0" + A1111.encode("utf-8"),
        bytes(8) + A1111.encode("utf-8"),
        A1111.encode("utf-8"),
    ],
    ids=["utf-16-be", "utf-16-le", "with a mark", "utf-8", "ascii", "undefined", "nothing"],
)
def test_b5_the_text_of_a1111_is_read_from_the_user_comment(format, comment):
    assert texts_of(with_comment(format, comment)) == {"parameters": A1111}


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
    st.sampled_from(["be", "le"]),
)
def test_b5_any_prompt_is_read_from_utf_16_in_either_byte_order(prompt, order):
    text = f"{prompt}\nSteps: 20, Sampler: Euler"
    assert texts_of(with_comment("JPEG", b"UNICODE\0" + text.encode(f"utf-16-{order}"))) == {
        "parameters": text
    }


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("first", ["x010f", "x0110"])
def test_b5_the_texts_of_comfyui_are_read_from_make_and_model(format, first):
    second = "x0110" if first == "x010f" else "x010f"
    tags = {first: f"workflow:{COMFYUI['workflow']}", second: f"Prompt: {COMFYUI['prompt']}"}
    assert texts_of(with_comment(format, b"", **tags)) == COMFYUI


@pytest.mark.parametrize("format", FORMATS)
def test_b5_the_texts_of_novelai_swarmui_easy_diffusion_and_fooocus_are_read(format):
    def comment(text: str) -> dict[str, str]:
        return texts_of(with_comment(format, b"UNICODE\0" + text.encode("utf-16-be")))

    assert comment(json.dumps(NOVELAI)) == NOVELAI
    assert comment(json.dumps({key: json.loads(value) for key, value in COMFYUI.items()})) == COMFYUI
    assert comment(SWARM) == {"parameters": SWARM}
    assert comment(json.dumps(EASY))["guidance_scale"] == "7.5"
    fooocus = with_comment(format, "", x9286=FOOOCUS, x0131="Fooocus v2.5.5", x927c="fooocus")
    assert texts_of(fooocus) == {
        "parameters": FOOOCUS,
        "Software": "Fooocus v2.5.5",
        "fooocus_scheme": "fooocus",
    }


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_b5_the_texts_in_xmp_are_read(format):
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description><exif:UserComment><rdf:Alt>'
        '<rdf:li xml:lang="x-default">{&quot;c&quot;: &quot;a &lt;cat&gt;&quot;}</rdf:li></rdf:Alt></exif:UserComment>'
        "<dc:description><rdf:Alt><rdf:li>a cat\nSteps: 20, Sampler: Euler</rdf:li></rdf:Alt></dc:description>"
        "</rdf:Description></x:xmpmeta>"
    )
    texts = texts_of(encoded(photo(), format, xmp=xmp.encode()))
    assert texts["UserComment"] == '{"c": "a <cat>"}'
    assert texts["parameters"] == "a cat\nSteps: 20, Sampler: Euler"
    assert texts["XML:com.adobe.xmp"] == xmp


def test_b5_comments_and_descriptions_are_read():
    assert texts_of(encoded(photo(), "JPEG", comment=A1111)) == {"parameters": A1111}
    assert texts_of(encoded(photo(), "GIF", comment=b"made by hand")) == {"comment": "made by hand"}
    assert texts_of(with_comment("JPEG", b"", x010e="a cat\nSteps: 3, Seed: 1")) == {
        "parameters": "a cat\nSteps: 3, Seed: 1"
    }
    assert texts_of(with_comment("JPEG", b"", x010e="a day out", x010f="Canon")) == {
        "ImageDescription": "a day out"
    }


def test_b5_a_text_of_utf_8_in_a_latin_1_chunk_is_read_as_stable_diffusion_cpp_writes_it():
    from tests.request.image_files import chunk

    png = encoded(photo(), "PNG")
    data = png[:33] + chunk(b"tEXt", b"parameters\0" + A1111.encode()) + png[33:]
    assert texts_of(data) == {"parameters": A1111}
    info = PngInfo()
    info.add_text("parameters", "naïve café")
    assert texts_of(encoded(photo(), "PNG", pnginfo=info)) == {"parameters": "naïve café"}


# Hidden in the pixels.


def hidden(text: str, mark: str, width: int = 64, height: int = 64) -> Image.Image:
    """A picture with a text in its lowest bits, written bit by bit as stealth-pnginfo does."""
    data = gzip.compress(text.encode()) if mark.endswith("comp") else text.encode()
    head = f"stealth_{mark}".encode()
    bits = (
        "".join(f"{byte:08b}" for byte in head)
        + f"{8 * len(data):032b}"
        + "".join(f"{byte:08b}" for byte in data)
    )
    image = photo(width, height, "RGBA")
    pixels, i = image.load(), 0
    for x in range(width):
        for y in range(height):
            values = list(pixels[x, y])
            for channel in (3,) if mark.startswith("png") else (0, 1, 2):
                if i < len(bits):
                    values[channel] = values[channel] & ~1 | int(bits[i])
                    i += 1
            pixels[x, y] = tuple(values)
    assert i == len(bits)
    return image if mark.startswith("png") else image.convert("RGB")


@pytest.mark.parametrize("mark", ["pnginfo", "pngcomp", "rgbinfo", "rgbcomp"])
@pytest.mark.parametrize("size", [(64, 64), (300, 7), (71, 133)])
@pytest.mark.parametrize(("text", "texts"), [(A1111, {"parameters": A1111}), (json.dumps(NOVELAI), NOVELAI)])
@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "WEBP", "lossless": True, "exact": True}])
def test_b5_texts_hidden_in_the_pixels_are_read(mark, size, text, texts, options):
    if size == (300, 7) and mark == "pnginfo" and text != A1111:
        size = (900, 7)
    assert texts_of(encoded(hidden(text, mark, *size), **options)) == texts


@pytest.mark.parametrize("length", [0, 2**32 - 1, 10**6])
def test_b5_a_damaged_hidden_text_is_none(length):
    image = hidden("a cat", "pngcomp")
    pixels = image.load()
    for i, bit in enumerate(f"{length:032b}"):
        x, y = divmod(8 * 15 + i, 64)
        pixels[x, y] = (*pixels[x, y][:3], 254 | int(bit))
    assert texts_of(encoded(image, "PNG")) == {}


# The commands.


@pytest.mark.parametrize("format", FORMATS)
def test_b5_sd_info_tells_the_format_the_size_and_the_texts(sd, format):
    Path("x.img").write_bytes(with_comment(format, b"UNICODE\0" + A1111.encode("utf-16-be")))
    ran = sd("info", "x.img")
    assert ran.code == 0 and f"{format}, 64x64" in ran.out.decode()
    assert "Steps: 15, Sampler: Euler a" in ran.out.decode()
    assert json.loads(sd("info", "x.img", "--json").out)["texts"]["parameters"] == A1111


def test_b5_a_picture_that_says_nothing_is_told_so(sd):
    photo().save("x.jpg")
    assert "it does not say how" in sd("info", "x.jpg").out.decode()


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_b5_a_damaged_file_is_an_image_error_or_tells_something(format, data):
    whole = bytearray(with_comment(format, b"UNICODE\0" + A1111.encode("utf-16-be"), x010f="workflow:{}"))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        read_png_metadata(io.BytesIO(cut), "x")
    except ImageError as error:
        assert str(error).startswith("x: ")


@pytest.mark.parametrize(
    "comment", [b"", b"UNICODE\0", b"{", b"[" * 100_000, b'{"prompt": ' * 9_000, b"UNICODE\0\xd8\0"]
)
def test_b5_an_odd_user_comment_is_no_fault(comment):
    texts_of(with_comment("WEBP", comment))
