"""The store: names are valid and stay in their folder, writes are whole or absent, nothing is overwritten."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdcli import store
from sdcli.errors import UsageError, WriteError
from sdcli.request.request import Request

PROMPTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)


@pytest.fixture(params=["unnamed file", "hidden file", "no hard links"])
def file_system(request, monkeypatch):
    """The three kinds of file system: with unnamed files (O_TMPFILE), without them, and without hard links too."""
    if request.param != "unnamed file":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    if request.param == "no hard links":

        def refuse(*_, **__):
            raise PermissionError(errno.EPERM, "hard links are not supported")

        monkeypatch.setattr(os, "link", refuse)
    return request.param


@given(PROMPTS)
@example("../../etc/passwd")
@example("CON")
@example("nul.txt")
@example("🍎" * 300)
@example('a\u202eb\\c:d*e?f"g<h>i|j\n')
@example(". . .")
def test_a_name_is_valid_on_every_system_and_stays_in_its_folder(prompt):
    for template in (None, "{prompt}.png", "x-{prompt}-{seed}.png", "{prompt}{prompt}{prompt}{prompt}.png"):
        path = store.output_path(template, Request(prompt, seed=7))
        assert path.parent == Path()
        assert len(path.name.encode()) <= 200
        assert path.suffix == ".png"
        assert not set('<>:"/\\|?*\0\n') & set(path.name)
        assert path.stem.strip(" .") == path.stem != ""
        assert path.stem.lower().split(".")[0] not in ("con", "prn", "aux", "nul", "com1", "lpt1")


def test_a_long_prompt_does_not_push_the_seed_out_of_the_name():
    assert store.output_path(None, Request("🍎 apple " * 50, seed=4294967295)).name.endswith(
        "-4294967295.png"
    )


@pytest.mark.parametrize(
    ("out", "path"),
    [
        (None, "a-cat-7.png"),
        ("", "a-cat-7.png"),
        ("pictures", "pictures/a-cat-7.png"),
        ("pictures/", "pictures/a-cat-7.png"),
        ("x.png", "x.png"),
        ("a/b/{seed}-{steps}.png", "a/b/7-20.png"),
        ("{prompt}.png", "a-cat.png"),
        ("{prompt}-{seed}", "a-cat-7/a-cat-7.png"),
    ],
)
def test_out_is_a_folder_or_a_file_name_that_may_contain_fields(out, path):
    assert store.output_path(out, Request("A cat!", seed=7, steps=20)).as_posix() == path


@pytest.mark.parametrize(
    "out", ["x.jpg", "{x}.png", "{seed.png", "{}.png", "{0}.png", "{seed.real}.png", "{seed:x}.png"]
)
def test_another_suffix_or_a_bad_field_in_a_name_is_a_usage_error(out):
    with pytest.raises(UsageError):
        store.output_path(out, Request("a cat", seed=7))


def test_a_name_that_is_taken_gets_a_number_and_the_older_file_stays(file_system, tmp_path):
    paths = [store.save(bytes([i]), tmp_path / "new" / "x.png") for i in range(3)]
    assert [path.name for path in paths] == ["x.png", "x-2.png", "x-3.png"]
    assert [path.read_bytes() for path in paths] == [b"\0", b"\1", b"\2"]
    assert sorted(os.listdir(tmp_path / "new")) == sorted(path.name for path in paths)


def test_a_numbered_name_is_never_longer_than_200_bytes(tmp_path):
    long = store.safe_name("x" * 300, ".png")
    names = [store.save(b"x", tmp_path / long).name for _ in range(2)]
    assert [len(name) for name in names] == [200, 200]
    assert names[1].endswith("-2.png")


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EFBIG])
def test_a_failing_write_is_a_write_error_and_leaves_nothing(
    monkeypatch, tmp_path, file_system, call, number
):
    if call == "link" and file_system == "no hard links":
        call = "replace"

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(WriteError, match="cannot be written") as caught:
        store.save(b"x", tmp_path / "x.png")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_file_larger_than_the_limit_of_the_process_is_a_write_error(tmp_path):
    program = (
        "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from pathlib import Path; from sdcli import store; store.save(b'x' * 100_000, Path('x.png'))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert "WriteError: x.png: cannot be written: the file would be larger" in ran.stderr
    assert os.listdir(tmp_path) == []


def test_processes_that_write_at_once_never_overwrite_each_other(tmp_path):
    program = (
        "import sys; from pathlib import Path; from sdcli import store;"
        "[store.save(f'{sys.argv[1]}-{i}'.encode() * 99, Path('x.png')) for i in range(40)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(k)], cwd=tmp_path) for k in range(6)]
    assert [process.wait() for process in running] == [0] * 6
    files = list(tmp_path.iterdir())
    assert len(files) == 240
    assert len({file.read_bytes() for file in files}) == 240
