"""EXIF texts: what tools write into the EXIF, XMP and comments of a picture, by the keywords they use in a PNG."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Exif

IMAGE_DESCRIPTION, MAKE, MODEL, SOFTWARE = 0x010E, 0x010F, 0x0110, 0x0131
EXIF_IFD, MAKER_NOTE, USER_COMMENT, XP_COMMENT = 0x8769, 0x927C, 0x9286, 0x9C9C
OURS = b"sdcli\0"
"""What our maker note begins with; our JSON comes after it."""
_KEYWORD = re.compile(r"\s*(prompt|workflow|parameters|extra_pnginfo)\s*:\s*(?=[{\[\w])", re.IGNORECASE)
_PARAMETERS = re.compile(r"(?:^|[\n,]\s*)Steps: \d+", re.MULTILINE)
_XMP_TEXTS = re.compile(
    r"<(exif:UserComment|dc:description)\b[^>]*>\s*(?:<rdf:(?:Alt|Seq|Bag)[^>]*>\s*<rdf:li[^>]*>)?([^<]*)"
)
_HEADS = (b"UNICODE\0", b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8))
"""What a user comment may begin with: eight bytes that name its encoding."""


def exif_texts(exif: Exif) -> dict[str, str]:
    """The texts in EXIF data, by the keywords that a PNG of the same tool has.

    ComfyUI writes `prompt:` and `workflow:` before its JSON, into Make, Model and the tags below; A1111 and others
    write one text into the user comment.
    """
    tags: dict[int, Any] = dict(exif)
    tags |= exif.get_ifd(EXIF_IFD)
    found: dict[str, str] = {}
    maker = tags.get(MAKER_NOTE)
    if isinstance(maker, bytes) and maker.startswith(OURS):
        found["sd"] = maker[len(OURS) :].decode("utf-8", "replace")
    elif maker in ("fooocus", "a1111", b"fooocus", b"a1111"):
        found["fooocus_scheme"] = maker.decode() if isinstance(maker, bytes) else maker
    for tag, value in sorted(tags.items()):
        if tag == USER_COMMENT:
            found |= comment_texts(decode_user_comment(value))
        elif isinstance(value, str):
            found |= _tag_texts(tag, value.strip("\0"))
    if isinstance(comment := tags.get(XP_COMMENT), bytes):
        found |= comment_texts(comment.decode("utf-16-le", "replace").rstrip("\0"), "XPComment")
    return {keyword: text for keyword, text in found.items() if text.strip()}


def xmp_texts(xmp: str) -> dict[str, str]:
    """The texts in an XMP packet: the packet itself, and what tools write into its user comment and description."""
    found = {"XML:com.adobe.xmp": xmp}
    for name, text in _XMP_TEXTS.findall(xmp):
        if plain := html.unescape(text).strip():
            found |= comment_texts(plain, "UserComment" if name == "exif:UserComment" else "description")
    return found


def comment_texts(text: str, keyword: str = "parameters") -> dict[str, str]:
    """The texts that one comment stands for: a JSON object of several texts, or one text under the keyword.

    The text of A1111 is `parameters`, whatever the keyword.
    """
    several = _several(text)
    if several:
        return several
    return {"parameters" if _PARAMETERS.search(text) else keyword: text}


def exif_data(texts: Mapping[str, str]) -> bytes:
    """EXIF data that holds our texts: `parameters` as A1111 writes it, and `sd` as a maker note."""
    from PIL import Image

    exif = Image.Exif()
    exif.endian = ">"  # so that the byte order of UTF-16 is that of A1111 (piexif), and that of the rest too
    tags = exif.get_ifd(EXIF_IFD)
    if "sd" in texts:
        tags[MAKER_NOTE] = OURS + texts["sd"].encode("utf-8")
    if "parameters" in texts:
        tags[USER_COMMENT] = _HEADS[0] + texts["parameters"].encode("utf-16-be")
    return exif.tobytes()


def decode_user_comment(value: Any) -> str:
    """The text of EXIF's user comment, whose first eight bytes should name its encoding, and often do not."""
    if isinstance(value, str):
        return str(value[8:] if value[:8].encode("latin-1", "replace") in _HEADS else value)
    if not isinstance(value, bytes):
        return ""
    head, body = (value[:8], value[8:]) if value[:8] in _HEADS else (b"", value)
    if head == b"UNICODE\0" and (b"\0" in body or not _is_utf8(body)):
        return _utf16(body)
    encoding = "utf-8" if _is_utf8(body) else "latin-1"
    return body.decode(encoding).rstrip("\0")


def _utf16(body: bytes) -> str:
    """UTF-16 in the byte order of its mark, or else in the one that gives more ASCII characters."""
    if body[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return body.decode("utf-16", "replace").rstrip("\0")
    texts = [body.decode(encoding, "replace") for encoding in ("utf-16-be", "utf-16-le")]
    return max(texts, key=lambda text: sum(" " <= each <= "~" for each in text)).rstrip("\0")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _tag_texts(tag: int, text: str) -> dict[str, str]:
    """The texts in one of the tags that hold ASCII; that of a camera's name is none."""
    if match := _KEYWORD.match(text):
        return {match[1].lower(): text[match.end() :]}
    if tag == IMAGE_DESCRIPTION:
        return comment_texts(text, "ImageDescription")
    return {"Software": text} if tag == SOFTWARE else {}


def _several(text: str) -> dict[str, str]:
    """The texts of a JSON object that stands for a PNG's several texts; none if it is something else.

    NovelAI and ComfyUI's nodes write the texts that their PNGs have, Easy Diffusion one plain value a keyword.
    """
    if not text.lstrip().startswith("{"):
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    is_novelai = "Comment" in values and "Software" in values
    is_comfyui = any(isinstance(values.get(key), dict) for key in ("prompt", "workflow"))
    plain = [isinstance(value, str | int | float | None) for value in values.values()]
    is_easy_diffusion = "prompt" in values and "metadata_scheme" not in values and all(plain)
    return dict(_as_texts(values)) if is_novelai or is_comfyui or is_easy_diffusion else {}


def _as_texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for keyword, value in values.items():
        yield keyword, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
