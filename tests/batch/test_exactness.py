"""The same picture every time: repeats, counts at odd sizes, hostile names, other locales."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli.errors import SdError
from sdcli.request.jobfile.batch_job import BatchJob
from sdcli.request.request import Request
from tests.batch.stub import draw, files

SAMPLERS = ("euler", "euler_a", "dpmpp_2m", "dpmpp_2m_sde", "ddim", "uni_pc")
SIZES = ((64, 64), (72, 64), (64, 200), (520, 520), (136, 264), (256, 96), (88, 88), (320, 64))
"""(width, height) in pixels; 520 is 65 latents."""


def repeat(sd, sampler, times):
    """The hashes of the files of one command that is given several times."""
    options = ["-m", "test:sd1", "-W", 64, "-H", 64, "--steps", 3, "--seed", 5, "--sampler", sampler]
    ran = [sd("txt2img", "a cat", *options, "-o", "out/x.png") for _ in range(times)]
    return {hashlib.sha256(Path(each.lines[0]).read_bytes()).hexdigest() for each in ran}


def check_count(sd, size):
    """Each picture of a count of 8 is the picture that its seed gives alone."""
    options = ["-m", "test:sd1", "-W", size[0], "-H", size[1], "--steps", 2]
    several = sd("txt2img", "a cat", *options, "--seed", 3, "--count", 8, "-o", "several/{seed}.png").lines
    for i, path in enumerate(several):
        (alone,) = sd("txt2img", "a cat", *options, "--seed", 3 + i, "-o", "alone/{seed}.png").lines
        assert Path(path).read_bytes() == Path(alone).read_bytes()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_command_gives_the_same_bytes_each_time(sd, sampler):
    assert len(repeat(sd, sampler, 3)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_command_gives_the_same_bytes_a_hundred_times(sd, sampler):
    assert len(repeat(sd, sampler, 100)) == 1


def test_each_picture_of_a_count_is_the_one_of_its_seed_alone(sd):
    check_count(sd, (72, 64))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_each_picture_of_a_count_is_the_one_of_its_seed_alone_at_any_size(sd, size):
    check_count(sd, size)


HOSTILE = st.sampled_from(
    ["..", ".", "/", "\\", "a/../../b", "/etc/x", "C:\\x", "CON", "nul.txt", "\U0001f600" * 300, "\u202egnp.exe", "~",
     "-", "{seed}", "{{", "}", "\n", "\t", "x" * 5000, "%s", "$HOME", "`id`", ";", "|", "é" * 400, "a:b", " ", "..."]
)  # fmt: skip
NAMES = st.lists(HOSTILE | st.text(max_size=6), max_size=4).map("".join)


def check_hostile(folder, prompt, name, out):
    """Whatever a job is called, its picture lies below the folder under a name of 200 bytes at most, or is refused."""
    root = folder / "root"
    before = snapshot(folder)
    try:
        job = BatchJob(Request(prompt, seed=1, model="test:sd1"), name=name, out=out or None)
        draw(root, [job])
    except SdError as error:
        assert str(error)
    assert snapshot(folder) - before <= {path for path in snapshot(folder) if path.startswith("root")}
    for path in files(root) if root.exists() else ():
        assert all(len(part.encode()) <= 200 for part in Path(path).parts)


def snapshot(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@given(NAMES, NAMES, NAMES)
def test_no_job_writes_outside_of_its_folder(tmp_path_factory, prompt, name, out):
    check_hostile(tmp_path_factory.mktemp("hostile"), prompt, name, out)


@pytest.mark.slow
@settings(max_examples=2000)
@given(NAMES, NAMES, NAMES)
def test_none_of_two_thousand_jobs_writes_outside_of_its_folder(tmp_path_factory, prompt, name, out):
    check_hostile(tmp_path_factory.mktemp("hostile"), prompt, name, out)


@pytest.mark.skipif(os.name == "nt", reason="locales of POSIX")
@pytest.mark.parametrize("locale", [{"LANG": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "cp1252"}])
def test_a_batch_of_any_language_is_planned_under_any_locale(tmp_path, locale):
    (tmp_path / "jobs.txt").write_text("ein Käfer \U0001f600\n猫\n", encoding="utf-8")
    command = [sys.executable, "-m", "sdcli", "batch", "jobs.txt", "-m", "test:sd1", "--seed", "1", "--plan"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, env={**os.environ, **locale})
    assert ran.returncode == 0 and b"Traceback" not in ran.stderr
    assert "猫-1.png".encode() in ran.stdout
