"""Batches survive: kills and failures at every call to the file system, many processes, ten thousand jobs."""

import errno
import os
import random
import signal
import threading
import time
import traceback

import pytest

from sdcli.batch import journal as journals
from sdcli.errors import SdError
from tests.batch.stub import Stub, draw, files, jobs, picture_of
from tests.speed import allowed

CALLS = ("open", "write", "fsync", "link", "unlink", "mkdir", "close")
"""The calls of `os` by which results and journals are written."""
KILLED, FINISHED, FAILED_TO_WRITE, BUG = -signal.SIGKILL, 0, 6, 99


def in_child(work, at_call=None):
    """The exit code of `work` in a child process, in which `at_call(k)` precedes call k to the file system."""
    pid = os.fork()
    if pid == 0:
        code = BUG
        try:
            if at_call is not None:
                count_calls(at_call)
            work()
            code = FINISHED
        except SdError as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def count_calls(at_call):
    counter, lock = [0], threading.Lock()

    def counting(call):
        def called(*args, **options):
            with lock:
                counter[0] += 1
                k = counter[0]
            at_call(k)
            return call(*args, **options)

        return called

    for name in CALLS:
        setattr(os, name, counting(getattr(os, name)))


def check(root, some):
    """Every picture is whole, nothing else lies there, and the journal names no picture as done that is not whole."""
    expected = {f"{job.name}.png": picture_of(job.request) for job in some}
    for name, data in files(root).items():
        assert name.startswith(".sd-") or expected[name] == data
    for path in root.glob("*.journal*"):
        for entry in journals.read(path):
            if entry.state == "done":
                assert (root / entry.path).read_bytes() == expected[entry.path]


def finish(root, some):
    """Draw what is missing; the set is then that of an undisturbed run, and what was finished is not drawn again."""
    finished = set(files(root))
    stub = Stub()
    draw(root, some, stub)
    assert not {f"job-{seed}.png" for seed in stub.drawn} & finished
    assert files(root) == {f"{job.name}.png": picture_of(job.request) for job in some}


def kill_at(k):
    return lambda now: os.kill(os.getpid(), signal.SIGKILL) if now == k else None


def test_a_batch_killed_at_any_call_to_the_file_system_loses_nothing_and_goes_on(tmp_path):
    some = jobs(3)
    for k in range(1, 500):
        root = tmp_path / str(k)
        code = in_child(lambda root=root: draw(root, some), kill_at(k))
        assert code in (KILLED, FINISHED)
        check(root, some)
        finish(root, some)
        if code == FINISHED:
            break
    assert 30 < k < 499


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT])
def test_a_call_to_the_file_system_that_fails_ends_the_batch_with_exit_code_6(number, tmp_path):
    some = jobs(2)

    def fail_at(k):
        def at_call(now):
            if now == k:
                raise OSError(number, os.strerror(number))

        return at_call

    codes = set()
    for k in range(1, 500):
        root = tmp_path / str(k)
        code = in_child(lambda root=root: draw(root, some), fail_at(k))
        codes.add(code)
        assert code in (FAILED_TO_WRITE, FINISHED), f"call {k}"
        check(root, some)
        finish(root, some)
        if k > 60 and code == FINISHED:
            break
    assert codes == {FAILED_TO_WRITE, FINISHED}


def kill_at_random(root, some, trials, seed):
    random_ = random.Random(seed)
    kills = 0
    for trial in range(trials):
        pid = os.fork()
        if pid == 0:
            try:
                draw(root / str(trial), some)
            finally:
                os._exit(0)
        time.sleep(random_.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == KILLED
        (root / str(trial)).mkdir(exist_ok=True, parents=True)
        check(root / str(trial), some)
        finish(root / str(trial), some)
    return kills


def test_a_batch_killed_at_random_loses_nothing(tmp_path):
    assert kill_at_random(tmp_path, jobs(6), trials=25, seed=1) > 3


@pytest.mark.slow
def test_a_batch_killed_two_thousand_times_at_random_loses_nothing(tmp_path):
    assert kill_at_random(tmp_path, jobs(6), trials=2000, seed=2) > 300


def draw_at_once(root, processes, count):
    """Several processes draw as many jobs each into one folder, under the same names; the files that are there."""
    children = []
    for child in range(processes):
        pid = os.fork()
        if pid == 0:
            code = BUG
            try:
                draw(root, jobs(count), title=f"batch-{child}")
                code = FINISHED
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [FINISHED] * processes
    return files(root)


def check_all_there(found, processes, count):
    assert len(found) == processes * count
    for i, job in enumerate(jobs(count)):
        same = [
            data for name, data in found.items() if name == f"job-{i}.png" or name.startswith(f"job-{i}-")
        ]
        assert same == [picture_of(job.request)] * processes


def test_processes_that_draw_into_one_folder_overwrite_nothing(tmp_path):
    check_all_there(draw_at_once(tmp_path, 8, 5), 8, 5)


@pytest.mark.slow
def test_sixteen_processes_draw_five_hundred_pictures_each_into_one_folder(tmp_path):
    check_all_there(draw_at_once(tmp_path, 16, 500), 16, 500)


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def draw_many(root, count):
    """Draw so many jobs, of which 1 in 100 fails; (bytes that memory grew by from job 500 on, seconds a job)."""
    some = jobs(count)
    memory, ended = {}, 0

    def tell(type, *_, **__):
        nonlocal ended
        ended += type in ("job_done", "job_failed")
        if ended in (500, count):
            memory[ended] = resident_bytes(), len(os.listdir("/proc/self/fd"))

    stub = Stub(fails=tuple(range(0, count, 100)))
    begun = time.process_time()
    records = draw(root, some, stub, tell=tell)
    seconds = (time.process_time() - begun) / count
    assert records.count("done") == count - len(stub.fails) and records.count("failed") == len(stub.fails)
    assert (
        abs(memory[500][1] - memory[count][1]) <= 3
    )  # the file that is being written, its folder and its link
    return memory[count][0] - memory[500][0], seconds


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_a_thousand_jobs_take_little_memory_and_time(tmp_path):
    grown, seconds = draw_many(tmp_path, 1000)
    assert grown < 20e6 and seconds < allowed(0.005)


@pytest.mark.slow
def test_ten_thousand_jobs_take_little_memory_and_time(tmp_path):
    grown, seconds = draw_many(tmp_path, 10_000)
    print(f"memory grew by {grown / 1e6:.1f} MB from job 500 on; {1000 * seconds:.2f} ms of CPU a job")
    assert grown < 20e6 and seconds < allowed(0.005)
