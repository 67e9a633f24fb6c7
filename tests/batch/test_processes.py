"""The processes executor: the bytes of a local run, whatever becomes of its processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sdcli.batch.executors.processes import processes, visible_gpus
from sdcli.batch.workers.local_processes import LocalProcesses
from sdcli.errors import UsageError
from tests.batch.batches import (
    drawn_here,
    events_of,
    failures_in,
    files_in,
    is_running,
    losses_in,
    mixed,
    pids_in,
    task,
    wait_until,
)

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


@pytest.fixture(scope="module")
def eventful(breaking_samplers, tmp_path_factory):
    """A mixed batch in two processes with a task that raises, one that is refused, and one that kills its process.

    (tasks, events)
    """
    mark = tmp_path_factory.mktemp("mark") / "killed"
    tasks = mixed()
    tasks.insert(1, task(100, sampler="poisoned"))
    tasks.insert(2, task(101, sampler=f"deadly_once:mark={mark}"))
    tasks.insert(3, task(102, image="missing.png"))
    return tasks, events_of(processes("2"), tasks)


def test_two_processes_and_a_killed_one_give_the_bytes_of_a_local_run(eventful):
    tasks, events = eventful
    here = drawn_here(tasks)  # the file `mark` is there now, so this process lives
    assert len(here) == 9
    assert files_in(events) == here


def test_a_process_that_is_killed_is_told_of_with_its_task(eventful):
    (lost,) = losses_in(eventful[1])
    assert lost.numbers == (101,)
    assert "was killed by SIGKILL" in lost.message


def test_a_task_that_raises_fails_alone_with_the_words_of_a_local_run(eventful):
    tasks, events = eventful
    failed = [task for task in tasks if task.number in (100, 102)]
    assert failures_in(events) == failures_in(events_of_local(failed)) == {100: "bug", 102: "image"}
    messages = {event.number: event.failure for event in events if event.__class__.__name__ == "Failed"}
    assert messages == {event.number: event.failure for event in events_of_local(failed)}


def events_of_local(tasks):
    from sdcli.batch.executors.local import local

    return events_of(local(), tasks)


def test_a_bug_comes_with_its_traceback(eventful):
    (trace,) = [event.trace for event in eventful[1] if getattr(event, "trace", "")]
    assert "RuntimeError: poison" in trace
    assert "in poisoned" in trace


def test_no_process_is_left_when_all_is_drawn(eventful):
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("option", ["0", "-1", "two", "1.5", "999", "²"])
def test_an_option_that_is_no_number_of_processes_is_refused(option):
    with pytest.raises(UsageError, match="try processes:2"):
        processes(option)


def test_the_processes_share_the_gpus_evenly():
    workers = LocalProcesses(4, ["2", "5"])
    for worker in range(4):
        workers.gpu_of[worker] = workers._free_gpu()
    assert list(workers.gpu_of.values()) == ["2", "5", "2", "5"]


@pytest.mark.gpu
def test_the_gpus_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert visible_gpus() == ["0"]


@pytest.mark.gpu
def test_two_processes_on_a_gpu_give_the_bytes_of_a_local_run():
    assert files_in(events_of(processes("2"), mixed())) == drawn_here(mixed())


@pytest.mark.slow
def test_a_task_that_kills_every_process_fails_after_three_and_the_others_are_drawn(breaking_samplers):
    events = events_of(processes("2"), [task(100, sampler="deadly"), *mixed()])
    assert failures_in(events) == {100: "lost"}
    assert [lost.numbers for lost in losses_in(events)] == [(100,)] * 3
    assert files_in(events) == drawn_here(mixed())


@pytest.mark.slow
@needs_proc
def test_closing_the_iterator_kills_the_processes_in_the_middle_of_a_picture(breaking_samplers, tmp_path):
    tasks = [task(0), *(task(number, sampler=f"slow:folder={tmp_path}") for number in (1, 2))]
    events = processes("2").run(tasks, lambda number: None)
    next(events)
    assert wait_until(lambda: pids_in(tmp_path))
    events.close()
    assert [pid for pid in pids_in(tmp_path) if is_running(pid)] == []


DRIVER = """
from sdcli.batch.executors.processes import processes
from tests.batch.batches import events_of, task

if __name__ == "__main__":
    events_of(processes("2"), [task(n, sampler="slow:folder={folder}") for n in range(4)])
"""


@pytest.fixture
def driver(breaking_samplers, tmp_path):
    """A program whose two processes are drawing, in a session of its own."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(folder=tmp_path))
    root = str(Path(__file__).parent.parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ["PYTHONPATH"]])}
    program = subprocess.Popen(
        [sys.executable, script],
        env=env,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert wait_until(lambda: len(pids_in(tmp_path)) == 2)
    yield program
    if program.poll() is None:
        program.kill()
    program.communicate()


@pytest.mark.slow
@needs_proc
def test_ctrl_c_ends_the_processes_at_once_and_nothing_of_them_is_on_standard_output(driver, tmp_path):
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    out, err = driver.communicate()
    assert out == b""
    assert err.count(b"Traceback") == 1  # the driver's own, which has no handler
    assert [pid for pid in pids_in(tmp_path) if is_running(pid)] == []


@pytest.mark.slow
@needs_proc
def test_the_processes_end_when_the_driver_is_killed(driver, tmp_path):
    driver.kill()
    assert wait_until(lambda: not any(map(is_running, pids_in(tmp_path))), seconds=10)
