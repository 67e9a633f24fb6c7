"""Names: what clients call files, and that no folder of the server is told."""

import base64

import hypothesis
import pytest
from hypothesis import strategies as st

from sdcli.errors import ImageError, UsageError
from sdcli.request.inline_image import InlineImage
from sdcli.request.request import Request
from sdcli.serve.budget import Budget
from sdcli.serve.names import text_without_folders, without_folders
from sdcli.serve.pictures import picture_of
from tests import pictures
from tests.adapters import loras
from tests.serve.running import events_of, start, stop

SMALL = {"seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/srv/loras/style.safetensors@0.8", "style.safetensors@0.8"),
        ("no file in /srv/my loras/x is called", "no file in x is called"),
        ("~/models/a.safetensors", "a.safetensors"),
        (r"C:\models\a.safetensors: is bad", "a.safetensors: is bad"),
        ("both /a/b.safetensors and /c/d.safetensors", "both b.safetensors and d.safetensors"),
        ("512/768 and 1/2", "512/768 and 1/2"),
        ("tiny", "tiny"),
        ("org/name", "org/name"),
    ],
)
def test_an_absolute_path_is_told_as_the_name_of_its_file(text, expected):
    assert text_without_folders(text) == expected


@hypothesis.given(st.lists(st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True), min_size=2, max_size=5))
def test_no_folder_of_a_path_is_left(parts):
    assert text_without_folders("/" + "/".join(parts)) == parts[-1]


def test_a_request_names_its_files_without_their_folders_and_is_else_the_same():
    request = Request("a cat", lora=("/srv/loras/x.safetensors@0.5",), model="/srv/m.safetensors", seed=1)
    assert without_folders(request) == Request(
        "a cat", lora=("x.safetensors@0.5",), model="m.safetensors", seed=1
    )


def test_a_picture_is_taken_as_base64_as_a_data_url_or_with_a_name(tmp_path):
    pictures.photo().save(tmp_path / "photo.png")
    data = (tmp_path / "photo.png").read_bytes()
    text = base64.b64encode(data).decode()
    for value in (text, f"data:image/png;base64,{text}", {"data": text}, InlineImage(data)):
        assert picture_of("image", value, Budget()) == InlineImage(data)
    assert picture_of("image", {"data": text, "name": "a.png"}, Budget()).name == "a.png"
    with pytest.raises(UsageError, match="pixels"):
        picture_of("image", text, Budget(max_input_pixels=10))


@hypothesis.given(
    st.one_of(st.text(), st.integers(), st.binary().map(lambda data: base64.b64encode(data).decode()))
)
def test_what_is_no_picture_is_refused(value):
    with pytest.raises((UsageError, ImageError), match=r"^image: "):
        picture_of("image", value, Budget())


def test_networks_are_named_as_they_are_listed_and_draw_the_command_lines_picture(tmp_path, sd, monkeypatch):
    folder = tmp_path / "loras"
    folder.mkdir()
    loras.write(folder / "style.safetensors")
    served = start(tmp_path, "-m", "test:sd1", SDCLI_LORAS=str(folder))
    try:
        found = []
        for body in ({"prompt": "a cat", "lora": ["style@0.8"]}, {"prompt": "a cat<lora:style:0.8>"}):
            data = served.ask("POST", "/v1/jobs", {**SMALL, **body}, Accept="text/event-stream")[2]
            assert str(folder).encode() not in data
            found.append(base64.b64decode(events_of(data)[-2]["picture"]))
        monkeypatch.chdir(folder)
        typed = (
            "-m",
            "test:sd1",
            "--seed",
            7,
            "-s",
            2,
            "-W",
            64,
            "-H",
            64,
            "--lora",
            "style.safetensors@0.8",
        )
        ran = sd("txt2img", "a cat", *typed)
        assert ran.code == 0, ran.err
        assert found == [(folder / ran.lines[0]).read_bytes()] * 2
        for bad in (f"{folder}/style.safetensors", "../loras/style", "style/../style"):
            assert served.json("POST", "/v1/jobs", {**SMALL, "prompt": "a cat", "lora": [bad]})[0] == 400
    finally:
        stop(served)
