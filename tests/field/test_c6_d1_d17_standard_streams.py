"""C6, D1, D17 (transformers#24047, diffusers#3290): standard streams that are closed, full, short or left early.

Version 0.1 ended in tracebacks, and with PYTHONUNBUFFERED wrote a third of a picture and exited 0.
"""

import io
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from sdcli import registry
from sdcli.commands import _streams

SD = f"{sys.executable} -m sdcli"
COMMANDS = [
    "models",
    "models --json",
    "samplers",
    "samplers euler",
    "samplers --json",
    "info tiny",
    "info tiny --json",
]
COMMANDS += [
    "--help",
    "--version",
    "models --help",
    *[f"{name} --help" for name in registry.names("commands")],
]
BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


def with_all(*values: str):
    """Values of a parameter of which the last alone runs without scripts/test --all: each takes a new process."""
    return [*(pytest.param(value, marks=pytest.mark.slow) for value in values[:-1]), values[-1]]


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="redirections and limits of Linux")


def shell(command: str, folder: Path, *, unbuffered: str = "", file_limit: int | None = None):
    """Run a shell command in a folder, in which no file may grow beyond `file_limit` bytes."""

    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, preexec_fn=limit,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip


def drawing(toy: Path, *more: str) -> str:
    return " ".join([SD, "txt2img", "cat", "-q", "-m", str(toy), "-s", "1", "--seed", "7", *more])


def check_pictures(folder: Path, count: int = 1) -> None:
    """Every picture in the folder is whole, and there are so many of them."""
    files = [file for file in folder.iterdir() if file.suffix == ".png"]
    assert len(files) == count
    for file in files:
        Image.open(file).load()


@pytest.mark.parametrize("closed", with_all("<&-", "2>&-", "<&- 2>&-"))
def test_c6_a_picture_is_drawn_with_standard_input_or_standard_error_closed(toy, tmp_path, closed):
    ran = shell(f"{drawing(toy)} {closed}", tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"cat-7.png\n", b"")
    check_pictures(tmp_path)


@pytest.mark.parametrize("closed", [">&-", *with_all("<&- >&-", ">&- 2>&-", "<&- >&- 2>&-")])
def test_c6_a_picture_is_drawn_and_saved_with_standard_output_closed_and_the_exit_code_is_6(
    toy, tmp_path, closed
):
    ran = shell(f"{drawing(toy)} {closed}", tmp_path)
    assert ran.returncode == 6
    expected = [] if "2>" in closed else ["sd: standard output: cannot be written: it is closed"]
    assert [line.partition(";")[0] for line in ran.stderr.decode().splitlines()] == expected
    assert b"cat-7.png is saved" in ran.stderr or "2>" in closed
    check_pictures(tmp_path)


def test_c6_what_libraries_print_never_gets_into_a_picture_though_all_streams_are_closed(tmp_path):
    program = "import os; from sdcli.commands import _streams; _streams.open_standard_streams(); " \
              "print(os.open('x.png', os.O_CREAT | os.O_WRONLY), file=open('number', 'w'))"  # fmt: skip
    shell(f'{sys.executable} -c "{program}" <&- >&- 2>&-', tmp_path)
    assert int((tmp_path / "number").read_text()) > 2


@pytest.mark.parametrize("closed", with_all(">&-", "> /dev/full"))
@pytest.mark.parametrize(
    ("command", "unbuffered"), [*[(each, "") for each in COMMANDS], *[(each, "1") for each in COMMANDS[:9]]]
)
def test_d17_every_command_exits_6_with_one_line_if_its_answer_cannot_be_written(
    tmp_path, command, closed, unbuffered
):
    ran = shell(f"{SD} {command} {closed}", tmp_path, unbuffered=unbuffered)
    assert ran.returncode == 6
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.startswith(b"sd: standard output: cannot be written: ")


@pytest.mark.parametrize("closed", with_all("2>&-", "2> /dev/full", ">&- 2>&-", "> /dev/full 2> /dev/full"))
@pytest.mark.parametrize("command", ["txt2img cat -m no-such-model", "txt2img cat -m no-such-model --json"])
def test_d17_an_error_keeps_its_exit_code_though_nobody_can_read_it(tmp_path, closed, command):
    ran = shell(f"{SD} {command} {closed}", tmp_path)
    assert (ran.returncode, ran.stderr) == (3, b"")


@BUFFERING
@pytest.mark.parametrize("option", with_all("--json", ""))
def test_d17_a_line_that_does_not_fit_leaves_the_picture_and_says_where_it_is(
    toy, tmp_path, unbuffered, option
):
    ran = shell(f"{drawing(toy, option)} > /dev/full", tmp_path, unbuffered=unbuffered)
    assert ran.returncode == 6
    assert b"the disk is full" in ran.stderr and b"cat-7.png is saved" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    check_pictures(tmp_path)


@BUFFERING
@pytest.mark.parametrize("option", with_all("-o - --no-metadata", "-o -"))
def test_d1_a_picture_that_does_not_fit_on_standard_output_exits_6(toy, tmp_path, unbuffered, option):
    ran = shell(f"{drawing(toy, option)} > /dev/full", tmp_path, unbuffered=unbuffered)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (6, 1)
    ran = shell(f"{drawing(toy, option)} > x.png", tmp_path, unbuffered=unbuffered, file_limit=1000)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (6, 1)
    assert b"larger than is allowed" in ran.stderr


def test_d1_a_picture_for_a_closed_standard_output_is_refused_before_it_is_drawn(toy, tmp_path):
    ran = shell(f"{SD} txt2img cat -m {toy} -o - >&-", tmp_path)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (6, 1)
    ran = shell(f"{SD} txt2img cat -m no-such-model -o - >&-", tmp_path)
    assert ran.returncode == 6


@BUFFERING
@pytest.mark.parametrize("option", with_all("", "-W 256 -H 256"))
def test_d1_a_slow_pipe_that_does_not_block_gets_the_whole_picture(toy, tmp_path, unbuffered, option):
    shell(drawing(toy, option, "-o file.png"), tmp_path)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    received = []

    def drain() -> None:
        while data := os.read(reading, 5000):
            received.append(data)
            time.sleep(0.0005)

    reader = threading.Thread(target=drain)
    reader.start()
    command = [*drawing(toy, option, "-o", "-").split()]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ran = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, env=env)
    os.close(writing)
    reader.join()
    os.close(reading)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"".join(received) == (tmp_path / "file.png").read_bytes()


class Short(io.RawIOBase):
    """A stream that takes at most three bytes at a time."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += bytes(data[:3])
        return min(len(data), 3)


def test_d1_a_short_write_is_continued_until_all_is_written():
    short = Short()
    assert _streams.WholeWriter(short, pytest.fail).write(b"0123456789") == 10
    assert short.data == b"0123456789"


@pytest.mark.parametrize("command", ["samplers", "models --json", "txt2img --help"])
@BUFFERING
def test_d17_a_reader_that_leaves_early_is_no_error(tmp_path, command, unbuffered):
    ran = shell(f"{SD} {command} | true; exit ${{PIPESTATUS[0]}}", tmp_path, unbuffered=unbuffered)
    assert (ran.returncode in (0, 141), ran.stderr) == (True, b"")


@pytest.mark.parametrize("closed", ["<&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("txt2img - -m TOY", 2),
        ("img2img cat -i - -m TOY", 2),
        ("info -", 2),
        ("again -", 2),
        ("upscale - -m TOY", 2),
    ],
)
def test_c6_a_closed_standard_input_that_is_asked_for_is_one_line(toy, tmp_path, closed, arguments, code):
    ran = shell(f"{SD} {arguments.replace('TOY', str(toy))} {closed}", tmp_path)
    assert (ran.returncode, len(ran.stderr.splitlines()), ran.stdout) == (code, 1, b"")
    assert b"standard input, which is closed" in ran.stderr


MOMENTS = [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
"""Seconds after the first line of `sd` has run."""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("command", ["txt2img cat -m TOY -c 1000", "models"])
def test_d17_an_interrupt_at_any_moment_after_the_first_is_quiet(toy, tmp_path, name, code, command):
    program = "import os; from sdcli.__main__ import main; from sdcli.commands import _interrupts; " \
              "import sdcli.__main__ as m; handle = m.handle_interrupts; " \
              "m.handle_interrupts = lambda: (handle(), os.write(2, b'.')); main()"  # fmt: skip
    for moment in MOMENTS:
        arguments = command.replace("TOY", str(toy)).split()
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert process.stderr.read(1) == b"."  # the handler is there
        time.sleep(moment)
        process.send_signal(getattr(signal, name))
        rest = process.communicate()[1]
        ends_by_itself = command == "models"  # then Python's own exit may be what is interrupted
        codes = (code, 0, -getattr(signal, name)) if ends_by_itself else (code,)
        assert process.returncode in codes, rest
        assert b"Traceback" not in rest and b"Exception ignored" not in rest, rest.decode()
        assert len(rest.splitlines()) <= 1
    for file in tmp_path.glob("*.png"):
        Image.open(file).load()


def test_d17_the_handler_of_interrupts_is_there_before_anything_is_imported():
    program = (
        "import sys; from sdcli.commands import _interrupts; print([m for m in sys.modules if m in HEAVY])"
    )
    ran = shell(
        f"{sys.executable} -c \"HEAVY = ['click', 'typing', 'json', 'torch']; {program}\"", Path.cwd()
    )
    assert ran.stdout == b"[]\n"


def test_d17_nothing_but_the_module_of_streams_writes():
    """Every other module of the commands calls it, so that no way of writing is without its checks."""
    folder = Path(_streams.__file__).parent
    for file in [*folder.glob("*.py"), folder.parent / "cli.py"]:
        text = file.read_text(encoding="utf-8")
        if file.name != "_streams.py":
            assert " print(" not in text and "sys.stdout" not in text and "sys.stdin" not in text, file
