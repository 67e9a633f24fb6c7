"""What a batch never does: ask the network for a local model, or hold more memory with each picture."""

import json
import subprocess
import sys

import pytest

COUNT = 60
OFFLINE = """
import sys
from sdcli import cli

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise AssertionError(f"{event} {arguments}")

sys.addaudithook(refuse)
commands = ["batch jobs.json -o out", "verify out/x-1.png", "again out/x-1.png", "info tiny"]
for command in map(str.split, commands):
    code = cli.run(command)
    assert code == 0, command
"""
MEMORY = """
import resource
from sdcli import cli
from sdcli.commands import _batch_output

ended, highest = 0, []
tell = _batch_output.BatchOutput.tell

def listening(self, type, *arguments, **facts):
    global ended
    tell(self, type, *arguments, **facts)
    ended += type == "job_done"
    highest.append((ended, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))

_batch_output.BatchOutput.tell = listening
assert cli.run(["batch", "jobs.json", "-o", "out"]) == 0
print(min(most for ended, most in highest if ended >= 10), highest[-1][1], file=__import__("sys").stderr)
"""


@pytest.fixture
def run(tmp_path):
    def call(program, count):
        defaults = {"model": "test:sd1", "width": 64, "height": 64, "steps": 1}
        job = {"name": "x", "prompt": "a cat", "seed": f"1..{count}" if count > 1 else 1}
        job = job if count > 1 else {**job, "name": "x-1"}
        (tmp_path / "jobs.json").write_text(json.dumps({"version": 1, "defaults": defaults, "jobs": [job]}))
        ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran

    return call


def test_nothing_is_asked_of_the_network_for_a_local_model(run):
    run(OFFLINE, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="memory is read as POSIX tells it")
def test_the_last_picture_of_a_batch_takes_no_more_memory_than_the_tenth(run):
    tenth, last = map(int, run(MEMORY, COUNT).stderr.split()[-2:])
    assert last <= 1.05 * tenth
