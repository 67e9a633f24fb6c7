"""Pictures in the terminal: how the terminal is known, what is written to it, and that a pipe never gets any."""

import base64
import io
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from sdcli.commands import _terminal_pictures as pictures
from sdcli.commands._terminal_pictures import Screen, columns_for, encode, protocol, rows_of


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "WezTerm"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app", "COLORTERM": "truecolor"}, "iterm2"),
        ({"TERM_PROGRAM": "vscode"}, "iterm2"),
        ({"TERM_PROGRAM": "mintty"}, "iterm2"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "half_blocks"),
        ({"TERM": "xterm-256color", "COLORTERM": "24bit"}, "half_blocks"),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, None),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
    ],
)
def test_a_terminal_is_known_by_its_environment(environment, found):
    assert protocol(environment, is_terminal=True) == found
    assert protocol(environment, is_terminal=False) is None


@pytest.mark.parametrize(
    ("size", "terminal", "columns", "rows"),
    [
        ((512, 512), (200, 100), 64, 32),
        ((512, 512), (80, 24), 40, 20),
        ((1024, 256), (40, 24), 39, 5),
        ((64, 8192), (80, 24), 1, 64),
        ((8, 8), (1, 1), 1, 1),
    ],
)
def test_a_picture_fits_in_the_terminal(size, terminal, columns, rows):
    assert (columns_for(size, terminal), rows_of(size, columns)) == (columns, rows)


def test_half_blocks_draw_two_pixels_in_a_cell():
    image = Image.new("RGB", (2, 2), "red")
    image.paste((0, 0, 255), (0, 1, 2, 2))
    assert encode(image, "half_blocks", 2) == "\x1b[38;2;255;0;0;48;2;0;0;255m▀▀\x1b[0m\n"


def test_kitty_gets_the_png_in_chunks():
    image = Image.effect_noise((256, 128), 90).convert("RGB")
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", encode(image, "kitty", 32))
    assert chunks[0][0] == "a=T,f=100,c=32,r=8,C=1,q=2,m=1"
    assert {keys for keys, _ in chunks[1:-1]} == {"q=2,m=1"} and chunks[-1][0] == "q=2,m=0"
    assert {len(data) for _, data in chunks[:-1]} == {4096}
    drawn = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in chunks))))
    assert drawn.tobytes() == image.tobytes()


def test_iterm2_gets_the_png_whole():
    image = Image.new("RGB", (64, 64), "green")
    keys, data = re.search(r"\x1b\]1337;File=([^:]*):([^\a]*)\a", encode(image, "iterm2", 20)).groups()
    png = base64.b64decode(data)
    assert keys == f"inline=1;size={len(png)};width=20;height=10;preserveAspectRatio=1"
    assert Image.open(io.BytesIO(png)).tobytes() == image.tobytes()


@pytest.mark.parametrize("named", ["kitty", "iterm2"])
def test_a_picture_makes_room_and_leaves_the_cursor_below_it(named):
    text = encode(Image.new("RGB", (64, 64)), named, 20)
    assert text.startswith("\n" * 10 + "\x1b[10A\x1b7")
    assert text.endswith("\x1b8\x1b[10B\r")


def test_tmux_hands_each_sequence_on():
    image = Image.effect_noise((128, 128), 90).convert("RGB")
    plain, wrapped = (encode(image, "kitty", 32, in_tmux=in_tmux) for in_tmux in (False, True))
    inner = re.findall(r"\x1bPtmux;((?:[^\x1b]|\x1b\x1b)*)\x1b\\", wrapped)
    assert "".join(inner).replace("\x1b\x1b", "\x1b") == "".join(re.findall(r"\x1b_G[^\x1b]*\x1b\\", plain))
    assert len(inner) > 2


def test_a_large_picture_is_sent_no_larger_than_its_cells():
    data = re.search(r"=1:([^\a]*)\a", encode(Image.new("RGB", (4096, 2048)), "iterm2", 40))[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (640, 320)


class Step:
    """A step whose preview is a picture of one colour."""

    denoised = None

    def __init__(self, number):
        self.number, self.total = number, 4

    def preview(self, latents):
        return Image.new("RGB", (8, 8), (self.number, 0, 0))


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setattr(pictures.shutil, "get_terminal_size", lambda: os.terminal_size((20, 8)))
    return Screen(io.StringIO(), "half_blocks")


def test_each_preview_takes_the_place_of_the_one_before(screen, monkeypatch):
    monkeypatch.setattr(pictures, "PREVIEW_INTERVAL", 0)
    steps = [Step(i) for i in range(1, 5)]
    assert list(screen.previews(iter(steps), tells_steps=True)) == steps
    written = screen.stream.getvalue()
    assert (
        written.count("\x1b[5A") == 4
    )  # three replace one of four lines and a line of text; the last is erased
    assert re.findall(r"step \d of 4", written) == [f"step {i} of 4" for i in range(1, 5)]
    assert written.endswith("\r\x1b[5A\x1b[J")


def test_previews_come_at_most_every_half_second(screen):
    assert len(list(screen.previews(iter([Step(i) for i in range(1, 5)]), tells_steps=True))) == 4
    assert screen.stream.getvalue() == ""


def test_a_preview_is_erased_if_the_drawing_stops(screen, monkeypatch):
    monkeypatch.setattr(pictures, "PREVIEW_INTERVAL", 0)
    steps = screen.previews(iter([Step(1), Step(2)]), tells_steps=False)
    next(steps)
    steps.close()
    assert screen.stream.getvalue().endswith("\r\x1b[4A\x1b[J")


def test_a_pipe_gets_no_picture_and_a_note_says_so(sd, monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "--steps", "1", "-W", "64", "-H", "64", "--show")
    assert ran.code == 0
    assert b"\x1b" not in ran.out and "\x1b" not in ran.err
    assert "--show: this is no terminal" in ran.err


def test_show_goes_not_with_the_picture_on_standard_output(sd):
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "--show", "-o", "-")
    assert ran.code == 2
    assert "--show draws in the terminal" in ran.err


PROGRAM = """
import os, pty, sys
os.environ.update(COLORTERM="truecolor", TERM="xterm-256color")
sys.argv[1:] = sys.argv[1:]
code = pty.spawn([sys.executable, "-m", "sdcli", *sys.argv[1:]])
sys.exit(os.waitstatus_to_exitcode(code))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_real_terminal_shows_the_picture_above_its_path(tmp_path):
    arguments = ["txt2img", "a red apple", "--seed", "7", "--steps", "2", "--show", "-o", "a.png"]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("KITTY", "TERM_PROGRAM"))
    }
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=tmp_path, env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("▀") >= 100
    assert ran.stdout.replace("\r", "").rstrip().endswith("a.png")
