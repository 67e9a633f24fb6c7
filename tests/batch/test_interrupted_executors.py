"""sd batch --on …, ended by a signal in the middle of a picture: its exit code, its words, and no process is left."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batch.batches import is_running, pids_in, wait_until

ROOT = Path(__file__).parent.parent.parent
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["processes:2", pytest.param("ray", marks=needs_ray)])
def test_a_signal_ends_everything_that_draws(breaking_samplers, tmp_path, where, number):
    (tmp_path / "prompts.txt").write_text("a cat\na dog\na hen\n")
    sizes = ["-m", "test:sd1", "--width", "64", "--height", "64", "--steps", "2"]
    sampler = ["--sampler", f"slow:folder={tmp_path}", "--on", where, "-o", "out/"]
    program = subprocess.Popen(
        [sys.executable, "-m", "sdcli", "batch", "prompts.txt", *sizes, *sampler],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert wait_until(lambda: pids_in(tmp_path))
        os.killpg(program.pid, number)  # as a terminal, or a supervisor, does
        out, err = program.communicate()
    finally:
        program.kill()
    assert program.returncode == 128 + number
    assert out == b""
    assert b"Traceback" not in err
    assert wait_until(lambda: not any(map(is_running, pids_in(tmp_path))), seconds=10)
