"""Batches and signals: Ctrl-C, an end, a reader that leaves; then the same command finishes the set."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

COUNT = 30


@pytest.fixture
def start(tmp_path):
    job = {"name": "x", "prompt": "a cat", "seed": f"1..{COUNT}"}
    defaults = {"model": "test:sd1", "width": 64, "height": 64, "steps": 4}
    (tmp_path / "jobs.json").write_text(json.dumps({"version": 1, "defaults": defaults, "jobs": [job]}))

    def call(out):
        command = [sys.executable, "-m", "sdcli", "batch", "jobs.json", "-o", out]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return call


def whole_set(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".png"}


def finish(start, out):
    """Run a batch to its end."""
    process = start(out)
    process.communicate()
    assert process.returncode == 0


def check_after(code, err, folder):
    assert code in (0, 130, 143, -signal.SIGINT, -signal.SIGTERM), err  # the latter while Python itself ends
    assert "Traceback" not in err
    assert not [path for path in folder.glob("*") if path.name.startswith(".sd-")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_batch_keeps_its_pictures_and_is_finished_by_the_same_command(
    start, tmp_path, number, code
):
    process = start("out")
    first = process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code, err
    check_after(process.returncode, err, tmp_path / "out")
    kept = whole_set(tmp_path / "out")
    assert first.strip() == "out/x-1.png" and 1 <= len(kept) < COUNT
    finish(start, "out")
    assert whole_set(tmp_path / "out").items() >= kept.items()
    assert len(whole_set(tmp_path / "out")) == COUNT


def test_a_reader_that_leaves_ends_the_batch_quietly(start, tmp_path):
    process = start("out")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 141
    with process.stderr:
        assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_a_batch_is_interrupted_at_fifty_random_times(start, tmp_path):
    random_ = random.Random(3)
    finish(start, "undisturbed")
    for _ in range(50):
        process = start("out")
        time.sleep(random_.uniform(0.1, 5))
        process.send_signal(random_.choice([signal.SIGINT, signal.SIGTERM]))
        _, err = process.communicate()
        if (tmp_path / "out").exists():
            check_after(process.returncode, err, tmp_path / "out")
    finish(start, "out")
    assert whole_set(tmp_path / "out") == whole_set(tmp_path / "undisturbed")
